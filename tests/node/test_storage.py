"""The store with real memory and a real disk: nothing is lost, nothing left behind."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from covey.payload import Pack, read_layout
from covey.store import descriptors, digests, segments, spool, writeback
from covey.store.segments import Segment, fill, open_segment, payload_size
from covey.worker import pressure, thrift
from covey.worker import storage as storage_room
from covey.worker.core.extents import Extents
from covey.worker.core.state import WorkerState
from covey.worker.memory import MemoryPlan
from covey.worker.pressure import Pressure
from covey.worker.results import Results
from covey.worker.storage import Storage

LIMIT = 4 << 20
tasks = st.integers(0, 6)
sizes = st.sampled_from([5_000, 70_000, 300_000])


#: Files that the disk did not take, by their numbers.
refused = set()


def late_error(fd):
    return errno.EIO if os.fstat(fd).st_ino in refused else 0


def fsync(fd):
    if os.fstat(fd).st_ino in refused:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture(autouse=True)
def a_disk_that_tells(monkeypatch):
    """Whatever file system this is."""
    monkeypatch.setattr(writeback, "late_error", late_error)
    monkeypatch.setattr(os, "fsync", fsync)
    for module in (spool, storage_room):
        monkeypatch.setattr(module, "can_be_asked", lambda _: True)
    yield
    refused.clear()


def open_files():
    names = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            names.append(str(path.readlink()))
        except FileNotFoundError:
            continue  # That of the listing itself.
    return [n for n in names if "memfd:covey" in n or "deleted" in n]


def frames_of(number, nbytes):
    return [b"head", bytes([number % 256]) * nbytes]


def content(place, size):
    return [bytes(f) for f in read_layout(open_segment(place, size).view)]


class StorageMachine(RuleBasedStateMachine):
    """Values brought, read, kept mapped, dropped and spilled, in any order."""

    def __init__(self):
        super().__init__()
        self.before = Counter(open_files())
        self.loop = asyncio.new_event_loop()
        self.in_hand = Extents()
        self._begin()
        self.number = 0
        #: What the values are; what was lent; views that readers keep.
        self.values = {}
        self.small = {}
        self.lent = []
        self.views = []
        self.others = []

    def _begin(self):
        self.storage = Storage(LIMIT)
        self.storage.in_hand = lambda: self.in_hand
        self.storage.is_short = lambda: False
        self.storage.rescue.on_lost = self._lost

    async def _soon(self, work):
        work()
        await asyncio.sleep(0)

    @rule(nbytes=sizes, warm=st.booleans())
    def lend(self, nbytes, warm):
        size = payload_size(frames_of(0, nbytes))
        if warm:
            offered = self.storage.offer_warm(size)
            assume(offered is not None)
        else:
            offered = self.storage.offer(size)
        self.lent.append((*offered, nbytes))

    @rule(task=tasks, put=st.booleans())
    def what_was_lent_comes_back(self, task, put):
        assume(self.lent)
        segment, place, nbytes = self.lent.pop()
        if not put:
            self.storage.take_back(segment)
            return
        self.number += 1
        frames = frames_of(self.number, nbytes)
        fill(place, frames)
        segment.filled(payload_size(frames))
        self.storage.keep(task, segment)
        self.values.setdefault(task, frames)

    @rule(task=tasks, nbytes=sizes)
    def adopt(self, task, nbytes):
        self.number += 1
        made = Segment.of(frames_of(self.number, nbytes))
        self.storage.adopt(task, made.place, made.size)
        made.close()
        self.values.setdefault(task, frames_of(self.number, nbytes))

    @rule(task=tasks, nbytes=sizes)
    def adopt_from_another_worker(self, task, nbytes):
        """Who goes on to hold it."""
        self.number += 1
        made = Segment.of(frames_of(self.number, nbytes))
        self.storage.adopt(task, made.place, made.size)
        self.others.append((made, frames_of(self.number, nbytes)))
        self.values.setdefault(task, frames_of(self.number, nbytes))

    @rule()
    def another_worker_lets_go(self):
        if self.others:
            self.others.pop()[0].close()

    @rule(base=tasks, n=st.integers(1, 3))
    def put_small(self, base, n):
        self.number += 1
        values = [bytes([self.number % 256]) * 9_000] * n
        self.storage.put(100 + base, Pack.of(values))
        for task, value in enumerate(values, 100 + base):
            self.small.setdefault(task, value)

    @rule(base=tasks, n=st.integers(1, 3))
    def drop_small(self, base, n):
        self.storage.drop(100 + base, n)
        for task in range(100 + base, 100 + base + n):
            self.small.pop(task, None)

    @invariant()
    def small_values_are_as_they_were(self):
        found = {}
        for base, n, stretch in self.storage.find(100, 50):
            found |= {base + i: bytes(v) for i, v in enumerate(stretch.part(base, n))}
        assert found == self.small
        shelf = self.storage.shelf
        assert shelf.small_bytes + shelf.filed_bytes == 9_000 * len(found)

    @rule(task=tasks, keep=st.booleans())
    def read(self, task, keep):
        for _, _, stretch in self.storage.find(task, 1):
            segment = stretch.segment
            assert content(segment.place, segment.size) == self.values[task]
            if keep:
                frames = read_layout(open_segment(segment.place, segment.size).view)
                self.views.append((frames, self.values[task]))

    @rule()
    def a_reader_lets_go(self):
        if self.views:
            self.views.pop()

    @rule(task=tasks)
    def a_runner_takes_it_in_hand(self, task):
        self.in_hand.add(task, 1)

    @rule(task=tasks)
    def a_runner_is_done(self, task):
        self.in_hand.discard(task, 1)

    @rule(base=tasks, n=st.integers(1, 3))
    def drop(self, base, n):
        self.storage.drop(base, n)
        for task in range(base, base + n):
            self.values.pop(task, None)

    @rule(nbytes=st.integers(1, LIMIT))
    def release(self, nbytes):
        places = self._places()
        self.loop.run_until_complete(self._soon(lambda: self.storage.release(nbytes)))
        self._in_hand_stay(places)

    @rule(task=tasks, again=st.booleans())
    def release_and_drop_at_once(self, task, again):
        async def both():
            self.storage.release(LIMIT)
            self.drop(task, 1)
            if again:
                self.adopt(task, 5_000)

        self.loop.run_until_complete(both())

    @rule()
    def writes_end(self):
        places = self._places()

        async def wait():
            if self.storage._spills:
                await asyncio.wait(self.storage._spills)

        self.loop.run_until_complete(wait())
        self._in_hand_stay(places)

    def _places(self):
        segments = {t: self.storage.shelf.segment(t) for t in self.values}
        return {t: s.place for t, s in segments.items()}

    def _in_hand_stay(self, before):
        for task, place in self._places().items():
            if self.in_hand.covers(task, 1):
                assert place == before[task]

    @rule()
    def sweep(self):
        self.storage.sweep()

    @rule()
    def disk_comes_and_goes(self):
        spool = self.storage.spool
        there = spool.directory != "/nowhere"
        spool.directory = "/nowhere" if there else "/var/tmp"
        self.storage._disk_again = 0.0

    @rule(which=tasks, keeps=st.booleans())
    def the_disk_refuses_a_file(self, which, keeps):
        """And has lost it, or the kernel still has in memory what was written."""
        self.release(LIMIT)
        self.writes_end()
        files = [*self.storage.unsettled.large.items()]
        if not files:
            return
        task, segment = files[which % len(files)]
        # Who maps it has been told what it was.
        keeps |= any(known == self.values[task] for _, known in self.views)
        refused.add(os.fstat(segment.fd).st_ino)
        if not keeps:
            os.pwrite(segment.fd, bytes(100), 0)
        places = self._places()
        self.storage.rescue._not_before = 0.0
        self.loop.run_until_complete(self._soon(self.storage.sweep))
        self.writes_end()
        assert self.storage.shelf.segment(task) is not segment
        assert (task in self.values) is keeps
        if self.in_hand.covers(task, 1):
            place = places[task]
            assert not keeps or content(place, segment.size) == self.values[task]

    def _lost(self, task, why):
        assert "Input/output error" in why
        self.storage.drop(task, 1)
        del self.values[task]

    @rule()
    def crash(self):
        self.loop.run_until_complete(self.storage.close())
        self.values.clear()
        self.small.clear()
        self.lent.clear()
        self._begin()

    @invariant()
    def every_byte_is_in_one_account(self):
        ledger, storage = self.storage.ledger, self.storage
        held = [storage.shelf.segment(task) for task in self.values]
        assert None not in held
        in_memory = [s for s in held if not s.on_disk]
        assert ledger.memory_bytes == sum(s.held_bytes for s in in_memory)
        assert ledger.disk_bytes == sum(s.size for s in held if s.on_disk)
        assert storage.lent_bytes == sum(s.capacity for s, _, _ in self.lent)
        assert storage.shared_bytes >= ledger.memory_bytes

    @invariant()
    def a_view_never_changes(self):
        for frames, expected in self.views:
            assert [bytes(frame) for frame in frames] == expected

    @invariant()
    def what_another_worker_holds_is_as_it_was(self):
        for segment, expected in self.others:
            assert content(segment.place, segment.size) == expected

    def teardown(self):
        while self.others:
            self.another_worker_lets_go()
        self.writes_end()
        for task in list(self.values):
            self.read(task, keep=False)
        self.loop.run_until_complete(self.storage.close())
        self.loop.close()
        self.views.clear()
        gc.collect()
        assert not Counter(open_files()) - self.before


TestStorage = StorageMachine.TestCase
TestStorage.settings = settings(
    derandomize=True,
    deadline=None,
    max_examples=30,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
)


async def test_a_full_disk_loses_nothing(tmp_path):
    storage = Storage(LIMIT, str(tmp_path / "nowhere"))
    made = Segment.of(frames_of(1, 100_000))
    storage.adopt(1, made.place, made.size)
    made.close()
    changes = []
    storage.on_change = lambda: changes.append(storage.disk_problem)
    storage.release(1)
    while not changes:  # noqa: ASYNC110  (the store calls back)
        await asyncio.sleep(0)
    assert "nowhere" in storage.disk_problem
    assert "No such file" in storage.disk_problem
    assert storage.ledger.memory_bytes == storage.shelf.segment(1).held_bytes
    segment = storage.shelf.segment(1)
    assert content(segment.place, segment.size) == frames_of(1, 100_000)
    # It is not tried again at once, and is when the disk may have come back.
    await asyncio.sleep(0)
    storage.release(1)
    assert not storage._spills
    (tmp_path / "nowhere").mkdir()
    storage._disk_again = 0.0
    storage.release(1)
    while len(changes) < 2:  # noqa: ASYNC110  (the same)
        await asyncio.sleep(0)
    assert not storage.disk_problem
    assert storage.ledger.disk_bytes == made.size
    segment = storage.shelf.segment(1)
    assert content(segment.place, segment.size) == frames_of(1, 100_000)
    assert not list((tmp_path / "nowhere").iterdir())
    copy = await storage.in_memory(segment)
    assert not copy.on_disk
    assert content(copy.place, copy.size) == frames_of(1, 100_000)
    storage.take_back(copy)
    await storage.close()


async def test_what_somebody_maps_does_not_count_as_what_could_go_to_disk(tmp_path):
    storage = Storage(LIMIT, str(tmp_path))
    for task in range(4):
        storage.keep(task, storage.admit(Segment.of(frames_of(task, 100_000))))
    held_bytes = storage.shelf.segment(0).held_bytes
    views = [storage.shelf.segment(task).map() for task in range(3)]
    assert storage.movable_bytes == 4 * held_bytes  # Nobody has looked yet.
    storage.release(4 * held_bytes)
    while storage._spills:
        await asyncio.wait(storage._spills)
    assert storage.ledger.disk_bytes == storage.shelf.segment(3).size
    assert storage.ledger.memory_bytes == 3 * held_bytes
    assert storage.movable_bytes == storage.pool.free_bytes
    # As soon as they let go, it does.
    del views[0]
    storage.sweep()
    assert storage.movable_bytes == storage.pool.free_bytes + held_bytes
    views.clear()
    await storage.close()


async def test_small_values_go_to_disk_when_nothing_else_is_left(tmp_path):
    storage = Storage(LIMIT, str(tmp_path))
    made = Segment.of(frames_of(1, 100_000))
    storage.adopt(1, made.place, made.size)
    held_bytes = made.held_bytes
    made.close()
    values = [bytes([n]) * 10_000 for n in range(200)]
    for at in range(0, 200, 4):
        storage.put(100 + at, Pack.of(values[at : at + 4]))
    storage.put(1000, Pack.of([b"tiny"] * 9))
    assert storage.movable_bytes == held_bytes + 2_000_000
    storage.release(held_bytes + 1_000_000)
    while storage._spills:
        await asyncio.wait(storage._spills)
    assert storage.ledger.disk_bytes == made.size
    shelf = storage.shelf
    assert shelf.filed_bytes == 1_000_000
    assert shelf.small_bytes == 1_000_036
    assert storage.spilled_bytes == made.size + 1_000_000
    # Not before it is known what that has brought.
    storage.release(1_000_000)
    assert not storage._spills
    storage.sweep()
    storage.release(2_000_000)
    while storage._spills:
        await asyncio.wait(storage._spills)
    # What is tiny stays where it is.
    assert (shelf.filed_bytes, shelf.small_bytes) == (2_000_000, 36)
    found = [bytes(v) for b, n, s in storage.find(100, 200) for v in s.part(b, n)]
    assert found == values
    assert not list(tmp_path.iterdir())
    storage.drop(0, 2000)
    assert storage.spilled_bytes == shelf.small_bytes == shelf.loose_bytes == 0
    await storage.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_another_user_cannot_map_what_is_ours():
    segment = Segment.of(frames_of(1, 100_000))
    child = os.fork()
    if not child:
        os.setgid(65534)
        os.setuid(65534)
        try:
            open_segment(segment.place, segment.size)
        except PermissionError:
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    segment.close()


@pytest.mark.parametrize("first", ["maker", "guest"])
async def test_memory_that_two_workers_held_is_free_when_both_have_let_go(first):
    maker, guest = Storage(LIMIT), Storage(LIMIT)
    segment = maker.lend(payload_size(frames_of(1, 300_000)))
    segment.write_frames(frames_of(1, 300_000))
    maker.keep(1, segment)
    guest.adopt(1, segment.place, segment.size)
    order = [maker, guest] if first == "maker" else [guest, maker]
    order[0].drop(1, 1)
    order[0].sweep()
    # Whoever still has it has it unharmed, and may read on.
    held = order[1].shelf.segment(1)
    assert content(held.place, held.size) == frames_of(1, 300_000)
    order[1].drop(1, 1)
    for storage in order:
        storage.sweep()
        assert storage.shared_bytes == 0
    # Who made it has it for the next value; the other one has let go for good.
    assert maker.pool.free_bytes == segment.capacity
    assert len(guest.pool) == 0
    await maker.close()
    await guest.close()


async def test_what_two_workers_hold_goes_to_disk_in_both(tmp_path):
    maker, guest = (Storage(LIMIT, str(tmp_path)) for _ in range(2))
    nbytes = payload_size(frames_of(1, 300_000))
    segment = maker.lend(nbytes)
    segment.write_frames(frames_of(1, 300_000))
    maker.keep(1, segment)
    guest.adopt(1, segment.place, segment.size)
    maker.release(nbytes)
    assert not maker.ledger.leaving_bytes, "its memory would not become free"
    for storage in (guest, maker):
        storage.release(nbytes)
        await asyncio.wait(storage._spills)
        assert (storage.shared_bytes, storage.spilled_bytes) == (0, nbytes)
        held = storage.shelf.segment(1)
        assert content(held.place, held.size) == frames_of(1, 300_000)
        await storage.close()


async def test_values_go_to_disk_where_nobody_can_tell_who_reads(tmp_path, monkeypatch):
    storage = Storage(LIMIT, str(tmp_path))
    nbytes = payload_size(frames_of(1, 300_000))
    segment = storage.lend(nbytes)
    segment.write_frames(frames_of(1, 300_000))
    storage.keep(1, segment)
    reader = open_segment(segment.place, segment.size)
    monkeypatch.setattr(segments._Leases, "given", False)
    storage.release(nbytes)
    await asyncio.wait(storage._spills)
    assert (storage.shared_bytes, storage.spilled_bytes) == (0, nbytes)
    assert len(storage.pool) == 0
    assert read_layout(reader.view)[1] == frames_of(1, 300_000)[1]
    await storage.close()


def few_descriptors(monkeypatch, spare):
    """Let so many be scarce: 6 of 8 parts are for values, 7 before it is an error."""
    monkeypatch.setattr(descriptors, "limit", lambda: spare * 8 // 6 + 1)

    def used(self, fd):
        return self._storage.descriptors_used

    monkeypatch.setattr(thrift.Thrift, "_used", used)


def test_all_numbers_below_one_that_was_just_opened_are_in_use():
    storage = Storage(LIMIT)
    assert storage.thrift._used(1000) == 1000
    assert storage.thrift._used(3) >= storage.descriptors_used


async def test_where_descriptors_are_scarce_values_are_kept_as_bytes(
    tmp_path, monkeypatch
):
    storage = Storage(100 << 20, str(tmp_path))
    few_descriptors(monkeypatch, 20)
    before = len(open_files())
    digests_before = {}
    for task in range(60):
        frames = frames_of(task, 100_000)
        segment = storage.lend(payload_size(frames))
        segment.write_frames(frames)
        digests_before[task] = digests.of_segment(segment)
        storage.keep(task, segment)
    assert len(open_files()) - before <= 21
    found = {task: stretch for task, _, stretch in storage.find(0, 60)}
    assert sorted(found) == [*range(60)]
    assert storage.shelf.small_bytes == 40 * payload_size(frames_of(0, 100_000))
    for task, stretch in found.items():
        assert digests.of_stretch(stretch, task, 1) == digests_before[task]
        if stretch.segment is None:
            layout = memoryview(bytes(stretch.part(task, 1).data))
            assert [*map(bytes, read_layout(layout))] == frames_of(task, 100_000)
    # All of these go into few files.
    while storage.shelf.small_bytes + storage.shared_bytes >= thrift.FILE_BYTES_MIN:
        storage.release(60 * 100_000)
        while storage._spills:
            await asyncio.wait(storage._spills)
        storage.sweep()
    assert len(open_files()) - before <= 24
    storage.drop(0, 60)
    assert storage.shelf.small_bytes == storage.spilled_bytes == 0
    await storage.close()


async def test_values_do_not_fill_gaps_among_the_descriptors_without_bound(
    tmp_path, monkeypatch
):
    """One that goes to disk leaves a gap, which the next takes, and is a file itself."""
    storage = Storage(100 << 20, str(tmp_path))
    few_descriptors(monkeypatch, 20)
    before = len(open_files())
    for task in range(100):
        frames = frames_of(task, 100_000)
        segment = storage.lend(payload_size(frames))
        segment.write_frames(frames)
        storage.keep(task, segment)
        storage.release(100_000)
        while storage._spills:
            await asyncio.wait(storage._spills)
        storage.sweep()
    assert len(open_files()) - before <= 20 + 2 + 100 // 10
    for task, _, stretch in storage.find(0, 100):
        if stretch.segment is None:
            layout = memoryview(bytes(stretch.part(task, 1).data))
            assert [*map(bytes, read_layout(layout))] == frames_of(task, 100_000)
        else:
            held = stretch.segment
            assert content(held.place, held.size) == frames_of(task, 100_000)
    await storage.close()


async def test_what_is_read_or_in_hand_keeps_its_place_where_descriptors_are_scarce(
    monkeypatch,
):
    storage = Storage(100 << 20)
    in_hand = Extents()
    in_hand.add(1, 1)
    storage.in_hand = lambda: in_hand
    few_descriptors(monkeypatch, 3)
    views = []
    for task in range(6):
        frames = frames_of(task, 100_000)
        segment = storage.lend(payload_size(frames))
        segment.write_frames(frames)
        storage.keep(task, segment)
        if task == 2:
            views.append(storage.shelf.segment(2).map())
    assert storage.shelf.segment(1) is not None
    assert storage.shelf.segment(2) is not None
    assert storage.shelf.small_bytes == 3 * segment.size
    await storage.close()


async def test_values_that_are_too_large_for_that_are_refused_in_words(monkeypatch):
    storage = Storage(100 << 20)
    few_descriptors(monkeypatch, 8)
    before = len(open_files())
    kept = []

    def keep_many():
        for task in range(100):
            segment = storage.lend(2 << 20)
            segment.write_frames([b"head"])
            segment.filled(2 << 20)
            storage.keep(task, segment)
            kept.append(task)

    with pytest.raises(OSError, match=r"files open.*let go of values.*ulimit"):
        keep_many()
    assert len(kept) > 8
    assert len(open_files()) - before == len(kept), "what was refused is closed"
    with pytest.raises(OSError, match="files open"):
        storage.admit(Segment.of(frames_of(1, 2 << 20)))
    # What is there stays, and there is room again when some of it goes.
    storage.drop(0, 2)
    storage.pool.clear()
    storage.take_back(storage.lend(2 << 20))
    await storage.close()


async def test_out_of_descriptors_values_stay_and_go_later(tmp_path, monkeypatch):
    storage = Storage(LIMIT, str(tmp_path))
    for task in (1, 2):
        made = Segment.of(frames_of(task, 100_000))
        storage.adopt(task, made.place, made.size)
        made.close()

    def no_more(_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(os, "dup", no_more)
        storage.release(LIMIT)
        with pytest.raises(OSError, match="open files"):
            await storage.in_memory(storage.shelf.segment(1))
    assert "open files" in storage.disk_problem
    assert storage.ledger.leaving_bytes == storage.lent_bytes == 0
    assert not storage._spills
    # There are some again.
    storage._disk_again = 0.0
    storage.release(LIMIT)
    await asyncio.wait(storage._spills)
    assert not storage.disk_problem
    assert storage.ledger.memory_bytes == 0
    for task in (1, 2):
        segment = storage.shelf.segment(task)
        assert content(segment.place, segment.size) == frames_of(task, 100_000)
    await storage.close()


class Revoking:
    """What the watch needs of results: it fails the first time."""

    def __init__(self):
        self.looks = 0
        self.again = asyncio.Event()

    def revoke(self):
        self.looks += 1
        if self.looks == 2:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if self.looks == 3:
            self.again.set()


def watching(storage, results, plan=MemoryPlan(1 << 40), processes=()):  # noqa: B008
    """Watch the memory of a worker of one slot."""
    state = WorkerState(1, 1)
    shell = (lambda _: None, lambda: None)
    return Pressure("w", plan, state, storage, results, processes, *shell)


async def test_memory_is_watched_on_when_a_look_has_failed():
    problems = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: problems.append(context["exception"])
    )
    storage, results = Storage(1 << 40), Revoking()
    watch = watching(storage, results)
    async with asyncio.timeout(30):
        await results.again.wait()
    watch.close()
    await storage.close()
    assert [problem.errno for problem in problems] == [errno.EMFILE]


async def test_a_task_that_grows_before_the_first_look_has_grown(monkeypatch):
    limit = 400 << 20
    sizes = {7: 20 << 20}
    monkeypatch.setattr(pressure, "private_bytes", lambda pid: sizes.get(pid, 0))
    told, killed = [], []
    process = SimpleNamespace(
        number=0, pid=0, ready=False, verdict=None, kill=killed.append
    )
    process.executing = lambda: [(1, 0xABC)]
    storage = Storage(limit)
    plan = MemoryPlan(limit, tell=told.append)
    watch = watching(storage, Results(storage, "w"), plan, [process])
    process.pid, process.ready = 7, True
    watch.is_ready(process)
    # Its first task begins, and is large before anybody looks.
    monkeypatch.setattr(pressure, "_is_idle", lambda _: False)
    sizes[7] = 800 << 20
    watch._look_now()
    assert killed == ["its task used too much memory"]
    assert process.verdict.type_name == "TaskOutOfMemory"
    assert "800 MiB" in told[0]
    watch.close()
    await storage.close()


async def test_files_of_values_stay_in_memory_only_where_there_is_some(monkeypatch):
    storage, results = Storage(1 << 40), Revoking()
    assert storage.is_short()  # Nobody has looked yet.
    watch = watching(storage, results)
    machine = psutil.virtual_memory()
    limit = None
    monkeypatch.setattr(watch._container, "limit_bytes", lambda: limit)
    for part, short in ((0.5, False), (0.1, True)):
        free = machine._replace(available=int(part * machine.total))
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: free)
        assert storage.is_short() is short
    # What a container holds counts until the disk has it.
    limit = 1 << 30
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    assert storage.is_short()
    watch.close()
    await storage.close()


def test_a_process_of_a_cluster_may_open_as_many_files_as_the_machine_lets_it():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = 512, min(before[1], 4096)
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from covey.store.descriptors import raise_limit
raise_limit()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, timeout=60
    )
    assert done.stdout.split() == [str(hard).encode()] * 2
