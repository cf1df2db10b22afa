"""Futures that a client keeps until their tasks have ended, since nobody else need do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from covey.client.core.ranges import Range
from covey.client.future import Future


class Kept:
    """Futures of one range, of which each is let go when its task has ended."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: dict[int, Future[Any]] = {}

    def keep(self, future: Future[Any]) -> None:
        """Keep one more."""
        wish, index = future._range, future._index
        self._futures[index] = future
        wish.watch(index, self)
        # It may have ended between the look and the watch.
        if wish.status[index]:
            self._futures.pop(index, None)

    def __call__(self, changed: Range, lo: int, n: int) -> None:
        """Some tasks have ended."""
        del changed
        futures = self._futures
        if n <= len(futures):
            for index in range(lo, lo + n):
                futures.pop(index, None)
            return
        # Copied in one go: another thread may add to it.
        for index in sorted(futures):
            if lo <= index < lo + n:
                futures.pop(index, None)


def keep_until_done(futures: Iterable[Future[Any]]) -> None:
    """Keep each of *futures* that has not ended until it has."""
    kept: dict[Range, Kept] = {}
    for future in futures:
        if not future.done():
            kept.setdefault(future._range, Kept()).keep(future)
