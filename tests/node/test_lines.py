"""Lines and uplinks against a real scheduler's shell, in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path

import pytest

from covey import config, errors
from covey.net.addresses import Address
from covey.net.connection_file import Life, is_overtaken, write_connection_file
from covey.net.join_string import Connection
from covey.net.loop import new_event_loop
from covey.net.uplink import Owner, Uplink
from covey.scheduler.server import SchedulerServer
from covey.secret import Secret
from covey.wire import line as lines
from covey.wire.client_link import Answer, Ask, Closing, Recall, Recalled, ToClient
from covey.wire.introductions import ClientIntroduction, WorkerIntroduction
from covey.wire.keys import Keys, Role

KEYS = Keys.of_client(Secret(b"s" * 32))
PATIENCE_SECONDS = 30


class Edge(Owner):
    """A client that asks, and writes down what it hears."""

    def __init__(self, address, patience_seconds=20.0, role=Role.CLIENT):
        self.place = Connection(address, KEYS)
        self.keys = KEYS
        self.answers = []
        self.story = []
        self.welcomes = []
        self.ended = None
        self._news = asyncio.Event()
        self.uplink = Uplink(
            self,
            ToClient,
            role=role,
            version="0",
            patience_seconds=patience_seconds,
        )

    async def open(self):
        await self.uplink.connect(5.0)
        await self.uplink.greet()

    def ask(self, number):
        self.uplink.line.send(Ask(number, "info"))

    def find(self):
        return self.place

    def introduce(self, epoch):
        return ClientIntroduction(77, "edge", "0", "3", "here", epoch)

    def on_welcome(self, line, welcome, old):
        self.welcomes.append(welcome)
        if old is not None:
            line.send_all([Recall(), Recalled()])
        self._tell("welcome")

    def on_messages(self, link, batch):
        self.answers += [m.request for m in batch if isinstance(m, Answer)]
        if any(isinstance(m, Closing) for m in batch):
            self.story.append("closing")
        self._news.set()

    def on_away(self, error):
        self._tell("away")

    def on_back(self):
        self._tell("back")

    def on_end(self, error):
        self.ended = error
        self._tell("ended")

    def _tell(self, word):
        self.story.append(word)
        self._news.set()

    async def until(self, true):
        while not true():
            self._news.clear()
            await self._news.wait()


class Claimant(Edge):
    """A worker that says it has seen a later life of the scheduler."""

    def introduce(self, epoch):
        return WorkerIntroduction(
            "w", 1, {}, (), "here", 0, "0", "3", 1, epoch=epoch + 1000
        )


def run(work):
    loop = new_event_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(work(), PATIENCE_SECONDS))
    finally:
        loop.close()


@contextlib.asynccontextmanager
async def scheduler(path, **keywords):
    server = SchedulerServer(keys=KEYS, version="0", check=True, **keywords)
    await server.listen(Address("", 0, str(path)))
    try:
        yield server
    finally:
        await server.close()


@pytest.fixture
def path():
    with tempfile.TemporaryDirectory(prefix="ct-") as folder:
        yield Path(folder) / "scheduler"


async def turns(true):
    """Let the loop turn until something has come about."""
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def drop(server):
    """End a scheduler as a kill does: nobody is told."""
    server._closed = True
    server.attendance.speakers.clear()
    while server._listeners:
        await server._listeners.pop().close()
    for line in list(server.attendance.sessions.values()):
        line.link.abort()


def test_a_session_goes_on_over_one_link_after_another(path):
    async def story():
        async with scheduler(path) as server:
            edge = Edge(Address("", 0, str(path)))
            await edge.open()
            for number in range(1, 50):
                edge.ask(number)
                if not number % 7:
                    await asyncio.sleep(0)
                    edge.uplink.cut()
                if not number % 10:
                    # The other side may cut it as well.
                    for line in server.attendance.sessions.values():
                        if line.link is not None:
                            line.link.abort()
                await edge.until(lambda: edge.uplink.connected)
            await edge.until(lambda: len(edge.answers) == 49)
            assert edge.answers == list(range(1, 50))
            assert len(edge.welcomes) == 1
            assert edge.story.count("away") == edge.story.count("back") > 1
            edge.uplink.close()

    run(story)


def test_another_life_of_the_scheduler_is_told_all(path):
    async def story():
        first = SchedulerServer(keys=KEYS, version="0", cluster="c")
        await first.listen(Address("", 0, str(path)))
        edge = Edge(Address("", 0, str(path)))
        await edge.open()
        await drop(first)
        await edge.until(lambda: "away" in edge.story)
        async with scheduler(path, cluster="c", epoch=2) as server:
            await edge.until(lambda: len(edge.welcomes) == 2)
            assert [welcome.epoch for welcome in edge.welcomes] == [1, 2]
            assert server.core.wake_at > 0
            edge.ask(5)
            # It answers as soon as it has stopped waiting for others.
            await edge.until(lambda: edge.answers == [5])
            edge.uplink.close()

    run(story)


def test_who_has_seen_a_newer_life_does_not_go_back(path):
    async def story():
        reasons = []
        async with scheduler(path, epoch=3) as server:
            edge = Edge(Address("", 0, str(path)))
            await edge.open()
            await drop(server)
        async with scheduler(path, epoch=2, on_closing=reasons.append):
            await turns(lambda: reasons)
            assert reasons[0] == "a newer scheduler has taken over"
            assert len(edge.welcomes) == 1
        async with scheduler(path, epoch=4):
            await edge.until(lambda: len(edge.welcomes) == 2)
            edge.uplink.close()

    run(story)


def test_a_scheduler_that_was_taken_for_dead_ends_without_a_word(path):
    """Its peers shall look for the newer one, not end with it."""

    async def story():
        reasons = []
        old = SchedulerServer(
            keys=KEYS, version="0", cluster="c", on_closing=reasons.append
        )
        await old.listen(Address("", 0, str(path)))
        place = Connection(Address("", 0, str(path)), KEYS)
        edge = Edge(place.address)
        await edge.open()
        newer = Address("", 0, str(path) + "-newer")
        async with scheduler(newer.path, cluster="c", epoch=2):
            edge.place = Connection(newer, KEYS)
            old.step_aside()
            await old.close(*reasons)
            await edge.until(lambda: len(edge.welcomes) == 2)
            assert reasons == ["a newer scheduler has taken over"]
            assert edge.story[:2] == ["welcome", "away"]
            assert "closing" not in edge.story and edge.ended is None
            edge.uplink.close()

    run(story)


def test_a_connection_file_tells_of_a_later_life(tmp_path):
    path, here = tmp_path / "cluster.json", Connection(Address("h", 1, ""), KEYS)
    assert not is_overtaken(path, Life("c", 1))
    write_connection_file(path, here, life=Life("c", 2))
    assert is_overtaken(path, Life("c", 1))
    assert not is_overtaken(path, Life("c", 2))
    assert not is_overtaken(path, Life("another", 1))


def test_a_worker_ends_no_scheduler_by_what_it_claims(path):
    async def story():
        reasons = []
        async with scheduler(path, on_closing=reasons.append):
            claimant = Claimant(Address("", 0, str(path)), role=Role.WORKER)
            await claimant.uplink.connect(5.0)
            with pytest.raises(errors.ClusterError):
                await claimant.uplink.greet()
            claimant.uplink.close()
            edge = Edge(Address("", 0, str(path)))
            await edge.open()
            edge.ask(5)
            await edge.until(lambda: edge.answers == [5])
            assert not reasons
            edge.uplink.close()

    run(story)


def test_patience_ends(path):
    async def story():
        async with scheduler(path) as server:
            edge = Edge(Address("", 0, str(path)), patience_seconds=0.2)
            await edge.open()
            await drop(server)
        await edge.until(lambda: edge.ended is not None)
        assert isinstance(edge.ended, errors.NoScheduler)
        assert "not found again within 0.2 s" in str(edge.ended)

    run(story)


def test_a_peer_that_makes_no_sense_is_told_so_and_not_waited_for(path):
    async def story():
        async with scheduler(path) as server:
            edge = Edge(Address("", 0, str(path)))
            await edge.open()
            edge.uplink.line.send(Recalled())
            await edge.until(lambda: "closing" in edge.story)
            assert not server.core.state.clients
            assert server.core.state.counters["protocol_errors"] == 1
            edge.uplink.close()

    run(story)


def test_silence_cuts_a_link_and_the_session_goes_on(path, monkeypatch):
    monkeypatch.setattr("covey.scheduler.server.BEAT_SECONDS", 0.02)
    monkeypatch.setattr("covey.net.uplink.BEAT_SECONDS", 60.0)

    async def story():
        # The edge has beaten once, and will not again: to the scheduler it is silent.
        async with scheduler(path):
            edge = Edge(Address("", 0, str(path)))
            await edge.open()
            await edge.until(lambda: "back" in edge.story)
            edge.ask(1)
            await edge.until(lambda: edge.answers == [1])
            assert len(edge.welcomes) == 1
            edge.uplink.close()

    run(story)


def test_who_is_away_for_too_long_is_forgotten_and_taken_in_again(path, monkeypatch):
    monkeypatch.setattr("covey.scheduler.server.BEAT_SECONDS", 0.02)

    async def story():
        with config.override({"scheduler.client_grace_seconds": 0.1}):
            async with scheduler(path) as server:
                edge = Edge(Address("", 0, str(path)))
                await edge.open()
                place, edge.place = (
                    edge.place,
                    Connection(Address("", 0, str(path) + "-elsewhere"), KEYS),
                )
                edge.uplink.cut()
                await turns(lambda: not server.core.state.clients)
                edge.place = place
                await edge.until(lambda: len(edge.welcomes) == 2)
                edge.ask(2)
                await edge.until(lambda: edge.answers == [2])
                edge.uplink.close()

    run(story)


def test_more_than_is_kept_for_who_is_away_is_told_anew(path, monkeypatch):
    monkeypatch.setattr("covey.scheduler.server.BEAT_SECONDS", 0.02)

    async def story():
        async with scheduler(path) as server:
            edge = Edge(Address("", 0, str(path)))
            await edge.open()
            edge.place = Connection(Address("", 0, str(path) + "-elsewhere"), KEYS)
            edge.uplink.cut()
            (line,) = server.attendance.sessions.values()
            await turns(lambda: not line.connected)
            line.session.window_bytes = 1000
            for n in range(2):
                line.send(Answer(n, "x" * 2000))
                await asyncio.sleep(0)
            await turns(lambda: not server.attendance.sessions)
            assert server.core.state.clients
            edge.place = Connection(Address("", 0, str(path)), KEYS)
            await edge.until(lambda: len(edge.welcomes) == 2)
            assert edge.welcomes[0].peer == edge.welcomes[1].peer
            edge.uplink.close()

    run(story)


def test_a_frame_that_cannot_be_read_twice_ends_its_sender(path, monkeypatch):
    monkeypatch.setattr("covey.wire.edge.REFUSED_SECONDS", 0.0)

    async def story():
        async with scheduler(path):
            edge = Edge(Address("", 0, str(path)))
            await edge.open()
            edge.ask(1)
            await edge.until(lambda: edge.answers == [1])
            line = edge.uplink.line
            # Well framed, and no message of ours.
            frame = b"\x01\x00\x00\x00\xc0"
            line.session.push(frame)
            line.link.write(frame)
            await edge.until(lambda: edge.ended is not None)
            assert isinstance(edge.ended, errors.Refused)
            assert "cannot be read" in str(edge.ended)

    run(story)


def test_beats_are_what_silence_is_counted_in():
    assert lines.SILENT_BEATS * lines.BEAT_SECONDS < 15
