"""The agent's end of the sockets to its runners.

Frames are ``<IQ``: the length of a JSON header and of a body.  The header is a
list of operations, the body holds their bytes in order.  JSON, because a
runner has nothing but the standard library; the agent decodes it typed, so a
runner gone mad can send nonsense but cannot harm the agent.
"""

from __future__ import annotations

import asyncio
import struct
from array import array
from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

import msgspec

from covey.errors import RemoteProtocolError
from covey.payload import Buffer, Pack
from covey.wire.base import Bytes, Count, Failure, Id, Seconds

_HEAD: Final = struct.Struct("<IQ")

#: A header holds operations, not values.
_HEADER_BYTES_MAX: Final = 64 << 20
_BODY_BYTES_MAX: Final = 1 << 32

#: A flag of a run: its value is wanted by one that follows on the same slot.
KEEP: Final = 1

# What a slot reports.


class _Operation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Something a runner tells."""


class SaysRan(_Operation, frozen=True, tag="ran"):
    """Consecutive tasks returned small values; their pack is in the body."""

    run: Id
    base: Id
    n: Count
    seconds: Seconds
    data_size: Bytes


class SaysBig(_Operation, frozen=True, tag="big"):
    """A task returned a large value, exported in a segment of the runner."""

    run: Id
    task: Id
    seconds: Seconds
    path: str
    size: Bytes
    handle: Id


class SaysFailed(_Operation, frozen=True, tag="failed"):
    """A task failed; the exception is in the body."""

    run: Id
    task: Id
    seconds: Seconds
    type_name: str
    message: str
    size: Bytes
    classes: tuple[str, ...] = ()

    def failure(
        self, body: Buffer, details: dict[str, str | int | float | None]
    ) -> Failure:
        """Return the failure, as it travels on."""
        return Failure(
            "raised",
            self.type_name,
            self.message,
            bytes(body),
            details=details,
            classes=self.classes,
        )


class SaysBlocked(_Operation, frozen=True, tag="blocked"):
    """A task waits for its own subtasks."""

    run: Id
    task: Id


class SaysResumed(_Operation, frozen=True, tag="resumed"):
    """A task that waited goes on."""

    run: Id
    task: Id


class SaysPrinted(_Operation, frozen=True, tag="printed"):
    """A task wrote to a standard stream."""

    run: Id
    task: Id
    stream: str
    text: str


# What the control thread reports.


class SaysReady(_Operation, frozen=True, tag="ready"):
    """The process serves its slots."""

    facts: dict[str, Any]


class SaysReturned(_Operation, frozen=True, tag="returned"):
    """A slot had not begun these; ``n`` of 0 says that there was nothing.

    The control thread says so when it was asked; a slot by itself, when what a
    task was to find there is not there.
    """

    slot: Id
    run: Id
    base: Id
    n: Id


class SaysStacks(_Operation, frozen=True, tag="stacks"):
    """What all threads are doing."""

    text: str


class SaysProfiled(_Operation, frozen=True, tag="profiled"):
    """What tasks were seen to do: function, and a tree as ``covey.stacks`` has it."""

    seen: list[tuple[int, list[str], list[int]]]


Says: TypeAlias = (
    SaysRan
    | SaysBig
    | SaysFailed
    | SaysBlocked
    | SaysResumed
    | SaysPrinted
    | SaysReady
    | SaysReturned
    | SaysStacks
    | SaysProfiled
)
_decoder: Final = msgspec.json.Decoder(list[Says])
_encoder: Final = msgspec.json.Encoder()


class RunnerLink(asyncio.Protocol):
    """One socket to a runner: a slot's, or its control socket."""

    def __init__(
        self,
        on_says: Callable[[list[tuple[Any, Buffer]]], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._on_says = on_says
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._header: list[Any] = []
        self._body: list[Buffer] = []
        self._flush_is_due = False
        self._loop = asyncio.get_running_loop()
        self.lost = False

    # Sending.

    def tell(self, operation: list[Any], *body: Buffer) -> None:
        """Queue an operation with its bytes; it leaves at the end of this turn."""
        self._header.append(operation)
        self._body += body
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what is queued as one frame."""
        self._flush_is_due = False
        if not self._header or self._transport is None:
            return
        header = _encoder.encode(self._header)
        body = b"".join(self._body)
        self._header = []
        self._body = []
        if not self.lost:
            self._transport.write(_HEAD.pack(len(header), len(body)) + header + body)

    # Receiving.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        buffer = self._buffer
        buffer += data
        try:
            while len(buffer) >= _HEAD.size:
                header_size, body_size = _HEAD.unpack_from(buffer)
                if header_size > _HEADER_BYTES_MAX or body_size > _BODY_BYTES_MAX:
                    raise RemoteProtocolError("a runner sent a frame without measure")
                end = _HEAD.size + header_size + body_size
                if len(buffer) < end:
                    return
                header = bytes(buffer[_HEAD.size : _HEAD.size + header_size])
                body = bytes(buffer[_HEAD.size + header_size : end])
                del buffer[:end]
                self._on_says(_split(header, body))
        except (RemoteProtocolError, msgspec.MsgspecError, RecursionError):
            # User code owns that process and may write anything: it is done for.
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended; nothing comes after this."""
        del exc
        if not self.lost:
            self.lost = True
            self._on_lost()

    def close(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


def _split(header: bytes, body: bytes) -> list[tuple[Any, Buffer]]:
    """Give each operation its bytes."""
    says: list[tuple[Any, Buffer]] = []
    at = 0
    view = memoryview(body)
    for operation in _decoder.decode(header):
        if isinstance(operation, SaysRan):
            size = 4 * operation.n + operation.data_size
        elif isinstance(operation, SaysFailed):
            size = operation.size
        else:
            size = 0
        if size < 0 or at + size > len(body):
            raise RemoteProtocolError("a runner's body is shorter than it said")
        says.append((operation, view[at : at + size]))
        at += size
    return says


def read_pack(says: SaysRan, body: Buffer) -> Pack:
    """Return the pack that came with a report.

    Raises:
        RemoteProtocolError: sizes and data do not fit together.
    """
    view = memoryview(body)
    sizes = array("I")
    sizes.frombytes(view[: 4 * says.n])
    if sum(sizes) != says.data_size:
        raise RemoteProtocolError("the sizes in a runner's pack do not add up")
    return Pack(sizes, bytes(view[4 * says.n :]))
