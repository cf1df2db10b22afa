"""Values by way of the scheduler, for those who reach nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile

import pytest

from covey.errors import ClusterError, Disconnected, RemoteProtocolError
from covey.ids import first_task_id
from covey.net import asking, link, reaching
from covey.net.addresses import Address, host_identity, parse_address
from covey.net.asking import Asker
from covey.net.link import READ_BYTES
from covey.payload import Pack, read_layout
from covey.scheduler import passing
from covey.scheduler.server import SchedulerServer
from covey.secret import Secret
from covey.store.segments import Segment, open_segment
from covey.wire.introductions import WorkerIntroduction
from covey.wire.keys import Keys
from covey.wire.worker_link import Meet
from covey.worker.core.orders import CallIn
from covey.worker.serving import DataServer
from covey.worker.storage import Storage

KEYS = Keys.of_client(Secret(b"s" * 32))
ELSEWHERE = "another machine"

CLIENT = 77
TASK = first_task_id(CLIENT)


async def always_room(_):
    return ""


class Site:
    """A scheduler, and a worker that only the scheduler is reached by."""

    def __init__(self, folder):
        self.folder = folder
        self.server = SchedulerServer(keys=KEYS, version="1")
        self.storage = Storage(1 << 30)
        self.data = DataServer(self.storage, KEYS, "1", always_room)
        self.askers = []
        self.worker = 0
        #: Whether the worker does as it is told.
        self.calls = True
        self.addresses = ()

    async def open(self):
        listener = await self.server.listen(Address("127.0.0.1", 0, ""))
        self.address = listener.address
        self.data.call_scheduler_at(lambda: self.address)
        self.addresses = (await nobody_at(),)
        hello = WorkerIntroduction(
            "w", 1, {}, self.addresses, ELSEWHERE, 0, "1", "3.12.0", 1
        )
        self.link = self.server.attach_worker(hello, self._told)
        (self.worker,) = self.server.core.state.workers

    def _told(self, link, batch):
        for message in batch:
            if isinstance(message, Meet) and self.calls:
                self.data.call_in(CallIn(message.ticket, message.client))

    def asker(self, number=CLIENT):
        found = Asker(KEYS, "1", "somebody", number)
        found.call_scheduler_at(lambda: self.address)
        self.askers.append(found)
        return found

    async def get(self, asker, *extents, **keywords):
        place = self.addresses, extents, ELSEWHERE
        return await asker.get(*place, worker=self.worker, **keywords)

    async def put(self, asker, task, frames):
        await asker.put(self.addresses, task, frames, ELSEWHERE, self.worker)

    @property
    def passed_on(self):
        return self.server.core.state.counters["bytes_passed_on"]

    async def close(self):
        for asker in self.askers:
            asker.close()
        await self.data.close()
        await self.server.close()
        await until(lambda: not len(self.server.passing))
        await self.storage.close()
        for _ in range(5):
            await asyncio.sleep(0)


async def nobody_at():
    """Return an address where nobody listens."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"tcp://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def site():
    with tempfile.TemporaryDirectory(prefix="cd-") as folder:
        found = Site(folder)
        await found.open()
        try:
            yield found
        finally:
            await found.close()


async def until(condition):
    while not condition():  # noqa: ASYNC110  (nobody is told of it)
        await asyncio.sleep(0)


def big(number, mebibytes):
    return [b"head", bytes([number % 256]) * (mebibytes << 20)]


def put_large(storage, task, frames):
    made = Segment.of(frames)
    storage.adopt(task, made.place, made.size)
    made.close()


def content(segment):
    frames = read_layout(open_segment(segment.place, segment.size).view)
    return [bytes(frame) for frame in frames]


def test_values_come_and_go_by_way_of_the_scheduler(run):
    async def story():
        async with site() as s:
            asker = s.asker()
            s.storage.put(TASK, Pack.of([b"a", b"b"]))
            put_large(s.storage, TASK + 9, big(1, 9))
            loot = await s.get(asker, (TASK, 2), (TASK + 9, 1))
            assert [list(map(bytes, pack)) for _, pack in loot.packs] == [[b"a", b"b"]]
            ((_, segment),) = loot.segments
            assert content(segment) == big(1, 9)
            loot.discard()
            await s.put(asker, TASK + 20, big(2, 4))
            assert content(s.storage.shelf.segment(TASK + 20)) == big(2, 4)
            assert 13 << 20 < s.passed_on < 14 << 20
            # Both sides call it what it is.
            assert all("by way of the scheduler" in name for name in asker.links())
            assert all("by way of the scheduler" in name for name in s.data.links())
            assert len(s.server.passing) == 1
            # The stream of events tells of it once a second, and between whom.
            s.server._tell_of_passages()
            events = s.server.core.state.events.since(0).events
            told = [event[2:] for event in events if event[1] == "passed-on"]
            assert {(asker, worker) for asker, worker, _ in told} == {("somebody", "w")}
            assert sum(nbytes for *_, nbytes in told) == s.passed_on

    run(story())


def test_what_is_passed_on_is_never_held(run, monkeypatch):
    """Who reads slowly has the sender wait, and not the scheduler keep it all."""
    most = []
    pour = passing.Link.pour

    def poured(link, data):
        pour(link, data)
        most.append(link._transport.get_write_buffer_size())

    monkeypatch.setattr(passing.Link, "pour", poured)

    async def story():
        async with site() as s:
            put_large(s.storage, TASK, big(1, 48))
            asker = s.asker()
            await s.get(asker)
            (keeper,) = asker._keepers.values()
            keeper.link.hold()
            getting = asyncio.ensure_future(s.get(asker, (TASK, 1)))
            # What the kernel holds on the two ways is all that leaves the worker.
            sent, turns = -1, 0
            while turns < 200:
                ((_, now),) = s.data.links().items()
                turns = turns + 1 if now == sent else 0
                sent = now
                await asyncio.sleep(0)
            assert sent < 40 << 20
            keeper.link.go_on()
            loot = await getting
            assert content(loot.segments[0][1]) == big(1, 48)
            loot.discard()
            # A piece, and what was left of the one before.
            assert max(most) <= 2 * READ_BYTES

    run(story())


def test_a_worker_that_is_reached_is_not_asked_by_the_scheduler(run):
    async def story():
        async with site() as s:
            place = await s.data.listen(Address("127.0.0.1", 0, ""))
            s.addresses = (str(place),)
            s.storage.put(TASK, Pack.of([b"a"]))
            asker = s.asker()
            assert (await s.get(asker, (TASK, 1))).packs
            assert not s.passed_on
            assert "by way" not in "".join(asker.links())

    run(story())


def test_a_worker_is_tried_again_after_a_while_and_the_passage_ends(run, monkeypatch):
    async def story():
        async with site() as s:
            s.storage.put(TASK, Pack.of([b"a"]))
            asker = s.asker()
            await s.get(asker, (TASK, 1))
            # Somebody opens the port.
            _, _, port = s.addresses[0].rpartition(":")
            await s.data.listen(Address("127.0.0.1", int(port), ""))
            await s.get(asker, (TASK, 1))
            assert "by way" in "".join(asker.links())
            monkeypatch.setattr("covey.net.routes.AGAIN_SECONDS", 0.0)
            await s.get(asker, (TASK, 1))
            await until(lambda: "by way" not in "".join(asker.links()))
            await until(lambda: not len(s.server.passing))
            before = s.passed_on
            assert (await s.get(asker, (TASK, 1))).packs
            assert s.passed_on == before

    run(story())


def test_a_client_shows_tokens_there_as_well(run):
    async def story():
        async with site() as s:
            s.storage.put(TASK, Pack.of([b"a"]))
            stranger = s.asker(CLIENT + 1)
            with pytest.raises(Disconnected):
                await s.get(stranger, (TASK, 1))
            loot = await s.get(stranger, (TASK, 1), tokens=(KEYS.token(TASK),))
            assert loot.packs
            # A worker runs anybody's tasks.
            assert (await s.get(s.asker(0), (TASK, 1))).packs

    run(story())


def test_each_end_takes_the_other_one_along(run):
    async def story():
        async with site() as s:
            asker = s.asker()
            await s.get(asker)
            asker.close()
            await until(lambda: not s.data.links())
            await until(lambda: not len(s.server.passing))
            put_large(s.storage, TASK, big(1, 24))
            other = s.asker()
            getting = asyncio.ensure_future(s.get(other, (TASK, 1)))
            await until(lambda: s.passed_on > 1 << 20)
            (link,) = s.data._links
            link.abort()
            with pytest.raises(Disconnected):
                await getting
            assert not len(s.server.passing)

    run(story())


@pytest.mark.parametrize("reason", ["unknown", "deaf", "crowded", "away"])
def test_why_nothing_is_passed_on_is_told(run, monkeypatch, reason):
    monkeypatch.setattr(passing, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr("covey.scheduler.core.passages.MEET_SECONDS", 0.05)
    monkeypatch.setattr("covey.scheduler.core.passages.LINE_MAX", 1)

    async def story():
        async with site() as s:
            text = ""
            if reason == "unknown":
                s.worker += 1
                text = "does not reach it either"
            elif reason == "away":
                s.server.core.state.workers[s.worker].away_since = 1.0
                text = "does not reach it either"
            elif reason == "deaf":
                s.calls = False
                text = "has not called the scheduler in time"
            else:
                s.server.passing._passages._line["somebody"] = (7, 1e12)
                s.server.passing._passages._at_once = 0
                text = "too many wait"
            asker = s.asker()
            with pytest.raises(Disconnected, match=text) as caught:
                await s.get(asker)
            assert s.addresses[0] in str(caught.value)
            assert not len(s.server.passing)
            s.server.passing._passages._line.clear()

    run(story())


def test_whose_link_ends_while_it_waits_for_its_turn_holds_up_nobody(run, monkeypatch):
    monkeypatch.setattr("covey.net.splice.PIECES_A_TURN", 1)

    async def story():
        async with site() as s:
            put_large(s.storage, TASK, big(1, 24))
            gone, stays = s.asker(), s.asker()
            getting = [
                asyncio.ensure_future(s.get(a, (TASK, 1))) for a in (gone, stays)
            ]
            ration = s.server.passing._ration
            await until(lambda: ration._waiting)
            # It is cut, and its turn comes before anybody is told that it is lost.
            source = ration._waiting[0]._source
            source.abort()
            ration._renew()
            source.hold()
            source.go_on()
            done = await asyncio.gather(*getting, return_exceptions=True)
            assert sum(isinstance(loot, ClusterError) for loot in done) == 1
            for loot in done:
                if not isinstance(loot, ClusterError):
                    assert content(loot.segments[0][1]) == big(1, 24)
                    loot.discard()

    run(story())


def test_few_workers_are_spoken_with_at_a_time(run, monkeypatch):
    """The others wait for their turn; whoever is done hangs up for them."""
    monkeypatch.setattr(asking, "PASSAGES_AT_ONCE", 2)
    most = []

    async def story():
        async with site() as s:
            s.storage.put(TASK, Pack.of([b"a"]))
            asker = s.asker()
            own = s.addresses[0]

            async def ask(number):
                # As if each were another worker.
                loot = await asker.get(
                    (own, f"tcp://127.0.0.1:{number}"),
                    ((TASK, 1),),
                    ELSEWHERE,
                    worker=s.worker,
                )
                most.append(len(s.server.passing))
                return loot

            loots = await asyncio.gather(*(ask(number) for number in range(1, 9)))
            assert all(loot.packs for loot in loots)
            assert max(most) <= 3  # One of them may be about to end.

    run(story())


def test_who_comes_when_there_is_no_room_is_served_when_there_is(run):
    async def story():
        async with site() as s:
            s.storage.put(TASK, Pack.of([b"a"]))
            s.server.passing._passages._at_once = 1
            first, second = s.asker(), s.asker()
            await s.get(first, (TASK, 1))
            getting = asyncio.ensure_future(s.get(second, (TASK, 1)))
            await until(lambda: s.server.passing._passages.waits)
            first.close()
            assert (await getting).packs

    run(story())


def test_nobody_holds_a_passage_that_he_does_not_use(run, monkeypatch):
    monkeypatch.setattr(asking, "PASSAGE_SECONDS", 0.01)

    async def story():
        async with site() as s:
            s.storage.put(TASK, Pack.of([b"a"]))
            asker = s.asker()
            await s.get(asker, (TASK, 1))
            await until(lambda: not len(s.server.passing))
            assert (await s.get(asker, (TASK, 1))).packs

    run(story())


def test_who_asks_twice_is_sent_away(run):
    async def story():
        async with site() as s:
            s.calls = False
            asker = s.asker()
            getting = asyncio.ensure_future(s.get(asker))
            await until(lambda: len(s.server.passing))
            (link,) = s.server.passing._passages.ends()
            with pytest.raises(RemoteProtocolError, match="two workers"):
                s.server.passing.asked(link, passing.PassOn(s.worker))
            asker.close()
            link.abort()
            with pytest.raises(ClusterError):
                await getting

    run(story())


def test_a_ticket_that_nobody_waits_for_opens_nothing(run):
    async def story():
        async with site() as s:
            s.data.call_in(CallIn(12345, CLIENT))
            await until(lambda: s.data._links)
            await until(lambda: not s.data._links)
            assert not len(s.server.passing)

    run(story())


def test_without_a_scheduler_that_can_be_called_there_is_no_other_way(run):
    async def story():
        async with site() as s:
            asker = s.asker()
            asker.call_scheduler_at(lambda: None)
            with (
                monkeypatched(reaching, "_TCP_SECONDS", 0.05),
                pytest.raises(Disconnected, match="cannot be reached"),
            ):
                await s.get(asker)

    run(story())


@pytest.mark.parametrize("role", ["worker", "scheduler"])
def test_who_is_called_and_says_nothing_is_not_reached(run, monkeypatch, role):
    """A process that is stopped is called all the same: by its kernel."""
    monkeypatch.setattr(link, "HANDSHAKE_SECONDS", 0.05)

    async def story():
        with socket.create_server(("127.0.0.1", 0)) as silent:
            where = "tcp://{}:{}".format(*silent.getsockname())
            async with site() as s:
                asker = s.asker()
                addresses = s.addresses
                if role == "worker":
                    asker.call_scheduler_at(lambda: None)
                    addresses = (where,)
                else:
                    asker.call_scheduler_at(lambda: parse_address(where))
                    monkeypatch.setattr(reaching, "_TCP_SECONDS", 0.05)
                with pytest.raises(Disconnected, match="no handshake"):
                    await asker.get(addresses, ((TASK, 1),), ELSEWHERE, worker=s.worker)

    run(story())


def test_a_worker_that_calls_in_at_a_silent_scheduler_lets_it_be(run, monkeypatch):
    monkeypatch.setattr(link, "HANDSHAKE_SECONDS", 0.05)

    async def story():
        with socket.create_server(("127.0.0.1", 0)) as silent:
            where = "tcp://{}:{}".format(*silent.getsockname())
            async with site() as s:
                s.data.call_scheduler_at(lambda: parse_address(where))
                s.data.call_in(CallIn(1, CLIENT))
                assert s.data._lending
                await until(lambda: not s.data._lending)

    run(story())


@contextlib.contextmanager
def monkeypatched(place, name, value):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, name, value)
        yield


def test_a_name_of_this_machine_does_not_make_it_one(run):
    """Behind the scheduler nothing can be mapped, whatever the machine is called."""

    async def story():
        async with site() as s:
            put_large(s.storage, TASK, big(1, 2))
            asker = s.asker()
            here = host_identity()
            loot = await asker.get(s.addresses, ((TASK, 1),), here, worker=s.worker)
            assert not loot.lent
            assert content(loot.segments[0][1]) == big(1, 2)
            loot.discard()
            await asker.put(s.addresses, TASK + 1, big(3, 2), here, s.worker)
            assert content(s.storage.shelf.segment(TASK + 1)) == big(3, 2)

    run(story())
