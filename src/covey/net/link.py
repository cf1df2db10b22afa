"""A link: messages to and from one peer over one connection.

An ``asyncio`` protocol without streams.  What is sent within one turn of the
event loop leaves in one write (corked, never delayed by a timer).  The
handshake comes first; until it is over, nothing is decoded.

The owner gives three callbacks: ``on_open``, ``on_messages`` with a batch, and
``on_lost`` with the reason.  They are called from the event loop, never again
after ``on_lost``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from covey.errors import CoveyError, Disconnected, ProtocolError, RemoteProtocolError
from covey.wire.base import Message
from covey.wire.framing import FrameReader, batches, encode_frame
from covey.wire.handshake import CallerHandshake, ListenerHandshake, Role

#: A peer that has not proved itself within this time is cut off.
HANDSHAKE_SECONDS: Final = 5.0

RawSink = Callable[[bytes | bytearray], None]


class Link(asyncio.Protocol):
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
        self._reader: FrameReader[Any] = FrameReader(union)
        self._handshake: CallerHandshake | ListenerHandshake | None = handshake
        self._on_open = on_open
        self._on_messages = on_messages
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._writable: asyncio.Future[None] | None = None
        self._outbox: list[Message] = []
        self._flush_is_due = False
        self._deadline: asyncio.TimerHandle | None = None
        self._raw_left = 0
        self._raw_sink: RawSink | None = None
        self._problem: Exception | None = None
        self.lost = False
        #: Anything the owner wants to remember about the peer.
        self.peer: Any = None
        self.other_role: Role | None = None
        self.other_version = ""
        self.bytes_sent = 0
        self.bytes_received = 0

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

    def flush(self) -> None:
        """Write what is queued."""
        self._flush_is_due = False
        if self._handshake is not None or not self._outbox:
            return
        outbox, self._outbox = self._outbox, []
        if self._transport is None or self._transport.is_closing():
            return
        for batch in batches(outbox):
            frame = encode_frame(batch)
            self.bytes_sent += len(frame)
            self._transport.write(frame)

    def send_raw(self, data: bytes | bytearray | memoryview) -> None:
        """Write raw bytes behind the messages that were sent so far."""
        self.flush()
        if self._transport is not None and not self._transport.is_closing():
            self.bytes_sent += len(data)
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the kernel has taken enough of what was written.

        Raises:
            Disconnected: the connection ended meanwhile.
        """
        if self.lost:
            raise disconnected("the peer", self._problem)
        if self._writable is not None:
            await asyncio.shield(self._writable)

    def pause_writing(self) -> None:
        """The kernel takes no more for now."""
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """The kernel takes more again."""
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # Receiving.

    def decode_as(self, union: Any) -> None:
        """From now on only messages of *union* are allowed to come in."""
        self._reader.decode_as(union)

    def expect_raw(self, nbytes: int, sink: RawSink) -> None:
        """Give the next *nbytes* bytes to *sink* instead of reading frames.

        To be called from ``on_messages`` for the last message of a batch.
        """
        self._raw_left = nbytes
        self._raw_sink = sink

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        # uvloop's transports are none of asyncio's classes, but quack like them.
        opened = cast(asyncio.Transport, transport)
        self._transport = opened
        self._deadline = self._loop.call_later(HANDSHAKE_SECONDS, self._too_late)
        if isinstance(self._handshake, CallerHandshake):
            opened.write(self._handshake.start())

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self.bytes_received += len(data)
        try:
            if self._handshake is not None:
                left = self._shake_hands(data)
                if left is None:
                    return
                data = left
            self._receive(data)
        except CoveyError as error:
            self._problem = error
            self.abort()

    def _receive(self, data: bytes | bytearray) -> None:
        reader = self._reader
        if self._raw_left:
            data = self._feed_raw(data)
            if not data:
                return
        reader.feed(data)
        while not self.lost:
            batch = reader.next_batch()
            if batch is None:
                return
            self._on_messages(self, batch)
            if self._raw_left:
                rest = self._feed_raw(reader.take_raw(self._raw_left))
                assert not rest
                if self._raw_left:
                    return

    def _feed_raw(self, data: bytes | bytearray) -> bytes | bytearray:
        assert self._raw_sink is not None
        part, rest = data[: self._raw_left], data[self._raw_left :]
        self._raw_left -= len(part)
        sink = self._raw_sink
        if not self._raw_left:
            self._raw_sink = None
        sink(part)
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
        if self._deadline is not None:
            self._deadline.cancel()
        self.resume_writing()
        self._on_lost(self, self._problem or exc)

    def close(self) -> None:
        """Send what is queued, then close."""
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def fail(self, error: ProtocolError) -> None:
        """The peer broke the rules: remember why, and close."""
        self._problem = error
        self.abort()

    @property
    def unsent_bytes(self) -> int:
        """How much has been written but not yet taken by the kernel."""
        if self._transport is None or self._transport.is_closing():
            return 0
        return self._transport.get_write_buffer_size()


def disconnected(address: object, reason: Exception | None) -> Disconnected:
    """Return the error that tells of a broken connection."""
    why = f": {reason}" if reason is not None else ""
    return Disconnected(f"the connection to {address} broke{why}")
