"""Handles of tasks that nobody holds any more, on their way to be told of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

from covey.client.core.ranges import Range, Status

_STORED: Final = int(Status.STORED)

Handles: TypeAlias = list[tuple[Range, int, int]]
"""Futures of one range that nobody holds any more: (range, first index, how many)."""


def are_small(handles: Handles) -> bool:
    """Whether no value of these rests on a worker; false if nothing is known of them."""
    for wish, index, _ in handles:
        if wish.status[index] == _STORED:
            return False
    return bool(handles)


def emptied(dropped: list[Handles]) -> Iterator[tuple[Range, int, int]]:
    """Yield what is in the lists, and empty them."""
    for handles in dropped:
        while handles:
            yield handles.pop()
