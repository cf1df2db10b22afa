"""A link: messages to and from one peer over one connection.

An ``asyncio`` protocol without streams.  What is sent within one turn of the
event loop leaves in one write (corked, never delayed by a timer).  What comes is read
into one buffer that all links of a thread share, and goes from there to where it
belongs.  The handshake comes first; until it is over, nothing is decoded.

Raw bytes may follow a message.  They leave in pieces, as fast as the kernel takes
them; messages that are sent meanwhile wait, so that they never get in between::

    send(a)  send_bulk(head, data)  send(b)      one link, any callers
       │            │                  │
       ▼            ▼                  ▼
      [a] ───── [head] data data data [b] ─────► other side: on_messages, RawSink

The owner gives three callbacks: ``on_open``, ``on_messages`` with a batch, and
``on_lost`` with the reason.  They are called from the event loop, never again
after ``on_lost``.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

from covey import clock
from covey.errors import CoveyError, Disconnected, RemoteProtocolError
from covey.net.bulk import Bulk, RawSink
from covey.net.inlet import Inlet, inlet_of
from covey.net.outlet import Outlet, outlet_of
from covey.net.parting import Parting
from covey.net.savings import Crowding, Speed
from covey.net.sockets import delivery_rate, notice_silence, shown_certificate
from covey.payload import Buffer
from covey.wire.base import Message
from covey.wire.framing import FrameReader, batches, encode_frame
from covey.wire.handshake import CallerHandshake, ListenerHandshake
from covey.wire.keys import Role
from covey.wire.session import Session

#: A peer that has not proved itself within this time is cut off.
HANDSHAKE_SECONDS: Final = 5.0

#: What has come is taken over in parts of at most this size: they stay in the cache of
#: the processor on their way to a segment.
READ_BYTES: Final = 256 << 10

#: When the frames of one peer have taken so long to act on, others have their turn.
TURN_SECONDS: Final = 0.005

#: Frames beside raw bytes are short: a head, or a few.
_FRAME_BYTES: Final = 4 << 10


class Link(asyncio.BufferedProtocol):
    """One connection to one peer."""

    def __init__(
        self,
        union: Any,
        handshake: CallerHandshake | ListenerHandshake,
        *,
        on_open: Callable[[Link], None],
        on_messages: Callable[[Link, list[Any]], None],
        on_lost: Callable[[Link, Exception | None], None],
    ) -> None:
        self.reader: FrameReader[Any] = FrameReader(union)
        self._handshake: CallerHandshake | ListenerHandshake | None = handshake
        self._on_open = on_open
        self._on_messages = on_messages
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        #: What is written to and read from, until we have closed it.
        self._transport: asyncio.Transport | None = None
        self._parting: Parting | None = None
        self._writable: asyncio.Future[None] | None = None
        self._outbox: list[Message] = []
        self._flush_is_due = False
        self._bulks: deque[Bulk] = deque()
        self._pump_is_due = False
        self._deadline: asyncio.TimerHandle | None = None
        self._raw_left = 0
        self._raw_sink: RawSink | None = None
        #: Whether raw bytes have come before.
        self._takes_raw = False
        #: Whether frames that have come wait until others have had their turn.
        self.yields = False
        self._problem: Exception | None = None
        self.session: Session | None = None
        self._on_ack: Callable[[], None] | None = None
        #: Through which other threads write, once it is shared.
        self.outlet: Outlet | None = None
        #: Through which other threads read, once it is shared.
        self.inlet: Inlet | None = None
        self.lost = False
        #: Anything the owner wants to remember about the peer.
        self.peer: Any = None
        self.other_role: Role | None = None
        #: For an asker, the number of the client it speaks for.
        self.other_number = 0
        self.other_version = ""
        self.bytes_sent = 0
        self.bytes_received = 0
        #: How fast the peer, or what lies between, takes what is sent.
        self.speed = Speed()
        #: How busy the processors are, as far as compressing for it has shown.
        self.crowding = Crowding()
        self._full_since = 0.0
        self._full_bytes = 0
        #: Whether the scheduler stands in between, and passes on what is said.
        self.passed_on = False
        #: Told whether the kernel takes no more, or takes more again.
        self.on_full: Callable[[bool], None] = _ignore

    # Sending.

    def send(self, message: Message) -> None:
        """Queue *message*; it leaves at the end of this turn of the loop."""
        self._outbox.append(message)
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self.flush)

    def send_all(self, messages: list[Message]) -> None:
        """Queue several messages."""
        self._outbox += messages
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self.flush)

    @property
    def queued(self) -> int:
        """How many messages wait for the end of this turn."""
        return len(self._outbox)

    def flush(self) -> None:
        """Write what is queued, unless raw bytes are on their way."""
        self._flush_is_due = False
        if self._handshake is not None:
            return
        if self._bulks:
            self._pump()
            return
        if self._outbox:
            outbox, self._outbox = self._outbox, []
            self._write(outbox)

    def _write(self, messages: list[Message]) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        try:
            for batch in batches(messages):
                frame = encode_frame(batch)
                self.bytes_sent += len(frame)
                self._transport.write(frame)
        except CoveyError as error:
            # What cannot be said is lost, and both sides shall know that it is.
            self._problem = error
            self.abort()

    def send_bulk(
        self, head: Message, *parts: memoryview, checked: bool = False
    ) -> asyncio.Future[None]:
        """Send *head* and, behind it, the raw bytes of *parts*, and their checksum.

        That comes only with *checked*, and is taken while they leave.  The link keeps them until they are sent, whoever else lets go of them.

        Returns:
            A future that is done when the last byte was written.  It need not be
            waited for, and cancelling it stops nothing: half a value would leave
            the other side without a clue where the next message begins.
        """
        done: asyncio.Future[None] = self._loop.create_future()
        outbox, self._outbox = self._outbox, []
        self._bulks.append(Bulk([*outbox, head], parts, done, checked=checked))
        if self.lost:
            self._fail_bulks()
        else:
            self._pump_soon()
        return done

    def _pump_soon(self) -> None:
        if not self._pump_is_due:
            self._pump_is_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Write the next piece of raw bytes, if the kernel takes any."""
        self._pump_is_due = False
        if not self._bulks or self._writable is not None:
            return
        transport = self._transport
        if self._handshake is not None or transport is None or transport.is_closing():
            return
        bulk = self._bulks[0]
        if bulk.messages:
            self._write(bulk.messages)
            bulk.messages = []
        if bulk.parts:
            piece = bulk.next_piece()
            self.bytes_sent += len(piece)
            transport.write(piece)
            bulk.check(piece)
        if bulk.parts:
            self._pump_soon()
            return
        self._bulks.popleft()
        if not bulk.done.done():
            bulk.done.set_result(None)
        if self._bulks:
            self._pump_soon()
        else:
            self.flush()

    def _fail_bulks(self) -> None:
        bulks, self._bulks = self._bulks, deque()
        for bulk in bulks:
            if not bulk.done.done():
                bulk.done.set_exception(disconnected("the peer", self._problem))
                # Whoever does not wait for it need not hear of it.
                bulk.done.exception()

    async def drain(self) -> None:
        """Write what is queued, and wait until the kernel has taken enough of it.

        Raises:
            Disconnected: the connection ended meanwhile.
        """
        self.flush()
        if not self.lost and self._writable is not None:
            await asyncio.shield(self._writable)
        if self.lost:
            raise disconnected("the peer", self._problem)

    def pause_writing(self) -> None:
        """The kernel takes no more for now."""
        self._writable = self._loop.create_future()
        self._full_since = clock.monotonic()
        self._full_bytes = self._unwritten()
        self.on_full(True)

    def resume_writing(self) -> None:
        """The kernel takes more again."""
        writable, self._writable = self._writable, None
        if writable is not None and not self.lost:
            now = clock.monotonic()
            taken = self._full_bytes - self._unwritten()
            seconds = now - self._full_since
            rate = delivery_rate(self._transport) if self._transport else 0
            self.speed.saw(taken, min(seconds, taken / rate) if rate else seconds, now)
        if writable is not None and not writable.done():
            writable.set_result(None)
        self._pump()
        self.on_full(False)

    def _unwritten(self) -> int:
        transport = self._transport
        return 0 if transport is None else transport.get_write_buffer_size()

    # Carrying a session: its owner writes frames, the link counts what comes.

    def carry(self, session: Session, on_ack: Callable[[], None]) -> None:
        """From now on all frames are those of *session*.

        *on_ack* is called when the other side has told what has come there.
        """
        self.session = session
        self._on_ack = on_ack
        self.reader.acks_allowed = True

    def write(self, frame: bytes) -> None:
        """Write one encoded frame at once."""
        transport, outlet = self._transport, self.outlet
        if transport is not None and not transport.is_closing():
            self.bytes_sent += len(frame)
            if outlet is None:
                transport.write(frame)
                return
            with outlet.lock:
                transport.write(frame)

    def share(self, lock: threading.RLock) -> None:
        """Let other threads write to it and read from it, where that is possible.

        *lock* is held by who writes to it, by who counts what has come on it, and by
        who ends its life.
        """
        transport = self._transport
        if transport is not None and not transport.is_closing():
            self.outlet = outlet_of(transport, lock)
            self.inlet = inlet_of(self, transport, self._loop, lock)

    # Passing on: what comes on one link goes out on another one, unread.

    def pour(self, data: bytes) -> None:
        """Write bytes that came on another link."""
        if self._transport is not None and not self._transport.is_closing():
            self.bytes_sent += len(data)
            self._transport.write(data)

    def hold(self) -> None:
        """Read nothing more for now: the kernel, and then the peer, has to wait."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def heed_ack(self, session: Session, received: int) -> None:
        """The other side has received so many frames; the loop says so."""
        self.reader.ack = None
        session.on_ack(received)
        if self._on_ack is not None:
            self._on_ack()

    # Receiving.

    def decode_as(self, union: Any) -> None:
        """From now on only messages of *union* are allowed to come in."""
        self.reader.decode_as(union)

    def expect_raw(self, nbytes: int, sink: RawSink) -> None:
        """Give the next *nbytes* bytes to *sink* instead of reading frames.

        To be called from ``on_messages`` for the last message of a batch.

        Raises:
            RemoteProtocolError: the peer announced raw bytes twice in a batch.
        """
        if self._raw_left:
            raise RemoteProtocolError("raw bytes must end their batch")
        self._raw_left = nbytes
        self._raw_sink = sink
        self._takes_raw = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        # uvloop's transports are none of asyncio's classes, but quack like them.
        opened = cast(asyncio.Transport, transport)
        self._transport = opened
        notice_silence(opened)
        self._deadline = self._loop.call_later(HANDSHAKE_SECONDS, self._too_late)
        if isinstance(self._handshake, CallerHandshake):
            try:
                opened.write(self._handshake.start(shown_certificate(opened)))
            except CoveyError as error:
                self._problem = error
                self.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go; they are taken from there at once."""
        del sizehint
        return _here.arriving

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come."""
        self.bytes_received += nbytes
        if self._transport is None:
            return  # We have closed it, and wait for the other side to do so.
        data: Buffer = _here.arriving[:nbytes]
        try:
            if self._handshake is not None:
                left = self._shake_hands(bytes(data))
                if left is None:
                    return
                data = left
            receive = self._receive if self._takes_raw else self._receive_frames
            receive(data)
        except CoveyError as error:
            self._problem = error
            self.abort()

    def _receive(self, data: Buffer) -> None:
        while data and not self.lost and self._problem is None:
            if self._raw_left:
                data = self._feed_raw(data)
                continue
            # What is fed is copied, and most of what follows a frame is raw bytes.
            self.reader.feed(data[:_FRAME_BYTES])
            data = data[_FRAME_BYTES:]
            if not self.yields:
                self._take_frames()

    def _receive_frames(self, data: Buffer) -> None:
        reader, session = self.reader, self.session
        if session is not None and not (reader.buffer or self.lost or self._problem):
            # Mostly all of one frame, which needs no buffer.
            batch = reader.whole(data)
            if batch is not None:
                ack_is_due = session.take(len(data))
                self._on_messages(self, batch)
                if ack_is_due:
                    self.acknowledge()
                return
        reader.buffer += data
        if not self.yields:
            self._take_frames()

    def _take_frames(self) -> None:
        reader = self.reader
        # Only over sessions comes what takes long; no raw bytes come over those.
        until = clock.monotonic() + TURN_SECONDS if self.session is not None else 0.0
        while not self.lost and self._problem is None:
            batch = reader.next_batch() if reader.buffer else None
            session = self.session
            if session is not None:
                if reader.ack is not None:
                    self.heed_ack(session, reader.ack)
                if batch is not None:
                    session.take(reader.frame_bytes)
                else:
                    self.acknowledge()
            if batch is None:
                return
            self._on_messages(self, batch)
            if self._raw_left:
                rest = self._feed_raw(reader.take_raw(self._raw_left))
                assert not rest
                if self._raw_left:
                    return
            if until and reader.buffer and clock.monotonic() > until:
                self._yield()
                return

    def _yield(self) -> None:
        """Let others have their turn; what else has come is acted on after that."""
        if self._transport is not None and not self._transport.is_closing():
            self.yields = True
            if self.inlet is None:
                self._transport.pause_reading()
            self._loop.call_soon(self.catch_up)

    def catch_up(self) -> None:
        """Act on what has come before; then read again."""
        if self.inlet is None:
            self.take_rest()
        else:
            self.inlet.by_loop(self.take_rest)

    def take_rest(self) -> None:
        """The same, by who has the turn to read."""
        self.yields = False
        # What was not acted on when the link ends counts as not received.
        if self.lost or self._transport is None or self._transport.is_closing():
            return
        try:
            self._take_frames()
        except CoveyError as error:
            self._problem = error
            self.abort()
        if self.inlet is None and not (self.yields or self._transport.is_closing()):
            self._transport.resume_reading()

    def acknowledge(self) -> None:
        """Tell the other side what has come, if it should know."""
        if self.session is not None and self.session.ack_is_due:
            self.write(self.session.ack())

    def _feed_raw(self, data: Buffer) -> Buffer:
        assert self._raw_sink is not None
        part, rest = data[: self._raw_left], data[self._raw_left :]
        self._raw_left -= len(part)
        sink = self._raw_sink
        if not self._raw_left:
            self._raw_sink = None
        sink.take(part)
        return rest

    def _shake_hands(self, data: bytes) -> bytes | None:
        handshake = self._handshake
        assert handshake is not None and self._transport is not None
        answer = handshake.receive(data)
        if answer:
            self._transport.write(answer)
        if isinstance(handshake, ListenerHandshake) and handshake.refused:
            self._problem = RemoteProtocolError("the peer failed the handshake")
            self._transport.close()
            return None
        if not handshake.done:
            return None
        if self._deadline is not None:
            self._deadline.cancel()
        left = handshake.leftover()
        self.other_role = handshake.other_role
        self.other_number = handshake.other_number
        self.other_version = handshake.other_version
        self._handshake = None
        self._on_open(self)
        self.flush()
        return left

    def _too_late(self) -> None:
        self._problem = RemoteProtocolError(
            f"no handshake within {HANDSHAKE_SECONDS:g} s; is something else "
            f"listening at that address?"
        )
        self.abort()

    # The end.

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended; nothing comes after this."""
        if self.lost:
            return
        self.lost = True
        self.outlet = None
        if self.inlet is not None:
            self.inlet.close()
            self.inlet = None
        if self._parting is not None:
            self._parting.is_over()
        if self._deadline is not None:
            self._deadline.cancel()
        self._problem = self._problem or exc
        self.resume_writing()
        self._fail_bulks()
        sink, self._raw_sink = self._raw_sink, None
        if sink is not None:
            sink.give_up()
        self._on_lost(self, self._problem)

    def close(self) -> None:
        """Send what is queued, then close; raw bytes on their way are cut off.

        Nothing that comes is acted on any more.
        """
        self.flush()
        transport, self._transport = self._transport, None
        if transport is not None and not self.lost:
            self.outlet = None
            if self.inlet is not None:
                self.inlet.close()
                self.inlet = None
            self._parting = Parting(transport, self._loop)

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
        elif self._parting is not None:
            self._parting.cut_short()

    def fail(self, error: Exception) -> None:
        """The peer broke the rules, or is silent: remember why, and close."""
        self._problem = error
        self.abort()

    @property
    def guarded(self) -> bool:
        """Whether what comes is what was sent: by TLS, or it stays on the machine.

        Where somebody stands in between, TLS guards no more than each half of the way.
        """
        if self.passed_on:
            return False
        transport = self._transport
        return not self.own_host or bool(
            transport and transport.get_extra_info("ssl_object")
        )

    @property
    def own_host(self) -> str:
        """The address of this machine that the peer sees; empty on a unix socket."""
        name = self._transport and self._transport.get_extra_info("sockname")
        return str(name[0]) if isinstance(name, tuple) else ""


def _ignore(_: bool) -> None:
    """Nobody wants to know."""


class _Here(threading.local):
    """What the links of one thread share."""

    def __init__(self) -> None:
        #: What has come on the link whose turn it is.
        self.arriving = memoryview(bytearray(READ_BYTES))


_here: Final = _Here()


def by_scheduler(link: Link) -> str:
    """Say of a link if the scheduler stands in between, to be put behind its name."""
    return " by way of the scheduler" if link.passed_on else ""


def disconnected(address: object, reason: Exception | None) -> Disconnected:
    """Return the error that tells of a broken connection."""
    why = f": {reason}" if reason is not None else ""
    return Disconnected(f"the connection to {address} broke{why}")
