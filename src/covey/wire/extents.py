"""Arithmetic of extents: tasks with consecutive ids."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from covey.wire.base import Extent


def without(extents: Iterable[Extent], gone: Iterable[Extent]) -> Iterator[Extent]:
    """Yield what is left of *extents* without those, disjoint ones, that are *gone*."""
    taken = sorted(gone)
    starts = [base for base, _ in taken]
    for base, n in extents:
        at, end = base, base + n
        index = max(0, bisect_right(starts, base) - 1)
        while index < len(taken) and starts[index] < end:
            lo, count = taken[index]
            index += 1
            if lo + count > at:
                if lo > at:
                    yield at, lo - at
                at = lo + count
        if at < end:
            yield at, end - at
