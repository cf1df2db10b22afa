"""The agent's end of the sockets to its runners.

Frames are ``<IQ``: the length of a JSON header and of a body.  The header is a
list of operations, the body holds their bytes in order.  JSON, because a
runner has nothing but the standard library.

User code owns that process, and may write anything into its sockets.  So what comes is
decoded typed, with a bound for everything, and held against what the slot has in
hand; a runner that says what no runner says is ended and started anew, and the agent
goes on.
"""

from __future__ import annotations

import asyncio
import struct
from array import array
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Final, Literal, TypeAlias, cast

import msgspec

from covey.errors import RemoteProtocolError
from covey.payload import Buffer, Pack
from covey.wire.base import Bytes, Count, Failure, Id, Seconds

_HEAD: Final = struct.Struct("<IQ")
_HEAD_BYTES: Final = _HEAD.size

#: A header holds operations, not values; a body what is small enough to ride along,
#: of some milliseconds.
_HEADER_BYTES_MAX: Final = 16 << 20
_BODY_BYTES_MAX: Final = 256 << 20
_OPERATIONS_MAX: Final = 1 << 18

#: How long names, and what an exception says, may be; ``covey.serde.failures`` cuts
#: them far below it.
_NAME_MAX: Final = 4096
_MESSAGE_MAX: Final = 1 << 16
_CLASSES_MAX: Final = 64

#: An exception with all that belongs to it must fit into a message upwards.
_FAILURE_BYTES_MAX: Final = 12 << 20

#: A flag of a run: its value is wanted by one that follows on the same slot.
KEEP: Final = 1

_Name: TypeAlias = Annotated[str, msgspec.Meta(max_length=_NAME_MAX)]
_Said: TypeAlias = Annotated[str, msgspec.Meta(max_length=_MESSAGE_MAX)]
_Classes: TypeAlias = Annotated[
    tuple[_Name, ...], msgspec.Meta(max_length=_CLASSES_MAX)
]
_FailureBytes: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=_FAILURE_BYTES_MAX)]

#: Of a call; 146 years at most, which ``Seconds`` can say as well.
_Nanoseconds: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]

#: Numbers of a profile: places in a tree, and microseconds, a day at most.
_Number: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1 << 37)]

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


class SaysRanNodes(_Operation, frozen=True, tag="rans"):
    """Tasks of different runs returned small values; their pack is in the body."""

    runs: tuple[Id, ...]
    tasks: tuple[Id, ...]
    nanoseconds: tuple[_Nanoseconds, ...]
    data_size: Bytes

    @property
    def n(self) -> int:
        """How many tasks these are."""
        return len(self.runs)


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
    type_name: _Name
    message: _Said
    size: _FailureBytes
    classes: _Classes = ()

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
    stream: Literal["stdout", "stderr"]
    text: str


# What the control thread reports.


class SaysReady(_Operation, frozen=True, tag="ready"):
    """The process serves its slots; what it says of itself nobody has to read."""

    facts: msgspec.Raw


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

    seen: list[tuple[Id, list[str], list[_Number]]]


Says: TypeAlias = (
    SaysRan
    | SaysRanNodes
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
_decoder: Final = msgspec.json.Decoder(
    Annotated[list[Says], msgspec.Meta(max_length=_OPERATIONS_MAX)]
)
_encoder: Final = msgspec.json.Encoder()


Node: TypeAlias = tuple[int, int, int, int, int, list[Any]]
"""What a slot is told of a single task: see ``RunnerLink.tell_nodes``."""


class RunnerLink(asyncio.Protocol):
    """One socket to a runner: a slot's, or its control socket.

    Args:
        on_says: takes what a frame says: operations, with their bytes.
        on_lost: called when the socket is closed.
        on_nonsense: called with what is wrong, once, when a frame came that is none
            of a runner's; nothing is read after it.
    """

    def __init__(
        self,
        on_says: Callable[[list[tuple[Any, Buffer]]], None],
        on_lost: Callable[[], None],
        on_nonsense: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._on_says = on_says
        self._on_lost = on_lost
        self._on_nonsense = on_nonsense
        self._deaf = False
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._header: list[Any] = []
        self._body: list[Buffer] = []
        #: The operation that names single tasks, if it is the last one, each of them, and
        #: the ids of the inputs that go along with it.
        self._nodes: list[Node] | None = None
        self._carried: set[int] = set()
        #: Those that it was told of: see ``covey.worker.functions``.
        self.functions: set[int] = set()
        self._flush_is_due = False
        #: Whether something was sent in this turn, before its end.
        self._hastened = False
        self._loop = asyncio.get_running_loop()
        self.lost = False

    # Sending.

    def tell(self, operation: list[Any], *body: Buffer) -> None:
        """Queue an operation with its bytes; it leaves at the end of this turn."""
        if self._nodes is not None:
            self._end_nodes(self._nodes)
        self._header.append(operation)
        self._body += body
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self.flush)

    def begin_node(self) -> set[int]:
        """Single tasks follow: with those right before them, they are one operation.

        Returns:
            The ids of the inputs that go along with it, to be added to.
        """
        if self._nodes is None:
            self._nodes, self._carried = [], set()
            self._header.append(self._nodes)
            if not self._flush_is_due:
                self._flush_is_due = True
                self._loop.call_soon(self.flush)
        return self._carried

    def tell_nodes(self, nodes: Iterable[Node], body: list[Buffer]) -> None:
        """Queue single tasks, after ``begin_node``.

        Args:
            nodes: run, function, task, flags, size of the arguments, inputs of each.
            body: the arguments, and the inputs whose bytes go along.
        """
        assert self._nodes is not None
        self._nodes += nodes
        self._body += body

    def _end_nodes(self, nodes: list[Node]) -> None:
        """They travel in columns, which are shorter, and read at once."""
        self._header[-1] = ["nodes", *zip(*nodes, strict=True)]
        self._nodes = None

    def hasten(self) -> None:
        """Write what is queued, if it is the first in this turn of the loop."""
        if self._flush_is_due and not self._hastened:
            self.flush()
            self._hastened = True

    def flush(self) -> None:
        """Write what is queued as one frame."""
        self._flush_is_due = self._hastened = False
        if not self._header or self._transport is None:
            return
        if self._nodes is not None:
            self._end_nodes(self._nodes)
        header = _encoder.encode(self._header)
        body = b"".join(self._body)
        self._header, self._body = [], []
        if not self.lost:
            self._transport.write(_HEAD.pack(len(header), len(body)) + header + body)

    # Receiving.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._deaf:
            return
        try:
            if self._buffer or not self._take_whole(data):
                self._buffer += data
                self._take_frames()
        except RemoteProtocolError as error:
            self._deaf = True
            self._buffer = bytearray()
            self.close()
            self._on_nonsense(str(error))

    def _take_whole(self, data: bytes) -> bool:
        """Act on *data* if it is one frame, as it mostly is; say whether it was."""
        if len(data) < _HEAD_BYTES:
            return False
        header_size, body_size = _HEAD.unpack_from(data)
        at = _HEAD_BYTES + header_size
        if at + body_size != len(data):
            return False
        self._on_says(_split(data[_HEAD_BYTES:at], data[at:]))
        return True

    def _take_frames(self) -> None:
        """Act on all frames that have come as a whole."""
        buffer = self._buffer
        while len(buffer) >= _HEAD_BYTES:
            header_size, body_size = _HEAD.unpack_from(buffer)
            if header_size > _HEADER_BYTES_MAX or body_size > _BODY_BYTES_MAX:
                raise RemoteProtocolError(
                    f"a frame of {header_size:,} and {body_size:,} bytes"
                )
            at = _HEAD_BYTES + header_size
            end = at + body_size
            if len(buffer) < end:
                return
            header, body = bytes(buffer[_HEAD_BYTES:at]), bytes(buffer[at:end])
            del buffer[:end]
            self._on_says(_split(header, body))

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
    """Give each operation its bytes.

    Raises:
        RemoteProtocolError: these are no operations of a runner.
    """
    try:
        operations = _decoder.decode(header)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise RemoteProtocolError(str(error)) from error
    says: list[tuple[Any, Buffer]] = []
    at, end = 0, len(body)
    view = memoryview(body)
    for operation in operations:
        kind = type(operation)
        if kind is SaysRanNodes:
            size = 4 * len(operation.runs) + operation.data_size
        elif kind is SaysRan:
            size = 4 * operation.n + operation.data_size
        elif isinstance(operation, SaysFailed):
            size = operation.size
        else:
            size = 0
        start, at = at, at + size
        if at > end:
            raise RemoteProtocolError("a body that is shorter than it is said to be")
        says.append((operation, view[start:at]))
    return says


def read_pack(says: SaysRan | SaysRanNodes, body: Buffer) -> Pack:
    """Return the pack that came with a report.

    Raises:
        RemoteProtocolError: sizes and data do not fit together.
    """
    sizes = array("I")
    end = 4 * says.n
    sizes.frombytes(body[:end])
    if sum(sizes) != says.data_size:
        raise RemoteProtocolError("results whose sizes do not add up")
    return Pack(sizes, bytes(body[end:]))
