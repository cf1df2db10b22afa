"""All the values of one worker, and the memory that they rest in.

::

                 lend ──► somebody writes ──► keep ──► shelf ──► drop
    pool (warm) ──┘             └─ take_back ─┐                   │
       ▲                                      ▼                   ▼
       └──────────────────────────────────────┴───────────────────┘

Every byte is in one account at a time: lent, on the shelf, free, or lingering
under a reader that still maps what was dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

from covey import clock
from covey.ids import TaskId
from covey.payload import Pack
from covey.store.pool import Pool, capacity_for
from covey.store.segments import Segment, adopt
from covey.store.shelf import Shelf, Stretch

#: At most this part of the limit is kept free and warm.
_WARM_SHARE: Final = 0.25


class Storage:
    """A shelf, and the pool that its segments come from and go back to.

    Args:
        limit_bytes: the memory of the worker, for results and runners together.

    Attributes:
        lent_bytes: segments that somebody is writing into.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.shelf = Shelf(self._dropped)
        self.pool = Pool(int(limit_bytes * _WARM_SHARE))
        self.lent_bytes = 0
        self._lent: set[Segment] = set()

    # Memory for values to come.

    def lend(self, nbytes: int) -> Segment:
        """Return a segment for *nbytes* bytes: a warm one, or else a new one.

        Raises:
            OSError: there is no memory, or no file descriptor, left for it.
        """
        segment = self._warm(nbytes)
        if segment is None:
            segment = Segment.create(capacity_for(nbytes))
        segment.filled(nbytes)
        return self._lend(segment)

    def offer(self, nbytes: int) -> tuple[Segment, str]:
        """Lend a segment to another process; return it, and its place.

        Raises:
            OSError: there is no memory, or no file descriptor, left for it.
        """
        segment = self.lend(nbytes)
        try:
            return segment, segment.offer()
        except OSError:
            self.take_back(segment)
            raise

    def offer_warm(self, nbytes: int) -> tuple[Segment, str] | None:
        """Lend a warm segment to another process, if there is one."""
        segment = self._warm(nbytes)
        return (self._lend(segment), segment.offer()) if segment is not None else None

    def _warm(self, nbytes: int) -> Segment | None:
        return cast("Segment | None", self.pool.take(nbytes, clock.monotonic()))

    def _lend(self, segment: Segment) -> Segment:
        self._lent.add(segment)
        self.lent_bytes += segment.capacity
        return segment

    def admit(self, segment: Segment) -> Segment:
        """Hold a segment that somebody else has made, until it is kept."""
        return self._lend(segment)

    def take_back(self, segment: Segment) -> None:
        """Nothing was written after all, or nobody wants it."""
        self._returned(segment)
        self.pool.give(segment, clock.monotonic())

    def _returned(self, segment: Segment) -> None:
        self._lent.remove(segment)
        self.lent_bytes -= segment.capacity

    # Values.

    def put(self, base: TaskId, pack: Pack) -> None:
        """Keep small values."""
        self.shelf.put(base, pack)

    def keep(self, task: TaskId, segment: Segment) -> None:
        """Keep the value that was written into a segment that was lent."""
        self._returned(segment)
        self.shelf.put_segment(task, segment)

    def adopt(self, task: TaskId, place: str, nbytes: int) -> None:
        """Keep a value in the segment of somebody else, who lets go of it.

        Raises:
            OSError: it is gone, or belongs to another user.
            ValueError: it is shorter than *nbytes*.
        """
        self.shelf.put_segment(task, adopt(place, nbytes))

    def find(self, base: TaskId, n: int) -> Iterator[tuple[TaskId, int, Stretch]]:
        """Yield what there is of the given tasks: (base, n, stretch), in order."""
        return self.shelf.find(base, n)

    def drop(self, base: TaskId, n: int) -> None:
        """Let go of what there is of the given tasks."""
        self.shelf.drop(base, n)

    def _dropped(self, task: TaskId, segment: Segment) -> None:
        del task
        self.pool.give(segment, clock.monotonic())

    # The accounts.

    def sweep(self) -> None:
        """Find what readers have let go of, and close what is not used again."""
        self.pool.sweep(clock.monotonic())

    @property
    def shared_bytes(self) -> int:
        """Large values in memory, those included that are only mapped any more."""
        return self.shelf.segment_bytes + self.pool.lingering_bytes

    def close(self) -> None:
        """Let go of everything."""
        for segment in self._lent:
            segment.close()
        self._lent.clear()
        self.lent_bytes = 0
        self.shelf.clear()
        self.pool.clear()
