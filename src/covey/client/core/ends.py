"""How the tasks of one range ended: their values, where these rest, failures."""

from __future__ import annotations

from collections.abc import Iterator

from covey.client.core.stretches import Stretches
from covey.payload import Pack
from covey.wire.base import Failure


class Ends:
    """How tasks of a range ended: their values, where these rest, failures."""

    __slots__ = ("_gone", "failures", "given_up", "packs", "stored")

    def __init__(self) -> None:
        #: Which tasks are held no more, once there are any.
        self._gone: bytearray | None = None
        #: Which tasks nobody held any more before they ended, once there are any.  They
        #: come one by one in any order: a list of stretches moves for each of them.
        self.given_up = bytearray()
        self.packs: Stretches[Pack] = Stretches(len, Pack.cut)
        #: How many values rest where, and their size in bytes.
        self.stored: Stretches[tuple[int, int, int]] = Stretches(_count, _share)
        self.failures: Stretches[tuple[int, Failure]] = Stretches(_count, _alike)

    def revert(self, lo: int, hi: int) -> None:
        """Forget all about the tasks from *lo* to *hi*."""
        self.packs.take_out(lo, hi)
        self.stored.take_out(lo, hi)
        self.failures.take_out(lo, hi)
        if self.given_up:
            self.given_up[lo:hi] = bytes(hi - lo)

    def give_up(self, lo: int, hi: int, n: int) -> None:
        """No end is told of the tasks from *lo* to *hi*, of *n* in all."""
        if not self.given_up:
            self.given_up = bytearray(n)
        self.given_up[lo:hi] = b"\1" * (hi - lo)

    def stretches_given_up(self) -> Iterator[tuple[int, int]]:
        """Yield the stretches of which no end is told: (lo, n)."""
        given_up = self.given_up
        at = given_up.find(1)
        while at >= 0:
            end = given_up.find(0, at)
            end = len(given_up) if end < 0 else end
            yield at, end - at
            at = given_up.find(1, end)

    def __contains__(self, index: int) -> bool:
        return self._gone is not None and self._gone[index] == 1

    def let_go(self, lo: int, hi: int, n: int) -> None:
        """Nobody holds the tasks from *lo* to *hi* any more, of *n* in all."""
        if self._gone is None:
            self._gone = bytearray(n)
        self._gone[lo:hi] = b"\1" * (hi - lo)
        for start, pack in self.packs.between(lo, hi):
            count = min(hi, start + len(pack)) - max(lo, start)
            if count <= 0:
                continue
            if pack.drop(count) or pack.dropped == len(pack):
                self.packs.replace(start, self._held(start, pack))

    def _held(self, base: int, pack: Pack) -> dict[int, Pack]:
        """Return what is held of a pack, without the rest of it."""
        assert self._gone is not None
        parts = {}
        end = base + len(pack)
        at = self._gone.find(0, base, end)
        while at >= 0:
            stop = self._gone.find(1, at, end)
            stop = end if stop < 0 else stop
            parts[at] = pack.copy(at - base, stop - base)
            at = self._gone.find(0, stop, end)
        return parts


def _count(some: tuple[int, *tuple[object, ...]]) -> int:
    return some[0]


def _share(stored: tuple[int, int, int], lo: int, hi: int) -> tuple[int, int, int]:
    n, worker, nbytes = stored
    return hi - lo, worker, nbytes * (hi - lo) // n


def _alike(failed: tuple[int, Failure], lo: int, hi: int) -> tuple[int, Failure]:
    return hi - lo, failed[1]
