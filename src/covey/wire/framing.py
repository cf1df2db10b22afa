"""Frames: a length, then a batch of messages; sometimes raw bytes behind it.

::

    length u32 | msgpack: [message, message, ...] | raw bytes, if a message said so
    0xFFFFFFFF | u64: how many frames of the peer have come   (see ``session``)

Sans-IO.  ``FrameReader`` takes bytes as they come and gives batches of typed
messages.  Nothing is allocated by a length that a peer claims: memory grows
only with bytes that have arrived, and a frame over the limit is refused.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec

from covey.errors import LocalProtocolError, RemoteProtocolError
from covey.payload import Buffer
from covey.wire.base import Message

#: No frame is longer.  Senders cut their batches well below it.
FRAME_BYTES_MAX: Final = 16 << 20

#: No batch holds more messages: the smallest take a hundred times as much memory as
#: they have bytes.
BATCH_MESSAGES_MAX: Final = 1 << 16

#: A batch is closed when the payloads in it pass this, so that one frame
#: never holds up the loop of its reader for long.
BATCH_BYTES: Final = 512 << 10

#: To take in an extent, or a node of a graph, takes as long as so many bytes.
EXTENT_WEIGHT: Final = 128
NODE_WEIGHT: Final = 256

#: What grows with what a message has to say, and what each part of it weighs.  What
#: else there is in a message grows with these: a run names at most two ``spares`` for
#: each of its ``sources``, and renames what it takes.
_WEIGHTS: Final = {
    "data": 1,
    "payload": 1,
    "text": 1,
    **dict.fromkeys(("extents", "wanted", "had", "detached"), EXTENT_WEIGHT),
    **dict.fromkeys(("foreign", "whole", "aligned", "sources"), EXTENT_WEIGHT),
    **dict.fromkeys(("lacking", "nodes", "groups"), EXTENT_WEIGHT),
    "needs": NODE_WEIGHT,
}

#: In the place of a length: this is an acknowledgement.
_ACK: Final = 0xFFFF_FFFF

_LENGTH: Final = struct.Struct("<I")
_HEAD_BYTES: Final = _LENGTH.size
_ACK_FRAME: Final = struct.Struct("<IQ")
_ACK_MARK: Final = _LENGTH.pack(_ACK)
_encoder: Final = msgspec.msgpack.Encoder()

M = TypeVar("M")


def encode_frame(messages: Sequence[Message]) -> bytes:
    """Return the frame that carries *messages*.

    Raises:
        LocalProtocolError: the batch is longer than a frame may be, or holds what
            cannot be written at all.
    """
    try:
        body = _encoder.encode(messages)
    except (OverflowError, RecursionError) as error:
        raise LocalProtocolError(f"a message cannot be written: {error}") from error
    length = len(body)
    if length > FRAME_BYTES_MAX:
        names = ", ".join(sorted({type(m).__name__ for m in messages}))
        raise LocalProtocolError(
            f"a frame of {length:,} bytes ({names}) is over the limit of "
            f"{FRAME_BYTES_MAX:,}; values this large belong on the data plane"
        )
    return _LENGTH.pack(length) + body


def fits(message: Message) -> bool:
    """Whether a frame can hold *message*; found out by encoding it."""
    try:
        encode_frame([message])
    except LocalProtocolError:
        return False
    return True


def encode_ack(received: int) -> bytes:
    """Return the frame that says how many frames have come."""
    return _ACK_FRAME.pack(_ACK, received)


def weight(message: Message) -> int:
    """Return what a message costs its reader, in bytes of payload, without encoding it.

    What it says of every task counts besides the payloads: the extents that it names,
    the tasks of a graph, the inputs of a run.
    """
    failure = getattr(message, "failure", None)
    if failure is not None:
        return 64 + len(failure.payload) + len(failure.message)
    total = 64
    for field, each in _growing(type(message)):
        total += each * len(getattr(message, field))
    return total


@functools.cache
def _growing(kind: type[Message]) -> tuple[tuple[str, int], ...]:
    """Return the fields that make messages of one kind long, and what a part weighs."""
    return tuple((f, _WEIGHTS[f]) for f in kind.__struct_fields__ if f in _WEIGHTS)


def batches(messages: Sequence[Message]) -> Iterable[Sequence[Message]]:
    """Cut *messages* into batches that each fit well into a frame.

    Each is cut when it is asked for: who stops early has looked at no more.
    """
    return (messages,) if len(messages) == 1 else _cut(messages)


def _cut(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    start = 0
    size = 0
    for index, message in enumerate(messages):
        bytes_of = weight(message)
        if size + bytes_of > BATCH_BYTES and index > start:
            yield messages[start:index]
            start, size = index, 0
        size += bytes_of
    if start < len(messages):
        yield messages[start:]


@functools.cache
def _decoder(union: Any) -> msgspec.msgpack.Decoder[Any]:
    """Return the decoder of batches of *union*; making one takes a while."""
    batch = Annotated[list[union], msgspec.Meta(max_length=BATCH_MESSAGES_MAX)]
    return msgspec.msgpack.Decoder(batch)


class FrameReader(Generic[M]):
    """Turns a stream of bytes into batches of messages of one union."""

    def __init__(self, union: Any, *, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._decoder = _decoder(union)
        #: What has come and was not taken yet.
        self.buffer = bytearray()
        self._frame_bytes_max = frame_bytes_max
        #: What the last acknowledgement said, until somebody takes it.
        self.ack: int | None = None
        #: Whether the peer may acknowledge anything.
        self.acks_allowed = False
        #: How long the last frame was.
        self.frame_bytes = 0

    def decode_as(self, union: Any) -> None:
        """Allow only messages of *union* from now on."""
        self._decoder = _decoder(union)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take in bytes as they arrived."""
        self.buffer += data

    def next_batch(self) -> list[M] | None:
        """Return the next complete batch, or ``None`` when more bytes are needed.

        Raises:
            RemoteProtocolError: the peer sent what the protocol does not allow.
        """
        buffer = self.buffer
        if len(buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(buffer)
        if length > self._frame_bytes_max:
            if length == _ACK and self.acks_allowed:
                return self._after_ack()
            raise RemoteProtocolError(
                f"the peer announced a frame of {length:,} bytes; "
                f"the limit is {self._frame_bytes_max:,}"
            )
        end = _LENGTH.size + length
        if len(buffer) < end:
            return None
        with memoryview(buffer) as view:
            batch = self._decode(view[_LENGTH.size : end])
        del buffer[:end]
        self.frame_bytes = end
        return batch

    def whole(self, data: Buffer) -> list[M] | None:
        """Return the batch of *data* if that is one frame, with nothing before it.

        Raises:
            RemoteProtocolError: the peer sent what the protocol does not allow.
        """
        length = len(data) - _HEAD_BYTES
        if self.buffer or length < 0 or _LENGTH.unpack_from(data) != (length,):
            return None
        return self._decode(memoryview(data)[_HEAD_BYTES:])

    def all_whole(
        self, data: Buffer
    ) -> tuple[list[tuple[list[M], int]], int | None] | None:
        """Return what *data* says if it is whole frames only, with nothing before them.

        These are batches, with how many bytes each of their frames has, and what the last
        acknowledgement says, if there is one.

        Raises:
            RemoteProtocolError: the peer sent what the protocol does not allow.
        """
        if self.buffer:
            return None
        found: list[tuple[list[M], int]] = []
        ack: int | None = None
        view, at, end = memoryview(data), 0, len(data)
        while at < end:
            if end - at < _HEAD_BYTES:
                return None
            (length,) = _LENGTH.unpack_from(data, at)
            if length == _ACK and self.acks_allowed and end - at >= _ACK_FRAME.size:
                _, ack = _ACK_FRAME.unpack_from(data, at)
                at += _ACK_FRAME.size
                continue
            start, at = at + _HEAD_BYTES, at + _HEAD_BYTES + length
            if at > end:
                return None
            found.append((self._decode(view[start:at]), at - start + _HEAD_BYTES))
        return found, ack

    def _after_ack(self) -> list[M] | None:
        """Take an acknowledgement out; return the batch behind it."""
        buffer = self.buffer
        # They seldom come two at a time, but nobody shall overrun our stack.
        while buffer.startswith(_ACK_MARK):
            if len(buffer) < _ACK_FRAME.size:
                return None
            _, self.ack = _ACK_FRAME.unpack_from(buffer)
            del buffer[: _ACK_FRAME.size]
        return self.next_batch()

    def take_raw(self, limit: int) -> bytearray:
        """Return up to *limit* buffered bytes that are not part of a frame."""
        taken = self.buffer[:limit]
        del self.buffer[:limit]
        return taken

    def _decode(self, body: memoryview) -> list[M]:
        try:
            batch: list[M] = self._decoder.decode(body)
            return batch
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise RemoteProtocolError(
                f"the peer sent a message that is none of ours: {error}"
            ) from error
        finally:
            body.release()
