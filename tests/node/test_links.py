"""One suite for all links: within a process, over unix sockets, TCP and TLS.

Each test runs on uvloop and on asyncio's own loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
import tempfile
import zlib
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from covey.errors import (
    AuthRefused,
    Disconnected,
    NoScheduler,
    RemoteProtocolError,
    VersionRefused,
)
from covey.net import connect, link, parting
from covey.net.addresses import Address
from covey.net.arrivals import Arrival, FreshMemory, receive
from covey.net.bulk import CHECKSUM_BYTES
from covey.net.connect import open_link
from covey.net.inproc import inproc_pair
from covey.net.listen import listen
from covey.net.sockets import SILENCE_SECONDS
from covey.net.tls import make_certificate
from covey.secret import Secret
from covey.wire import handshake
from covey.wire.data_link import FromAsker, FromKeeper, GetDone, PutLarge, Raw, Values
from covey.wire.framing import BATCH_BYTES, FRAME_BYTES_MAX, encode_frame
from covey.wire.keys import Keys, Role
from covey.wire.session import Session

UNION = FromAsker | FromKeeper
KEYS = Keys.of_client(Secret(b"s" * 32))


@dataclass
class End:
    """One end of a link, and what came to it."""

    link: object = None
    batches: list = field(default_factory=list)
    lost: list = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    on_message: object = None

    def on_messages(self, link, batch):
        self.link = link
        self.batches.append(batch)
        for message in batch:
            if self.on_message is not None:
                self.on_message(link, message)
        self._news.set()

    def on_lost(self, link, error):
        self.lost.append(error)
        self._news.set()

    @property
    def messages(self):
        return [message for batch in self.batches for message in batch]

    async def until(self, true):
        while not true():
            self._news.clear()
            await self._news.wait()

    async def ended(self):
        await self.until(lambda: self.lost)

    def stir(self):
        self._news.set()


@dataclass
class Pair:
    near: End
    far: End
    listener: object = None


@pytest.fixture(params=["inproc", "unix", "tcp", "tls"])
def kind(request):
    return request.param


@pytest.fixture(params=["unix", "tcp", "tls"])
def wired(request):
    """The kinds that go over a socket."""
    return request.param


@functools.cache
def certificate():
    pytest.importorskip("cryptography")
    return make_certificate()


@contextlib.asynccontextmanager
async def listening(kind, far, keys=KEYS, on_open=lambda _: None, **more):
    with tempfile.TemporaryDirectory(prefix="cl-") as folder:
        place = Address("", 0, f"{folder}/s")
        listener = await listen(
            place if kind == "unix" else Address("127.0.0.1", 0, ""),
            UNION,
            role=Role.KEEPER,
            keys=keys,
            version="1",
            certificate=certificate() if kind == "tls" else None,
            on_open=on_open,
            on_messages=far.on_messages,
            on_lost=far.on_lost,
            **more,
        )
        try:
            yield listener
        finally:
            await listener.close()


async def dial(address, near, keys=KEYS, **keywords):
    near.link = await open_link(
        address,
        UNION,
        role=Role.ASKER,
        keys=keys,
        version="1",
        on_messages=near.on_messages,
        on_lost=near.on_lost,
        **{"timeout_seconds": 0.0, **keywords},
    )


@contextlib.asynccontextmanager
async def joined(kind):
    """Yield the two ends of a link; both are closed in the end."""
    near, far = End(), End()
    if kind == "inproc":
        for end, its_link in zip((near, far), inproc_pair(), strict=True):
            end.link = its_link
            its_link.on_messages = end.on_messages
            its_link.on_lost = end.on_lost
        yield Pair(near, far)
        near.link.close()
        await far.ended()
        return

    def opened(link):
        far.link = link
        far.stir()

    async with listening(kind, far, on_open=opened) as listener:
        await dial(listener.address, near)
        await far.until(lambda: far.link is not None)
        yield Pair(near, far, listener)
        for end in (near, far):
            end.link.abort()
        await near.ended()
        await far.ended()


def done(number):
    return GetDone(number)


# Messages.


def test_messages_of_one_turn_come_as_one_batch(run, kind):
    async def story():
        async with joined(kind) as pair:
            for number in range(50):
                pair.near.link.send(done(number))
            pair.near.link.send_all([done(50), done(51)])
            assert not pair.far.batches
            await pair.far.until(lambda: pair.far.batches)
            assert pair.far.batches == [[done(number) for number in range(52)]]

    run(story())


def test_messages_keep_their_order_both_ways(run, kind):
    async def story():
        async with joined(kind) as pair:
            for number in range(300):
                pair.near.link.send(done(number))
                pair.far.link.send(done(number))
                if number % 7 == 0:
                    await asyncio.sleep(0)
            for end in (pair.near, pair.far):
                await end.until(lambda end=end: len(end.messages) == 300)
                assert [message.request for message in end.messages] == [*range(300)]

    run(story())


def test_an_answer_can_be_sent_from_within_news(run, kind):
    async def story():
        async with joined(kind) as pair:
            pair.far.on_message = lambda link, m: link.send(done(m.request + 1))
            pair.near.link.send(done(1))
            await pair.near.until(lambda: pair.near.messages)
            assert pair.near.messages == [done(2)]

    run(story())


def test_big_messages_go_in_several_frames(run, kind):
    size = BATCH_BYTES // 2
    sent = [Values(n, n, 1, b"", bytes([n]) * size) for n in range(20)]

    async def story():
        async with joined(kind) as pair:
            pair.near.link.send_all(sent)
            pair.near.link.send(Values(20, 20, 1, b"", b"x" * (8 << 20)))
            await pair.far.until(lambda: len(pair.far.messages) == 21)
            assert pair.far.messages[:-1] == sent
            assert pair.far.messages[-1].data == b"x" * (8 << 20)

    run(story())


def test_a_message_beyond_all_limits_ends_the_link_and_says_why(run, wired):
    async def story():
        async with joined(wired) as pair:
            pair.near.link.send(Values(1, 1, 1, b"", b"x" * (FRAME_BYTES_MAX + 1)))
            await pair.near.ended()
            assert "over the limit" in str(pair.near.lost[0])
            await pair.far.ended()

    run(story())


def test_what_was_sent_before_the_close_arrives(run, kind):
    async def story():
        async with joined(kind) as pair:
            pair.near.link.send(done(1))
            pair.near.link.close()
            await pair.far.ended()
            assert pair.far.messages == [done(1)]

    run(story())


def test_the_last_word_is_read_also_by_who_speaks_after_it(run, wired):
    async def story():
        async with joined(wired) as pair:
            # Neither end has heard of the other's last word when it goes on.
            pair.near.link.hold()
            pair.far.link.send(done(1))
            pair.far.link.close()
            for _ in range(5):
                await asyncio.sleep(0)
            for number in range(2, 4):
                pair.near.link.send(done(number))
                pair.near.link.flush()
                await asyncio.sleep(0)
            pair.near.link.go_on()
            await pair.near.ended()
            await pair.far.ended()
            assert pair.near.messages == [done(1)]
            assert not pair.far.messages

    run(story())


def test_who_does_not_hang_up_is_not_waited_for_for_ever(run, wired, monkeypatch):
    monkeypatch.setattr(parting, "PARTING_SECONDS", 0.0)

    async def story():
        async with joined(wired) as pair:
            pair.near.link.hold()
            pair.far.link.close()
            await pair.far.ended()
            assert not pair.near.lost
            pair.near.link.go_on()

    run(story())


def test_the_end_is_told_once_and_last(run, kind):
    async def story():
        async with joined(kind) as pair:
            pair.near.link.close()
            pair.near.link.close()
            pair.near.link.send(done(1))
            await pair.far.ended()
            pair.far.link.send(done(2))
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(pair.far.lost) == 1
            assert not pair.far.messages

    run(story())


def test_nonsense_closes_the_link(run, wired):
    async def story():
        async with joined(wired) as pair:
            pair.near.link._transport.write(b"\x02\x00\x00\x00\xc1\xc1")
            await pair.far.ended()
            assert isinstance(pair.far.lost[0], RemoteProtocolError)

    run(story())


def test_nothing_follows_a_message_that_broke_the_rules(run, wired):
    async def story():
        async with joined(wired) as pair:

            def refuse(link, message):
                link.fail(RemoteProtocolError("no"))

            pair.far.on_message = refuse
            for number in range(3):
                pair.near.link.send(done(number))
                pair.near.link.flush()
            await pair.far.ended()
            assert pair.far.messages == [done(0)]
            assert str(pair.far.lost[0]) == "no"

    run(story())


def test_frames_of_a_session_let_others_have_their_turn(run, wired, monkeypatch):
    monkeypatch.setattr(link, "TURN_SECONDS", -1.0)
    events = []

    async def story():
        loop = asyncio.get_running_loop()
        async with joined(wired) as pair:
            pair.near.link.send(done(0))
            await pair.far.until(lambda: pair.far.messages)
            theirs, ours = Session(1), Session(1)
            pair.far.link.carry(theirs, lambda: None)
            pair.near.link.carry(ours, lambda: None)

            def on_message(_, message):
                events.append(message.request)
                loop.call_soon(events.append, "others")

            pair.far.on_message = on_message
            frames = [encode_frame([done(number)]) for number in range(1, 100)]
            for frame in frames:
                ours.push(frame)
            pair.near.link.write(b"".join(frames))
            await pair.far.until(lambda: len(pair.far.messages) == 100)
            await asyncio.sleep(0)
            assert theirs.received == 99

    run(story())
    assert events == [event for n in range(1, 100) for event in (n, "others")]


def test_what_waits_for_its_turn_when_a_link_ends_was_not_received(
    run, wired, monkeypatch
):
    monkeypatch.setattr(link, "TURN_SECONDS", -1.0)

    async def story():
        async with joined(wired) as pair:
            pair.near.link.send(done(0))
            await pair.far.until(lambda: pair.far.messages)
            theirs, ours = Session(1), Session(1)
            pair.far.link.carry(theirs, lambda: None)
            pair.near.link.carry(ours, lambda: None)
            # Another link takes its place: the rest comes once more over that one.
            pair.far.on_message = lambda link, _: link.abort()
            pair.near.link.write(encode_frame([done(1)]) + encode_frame([done(2)]))
            await pair.far.ended()
            await pair.near.ended()
            assert pair.far.messages == [done(0), done(1)]
            assert theirs.received == 1

    run(story())


# Raw bytes.


class Bytes:
    """A sink that keeps what it takes."""

    def __init__(self, end):
        self.data = bytearray()
        self.given_up = False
        self._end = end

    def take(self, data):
        self.data += data
        self._end.stir()

    def give_up(self):
        self.given_up = True


def pattern(nbytes):
    return os.urandom(1 << 16) * (nbytes >> 16)


@pytest.mark.parametrize("nbytes", [1, 1 << 16, 40 << 20])
def test_raw_bytes_never_mix_with_messages(run, wired, nbytes):
    """Both ways at once, two of them in a row, with messages sent all the while."""

    async def story():
        content = pattern(nbytes) or b"!"
        async with joined(wired) as pair:
            sinks = {}

            def expect(end):
                def on_message(link, message):
                    if isinstance(message, PutLarge):
                        sink = Bytes(end)
                        sinks.setdefault(end is pair.near, []).append(sink)
                        link.expect_raw(message.nbytes, sink)

                return on_message

            waits = []
            for end in (pair.near, pair.far):
                end.on_message = expect(end)
                end.link.send(done(1))
                for request in (2, 3):
                    head = PutLarge(request, 7, 1, len(content))
                    waits.append(end.link.send_bulk(head, memoryview(content)))
                    end.link.send(done(10 * request))
            while not all(wait.done() for wait in waits):
                pair.near.link.send(done(99))
                pair.far.link.send(done(99))
                await asyncio.sleep(0)
            for end in (pair.near, pair.far):
                end.link.send(done(100))
            for end in (pair.near, pair.far):
                await end.until(lambda end=end: done(100) in end.messages)
                order = [m.request for m in end.messages if m.request != 99]
                assert order == [1, 2, 20, 3, 30, 100]
                for sink in sinks[end is pair.near]:
                    assert sink.data == content
                    assert not sink.given_up

    run(story())


def test_little_of_raw_bytes_is_copied_on_their_way(run, wired):
    """They come behind a frame again and again: what is fed to its reader is a copy."""

    async def story():
        content = memoryview(pattern(8 << 20))
        async with joined(wired) as pair:
            sinks = []

            def on_message(there, message):
                sinks.append(Bytes(pair.far))
                there.expect_raw(message.nbytes, sinks[-1])

            pair.far.on_message = on_message
            reader = pair.far.link.reader
            fed = []

            class Counting(type(reader)):
                def feed(self, data):
                    fed.append(len(data))
                    super().feed(data)

            reader.__class__ = Counting
            for request in range(16):
                part = content[request << 19 : (request + 1) << 19]
                pair.near.link.send_bulk(PutLarge(request, 7, 1, len(part)), part)
            await pair.far.until(
                lambda: len(sinks) == 16 and len(sinks[-1].data) == 1 << 19
            )
            assert b"".join(sink.data for sink in sinks) == content
            # Of the first, nobody knew what would follow.
            assert sum(fed) <= link.READ_BYTES + 16 * (4 << 10)

    run(story())


def test_what_was_written_is_looked_at_while_the_cache_has_it(run, wired, monkeypatch):
    """Piece by piece, none larger than half of what a core keeps to itself (1 MiB)."""
    steps = []

    class Noting:
        """A transport that notes what is written."""

        def __init__(self, transport):
            self._transport = transport

        def write(self, data):
            steps.append(("write", len(data)))
            self._transport.write(data)

        def __getattr__(self, name):
            return getattr(self._transport, name)

    def noted_crc32(data, before):
        steps.append(("look at", len(data)))
        return zlib.crc32(data, before)

    monkeypatch.setattr("covey.net.bulk.crc32", noted_crc32)

    content = memoryview(pattern(8 << 20))

    async def story():
        async with joined(wired) as pair:
            sink = Bytes(pair.far)
            length = len(content) + CHECKSUM_BYTES
            pair.far.on_message = lambda there, m: there.expect_raw(length, sink)
            near = pair.near.link
            transport, near._transport = near._transport, Noting(near._transport)
            head = Raw(1, 1, len(content), checked=True)
            await near.send_bulk(head, content, checked=True)
            near._transport = transport
            await pair.far.until(lambda: len(sink.data) == length)

    run(story())
    (_, *pieces, tail) = steps
    assert tail == ("write", CHECKSUM_BYTES)
    writes, looks = pieces[::2], pieces[1::2]
    assert {step for step, _ in writes} == {"write"}
    assert looks == [("look at", nbytes) for _, nbytes in writes]
    assert sum(nbytes for _, nbytes in writes) == len(content)
    assert max(nbytes for _, nbytes in writes) <= 512 << 10


def test_the_kernel_tells_how_fast_a_link_is(run, wired):
    """Not how long we have waited for a processor to see that it takes more."""

    async def story():
        content = memoryview(pattern(8 << 20))
        async with joined(wired) as pair:
            sink = Bytes(pair.far)
            pair.far.on_message = lambda there, m: there.expect_raw(m.nbytes, sink)
            assert link.delivery_rate(pair.near.link._transport) >= 0
            pair.near.link.send_bulk(PutLarge(1, 7, 1, len(content)), content)
            await pair.far.until(lambda: len(sink.data) == len(content))
            rate = link.delivery_rate(pair.near.link._transport)
            name = pair.near.link._transport.get_extra_info("sockname")
            on_tcp = sys.platform == "linux" and isinstance(name, tuple)
            assert (rate > 1_000) == on_tcp

    run(story())


def test_a_segment_that_cannot_be_made_is_reported_and_its_bytes_pass(
    run, wired, monkeypatch
):
    async def story():
        async with joined(wired) as pair:
            problems = []

            def on_message(link, message):
                if isinstance(message, Raw):
                    note = problems.append
                    receive(link, Arrival(message.nbytes, FreshMemory(), note, note))

            pair.far.on_message = on_message

            def full(*_):
                raise OSError(12, "Cannot allocate memory")

            monkeypatch.setattr(os, "pwrite", full)
            content = memoryview(bytes(3 << 20))
            await pair.near.link.send_bulk(Raw(1, 1, len(content)), content)
            pair.near.link.send(done(2))
            await pair.far.until(lambda: done(2) in pair.far.messages)
            (problem,) = problems
            assert "3,145,728 bytes cannot be held" in problem
            assert "Cannot allocate memory" in problem

    run(story())


@given(
    content=st.binary(min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 44), max_size=5),
    flipped=st.none() | st.integers(0, 8 * 44 - 1),
)
def test_a_checksum_tells_whether_all_came_as_it_was_sent(content, cuts, flipped):
    stream = bytearray(content + zlib.crc32(content).to_bytes(4, "little"))
    if flipped is not None:
        assume(flipped < 8 * len(stream))
        stream[flipped // 8] ^= 1 << flipped % 8
    ends = []

    class Memory(FreshMemory):
        def take_back(self, segment):
            ends.append("taken back")
            segment.close()

    def arrived(segment):
        ends.append(os.pread(segment.fd, 100, 0))
        segment.close()

    arrival = Arrival(
        len(content), Memory(), arrived, ends.append, lambda: ends.append("garbled")
    )
    assert arrival.total_bytes == len(stream)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, stop in pairwise(places):
        assert not ends
        arrival.take(memoryview(stream)[start:stop])
    assert ends == (["taken back", "garbled"] if flipped is not None else [content])


def open_files():
    names = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # That of the listing itself.
            names.append(str(path.readlink()))
    return names


def test_a_loss_in_the_middle_gives_the_memory_back(run, wired):
    async def story():
        async with joined(wired) as pair:
            arrived = []

            def on_message(link, message):
                note = arrived.append
                receive(link, Arrival(message.nbytes, FreshMemory(), note, note))
                pair.far.stir()

            pair.far.on_message = on_message
            sending = pair.near.link.send_bulk(
                Raw(1, 1, 64 << 20), memoryview(bytes(64 << 20))
            )
            await pair.far.until(lambda: pair.far.messages)
            assert any("memfd:covey" in name for name in open_files())
            pair.near.link.abort()
            await pair.far.ended()
            assert not arrived
            assert not any("memfd:covey" in name for name in open_files())
            with pytest.raises(Disconnected):
                await sending
            with pytest.raises(Disconnected):
                await pair.near.link.drain()
            with pytest.raises(Disconnected):
                await pair.near.link.send_bulk(done(1), memoryview(b"late"))

    run(story())


def test_a_cancelled_sender_does_not_cut_its_value_short(run, wired):
    async def story():
        async with joined(wired) as pair:
            content = pattern(20 << 20)
            sink = Bytes(pair.far)

            def on_message(link, message):
                if isinstance(message, Raw):
                    link.expect_raw(message.nbytes, sink)

            pair.far.on_message = on_message
            head = Raw(1, 1, len(content))
            pair.near.link.send_bulk(head, memoryview(content)).cancel()
            pair.near.link.send(done(2))
            await pair.far.until(lambda: done(2) in pair.far.messages)
            assert sink.data == content

    run(story())


def test_raw_bytes_are_announced_once_a_batch(run, wired):
    async def story():
        async with joined(wired) as pair:
            pair.far.on_message = lambda link, m: link.expect_raw(5, Bytes(pair.far))
            pair.near.link.send_all([Raw(1, 1, 5), Raw(2, 2, 5)])
            await pair.far.ended()
            assert "end their batch" in str(pair.far.lost[0])

    run(story())


def test_a_slow_reader_slows_the_sender(run, wired):
    async def story():
        async with joined(wired) as pair:
            pair.far.link._transport.pause_reading()
            content = memoryview(bytes(256 << 20))
            sending = pair.near.link.send_bulk(Raw(1, 1, len(content)), content)
            before = -1
            while pair.near.link.bytes_sent != before:
                before = pair.near.link.bytes_sent
                for _ in range(20):
                    await asyncio.sleep(0)
            assert before < 64 << 20
            assert not sending.done()
            pair.far.on_message = lambda link, m: link.expect_raw(
                m.nbytes, Nothing(pair.far)
            )
            pair.far.link._transport.resume_reading()
            await sending

    run(story())


class Nothing(Bytes):
    def take(self, data):
        pass


# Coming together.


async def refused(kind, error, near_keys=KEYS, match=""):
    near, far = End(), End()
    async with listening(kind, far) as listener:
        with pytest.raises(error, match=match):
            await dial(listener.address, near, near_keys)
        await far.ended()
        assert not near.messages
        assert not far.messages


def test_a_wrong_secret_is_refused(run, wired):
    run(
        refused(
            wired,
            AuthRefused,
            Keys.of_client(Secret(b"t" * 32)),
            "does not know the secret",
        )
    )


def test_another_protocol_is_refused_and_both_are_named(run, wired, monkeypatch):
    real = handshake.CallerHandshake

    class Newer(real):
        def __init__(self, *arguments, **keywords):
            with monkeypatch.context() as patch:
                patch.setattr(handshake, "PROTOCOL_VERSION", 77)
                super().__init__(*arguments, **keywords)

        def receive(self, data):
            with monkeypatch.context() as patch:
                patch.setattr(handshake, "PROTOCOL_VERSION", 77)
                return super().receive(data)

    monkeypatch.setattr(connect, "CallerHandshake", Newer)
    monkeypatch.setattr(link, "CallerHandshake", Newer)
    match = f"protocol 77.*protocol {handshake.PROTOCOL_VERSION}"
    run(refused(wired, VersionRefused, match=match))


def test_a_silent_listener_is_given_up(run, monkeypatch):
    monkeypatch.setattr(link, "HANDSHAKE_SECONDS", 0.05)

    async def story():
        server = await asyncio.get_running_loop().create_server(
            asyncio.Protocol, "127.0.0.1", 0
        )
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1], "")
        with pytest.raises(RemoteProtocolError, match="something else"):
            await dial(address, End(), timeout_seconds=5.0)
        server.close()

    run(story())


def test_a_silent_caller_is_cut_off(run, wired, monkeypatch):
    monkeypatch.setattr(link, "HANDSHAKE_SECONDS", 0.05)

    async def story():
        far = End()
        loop = asyncio.get_running_loop()
        turned_away = asyncio.Event()
        async with listening(wired, far, on_turned_away=turned_away.set) as listener:
            place = listener.address
            if place.path:
                await loop.create_unix_connection(asyncio.Protocol, place.path)
            else:
                await loop.create_connection(asyncio.Protocol, place.host, place.port)
            await turned_away.wait()
            if wired != "tls":
                # Where TLS comes first, there was no link yet.
                await far.ended()
                assert isinstance(far.lost[0], RemoteProtocolError)

    run(story())


def test_an_address_that_swallows_everything_is_given_up(run, monkeypatch):
    monkeypatch.setattr(connect, "_SHORTEST_TRY_SECONDS", 0.05)

    async def story():
        # A full backlog: the kernel answers no further caller.
        server = await asyncio.get_running_loop().create_server(
            asyncio.Protocol, "127.0.0.1", 0, backlog=1, start_serving=False
        )
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1], "")
        with pytest.raises(NoScheduler, match="Check: is `covey scheduler` running"):
            await dial(address, End(), timeout_seconds=0.05)
        server.close()

    run(story())


def test_nobody_there_says_where_how_long_and_what_to_check(run):
    async def story():
        with pytest.raises(NoScheduler) as caught:
            await dial(Address("127.0.0.1", 1, ""), End())
        for part in ("tcp://127.0.0.1:1", "tried for", "refused", "is 1 the port"):
            assert part in str(caught.value)

    run(story())


def test_a_cancelled_caller_leaves_no_connection(run):
    async def story():
        ended = asyncio.Event()

        class Mute(asyncio.Protocol):
            def connection_made(self, transport):
                calling.cancel()

            def connection_lost(self, exc):
                ended.set()

        server = await asyncio.get_running_loop().create_server(Mute, "127.0.0.1", 0)
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1], "")
        calling = asyncio.ensure_future(dial(address, End(), timeout_seconds=20.0))
        with pytest.raises(asyncio.CancelledError):
            await calling
        await ended.wait()
        server.close()

    run(story())


def test_a_port_in_use_is_replaced(run):
    async def story():
        async with listening("tcp", End()) as one:
            two = await listen(
                one.address,
                UNION,
                role=Role.KEEPER,
                keys=KEYS,
                version="1",
                on_open=print,
                on_messages=print,
                on_lost=print,
            )
            assert two.moved
            assert two.address.port not in {0, one.address.port}
            await two.close()

    run(story())


def test_the_kernel_watches_over_tcp(run):
    import socket

    async def story():
        async with joined("tcp") as pair:
            for end in (pair.near, pair.far):
                real = end.link._transport.get_extra_info("socket")
                assert real.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                if hasattr(socket, "TCP_USER_TIMEOUT"):
                    wait = real.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
                    assert wait == SILENCE_SECONDS * 1000

    run(story())
