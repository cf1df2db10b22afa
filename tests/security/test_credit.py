"""Data flows against credit only: a peer that asks for everything gets it bounded.

Whoever is let in may be broken, or worse.  What a worker, a scheduler or an asker
holds on behalf of one link has a bound that the other end cannot move.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

import msgspec
import pytest

from covey.errors import RemoteProtocolError
from covey.net import codecs
from covey.net.addresses import Address
from covey.net.answers import AT_ONCE
from covey.net.asking import Asker
from covey.net.connect import open_link
from covey.net.listen import listen
from covey.net.loop import new_event_loop
from covey.payload import Pack
from covey.secret import Secret
from covey.store.segments import Segment
from covey.wire.client_link import Finished
from covey.wire.data_link import (
    Block,
    Borrow,
    Borrowed,
    FromAsker,
    FromKeeper,
    Get,
    GetDone,
    GiveBack,
    PutLarge,
    Raw,
)
from covey.wire.introductions import AskerIntroduction
from covey.wire.keys import Keys, Role
from covey.wire.line import SILENT_BEATS, Line
from covey.wire.session import WINDOW_BYTES, Session
from covey.worker.credit import EXTENTS_MAX, REQUESTS_MAX, Asked
from covey.worker.serving import DataServer
from covey.worker.storage import Storage

KEYS = Keys.of_client(Secret(b"s" * 32))
PLACE = Address("127.0.0.1", 0, "")

#: A link's own buffers: what the kernel did not take yet, and one frame or piece.
BUFFERS = 6 << 20


def run(story):
    async def bounded():
        async with asyncio.timeout(30):
            await story

    loop = new_event_loop()
    try:
        loop.run_until_complete(bounded())
    finally:
        loop.close()


class Peer:
    """Somebody who has been let in, and says what he likes."""

    def __init__(self):
        self.heard = []
        self.news = asyncio.Event()
        self.link = None

    async def dial(self, address, number=0):
        self.link = await open_link(
            address,
            FromKeeper,
            role=Role.ASKER,
            keys=KEYS,
            number=number,
            version="1",
            on_messages=self.on_messages,
            on_lost=lambda *_: self.news.set(),
            timeout_seconds=5.0,
        )
        self.link.send(AskerIntroduction("peer", "elsewhere"))

    def on_messages(self, link, batch):
        del link
        self.heard += batch
        self.news.set()

    async def until(self, true):
        while not true():
            self.news.clear()
            await self.news.wait()


@contextlib.asynccontextmanager
async def keeper(room=lambda _: ""):
    async def room_for(nbytes):
        return room(nbytes)

    storage = Storage(1 << 30)
    server = DataServer(storage, KEYS, "1", room_for)
    address = await server.listen(PLACE)
    peer = Peer()
    await peer.dial(address)
    await until(lambda: server._links)
    try:
        yield storage, server, peer
    finally:
        peer.link.abort()
        await server.close()
        await storage.close()
        for _ in range(5):
            await asyncio.sleep(0)


async def until(true):
    while not true():  # noqa: ASYNC110  (the server tells nobody)
        await asyncio.sleep(0)


def waiting_bytes(server):
    """Return what the server holds for links whose peers do not read."""
    return sum(
        link._transport.get_write_buffer_size() + len(link._outbox)
        for link in server._links
    )


@pytest.mark.parametrize("same_host", [False, True], ids=["sent", "lent"])
def test_who_asks_for_everything_and_reads_nothing_is_cut_off(same_host):
    async def story():
        async with keeper() as (storage, server, peer):
            storage.put(1, Pack.of([os.urandom(1000)] * 1000))
            for task in range(2000, 2100):
                made = Segment.of([b"x" * (1 << 20)])
                storage.adopt(task, made.place, made.size)
                made.close()
            peer.link._transport.pause_reading()
            everything = ((1, 1000), (2000, 100))
            most = 0
            for number in range(REQUESTS_MAX + 1000):
                peer.link.send(Get(number, everything, same_host))
                if not number % 50:
                    await asyncio.sleep(0)
                    most = max(most, waiting_bytes(server))
            await until(lambda: not server._links)
            assert most < BUFFERS
            assert server.protocol_errors == 1

    run(story())


def test_who_reads_gets_all_of_it():
    async def story():
        async with keeper() as (storage, _, peer):
            storage.put(1, Pack.of([b"x" * 1000] * 100))
            for number in range(3 * REQUESTS_MAX):
                peer.link.send(Get(number, ((1, 1),)))
                if not number % 1000:
                    # No faster than they are answered.
                    done = GetDone(number)
                    await peer.until(lambda done=done: done in peer.heard)
            await peer.until(lambda: len(peer.heard) == 6 * REQUESTS_MAX)

    run(story())


def test_a_request_may_be_long_if_it_is_the_only_one():
    asked = Asked()
    asked.take(3 * EXTENTS_MAX)
    with pytest.raises(RemoteProtocolError, match="no answers are read"):
        asked.take(1)
    asked = Asked()
    for _ in range(REQUESTS_MAX):
        asked.take(1)
    asked.answered(1)
    asked.take(1)
    with pytest.raises(RemoteProtocolError, match="no answers are read"):
        asked.take(1)


@pytest.mark.parametrize(
    "said",
    [
        [PutLarge(1, 7, 1, 1 << 40)],
        [Borrow(1, 1000, False), PutLarge(2, 7, 9, 1000)],
        [Borrow(1, 1000, False), PutLarge(2, 7, 1, 1 << 40)],
        [Borrow(1, 1000, False), GiveBack(1), PutLarge(2, 7, 1, 1000)],
    ],
)
def test_bytes_that_nobody_agreed_to_are_not_taken(said):
    async def story():
        async with keeper() as (storage, server, peer):
            for message in said:
                peer.link.send(message)
                if isinstance(message, Borrow):
                    await peer.until(lambda: peer.heard)
                    assert peer.heard == [Borrowed(1, "", codecs=codecs.numbers())]
            await until(lambda: not server._links)
            assert server.protocol_errors == 1
            assert storage.lent_bytes == 0
            assert not len(storage.shelf)

    run(story())


def test_memory_is_lent_as_far_as_there_is_room_however_much_is_asked_for():
    async def story():
        gates = []

        async def room_for(_):
            gates.append(asyncio.get_running_loop().create_future())
            return await gates[-1]

        storage = Storage(1 << 30)
        server = DataServer(storage, KEYS, "1", room_for)
        peer = Peer()
        await peer.dial(await server.listen(PLACE))
        for number in range(REQUESTS_MAX + 1):
            peer.link.send(Borrow(number, 1 << 30, False))
        await peer.until(lambda: peer.link.lost)
        assert server.protocol_errors == 1
        assert storage.lent_bytes == 0
        for gate in gates:
            gate.set_result("")
        for _ in range(5):
            await asyncio.sleep(0)
        # Who is gone is lent nothing.
        assert storage.lent_bytes == 0
        await server.close()
        await storage.close()

    run(story())


@contextlib.asynccontextmanager
async def liar(answer):
    """A keeper that answers the first request as it likes; yields one who asks it."""

    def on_messages(link, batch):
        for message in batch:
            if isinstance(message, Get):
                answer(link, message)

    listener = await listen(
        PLACE,
        FromAsker | AskerIntroduction,
        role=Role.KEEPER,
        keys=KEYS,
        version="1",
        on_open=lambda _: None,
        on_messages=on_messages,
        on_lost=lambda *_: None,
    )
    asker = Asker(KEYS, "1", "somebody")
    try:
        yield asker, (str(listener.address),)
    finally:
        asker.close()
        await listener.close()
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("requests", "budget"), [([9], 0), ([1, 1], 1000)], ids=["unasked", "too much"]
)
def test_a_keeper_sends_no_more_than_was_asked_for(requests, budget):
    def answer(link, message):
        for request in requests:
            head = Raw(request if request != 1 else message.request, 1, 1000)
            link.send_bulk(head, memoryview(bytes(1000)))

    async def story():
        async with liar(answer) as (asker, addresses):
            with pytest.raises(Exception, match="nobody had asked for"):
                await asker.get(addresses, ((1, 5),), "elsewhere", budget=budget)

    run(story())


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ([Block(1, 0, 9, 9)], "of nothing that was announced"),
        ([Raw(1, 1, 1000, in_blocks=True), GetDone(1)], "before it was whole"),
        ([Raw(1, 1, 1000, in_blocks=True), Raw(1, 2, 9, in_blocks=True)], "before"),
        ([Raw(1, 1, 1000, in_blocks=True), Block(1, 0, 1001, 1001)], "1,000 are miss"),
    ],
    ids=["unasked", "too little", "two at once", "too much"],
)
def test_a_keeper_keeps_to_the_order_of_blocks(said, match):
    def answer(link, message):
        for reply in said:
            reply = msgspec.structs.replace(reply, request=message.request)
            if isinstance(reply, Block):
                link.send_bulk(reply, memoryview(bytes(reply.packed_bytes)))
            else:
                link.send(reply)

    async def story():
        async with liar(answer) as (asker, addresses):
            with pytest.raises(Exception, match=match):
                await asker.get(addresses, ((1, 5),), "elsewhere")

    run(story())


def test_an_asker_has_a_bounded_number_of_requests_on_their_way():
    async def story():
        held = []
        async with liar(lambda _, message: held.append(message)) as (asker, addresses):
            waiting = [
                asyncio.create_task(asker.get(addresses, ((n, 1),), "elsewhere"))
                for n in range(AT_ONCE + 50)
            ]
            await until(lambda: len(held) == AT_ONCE)
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(held) == AT_ONCE < REQUESTS_MAX
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    run(story())


# The control plane.


class Deaf:
    """A link whose other side speaks, and takes nothing in."""

    def __init__(self):
        self.bytes_received = 0
        self.failed = None

    def carry(self, session, on_ack):
        pass

    def write(self, frame):
        pass

    def fail(self, error):
        self.failed = error


def test_who_speaks_and_does_not_listen_is_cut_off():
    line = Line(Session(1), Role.CLIENT, lambda *_: None, lambda flush: None)
    link = Deaf()
    line.attach(link, 0)
    news = Finished(1, 1, b"\1\0\0\0", b"x" * (400 << 10))
    beats = 0
    while link.failed is None:
        line.send_all([news] * 20)
        line.flush()
        link.bytes_received += 1
        line.beat()
        beats += 1
        assert beats < 100
    assert "taken nothing in" in str(link.failed)
    # The window fills first; what comes in the time after that is what it costs.
    assert line.session.kept_bytes < WINDOW_BYTES + (1 << 20)
    assert len(line._outbox) <= 20 * (SILENT_BEATS + 1)


def test_who_is_slow_but_listens_is_waited_for():
    line = Line(Session(1), Role.CLIENT, lambda *_: None, lambda flush: None)
    link = Deaf()
    line.attach(link, 0)
    news = Finished(1, 1, b"\1\0\0\0", b"x" * (400 << 10))
    line.send_all([news] * 1000)
    line.flush()
    assert line.overflows
    for beat in range(10 * SILENT_BEATS):
        link.bytes_received += 1
        if not beat % (SILENT_BEATS - 1):
            line.session.on_ack(line.session.acked + 1)
            line.flush()
        line.beat()
    assert link.failed is None
