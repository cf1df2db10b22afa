"""Something for each of some stretches of tasks, found by any of these tasks."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from typing import Generic, TypeVar

V = TypeVar("V")


class Stretches(Generic[V]):
    """Something for each of some stretches, by where the stretches begin.

    Args:
        length: returns how many tasks something is for.
        cut: returns the part of it from one index to another.
    """

    __slots__ = ("_by_lo", "_cut", "_length", "_los")

    def __init__(
        self, length: Callable[[V], int], cut: Callable[[V, int, int], V]
    ) -> None:
        self._length = length
        self._cut = cut
        self._by_lo: dict[int, V] = {}
        self._los: list[int] = []

    def put(self, lo: int, value: V) -> None:
        """Enter what belongs to the stretch that begins at *lo*."""
        known = lo in self._by_lo
        self._by_lo[lo] = value
        if not known:
            insort(self._los, lo)

    def at(self, index: int) -> tuple[int, V] | None:
        """Return the last stretch that begins at or before *index*."""
        los = self._los
        while True:
            at = bisect_right(los, index) - 1
            if at < 0:
                return None
            try:
                lo = los[at]
                found = lo, self._by_lo[lo]
                # The I/O thread may put one in or take one out at any time: what was
                # there before and after is that of this index.
                if bisect_right(los, index) - 1 == at and los[at] == lo:
                    return found
            except (IndexError, KeyError):
                continue

    def all(self) -> list[tuple[int, V]]:
        """Return all stretches, in order.

        Where the I/O thread changes one meanwhile, it may be missing, or stand there as it
        was with a part of it behind it.
        """
        los = list(self._los)
        found = zip(los, map(self._by_lo.get, los), strict=True)
        return [(lo, value) for lo, value in found if value is not None]

    def take_out(self, lo: int, hi: int) -> None:
        """Forget what is between *lo* and *hi*; what is around it stays."""
        first, last = self._around(lo, hi)
        left: dict[int, V] = {}
        for start in self._los[first:last]:
            value = self._by_lo[start]
            end = start + self._length(value)
            for a, b in ((start, min(end, lo)), (max(start, hi), end)):
                if a < b:
                    left[a] = self._cut(value, a - start, b - start)
        self._swap(first, last, left)

    def between(self, lo: int, hi: int) -> list[tuple[int, V]]:
        """Return the stretches that may hold something between *lo* and *hi*."""
        first, last = self._around(lo, hi)
        return [(start, self._by_lo[start]) for start in self._los[first:last]]

    def replace(self, lo: int, parts: dict[int, V]) -> None:
        """Have some parts of the stretch that begins at *lo*, in order, instead of it."""
        at = bisect_left(self._los, lo)
        self._swap(at, at + 1, parts)

    def _around(self, lo: int, hi: int) -> tuple[int, int]:
        first = max(0, bisect_right(self._los, lo) - 1)
        return first, bisect_left(self._los, hi, first)

    def _swap(self, first: int, last: int, parts: dict[int, V]) -> None:
        old = self._los[first:last]
        # In this order, so that who reads meanwhile finds what stays: what becomes
        # shorter does so when all that was in it is to be found elsewhere.
        for start, value in parts.items():
            if start not in self._by_lo:
                self._by_lo[start] = value
        self._los[first:last] = parts
        for start in old:
            if start in parts:
                self._by_lo[start] = parts[start]
            else:
                del self._by_lo[start]
