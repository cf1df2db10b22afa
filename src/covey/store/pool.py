"""Segments without a value, kept warm for the next one.

::

    give ──► lingering ──(nobody maps it any more)──► free ──► take
                                                       └──(unused for long)──► closed

What was dropped may still be mapped by a reader: it lingers, and counts as memory,
until the kernel says that the last reader has let go.  A few are asked about at a time,
in turn: a user who keeps ten thousand arrays mapped costs nobody anything.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Container
from typing import Final, Protocol

#: Free segments are kept for so long; other programs may want the memory.
WARM_SECONDS: Final = 10.0

#: A segment is used again for a value of at least this share of it.
_SHARE: Final = 0.5

#: So many free segments are kept: each is an open file, and to close ten thousand at once
#: takes seconds.
FREE_MAX: Final = 1024

#: Capacities are rounded up to an eighth of a power of two, and to whole pages.
_STEPS: Final = 8
_PAGE_BYTES: Final = 4096

#: So many lingering segments are asked about by whoever looks for a free one, and by
#: each sweep.
_LOOKS_TAKE: Final = 16
_LOOKS_SWEEP: Final = 128


class Reusable(Protocol):
    """What the pool needs to know of a segment."""

    @property
    def capacity(self) -> int:
        """Its length in bytes."""
        ...

    @property
    def reusable(self) -> bool:
        """Whether ``reclaim`` can ever succeed."""
        ...

    def reclaim(self) -> bool:
        """Let nobody find in it what it held, if nobody else has it open or mapped."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def capacity_for(nbytes: int) -> int:
    """Return the capacity of a new segment for *nbytes* bytes."""
    step = max(_PAGE_BYTES, (1 << max(0, nbytes - 1).bit_length()) // 2 // _STEPS)
    return max(step, -(-nbytes // step) * step)


class _Free:
    """A free segment, in the order of capacities."""

    __slots__ = ("segment", "since")

    def __init__(self, segment: Reusable, since: float) -> None:
        self.segment = segment
        self.since = since


class Pool:
    """The warm segments of one worker.

    Args:
        bytes_max: free segments are closed beyond this.

    Attributes:
        free_bytes: what could be used again at once.
        lingering_bytes: what readers still map.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.free_bytes = 0
        self.lingering_bytes = 0
        #: Capacity and number of each, in order.
        self._free: list[tuple[int, int, _Free]] = []
        #: Their capacities by number, which tells the order in which they became free.
        self._ages: dict[int, int] = {}
        #: In the order in which they were asked about, the latest last.
        self._lingering: OrderedDict[Reusable, None] = OrderedDict()
        self._entries = 0

    def __len__(self) -> int:
        return len(self._free) + len(self._lingering)

    def lingering(self) -> tuple[Reusable, ...]:
        """Return what readers still map, as far as is known."""
        return tuple(self._lingering)

    def take(
        self, nbytes: int, now: float, among: Container[Reusable] | None = None
    ) -> Reusable | None:
        """Return a free segment for a value of *nbytes* bytes, if there is one.

        Args:
            nbytes: what is to go in.
            now: what the clock shows.
            among: only one of these will do.
        """
        at = self._find(nbytes, among)
        if at is None and self._lingering:
            self._gather(now, _LOOKS_TAKE)
            at = self._find(nbytes, among)
        if at is None:
            return None
        return self._leave(at).segment

    def _find(self, nbytes: int, among: Container[Reusable] | None) -> int | None:
        """Return where the smallest free segment is that is large enough."""
        first = bisect_left(self._free, nbytes, key=lambda entry: entry[0])
        for at in range(first, len(self._free)):
            capacity, _, free = self._free[at]
            if capacity * _SHARE > nbytes:
                return None
            if among is None or free.segment in among:
                return at
        return None

    def give(self, segment: Reusable, now: float) -> None:
        """Keep a segment that holds no value any more."""
        if not segment.reusable:
            segment.close()
            return
        self._lingering[segment] = None
        self.lingering_bytes += segment.capacity
        self._gather_one(segment, now)

    def sweep(self, now: float) -> None:
        """Find what readers have let go of, and close what is not used again."""
        self._gather(now, _LOOKS_SWEEP)
        while self._ages:
            at = self._oldest()
            if now - self._free[at][2].since < WARM_SECONDS:
                break
            self._leave(at).segment.close()

    def _gather(self, now: float, looks: int) -> None:
        for _ in range(min(looks, len(self._lingering))):
            segment = next(iter(self._lingering))
            self._lingering.move_to_end(segment)
            self._gather_one(segment, now)

    def _gather_one(self, segment: Reusable, now: float) -> None:
        """Enter a lingering segment among the free ones, if nobody maps it."""
        useful = True
        try:
            if not segment.reclaim():
                # Unless it turned out that this can never succeed here.
                if segment.reusable:
                    return
                useful = False
        except OSError:
            # Not even its first page could be had: it is of no use to anybody.
            useful = False
        del self._lingering[segment]
        self.lingering_bytes -= segment.capacity
        if useful:
            self._enter(segment, now)
        else:
            segment.close()

    def shrink(self, nbytes: int) -> int:
        """Close free segments of about *nbytes* bytes; return how many it were."""
        before = self.free_bytes
        while self._ages and before - self.free_bytes < nbytes:
            self._leave(self._oldest()).segment.close()
        return before - self.free_bytes

    def clear(self) -> None:
        """Close everything."""
        for segment in [*(free.segment for _, _, free in self._free), *self._lingering]:
            segment.close()
        self._free.clear()
        self._ages.clear()
        self._lingering.clear()
        self.free_bytes = self.lingering_bytes = 0

    def _enter(self, segment: Reusable, now: float) -> None:
        if segment.capacity > self.bytes_max:
            segment.close()
            return
        self._entries += 1
        number, capacity = self._entries, segment.capacity
        insort(self._free, (capacity, number, _Free(segment, now)))
        self._ages[number] = capacity
        self.free_bytes += capacity
        self.shrink(self.free_bytes - self.bytes_max)
        if len(self._free) > FREE_MAX:
            self._leave(self._oldest()).segment.close()

    def _oldest(self) -> int:
        """Return where the one is that has been free for the longest time."""
        number, capacity = next(iter(self._ages.items()))
        return bisect_left(self._free, (capacity, number))

    def _leave(self, at: int) -> _Free:
        """Take one out."""
        capacity, number, free = self._free.pop(at)
        del self._ages[number]
        self.free_bytes -= capacity
        return free
