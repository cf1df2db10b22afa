"""Memory that a client makes, keeps mapped and fills again, and its worker keeps values in."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from covey.ids import first_task_id
from covey.net.addresses import Address, host_identity
from covey.net.asking import Asker
from covey.payload import read_layout
from covey.secret import Secret
from covey.store import own
from covey.store.own import AVAILABLE, Made, OwnSegment, adopt_own
from covey.store.segments import Segment, open_segment, payload_size
from covey.wire.data_link import ForgetOwn, PutSegment
from covey.wire.keys import Keys
from covey.worker.own_memory import OwnMemory
from covey.worker.serving import DataServer
from covey.worker.storage import Promise, Storage

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="it takes memfd")

KEYS = Keys.of_client(Secret(b"s" * 32))
HERE = host_identity()
CLIENT = 7
BASE = first_task_id(CLIENT)
MIB = 1 << 20


def value(number, mebibytes=2):
    return [b"head", bytes([number % 256]) * (mebibytes * MIB)]


def content(segment):
    frames = read_layout(open_segment(segment.place, segment.size).view)
    return [bytes(frame) for frame in frames]


def memfds():
    names = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # That of the listing itself.
            names.append(str(path.readlink()))
    return sum("memfd:covey" in name for name in names)


def resident(segment):
    """Return how much memory is behind what this process has made."""
    return os.fstat(segment._fd).st_blocks * 512


# The segment.


def test_who_made_it_is_not_counted_among_its_readers():
    made = OwnSegment(4 * MIB)
    frames = value(1)
    held = adopt_own(made.fill(frames), payload_size(frames), 4 * MIB)
    assert held.unshared()
    reader = open_segment(held.place, held.size)
    assert not held.unshared()
    del reader
    assert held.reclaim()
    # Now it is mapped, and written again: nobody is counted all the same.
    frames = value(2)
    place = made.fill(frames)
    assert made._view is not None
    assert held.unshared()
    assert read_layout(open_segment(place, payload_size(frames)).view)[1] == frames[1]
    made.close()
    held.close()


def test_what_was_written_before_is_mapped_many_pages_at_once():
    made = OwnSegment(4 * MIB)
    frames = value(1, 3)
    made.fill(frames)
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    made.fill(frames)
    faults = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before
    assert made._view is not None
    # A fault for each page would be 1024 and more.
    assert faults < 512
    made.close()


@pytest.mark.parametrize("numpy", ["there", "half there", "not there"])
def test_what_is_written_again_is_what_it_was(monkeypatch, numpy):
    if numpy == "there":
        pytest.importorskip("numpy")
    elif numpy == "half there":
        monkeypatch.setitem(sys.modules, "numpy", ModuleType("numpy"))
    else:
        monkeypatch.delitem(sys.modules, "numpy", raising=False)
    made = OwnSegment(8 * MIB)
    for number in range(3):
        frames = [bytes([number]) * 100, os.urandom(5 * MIB + number), b"", b"end"]
        made.fill(frames)
        found = read_layout(memoryview(os.pread(made._fd, 8 * MIB, 0)))
        assert [*map(bytes, found)] == frames
    made.close()


def test_what_the_worker_lets_go_of_takes_no_memory_though_it_is_mapped():
    made = OwnSegment(4 * MIB)
    for number in range(2):
        made.fill(value(number))
    held = adopt_own(made.fill(value(3)), 2 * MIB, 4 * MIB)
    told = []
    held.on_close = lambda: told.append(True)
    assert resident(made) >= 2 * MIB
    held.close()
    assert told == [True]
    assert resident(made) == 0
    made.close()


def test_what_is_read_is_not_taken_away():
    made = OwnSegment(4 * MIB)
    frames = value(1)
    held = adopt_own(made.fill(frames), payload_size(frames), 4 * MIB)
    view = read_layout(open_segment(held.place, held.size).view)
    held.on_close = lambda: None
    held.close()
    made.close()
    assert [bytes(frame) for frame in view] == frames


def test_it_is_closed_when_the_thread_that_writes_has_ended(monkeypatch):
    made = OwnSegment(4 * MIB)
    writes, go_on = threading.Event(), threading.Event()
    write = own.write_frames

    def slow(fd, frames):
        writes.set()
        assert go_on.wait(10)
        return write(fd, frames)

    monkeypatch.setattr(own, "write_frames", slow)
    thread = threading.Thread(target=made.fill, args=(value(1),))
    thread.start()
    assert writes.wait(10)
    made.close()
    assert made._fd >= 0
    go_on.set()
    thread.join()
    assert made._fd < 0
    with pytest.raises(OSError, match="gone"):
        made.fill(value(1))


def test_an_older_kernel_writes_without_a_mapping(monkeypatch):
    monkeypatch.setattr(own, "_MADV_POPULATE_READ", 9999)
    made = OwnSegment(4 * MIB)
    for number in range(3):
        frames = value(number)
        place = made.fill(frames)
        found = read_layout(open_segment(place, payload_size(frames)).view)
        assert [bytes(frame) for frame in found] == frames
    assert made._view is None
    made.close()


def test_a_worker_holds_memory_of_clients_and_nothing_else(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(2 * MIB))
    fd = os.open(file, os.O_RDWR)
    small = Segment.of(value(1, 1))
    try:
        for place, capacity in (
            (str(file), 4 * MIB),
            (f"/proc/self/fd/{fd}@1", 4 * MIB),
            (f"/proc/{os.getpid()}/fd/{fd}", 4 * MIB),
            (f"/proc/{os.getpid()}/fd/{fd}@0", 4 * MIB),
            (f"{small.path}@0", small.capacity - 1),
        ):
            with pytest.raises((OSError, ValueError)):
                adopt_own(place, MIB, capacity)
    finally:
        os.close(fd)
        small.close()


# The two sides, in any order.


class Link:
    """What a worker sees of a client."""

    lost = False

    def __init__(self, made):
        self.made = made

    def send(self, message):
        assert isinstance(message, ForgetOwn)
        self.made.forget(message.request)


tasks = st.integers(1, 4)
LIMIT = 24 * MIB


class OwnMachine(RuleBasedStateMachine):
    """Values are brought, read, kept mapped, dropped and spilled, in any order."""

    def __init__(self):
        super().__init__()
        self.before = memfds()
        self.loop = asyncio.new_event_loop()
        self.storage = Storage(LIMIT)
        self.memory = OwnMemory(self.storage)
        self.number = 0
        self.values, self.views, self.lent = {}, [], []
        self._open()

    def _open(self):
        self.made = Made()
        self.link = Link(self.made)
        self.memory.opened(self.link)

    @rule(mebibytes=st.integers(1, 3))
    def borrow(self, mebibytes):
        assume(not self.lent)
        nbytes = payload_size(value(0, mebibytes))
        back = self.memory.lend_back(self.link, nbytes)
        promise = None if back else self.memory.promise(self.link, nbytes)
        assume(back or promise)
        self.lent.append((back, promise, mebibytes))

    @rule(task=tasks)
    def bring(self, task):
        assume(self.lent)
        back, promise, mebibytes = self.lent.pop()
        self.number += 1
        frames = value(self.number, mebibytes)
        nbytes = payload_size(frames)
        if back:
            number, segment = back
            self.made.again(number).fill(frames)
        else:
            number, mine = self.made.make(nbytes)
            message = PutSegment(1, task, 1, nbytes, mine.fill(frames), number)
            segment = self.memory.adopt(self.link, message, promise)
        segment.filled(nbytes)
        self.storage.keep(task, segment)
        self.values.setdefault(task, frames)

    @rule()
    def give_back(self):
        assume(self.lent)
        back, promise, _ = self.lent.pop()
        if back:
            self.storage.take_back(back[1])
        else:
            self.storage.redeem(promise)

    @rule()
    def the_client_goes_and_another_one_comes(self):
        while self.lent:
            back, promise, _ = self.lent.pop()
            if back:
                self.memory.take_back(self.link, back[1])
            else:
                self.storage.redeem(promise)
        self.link.lost = True
        self.memory.lost(self.link)
        self.made.part(lambda _: False)
        self._open()

    @rule(task=tasks)
    def read(self, task):
        assume(task in self.values)
        segment = self.storage.shelf.segment(task)
        frames = read_layout(open_segment(segment.place, segment.size).view)
        self.views.append((frames, self.values[task]))

    @rule()
    def a_reader_lets_go(self):
        if self.views:
            self.views.pop()

    @rule(task=tasks)
    def drop(self, task):
        self.storage.drop(task, 1)
        self.values.pop(task, None)

    @rule(nbytes=st.integers(1, LIMIT))
    def release(self, nbytes):
        async def work():
            self.storage.release(nbytes)
            if self.storage._spills:
                await asyncio.wait(self.storage._spills)

        self.loop.run_until_complete(work())

    @rule()
    def sweep(self):
        self.storage.sweep()

    @invariant()
    def everything_is_as_it_was(self):
        for frames, expected in self.views:
            assert [bytes(frame) for frame in frames] == expected
        for task, expected in self.values.items():
            assert content(self.storage.shelf.segment(task)) == expected

    @invariant()
    def every_byte_is_in_one_account(self):
        lent = sum(
            back[1].capacity if back else promise.capacity
            for back, promise, _ in self.lent
        )
        assert self.storage.lent_bytes == lent

    @invariant()
    def the_client_has_what_the_worker_uses(self):
        used = self.memory._made[self.link]
        assert set(used) == set(self.made._segments)

    def teardown(self):
        self.views.clear()
        kept = list(self.made._segments.values())
        for task in list(self.values):
            self.drop(task)
        self.storage.sweep()
        self.storage.pool.shrink(LIMIT)
        while self.lent:
            self.give_back()
        self.storage.pool.shrink(LIMIT)
        assert not self.made._segments
        assert all(segment._fd < 0 for segment in kept)
        self.loop.run_until_complete(self.storage.close())
        self.loop.close()
        gc.collect()
        assert memfds() == self.before


TestOwn = OwnMachine.TestCase
TestOwn.settings = settings(
    derandomize=True,
    deadline=None,
    max_examples=15,
    stateful_step_count=30,
    suppress_health_check=list(HealthCheck),
)


# Over a link.


@contextlib.asynccontextmanager
async def keeper(tmp_path):
    async def always_room(_):
        return ""

    storage = Storage(1 << 30)
    server = DataServer(storage, KEYS, "1", always_room)
    address = str(await server.listen(Address("", 0, f"{tmp_path}/d")))
    asker = Asker(KEYS, "1", "client", CLIENT)
    before = memfds()
    try:
        yield storage, server, (address,), asker
    finally:
        asker.close()
        await server.close()
        for _ in range(5):
            await asyncio.sleep(0)
        assert storage.lent_bytes == 0
        await storage.close()
        assert memfds() == before


def made_by(asker):
    (keeper,) = asker._keepers.values()
    return keeper.made


async def test_one_value_after_the_other_is_written_into_the_same_memory(tmp_path):
    async with keeper(tmp_path) as (storage, _, addresses, asker):
        for number in range(5):
            await asker.put(addresses, BASE + number, value(number), HERE)
            segment = storage.shelf.segment(BASE + number)
            assert content(segment) == value(number)
            assert len(made_by(asker)) == 1
            gc.collect()
            storage.drop(BASE + number, 1)
            assert storage.pool.free_bytes == segment.capacity
        # A value that is read lets no other one be written there.
        await asker.put(addresses, BASE, value(50), HERE)
        segment = storage.shelf.segment(BASE)
        view = read_layout(open_segment(segment.place, segment.size).view)
        storage.drop(BASE, 1)
        await asker.put(addresses, BASE + 1, value(51), HERE)
        assert len(made_by(asker)) == 2
        assert view[1][-1] == 50
        del view
        storage.sweep()
        # The worker needs the memory: the client lets go as well.
        storage.drop(BASE + 1, 1)
        storage.pool.shrink(1 << 30)
        while len(made_by(asker)):  # noqa: ASYNC110  (nobody is told)
            await asyncio.sleep(0)


async def test_where_it_cannot_be_adopted_it_goes_the_other_way(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("no looking into other processes here")

    monkeypatch.setattr("covey.worker.own_memory.adopt_own", refuse)
    async with keeper(tmp_path) as (storage, _, addresses, asker):
        for number in range(2):
            await asker.put(addresses, BASE + number, value(number), HERE)
            assert content(storage.shelf.segment(BASE + number)) == value(number)
            assert len(made_by(asker)) == 0
        assert not made_by(asker).able


@pytest.mark.parametrize("when", ["the first time", "again"])
async def test_whoever_stops_to_wait_gives_nothing_back_under_the_writer(
    tmp_path, monkeypatch, when
):
    async with keeper(tmp_path) as (storage, _, addresses, asker):
        if when == "again":
            await asker.put(addresses, BASE, value(1), HERE)
            storage.drop(BASE, 1)
        writes, go_on = threading.Event(), threading.Event()
        fill = OwnSegment.fill

        def slow(self, frames):
            writes.set()
            assert go_on.wait(10)
            return fill(self, frames)

        monkeypatch.setattr(OwnSegment, "fill", slow)
        putting = asyncio.ensure_future(asker.put(addresses, BASE, value(2), HERE))
        await asyncio.to_thread(writes.wait, 10)
        putting.cancel()
        await asyncio.wait([putting])
        for _ in range(20):
            await asyncio.sleep(0)
        assert storage.lent_bytes
        assert not storage.pool.free_bytes
        go_on.set()
        while storage.lent_bytes:  # noqa: ASYNC110  (nobody is told)
            await asyncio.sleep(0)
        assert storage.shelf.segment(BASE) is None


async def test_what_a_lost_client_may_be_writing_is_not_used_again(tmp_path):
    async with keeper(tmp_path) as (storage, server, addresses, asker):
        await asker.put(addresses, BASE, value(1), HERE)
        storage.drop(BASE, 1)
        (link,) = server._links
        _, segment = server._own.lend_back(link, 2 * MIB)
        server._loans[link][99] = segment
        link.abort()
        while storage.lent_bytes:  # noqa: ASYNC110  (nobody is told)
            await asyncio.sleep(0)
        assert segment.fd < 0
        assert storage.pool.free_bytes == 0


async def test_a_promise_is_memory_that_is_lent_until_it_is_kept(tmp_path):
    async with keeper(tmp_path) as (storage, server, addresses, asker):
        await asker.get(addresses, ((BASE, 1),), HERE)
        (link,) = server._links
        promise = server._own.promise(link, 3 * MIB)
        assert isinstance(promise, Promise)
        assert storage.lent_bytes == promise.capacity >= 3 * MIB
        server._loans[link][99] = promise
        link.abort()
        while server._links:  # noqa: ASYNC110  (nobody is told)
            await asyncio.sleep(0)
        assert storage.lent_bytes == 0


def test_many_small_ones_leave_a_large_one_its_place():
    """It outlives its worker only there."""

    class Room:
        def promise(self, capacity):
            return capacity

    class Own:
        def __init__(self, capacity):
            self.capacity = capacity

    memory, link = OwnMemory(Room()), object()
    memory.opened(link)
    small, large = own.WORTH_BYTES, 5 * MIB
    for number in range(200):
        if memory.promise(link, small) is not None:
            memory._made[link][number] = Own(small)
    assert memory.promise(link, small) is None
    assert memory.promise(link, large) is not None
    for number in range(200, 400):
        if memory.promise(link, large) is not None:
            memory._made[link][number] = Own(large)
    assert memory.promise(link, large) is None
    assert len(memory._made[link]) == 128
