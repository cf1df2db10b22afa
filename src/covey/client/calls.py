"""The calls of a map, read by position from the columns of its arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from covey.serde.call import Call


class Calls:
    """What a function is called with, for each element of a map.

    Args:
        columns: the arguments by position, each as a sequence.  A list may change while
            it is read, since another thread may have it.
        n: how many calls there are.
        kwargs: what each call takes by name.
        before: arguments that come before those of the columns.
    """

    __slots__ = ("_before", "_columns", "_kwargs", "n")

    def __init__(
        self,
        columns: list[Sequence[Any]],
        n: int,
        kwargs: dict[str, Any],
        before: tuple[Any, ...] = (),
    ) -> None:
        self._columns = columns
        self._kwargs = kwargs
        self._before = before
        self.n = n

    @property
    def single(self) -> bool:
        """Whether each call takes one argument, by position, and nothing else."""
        return len(self._columns) == 1 and not self._kwargs and not self._before

    def values(self, start: int, stop: int) -> Sequence[Any]:
        """Return the arguments of these calls, of which each takes a single one."""
        return self._columns[0][start : min(stop, self.n)]

    def read(self, start: int, stop: int) -> list[tuple[Any, ...] | Call]:
        """Return these calls; fewer, if a list became shorter."""
        stop = min(stop, self.n)
        calls: list[Any]
        calls = [*zip(*(column[start:stop] for column in self._columns), strict=False)]
        if self._before:
            calls = [(*self._before, *args) for args in calls]
        if self._kwargs:
            calls = [Call(args, self._kwargs) for args in calls]
        return calls
