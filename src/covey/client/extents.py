"""Task ids as extents: stretches of neighbours, as messages carry them."""

from __future__ import annotations

from collections.abc import Iterable

from covey.ids import TaskId
from covey.wire.base import Extent


def extents_of(tasks: Iterable[TaskId]) -> tuple[Extent, ...]:
    """Return task ids as extents, neighbours joined."""
    return tuple(join_extents((task, 1) for task in tasks))


def join_extents(extents: Iterable[Extent]) -> list[Extent]:
    """Sort extents and join those that touch."""
    joined: list[Extent] = []
    for base, n in sorted(extents):
        if joined and joined[-1][0] + joined[-1][1] == base:
            joined[-1] = (joined[-1][0], joined[-1][1] + n)
        else:
            joined.append((base, n))
    return joined
