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
import errno
import os
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, cast

from covey import clock
from covey.ids import TaskId
from covey.payload import Buffer, Pack
from covey.store import descriptors
from covey.store.ledger import Ledger
from covey.store.pool import Pool, capacity_for
from covey.store.segments import Segment, adopt, is_file
from covey.store.shelf import Filed, Shelf, Stretch
from covey.store.spool import Spool
from covey.store.unsettled import Unsettled
from covey.store.writeback import Unwritten, can_be_asked
from covey.worker.core.extents import Extents
from covey.worker.memory import trim_heap
from covey.worker.rescue import Rescue
from covey.worker.thrift import Thrift

#: At most this part of the limit is kept free and warm.
_WARM_SHARE: Final = 0.25

#: Threads that write to disk, and read from it.
_IO_THREADS: Final = 2

#: Small values go to disk together, in files of about this size.
_SMALL_BATCH_BYTES: Final = 16 << 20

#: Of so many descriptors that there may be, one is for a value on its way to disk.
_SPILLING: Final = 16

#: A disk that was full is tried again after so long.
_DISK_AGAIN_SECONDS: Final = 1.0

#: So many files are asked about at each look whether the disk has refused them.
_DOUBTS: Final = 128


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
        on_trim: called when the heap was given back as far as it can be.
        on_change: called when a large value has come, gone, or moved.
        in_hand: tells which values runners are about to open where they are.
        is_short: tells whether files may not stay in the kernel's cache, since there is
            no memory for that.
        disk_problem: why values could not go to disk when that was tried last.
        unsettled: the files that were left to the kernel to write.
        rescue: brings values away from a disk that has refused some.
        thrift: sees to it that descriptors are left for others.
        closed: everything was let go of.
    """

    def __init__(self, limit_bytes: int, spill_directory: str = "") -> None:
        self.limit_bytes = limit_bytes
        self.shelf = Shelf(self._dropped)
        self.ledger = Ledger()
        self.pool = Pool(int(limit_bytes * _WARM_SHARE))
        self.spool = Spool(spill_directory)
        self.unsettled = Unsettled()
        self.rescue = Rescue(self)
        self.thrift = Thrift(self)
        self.lent_bytes = 0
        self.on_change: Callable[[], None] = lambda: None
        self.on_trim: Callable[[], None] = lambda: None
        self.disk_problem = ""
        self._disk_again = 0.0
        #: Values that runners are about to open where they are.
        self.in_hand: Callable[[], Extents] = Extents
        self.is_short: Callable[[], bool] = lambda: True
        self._lent: set[Segment] = set()
        #: Files of values that lie somewhere else by now.
        self._left_behind: list[tuple[TaskId, Segment]] = []
        self._spills: set[asyncio.Task[None]] = set()
        #: What threads are doing.
        self._jobs: set[asyncio.Future[Any]] = set()
        self._io: ThreadPoolExecutor | None = None
        self.closed = False
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
            self.thrift.check(segment)
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

    @property
    def descriptors_used(self) -> int:
        """About how many descriptors values take, and memory for them."""
        return (
            len(self.ledger) + len(self.pool) + len(self._lent) + 2 * len(self._spills)
        )

    def promise(self, capacity: int) -> Promise:
        """Count a segment as lent that somebody is to make, until that is redeemed."""
        self.lent_bytes += capacity
        return Promise(capacity)

    def redeem(self, promise: Promise) -> None:
        """The segment is there, or will not be."""
        if not self.closed:
            self.lent_bytes -= promise.capacity

    def _warm(self, nbytes: int) -> Segment | None:
        return cast("Segment | None", self.pool.take(nbytes, clock.monotonic()))

    def _lend(self, segment: Segment) -> Segment:
        self._lent.add(segment)
        self.lent_bytes += segment.capacity
        return segment

    def admit(self, segment: Segment) -> Segment:
        """Hold a segment that somebody else has made, until it is kept.

        Raises:
            OSError: too few file descriptors are left.
        """
        self.thrift.check(segment)
        return self._lend(segment)

    def take_back(self, segment: Segment) -> None:
        """Nothing was written after all, or nobody wants it."""
        if self.closed:
            return  # It went with everything else.
        self._returned(segment)
        self.pool.give(segment, clock.monotonic())

    def discard(self, segment: Segment) -> None:
        """Let go of a segment that was lent, and that nobody should use again."""
        if not self.closed:
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
        if is_file(segment):
            segment.on_disk = True
            if can_be_asked(segment.fd):
                # What was written there, only the other worker knows.
                segment.unwritten = Unwritten(segment.fd, nbytes, None)
        self._put(task, segment)

    def _put(self, task: TaskId, segment: Segment) -> None:
        if self.shelf.put_segment(task, segment):
            self.ledger.put(task, segment.held_bytes, on_disk=segment.on_disk)
            self.unsettled.put(task, segment)
            self.thrift.put(task, segment)
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
        self.unsettled.drop(task)
        self.thrift.drop(task)
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
        packed_bytes = 0
        for task in self.ledger.choose(nbytes, self.stays()):
            segment = self.shelf.segment(task)
            assert segment is not None
            try:
                source = segment.again()
            except OSError as error:
                # There are too many open files.  With fewer, this will go on.
                self.disk_failed(error)
                self.ledger.stays(task)
                continue
            if len(self._spills) >= descriptors.limit() // _SPILLING:
                # Each takes two descriptors while it is under way; more go when it ends.
                source.close()
                self.ledger.stays(task)
                continue
            if self.thrift.are_scarce(source.fd) and self.thrift.is_for(segment):
                # It goes with the small ones, instead of into a file of its own.
                source.close()
                self.ledger.stays(task)
                if packed_bytes < _SMALL_BATCH_BYTES:
                    packed_bytes += segment.size
                    self.thrift.pack(task)
                continue
            self.start(self._spill(task, segment, source))
        nbytes -= self.ledger.leaving_bytes - leaving
        if nbytes > 0 and self._small_may_go and self.thrift.may_file():
            # Each file takes a descriptor: where these are scarce, it is filled.
            fewest = _SMALL_BATCH_BYTES if self.thrift.is_needed else nbytes
            small = self.shelf.loose(min(max(nbytes, fewest), _SMALL_BATCH_BYTES))
            if small:
                self._small_may_go = False
                self.start(self._spill_small(small))

    def stays(self) -> Callable[[TaskId], bool]:
        """Return what tells of values that cannot go to disk at present."""
        in_hand = self.in_hand()

        def stays(task: TaskId) -> bool:
            segment = self.shelf.segment(task)
            if segment is None or in_hand.covers(task, 1):
                return True
            # Memory that somebody maps would not become free.  But that of a guest is in
            # the accounts of two workers: it lets go first, or neither ever could.
            return segment.is_read() and not segment.is_guest

        return stays

    def start(self, moves: Coroutine[Any, Any, None]) -> None:
        """Begin to move values; ``close`` waits for the end of that."""
        task = asyncio.get_running_loop().create_task(moves)
        self._spills.add(task)
        task.add_done_callback(self._spills.discard)

    async def _spill_small(self, stretches: list[Stretch]) -> None:
        """Have small values mapped from a file, and give their memory back."""
        packs = [s.view(s.base, s.n) for s in stretches]
        parts = [pack.data for pack in packs]
        try:
            through = self._must_go_through()
            views, file = await self.in_thread(
                lambda: self.spool.write_small(parts, through=through)
            )
            self.disk_problem = ""
        except OSError as error:
            self.disk_failed(error)
            return
        if self.closed:
            return
        at = 0
        for stretch, pack, view in zip(stretches, packs, views, strict=True):
            filed = Filed(file, at) if file is not None else None
            self.shelf.file(stretch, Pack(pack.sizes, view), filed)
            at += len(view)
        if file is not None:
            self.unsettled.add(file)
        stretches.clear()
        packs.clear()
        parts.clear()
        del stretch, pack, view
        await self.trim()

    async def trim(self) -> None:
        """Have memory that small values have left given back to the system.

        What was many small pieces goes back only when it is told to.
        """
        await self.in_thread(trim_heap)
        self.on_trim()
        self.on_change()

    async def _spill(self, task: TaskId, segment: Segment, source: Segment) -> None:
        file: Segment | None = None
        try:
            through = self._must_go_through()
            file = await self.in_thread(
                lambda: self.spool.write(source, through=through)
            )
            self.disk_problem = ""
        except OSError as error:
            self.disk_failed(error)
        finally:
            source.close()
        if self.closed or self.shelf.segment(task) is not segment:
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
            self.unsettled.put(task, file)
            if self.thrift.are_scarce(file.fd):
                segment.close()  # Kept warm it would take one, too.
            else:
                self._reuse(segment)
        self.on_change()

    def _must_go_through(self) -> bool:
        """Whether nothing may be left to the kernel to write at present."""
        return self.is_short() or not self.rescue.trusts_disk

    def moved(self, task: TaskId, segment: Segment) -> None:
        """A value that was on disk lies in *segment* now: in memory lent, or a file."""
        before = self.shelf.segment(task)
        assert before is not None
        if not segment.on_disk:
            self._returned(segment)
            self.ledger.back(task, segment.held_bytes)
        self.shelf.move(task, segment)
        self.unsettled.put(task, segment)
        # A runner may be about to open it where it was.
        self._left_behind.append((task, before))
        self.on_change()

    def let_go(self, segment: Segment) -> None:
        """Nobody wants what was to be moved to *segment*."""
        if segment.on_disk:
            segment.close()
        else:
            self.take_back(segment)

    def look_at_disk(self, looks: int = _DOUBTS) -> None:
        """Ask whether the disk has refused what was left to the kernel; save it if so."""
        if self._left_behind:
            in_hand = self.in_hand()
            for task, segment in self._left_behind:
                if not in_hand.covers(task, 1):
                    segment.close()
            self._left_behind = [(t, s) for t, s in self._left_behind if s.fd >= 0]
        if self.unsettled.any and self.unsettled.has_doubts(looks):
            self.disk_failed(OSError(errno.EIO, os.strerror(errno.EIO)))
            self.rescue.begin()

    def disk_failed(self, error: OSError) -> None:
        """The disk has taken no values: it is left alone for a while."""
        self.disk_problem = f"{self.spool.directory}: {error.strerror or error}"
        self._disk_again = clock.monotonic() + _DISK_AGAIN_SECONDS

    async def in_memory(self, segment: Segment) -> Segment:
        """Return what *segment* holds in a segment in memory, lent to the caller.

        Raises:
            OSError: there is no memory, or no file descriptor, left for it, or the disk
                cannot be read.
            Garbled: what the disk gave is not what it was given.
        """
        source = segment.again()
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
        writing = self.in_thread(work)

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

    def in_thread(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """Have one of the threads for files do some work."""
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
        self.look_at_disk()
        self.pool.sweep(clock.monotonic())
        if self.ledger.aside_bytes:
            self.ledger.look_again(self.stays())

    async def close(self) -> None:
        """Let go of everything."""
        self.closed = True
        while self._spills or self._jobs:
            await asyncio.wait([*self._spills, *self._jobs])
        for segment in [*self._lent, *(before for _, before in self._left_behind)]:
            segment.close()
        self._left_behind.clear()
        self._lent.clear()
        self.lent_bytes = 0
        self.shelf.clear()
        self.thrift.clear()
        self.ledger.clear()
        self.unsettled.clear()
        self.pool.clear()
        if self._io is not None:
            self._io.shutdown(wait=False)
        self.spool.close()
