"""The critical path: the longest chain of tasks that need each other.

However many workers there are, a run takes at least as long as this chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Path(NamedTuple):
    """A chain of tasks.

    Attributes:
        places: where they are in the list that was given, the first one first.
        seconds: how long they take, one after the other.
    """

    places: list[int]
    seconds: float


def critical_path(needs: Sequence[Sequence[int]], seconds: Sequence[float]) -> Path:
    """Return the longest chain.

    Args:
        needs: for each task the places of those that it needs.  Tasks that need each
            other in a circle, which no graph has, are left out.
        seconds: how long each takes.
    """
    count = len(needs)
    missing = [len(set(own)) for own in needs]
    users: list[list[int]] = [[] for _ in range(count)]
    for at, own in enumerate(needs):
        for need in set(own):
            users[need].append(at)
    ends = [0.0] * count
    before = [-1] * count
    last = -1
    ready = [at for at in range(count) if not missing[at]]
    while ready:
        at = ready.pop()
        ends[at] += seconds[at]
        if last < 0 or ends[at] >= ends[last]:
            last = at
        for user in users[at]:
            # The latest of its inputs decides; of equals, any.
            if before[user] < 0 or ends[at] > ends[user]:
                ends[user] = ends[at]
                before[user] = at
            missing[user] -= 1
            if not missing[user]:
                ready.append(user)
    places: list[int] = []
    total = ends[last] if last >= 0 else 0.0
    while last >= 0:
        places.append(last)
        last = before[last]
    places.reverse()
    return Path(places, total)
