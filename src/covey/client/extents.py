"""Task ids as extents: stretches of neighbours, as messages carry them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from covey.ids import TaskId
from covey.wire.base import Extent

#: So many are released by one message.
RELEASED_AT_ONCE: Final = 2048


def extents_of(tasks: Iterable[TaskId]) -> tuple[Extent, ...]:
    """Return task ids, each of them once, as extents: neighbours joined."""
    extents: list[Extent] = []
    base = end = -1
    for task in sorted(tasks):
        if task != end:
            if end >= 0:
                extents.append((base, end - base))
            base = task
        end = task + 1
    if end >= 0:
        extents.append((base, end - base))
    return tuple(extents)


def join_extents(extents: Iterable[Extent]) -> list[Extent]:
    """Sort extents and join those that touch."""
    joined: list[Extent] = []
    start = end = -1
    for base, n in sorted(extents):
        if base != end:
            if end >= 0:
                joined.append((start, end - start))
            start = base
        end = base + n
    if end >= 0:
        joined.append((start, end - start))
    return joined
