"""Handles of tasks that nobody holds any more, on their way to be told of."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Final, TypeAlias

from covey.client.core.ranges import Range, Status
from covey.ids import TaskId

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


def taken_out(dropped: list[Handles], tasks: Container[TaskId]) -> Handles:
    """Take the handles of *tasks*, which were submitted one by one, out of the lists."""
    found: Handles = []
    for handles in dropped:
        found += [each for each in handles if each[0].base in tasks]
        handles[:] = [each for each in handles if each[0].base not in tasks]
    return found


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


class Copies:
    """How many futures there are of tasks of maps beyond the first of each.

    Copies and pickles make them.  A range counts its tasks that are held, and each once;
    whoever uses this holds the lock that its count changes under.
    """

    __slots__ = ("_more",)

    def __init__(self) -> None:
        self._more: dict[TaskId, int] = {}

    def add(self, task: TaskId) -> None:
        """There is one more future of a task."""
        self._more[task] = self._more.get(task, 0) + 1

    def last(
        self, handles: Iterable[tuple[Range, int, int]]
    ) -> Iterator[tuple[Range, int, int]]:
        """Return those of the handles that were the last ones of their tasks."""
        return self._last(handles) if self._more else iter(handles)

    def _last(
        self, handles: Iterable[tuple[Range, int, int]]
    ) -> Iterator[tuple[Range, int, int]]:
        more = self._more
        for wish, lo, n in handles:
            if wish.n == 1:
                yield wish, lo, n
                continue
            tasks = range(wish.base + lo, wish.base + lo + n)
            at = lo
            for task in _both(more, tasks):
                self._take(task)
                index = task - wish.base
                if index > at:
                    yield wish, at, index - at
                at = index + 1
            if lo + n > at:
                yield wish, at, lo + n - at

    def _take(self, task: TaskId) -> None:
        left = self._more[task] - 1
        if left:
            self._more[task] = left
        else:
            del self._more[task]


def _both(more: dict[TaskId, int], tasks: range) -> list[TaskId]:
    """Return what is in both, in order."""
    if len(tasks) < len(more):
        return [task for task in tasks if task in more]
    return sorted(task for task in more if task in tasks)
