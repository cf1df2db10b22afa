"""Handles of tasks that nobody holds any more, on their way to be told of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


def joined(
    handles: Iterable[tuple[Range, int, int]],
) -> Iterator[tuple[Range, int, int]]:
    """Yield handles of neighbours, which most often are let go in a row, as one.

    A range of a million tasks then has a few stretches to look at, not a million.
    """
    wish: Range | None = None
    lo = n = 0
    for other, start, count in handles:
        if other.n == 1:
            yield other, start, count  # It has no neighbours.
        elif other is wish and start == lo + n:
            n += count
        elif other is wish and start + count == lo:
            lo, n = start, n + count
        else:
            if wish is not None:
                yield wish, lo, n
            wish, lo, n = other, start, count
    if wish is not None:
        yield wish, lo, n
