"""A disk that says only afterwards that it has not taken what was spilled."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
from types import SimpleNamespace

import pytest

from covey.errors import RemoteProtocolError
from covey.payload import Pack, read_layout
from covey.store import digests, spool, writeback
from covey.store.segments import Garbled, Segment, open_segment
from covey.wire.base import Failure
from covey.worker import rescue, storage
from covey.worker.core import orders
from covey.worker.core.extents import Extents
from covey.worker.doubts import Doubts
from covey.worker.runner_link import SaysBig, SaysRan, SaysRanNodes
from covey.worker.storage import Storage

LIMIT = 4 << 20
ENDED = Failure("died", "RunnerDied", "it ended")
_real_late_error = writeback.late_error


class Disk:
    """What it refuses afterwards, and what it loses; and what it was asked to keep."""

    def __init__(self):
        self.refused = set()
        self.takes = True
        self.flushed = []

    def late_error(self, fd):
        return errno.EIO if os.fstat(fd).st_ino in self.refused else 0

    def fsync(self, fd):
        self.flushed.append(fd)
        if not self.takes or os.fstat(fd).st_ino in self.refused:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def refuse(self, file, *, keeps=True):
        """Have it say so of a file, and lose what it holds unless memory *keeps* that."""
        fd = file if isinstance(file, int) else file.fd
        self.refused.add(os.fstat(fd).st_ino)
        if not keeps:
            os.pwrite(fd, bytes(100), 0)


@pytest.fixture
def disk(monkeypatch):
    disk = Disk()
    monkeypatch.setattr(writeback, "late_error", disk.late_error)
    monkeypatch.setattr(os, "fsync", disk.fsync)
    for module in (spool, storage):
        monkeypatch.setattr(module, "can_be_asked", lambda _: True)
    return disk


class Store(Storage):
    """A store of which the disk is taken at its word."""

    def __init__(self, folder):
        super().__init__(LIMIT, str(folder))
        self.is_short = lambda: False
        self.lost = {}
        self.said = []
        self.rescue.on_lost = self._lost
        self.rescue.tell = self.said.append

    def _lost(self, task, why):
        self.lost[task] = why
        self.drop(task, 1)

    async def spill(self, *tasks):
        """Have values of these tasks, and no other ones, go to disk."""
        for task in tasks:
            made = Segment.of(frames_of(task))
            self.adopt(task, made.place, made.size)
            made.close()
        self.release(LIMIT)
        await self.rest()
        return [self.shelf.segment(task) for task in tasks]

    async def spill_small(self, base, n):
        self.put(base, Pack.of([value_of(base + i) for i in range(n)]))
        self.release(LIMIT)
        await self.rest()
        return self.shelf.at(base)

    async def rest(self):
        """Wait until nothing is moved any more."""
        while self._spills:
            await asyncio.wait(self._spills)

    def read(self, task):
        segment = self.shelf.segment(task)
        return [
            bytes(f)
            for f in read_layout(open_segment(segment.place, segment.size).view)
        ]

    def check_accounts(self):
        held = [self.shelf.segment(t) for t in range(100)]
        held = [segment for segment in held if segment is not None]
        in_memory = sum(s.held_bytes for s in held if not s.on_disk)
        assert self.ledger.memory_bytes == in_memory
        assert self.ledger.disk_bytes == sum(s.size for s in held if s.on_disk)
        assert self.ledger.leaving_bytes == self.lent_bytes == 0


def frames_of(task):
    return [b"head", bytes([task % 256]) * 100_000]


def value_of(task):
    return bytes([task % 256]) * 10_000


@pytest.fixture
async def store(tmp_path, disk):
    store = Store(tmp_path)
    yield store
    await store.close()


async def test_what_the_disk_takes_is_never_forced_to_it(store, disk):
    segments = await store.spill(1, 2)
    await store.spill_small(100, 3)
    assert all(s.on_disk and s.unwritten is not None for s in segments)
    for _ in range(5):
        store.sweep()
    store.drop(0, 200)
    gc.collect()
    assert not disk.flushed
    assert not store.unsettled
    assert store.rescue.trusts_disk


async def test_what_memory_still_has_is_written_anew_and_flushed(store, disk):
    first, second = await store.spill(1, 2)
    disk.refuse(first)
    store.sweep()
    assert "Input/output error" in store.disk_problem
    await store.rest()
    assert not store.lost
    assert store.spool.directory in store.said[0]
    moved = store.shelf.segment(1)
    assert moved is not first and moved.on_disk and moved.unwritten is None
    # The other one had no such trouble, and has reached the disk by now.
    assert store.shelf.segment(2) is second and second.unwritten is None
    assert not store.unsettled
    assert [store.read(1), store.read(2)] == [frames_of(1), frames_of(2)]
    store.check_accounts()
    # From now on nothing is left to the kernel.
    flushed = len(disk.flushed)
    store._disk_again = 0.0
    (third,) = await store.spill(3)
    assert third.on_disk and third.unwritten is None
    assert len(disk.flushed) == flushed + 1
    assert not store.disk_problem
    assert len(store.said) == 1


async def test_what_the_disk_will_not_have_at_all_comes_back_to_memory(store, disk):
    (segment,) = await store.spill(1)
    disk.refuse(segment)
    disk.takes = False
    changes = []
    store.on_change = lambda: changes.append(store.ledger.memory_bytes)
    store.sweep()
    store.disk_problem = ""  # It is the disk that says so once more.
    await store.rest()
    assert "Input/output error" in store.disk_problem
    moved = store.shelf.segment(1)
    assert not moved.on_disk and not store.lost
    assert store.read(1) == frames_of(1)
    assert changes[-1] == moved.held_bytes  # Whoever watches memory hears of it.
    store.check_accounts()
    # And what should go there next stays, as if it were full.
    store._disk_again = 0.0
    store.release(LIMIT)
    await store.rest()
    assert not store.shelf.segment(1).on_disk
    assert "Input/output error" in store.disk_problem


@pytest.mark.parametrize("takes", [True, False])
async def test_what_is_something_else_by_now_is_lost_however_full_all_is(
    store, disk, takes
):
    (segment,) = await store.spill(1)
    disk.refuse(segment, keeps=False)
    disk.takes = takes
    store.rescue.has_room = lambda _: False
    store.sweep()
    await store.rest()
    assert list(store.lost) == [1]
    store.check_accounts()


async def test_what_came_back_as_something_else_is_lost_and_says_why(store, disk):
    first, _ = await store.spill(1, 2)
    disk.refuse(first, keeps=False)
    store.sweep()
    await store.rest()
    assert list(store.lost) == [1]
    assert "Input/output error" in store.lost[1]
    assert store.spool.directory in store.lost[1]
    assert store.shelf.segment(1) is None
    assert store.read(2) == frames_of(2)
    store.check_accounts()


async def test_what_has_no_place_stays_in_doubt_until_there_is_one(
    store, disk, monkeypatch
):
    (segment,) = await store.spill(1)
    disk.refuse(segment)
    disk.takes = False
    monkeypatch.setattr(store.rescue, "has_room", lambda _: False)
    store.sweep()
    await store.rest()
    assert store.shelf.segment(1) is segment and not store.lost
    # Whoever wants it gets it, compared with what was written.
    copy = await store.in_memory(segment)
    assert [bytes(f) for f in read_layout(copy.map().view)] == frames_of(1)
    store.take_back(copy)
    # It is not tried at each look; but again.
    store.sweep()
    assert not store._spills
    monkeypatch.setattr(rescue, "_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(store.rescue, "_not_before", 0.0)
    monkeypatch.setattr(store.rescue, "has_room", lambda _: True)
    store.sweep()
    await store.rest()
    assert not store.shelf.segment(1).on_disk
    assert store.read(1) == frames_of(1)
    store.check_accounts()


async def test_who_is_about_to_open_a_file_finds_it_after_it_was_moved(store, disk):
    (segment,) = await store.spill(1)
    place = segment.place
    in_hand = Extents()
    in_hand.add(1, 1)
    store.in_hand = lambda: in_hand
    told = []
    store.rescue.on_moved = told.append
    disk.refuse(segment)
    store.sweep()
    await store.rest()
    assert store.shelf.segment(1) is not segment
    assert told == [1]
    store.sweep()
    view = open_segment(place, segment.size).view
    assert [bytes(f) for f in read_layout(view)] == frames_of(1)
    in_hand.discard(1, 1)
    store.sweep()
    assert segment.fd < 0


@pytest.mark.parametrize("keeps", [True, False])
async def test_small_values_come_back_to_memory_or_are_lost(store, disk, keeps):
    changes = []
    stretch = await store.spill_small(50, 4)
    assert stretch.on_disk
    store.drop(51, 1)  # Of what is left of a file its neighbours come back, too.
    file = stretch.unwritten
    del stretch
    disk.refuse(file._fd, keeps=keeps)
    store.on_change = lambda: changes.append(store.shelf.small_bytes)
    store.sweep()
    await store.rest()
    assert changes
    tasks = [50, 52, 53]
    if keeps:
        assert {t: bytes(store.small(t).data) for t in tasks} == {
            t: value_of(t) for t in tasks
        }
        assert not store.shelf.at(50).on_disk
        assert store.shelf.small_bytes == 30_000
    else:
        assert sorted(store.lost) == tasks
        assert not len(store.shelf)
        assert store.shelf.small_bytes == 0
    assert store.shelf.filed_bytes == 0
    assert not store.unsettled


async def test_a_file_of_small_values_is_closed_with_the_last_of_them(store):
    stretch = await store.spill_small(50, 4)
    fd = stretch.unwritten._fd
    del stretch
    os.fstat(fd)
    store.drop(50, 3)
    gc.collect()
    os.fstat(fd)
    store.drop(53, 1)
    gc.collect()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


async def test_another_worker_that_keeps_the_file_hears_of_it_itself(
    store, disk, tmp_path
):
    (segment,) = await store.spill(1)
    guest = Store(tmp_path)
    guest.adopt(1, segment.place, segment.size)
    held = guest.shelf.segment(1)
    # A file is no memory for him either.
    assert held.on_disk and guest.ledger.memory_bytes == 0
    guest.check_accounts()
    disk.refuse(segment)
    with pytest.raises(Garbled):
        await guest.in_memory(held)  # What was written there he does not know.
    guest.sweep()
    await guest.rest()
    assert list(guest.lost) == [1]
    assert store.read(1) == frames_of(1)
    guest.check_accounts()
    await guest.close()


# What tasks have made of it.


class Shell:
    """A worker's shell: hears of what is lost, and drops it."""

    def __init__(self, store):
        self.store = store
        self.events = []
        self.killed = []
        self.process = SimpleNamespace(
            kill=self.killed.append,
            number=0,
            ended_by=0,
            killed_because="",
            executing=lambda: ((7, 10),),
        )
        self.mapped = []
        self.later = []
        inputs = SimpleNamespace(
            mapped_by=lambda _: self.mapped, forget=lambda _extents: None
        )
        self.doubts = Doubts(store, inputs, self.step, self.later.append)

    def step(self, event):
        self.events.append(event)
        if isinstance(event, orders.Garbled):
            self.store.drop(event.task, 1)


def dispatch(run, base, n, *, aligned=(), whole=(), renamed=()):
    return orders.Dispatch(0, run, 1, base, n, aligned, whole, renamed)


async def test_an_outcome_counts_if_memory_had_kept_what_its_task_read(store, disk):
    (segment,) = await store.spill(1)
    shell = Shell(store)
    shell.doubts.dispatched(dispatch(7, 10, 1, whole=((1, 1),)))
    assert digests.of_stored(store.shelf, 1, 1)
    disk.refuse(segment)
    # To compare it with another one would mean nothing from now on.
    assert not digests.of_stored(store.shelf, 1, 1)
    shell.doubts.check(shell.process, SaysRan(7, 10, 1, 0.1, 5))
    assert not shell.killed and not shell.events


async def test_an_outcome_that_was_made_of_something_else_does_not_count(store, disk):
    first, _ = await store.spill(1, 2)
    shell = Shell(store)
    shell.doubts.dispatched(dispatch(7, 10, 2, aligned=(1,)))
    shell.doubts.dispatched(dispatch(8, 20, 1, whole=((2, 1),)))
    disk.refuse(first, keeps=False)
    # What has taken another one counts: of other tasks, and of the same run.
    shell.doubts.check(shell.process, SaysRan(8, 20, 1, 0.1, 5))
    shell.doubts.check(shell.process, SaysBig(7, 11, 0.1, "/proc/1/fd/1@1", 5, 1))
    with pytest.raises(RemoteProtocolError, match="has not kept"):
        shell.doubts.check(shell.process, SaysBig(7, 10, 0.1, "/proc/1/fd/1@1", 5, 1))
    assert [event.task for event in shell.events] == [1]
    assert "Input/output error" in shell.events[0].why
    assert len(shell.killed) == 1
    # It has done nothing wrong.
    shell.process.killed_because = shell.killed[0]
    shell.doubts.tell_end(shell.process, ENDED)
    assert shell.events.pop().blameless
    # Nor does what another runner says who had it in hand, as long as the run goes on.
    with pytest.raises(RemoteProtocolError):
        shell.doubts.check(shell.process, SaysRan(7, 10, 1, 0.1, 5))
    shell.doubts.ended(7)
    shell.doubts.check(shell.process, SaysRan(7, 10, 1, 0.1, 5))


async def test_nodes_and_renamed_inputs_and_small_values_are_watched(store, disk):
    (segment,) = await store.spill(1)
    stretch = await store.spill_small(50, 4)
    node = SimpleNamespace(run=9, base=30, aligned=(51,))
    nodes = orders.DispatchNodes(0, [node], frozenset(), frozenset())
    shell = Shell(store)
    shell.doubts.dispatched(nodes)
    shell.doubts.dispatched(dispatch(10, 40, 1, renamed=((99, 1),)))
    disk.refuse(segment, keeps=False)
    disk.refuse(stretch.unwritten._fd, keeps=False)
    del stretch
    with pytest.raises(RemoteProtocolError):
        shell.doubts.check(shell.process, SaysRan(10, 40, 1, 0.1, 5))
    with pytest.raises(RemoteProtocolError):
        shell.doubts.check(shell.process, SaysRanNodes((9,), (30,), (1,), 5))
    assert sorted(event.task for event in shell.events) == [1, 50, 51, 52, 53]


async def test_who_ended_over_a_file_that_cannot_be_read_is_told_of_after_it(
    store, disk
):
    first, _ = await store.spill(1, 2)
    shell = Shell(store)
    shell.mapped = [1, 2, 3]
    ended = orders.RunnerEnded(0, ((7, 10),), ENDED)
    shell.doubts.tell_end(shell.process, ENDED)
    assert shell.events == [ended]  # It was something else.
    shell.process.killed_because = "its task used too much memory"
    shell.doubts.tell_end(shell.process, ENDED)
    assert not shell.events.pop().blameless
    shell.events.clear()
    os.ftruncate(first.fd, 10)
    shell.process.ended_by = 7
    shell.doubts.tell_end(shell.process, ENDED)
    assert not shell.events
    await shell.later.pop()
    assert [event.task for event in shell.events[:-1]] == [1]
    assert "cannot be read back" in shell.events[0].why
    assert shell.events[-1].blameless
    # Nothing more can be found: the next one has itself to blame.
    shell.doubts.tell_end(shell.process, ENDED)
    await shell.later.pop()
    assert shell.events[-1] == ended


async def test_what_another_thread_is_about_to_hear_is_in_doubt(store, monkeypatch):
    """The kernel says it once."""
    (segment,) = await store.spill(1)
    twin = segment.again()
    found = []
    assert not segment.in_doubt()

    def fsync(fd):
        assert fd == twin.fd
        found.append(segment.in_doubt())
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    assert not twin.unwritten.flushed()
    assert found == [True]
    assert segment.in_doubt() and segment.unwritten.error == errno.EIO
    twin.close()


def test_the_kernel_can_be_asked_without_anything_being_written(tmp_path):
    """This machine's own kernel; what it says of a disk that breaks only root can try."""
    with (tmp_path / "file").open("wb") as file:
        file.write(b"x" * 5000)
        file.flush()
        asked = writeback.can_be_asked(file.fileno())
        assert _real_late_error(file.fileno()) == 0
    if not asked:
        pytest.skip("this file system does not tell")
