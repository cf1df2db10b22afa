"""A set of task ids, kept as stretches that do not touch, and single ones.

What was copied to a worker comes in extents of any cut and goes in others, so
that the extents themselves cannot be the members of a set.  Nodes of a graph come and go
one by one: as long as nobody asks for more than one task, these are just a set.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from covey.ids import TaskId


class Extents:
    """Ids of tasks; adding, discarding and asking cost a bisection each."""

    __slots__ = ("_ends", "_singles", "_starts")

    def __init__(self) -> None:
        self._starts: list[TaskId] = []
        self._ends: list[TaskId] = []
        #: Single tasks; some may be part of a stretch as well.
        self._singles: set[TaskId] = set()

    def add(self, base: TaskId, n: int) -> None:
        """Add the tasks *base* to ``base + n - 1``."""
        if n == 1:
            self._singles.add(base)
            return
        self._join()
        self._add(base, base + n)

    def add_singles(self, tasks: Iterable[TaskId]) -> None:
        """Add several tasks."""
        self._singles.update(tasks)

    def _join(self) -> None:
        """Make single tasks part of stretches, since more is asked for."""
        if self._singles:
            singles, self._singles = self._singles, set()
            for task in sorted(singles):
                self._add(task, task + 1)

    def _add(self, lo: TaskId, hi: TaskId) -> None:
        # All stretches that overlap or touch the new one become part of it.
        first = bisect_left(self._ends, lo)
        last = bisect_right(self._starts, hi)
        if first < last:
            lo = min(lo, self._starts[first])
            hi = max(hi, self._ends[last - 1])
        self._starts[first:last] = [lo]
        self._ends[first:last] = [hi]

    def discard(self, base: TaskId, n: int) -> None:
        """Take out what is there of the tasks *base* to ``base + n - 1``."""
        if n == 1:
            self._singles.discard(base)
        elif self._singles:
            self._join()
        if not self._starts:
            return
        lo, hi = base, base + n
        first = bisect_right(self._ends, lo)
        last = bisect_left(self._starts, hi)
        if first >= last:
            return
        before, after = self._starts[first], self._ends[last - 1]
        kept = [
            (start, end) for start, end in ((before, lo), (hi, after)) if start < end
        ]
        self._starts[first:last] = [start for start, _ in kept]
        self._ends[first:last] = [end for _, end in kept]

    def discard_all(self, extents: Iterable[tuple[TaskId, int]]) -> None:
        """Take out what is there of the tasks in these extents."""
        if not (self._starts or self._singles):
            return
        for base, n in extents:
            if n > 1 or self._starts:
                self.discard(base, n)
            else:
                self._singles.discard(base)

    def covers(self, base: TaskId, n: int) -> bool:
        """Whether all of the tasks *base* to ``base + n - 1`` are there."""
        if n > 1:
            self._join()
        elif base in self._singles:
            return True
        if not self._starts:
            return False
        at = bisect_right(self._starts, base) - 1
        return at >= 0 and base + n <= self._ends[at]

    def __contains__(self, task: TaskId) -> bool:
        if task in self._singles:
            return True
        return bool(self._starts) and self.covers(task, 1)

    def gaps(self, base: TaskId, n: int) -> Iterator[tuple[TaskId, int]]:
        """Yield what is not there of the tasks *base* to ``base + n - 1``, in order."""
        self._join()
        at, hi = base, base + n
        i = bisect_right(self._ends, at)
        while at < hi:
            start = self._starts[i] if i < len(self._starts) else hi
            if at < start:
                yield at, min(start, hi) - at
            at = self._ends[i] if i < len(self._ends) else hi
            i += 1

    def parts(self, base: TaskId, n: int) -> Iterator[tuple[TaskId, int]]:
        """Yield what is there of the tasks *base* to ``base + n - 1``, in order."""
        at = base
        for start, count in (*self.gaps(base, n), (base + n, 0)):
            if at < start:
                yield at, start - at
            at = start + count

    def __iter__(self) -> Iterator[tuple[TaskId, int]]:
        """Yield the stretches, as extents, in order."""
        self._join()
        for start, end in zip(self._starts, self._ends, strict=True):
            yield start, end - start

    def __bool__(self) -> bool:
        return bool(self._singles or self._starts)

    def __len__(self) -> int:
        self._join()
        return sum(self._ends) - sum(self._starts)
