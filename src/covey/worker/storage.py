"""All the values of one worker, and the memory that they rest in.

::

                 lend ──► somebody writes ──► keep ──► shelf ──► drop
    pool (warm) ──┘             └─ take_back ─┐          │         │
       ▲                                      ▼          ▼         ▼
       └──────────────────────────────────────┴──────release───────┘
                                                      │
                                                      └──► file on disk

Every byte is in one account at a time: lent, on the shelf, free, lingering under a
reader that still maps what was dropped, or on disk.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, cast

from covey import clock
from covey.ids import TaskId
from covey.payload import Buffer, Pack
from covey.store.ledger import Ledger
from covey.store.pool import Pool, capacity_for
from covey.store.segments import Segment, adopt
from covey.store.shelf import Shelf, Stretch
from covey.store.spool import Spool
from covey.worker.core.extents import Extents
from covey.worker.memory import trim_heap

#: At most this part of the limit is kept free and warm.
_WARM_SHARE: Final = 0.25

#: Threads that write to disk, and read from it.
_IO_THREADS: Final = 2

#: Small values go to disk together, in files of about this size.
_SMALL_BATCH_BYTES: Final = 16 << 20

#: A disk that was full is tried again after so long.
_DISK_AGAIN_SECONDS: Final = 1.0


class Promise:
    """Room for a segment that somebody else is to make."""

    __slots__ = ("capacity",)

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity


class Storage:
    """A shelf, and the memory and files that its values rest in.

    Args:
        limit_bytes: the memory of the worker, for results and runners together.
        spill_directory: where values go that do not fit; empty for the default.

    Attributes:
        lent_bytes: segments that somebody is writing into.
        on_change: called when a large value has come, gone, or moved.
        in_hand: tells which values runners are about to open where they are.
        is_short: tells whether files may not stay in the kernel's cache, since there is
            no memory for that.
        disk_problem: why values could not go to disk when that was tried last.
    """

    def __init__(self, limit_bytes: int, spill_directory: str = "") -> None:
        self.limit_bytes = limit_bytes
        self.shelf = Shelf(self._dropped)
        self.ledger = Ledger()
        self.pool = Pool(int(limit_bytes * _WARM_SHARE))
        self.spool = Spool(spill_directory)
        self.lent_bytes = 0
        self.on_change: Callable[[], None] = lambda: None
        self.disk_problem = ""
        self._disk_again = 0.0
        #: Values that runners are about to open where they are.
        self.in_hand: Callable[[], Extents] = Extents
        self.is_short: Callable[[], bool] = lambda: True
        self._lent: set[Segment] = set()
        self._spills: set[asyncio.Task[None]] = set()
        #: What threads are doing.
        self._jobs: set[asyncio.Future[Any]] = set()
        self._io: ThreadPoolExecutor | None = None
        self._closed = False
        self._small_may_go = True

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
        if segment is None:
            return None
        lent = self._lend(segment)
        try:
            return lent, lent.offer()
        except OSError:
            self.take_back(lent)
            return None

    def lend_one_of(
        self, nbytes: int, segments: AbstractSet[Segment]
    ) -> Segment | None:
        """Lend a warm segment that is one of *segments*, if there is one."""
        segment = self.pool.take(nbytes, clock.monotonic(), segments)
        if segment is None:
            return None
        lent = self._lend(cast("Segment", segment))
        lent.offer()
        return lent

    def promise(self, capacity: int) -> Promise:
        """Count a segment as lent that somebody is to make, until that is redeemed."""
        self.lent_bytes += capacity
        return Promise(capacity)

    def redeem(self, promise: Promise) -> None:
        """The segment is there, or will not be."""
        if not self._closed:
            self.lent_bytes -= promise.capacity

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
        if self._closed:
            return  # It went with everything else.
        self._returned(segment)
        self.pool.give(segment, clock.monotonic())

    def discard(self, segment: Segment) -> None:
        """Let go of a segment that was lent, and that nobody should use again."""
        if not self._closed:
            self._returned(segment)
            segment.close()

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
        self._put(task, segment)

    def adopt(self, task: TaskId, place: str, nbytes: int) -> None:
        """Keep a value where another worker of this machine keeps it, too.

        Raises:
            OSError: it is gone, or belongs to another user.
            ValueError: it is shorter than *nbytes*.
        """
        segment = adopt(place, nbytes)
        segment.is_guest = True
        self._put(task, segment)

    def _put(self, task: TaskId, segment: Segment) -> None:
        if self.shelf.put_segment(task, segment):
            self.ledger.put(task, segment.held_bytes)
            self.on_change()

    def find(self, base: TaskId, n: int) -> Iterator[tuple[TaskId, int, Stretch]]:
        """Yield what there is of the given tasks: (base, n, stretch), in order."""
        for start, count, stretch in self.shelf.find(base, n):
            if stretch.segment is not None:
                self.ledger.touch(start)
            yield start, count, stretch

    def small(self, task: TaskId) -> Pack | None:
        """Return a small value as a pack of one, if it is there."""
        stretch = self.shelf.at(task)
        if stretch is None or stretch.segment is not None:
            return None
        return stretch.part(task, 1)

    def held(self) -> Iterator[tuple[TaskId, int, int]]:
        """Yield all that is there: (base, n, bytes)."""
        return self.shelf.held()

    def drop(self, base: TaskId, n: int) -> None:
        """Let go of what there is of the given tasks."""
        self.shelf.drop(base, n)

    def drop_all(self, extents: Iterable[tuple[TaskId, int]]) -> None:
        """Let go of what there is of the tasks in these extents."""
        drop = self.shelf.drop
        for base, n in extents:
            drop(base, n)

    def _dropped(self, task: TaskId, segment: Segment) -> None:
        self.ledger.drop(task)
        self._reuse(segment)
        self.on_change()

    def _reuse(self, segment: Segment) -> None:
        if segment.on_disk:
            segment.close()
        else:
            self.pool.give(segment, clock.monotonic())

    # From memory to disk, and back.

    @property
    def movable_bytes(self) -> int:
        """What memory could be given back, as far as the disk takes it.

        Not that of values which somebody maps, as far as that is known.
        """
        if self.disk_problem:
            return self.pool.free_bytes
        large = self.ledger.memory_bytes - self.ledger.aside_bytes
        return self.pool.free_bytes + large + self.shelf.loose_bytes

    @property
    def spilled_bytes(self) -> int:
        """Of values that are on disk."""
        return self.ledger.disk_bytes + self.shelf.filed_bytes

    def release(self, nbytes: int) -> None:
        """Begin to give back about *nbytes* bytes of memory."""
        nbytes -= self.pool.shrink(nbytes)
        nbytes -= self.ledger.leaving_bytes
        if self.disk_problem and clock.monotonic() < self._disk_again:
            return
        leaving = self.ledger.leaving_bytes
        for task in self.ledger.choose(nbytes, self._stays()):
            segment = self.shelf.segment(task)
            assert segment is not None
            try:
                source = _again(segment)
            except OSError as error:
                # There are too many open files.  With fewer, this will go on.
                self._disk_failed(error)
                self.ledger.stays(task)
                continue
            self._start(self._spill(task, segment, source))
        nbytes -= self.ledger.leaving_bytes - leaving
        if nbytes > 0 and self._small_may_go:
            small = self.shelf.loose(min(nbytes, _SMALL_BATCH_BYTES))
            if small:
                self._small_may_go = False
                self._start(self._spill_small(small))

    def _stays(self) -> Callable[[TaskId], bool]:
        """Return what tells of values that cannot go to disk at present."""
        in_hand = self.in_hand()

        def stays(task: TaskId) -> bool:
            segment = self.shelf.segment(task)
            # Memory that somebody maps would not become free.
            return segment is None or in_hand.covers(task, 1) or not segment.unshared()

        return stays

    def _start(self, spill: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(spill)
        self._spills.add(task)
        task.add_done_callback(self._spills.discard)

    async def _spill_small(self, stretches: list[Stretch]) -> None:
        """Have small values mapped from a file, and give their memory back."""
        packs = [s.view(s.base, s.n) for s in stretches]
        parts = [pack.data for pack in packs]
        try:
            short = self.is_short()
            views = await self._in_thread(
                lambda: self.spool.write_small(parts, through=short)
            )
            self.disk_problem = ""
        except OSError as error:
            self._disk_failed(error)
            return
        if self._closed:
            return
        for stretch, pack, view in zip(stretches, packs, views, strict=True):
            self.shelf.file(stretch, Pack(pack.sizes, view))
        stretches.clear()
        packs.clear()
        parts.clear()
        del stretch, pack
        # What was many small pieces goes back to the system only when told to.
        await self._in_thread(trim_heap)
        self.on_change()

    async def _spill(self, task: TaskId, segment: Segment, source: Segment) -> None:
        file: Segment | None = None
        try:
            short = self.is_short()
            file = await self._in_thread(
                lambda: self.spool.write(source, through=short)
            )
            self.disk_problem = ""
        except OSError as error:
            self._disk_failed(error)
        finally:
            source.close()
        if self._closed or self.shelf.segment(task) is not segment:
            if file is not None:
                file.close()
        elif file is None or self.in_hand().covers(task, 1):
            # The disk would not have it, or a runner is about to open it.
            self.ledger.stays(task)
            if file is not None:
                file.close()
        else:
            self.ledger.left(task, file.size)
            self.shelf.move(task, file)
            self._reuse(segment)
        self.on_change()

    def _disk_failed(self, error: OSError) -> None:
        self.disk_problem = f"{self.spool.directory}: {error.strerror or error}"
        self._disk_again = clock.monotonic() + _DISK_AGAIN_SECONDS

    async def in_memory(self, segment: Segment) -> Segment:
        """Return what *segment* holds in a segment in memory, lent to the caller.

        Raises:
            OSError: there is no memory, or no file descriptor, left for it, or the disk
                cannot be read.
            Garbled: what the disk gave is not what it was given.
        """
        source = _again(segment)
        copy = self.lend(segment.size)

        def work() -> None:
            try:
                copy.copy_from(source)
            finally:
                source.close()

        return await self._write(copy, work)

    async def write_new(self, nbytes: int, frames: Sequence[Buffer]) -> Segment:
        """Return a payload of *frames*, *nbytes* long, in a segment lent to the caller.

        Raises:
            OSError: there is no memory, or no file descriptor, left for it.
        """
        segment = self.lend(nbytes)
        return await self._write(segment, lambda: segment.write_frames(frames))

    async def _write(self, segment: Segment, work: Callable[[], object]) -> Segment:
        """Have a thread write into a segment that is lent; return it then.

        Whoever waits may be cancelled, the thread not: until it has ended, the
        segment is nobody else's.
        """
        writing = self._in_thread(work)

        def give_up(_: object) -> None:
            writing.exception()  # Whatever went wrong, nobody waits to hear of it.
            self.take_back(segment)

        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            writing.add_done_callback(give_up)
            raise
        except BaseException:
            self.take_back(segment)
            raise
        return segment

    def _in_thread(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        if self._io is None:
            self._io = ThreadPoolExecutor(_IO_THREADS, "covey-io")
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(self._io, work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    # The accounts.

    @property
    def shared_bytes(self) -> int:
        """Large values in memory, those included that are only mapped any more."""
        return self.ledger.memory_bytes + self.pool.lingering_bytes

    def sweep(self) -> None:
        """Find what readers have let go of, and close what is not used again.

        Called whenever memory was looked at: not before that is it known how much
        came free with the small values that went last.
        """
        self._small_may_go = True
        self.pool.sweep(clock.monotonic())
        if self.ledger.aside_bytes:
            self.ledger.look_again(self._stays())

    async def close(self) -> None:
        """Let go of everything."""
        self._closed = True
        while self._spills or self._jobs:
            await asyncio.wait([*self._spills, *self._jobs])
        for segment in self._lent:
            segment.close()
        self._lent.clear()
        self.lent_bytes = 0
        self.shelf.clear()
        self.ledger.clear()
        self.pool.clear()
        if self._io is not None:
            self._io.shutdown(wait=False)
        self.spool.close()


def _again(segment: Segment) -> Segment:
    """Open a segment once more, for a thread.

    What is dropped meanwhile is closed, and its number soon another's.

    Raises:
        OSError: there are too many open files.
    """
    again = Segment(os.dup(segment.fd), segment.size, "", named=False)
    again.checksum = segment.checksum
    return again
