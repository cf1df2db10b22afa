"""Frames on blocking sockets, between an agent and its runner.

A frame is a list of operations and the bytes that belong to them::

    size of header u32 | size of body u64 | header: JSON | body

An operation is a JSON array that starts with its name.  Those that carry bytes
say how many, and take them from the body in order.  What is sent may be written
already: for numbers alone that takes less than to ask an encoder.  JSON, because the agent
decodes it typed and the runner needs no more than the standard library.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

from covey.errors import RemoteProtocolError
from covey.payload import Buffer

HEAD: Final = struct.Struct("<IQ")

#: A header larger than this is garbage.
MAX_HEADER_BYTES: Final = 1 << 28

_RECEIVE_BYTES: Final = 1 << 18

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
#: Returns what it has read and where that ended; it skips no space, of which there is none.
_decode = json.JSONDecoder().raw_decode


#: One to be sent: as a list, or as JSON.
Operation: TypeAlias = list[Any] | str


class Gone(Exception):  # it is how a loop ends, not an error
    """The other side closed the socket, or ended."""


class Frame:
    """One received frame.

    Attributes:
        operations: what the header lists.
    """

    __slots__ = ("_body", "_offset", "operations")

    def __init__(self, operations: list[list[Any]], body: bytes) -> None:
        self.operations = operations
        self._body = body
        self._offset = 0

    def take(self, size: int) -> bytes:
        """Return the next *size* bytes of the body."""
        start, body = self._offset, self._body
        self._offset = end = start + size
        if size < 0 or end > len(body):
            raise RemoteProtocolError("an operation wants more bytes than came along")
        return body[start:end]


def encode(operations: Sequence[Operation], body: Sequence[Buffer] = ()) -> bytes:
    """Return the bytes of one frame."""
    written = [op if type(op) is str else _encode(op) for op in operations]
    header = f"[{','.join(written)}]".encode()
    size = sum(map(len, body))
    return b"".join((HEAD.pack(len(header), size), header, *body))


def _operations(header: memoryview) -> list[list[Any]]:
    operations: list[list[Any]]
    try:
        text = str(header, "utf-8")
        operations, end = _decode(text)
    except ValueError as error:
        raise RemoteProtocolError(f"a header is not JSON: {error}") from error
    if end < len(text):
        raise RemoteProtocolError("a header goes on behind its operations")
    return operations


class FrameSocket:
    """A blocking socket that speaks in frames.

    Any thread may write.  One thread reads at a time; the callers see to it.
    """

    __slots__ = ("_arriving", "_buffer", "_poll", "_socket", "_writing")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._writing = threading.Lock()
        self._buffer = bytearray()
        #: Waits until something can be read.  Who waits in ``recv`` of a Unix socket is
        #: woken as well when the other side has read what we sent, and for nothing.
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        #: What comes is read into this: to get so much memory anew each time, most of it
        #: for nothing, takes longer than to read.
        self._arriving = memoryview(bytearray(_RECEIVE_BYTES))

    def send(
        self, operations: Sequence[Operation], body: Sequence[Buffer] = ()
    ) -> None:
        """Send one frame.

        Raises:
            Gone: nobody is there to receive it.
        """
        frame = encode(operations, body)
        try:
            with self._writing:
                self._socket.sendall(frame)
        except OSError as error:
            raise Gone(str(error)) from error

    def close(self) -> None:
        """Hang up.  A thread that waits for a frame sees the end of the stream."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def comes_within(self, seconds: float) -> bool:
        """Say whether there is something to receive before so many seconds have passed."""
        return bool(self._buffer or self._poll.poll(1000 * seconds))

    def receive(self) -> Frame:
        """Wait for a frame and return it.

        Raises:
            Gone: the other side closed the socket.
            RemoteProtocolError: what came is no frame.
        """
        buffer, arriving = self._buffer, self._arriving
        while True:
            for frame in self._complete() if buffer else ():
                return frame
            self._poll.poll()
            nbytes = self._read(0)
            # Most often exactly one frame has come: read it where it is.
            if not buffer and nbytes >= HEAD.size:
                header_size, body_size = HEAD.unpack_from(arriving)
                start = HEAD.size + header_size
                if start + body_size == nbytes:
                    operations = _operations(arriving[HEAD.size : start])
                    return Frame(operations, bytes(arriving[start:nbytes]))
            buffer += arriving[:nbytes]

    def received(self) -> list[Frame]:
        """Return the frames that are there already, without waiting.

        Raises:
            Gone: the other side closed the socket.
        """
        while True:
            try:
                nbytes = self._read(socket.MSG_DONTWAIT)
            except BlockingIOError:
                return list(self._complete())
            self._buffer += self._arriving[:nbytes]

    def _read(self, flags: int) -> int:
        """Read what has come into the memory for it; return how many bytes that are."""
        try:
            nbytes = self._socket.recv_into(self._arriving, 0, flags)
        except BlockingIOError:
            raise
        except OSError as error:
            raise Gone(str(error)) from error
        if not nbytes:
            raise Gone("end of stream")
        return nbytes

    def _complete(self) -> Iterator[Frame]:
        """Yield the frames that the buffer holds in full, removing each."""
        buffer = self._buffer
        while len(buffer) >= HEAD.size:
            header_size, body_size = HEAD.unpack_from(buffer)
            if header_size > MAX_HEADER_BYTES:
                raise RemoteProtocolError(f"a header of {header_size} bytes")
            start = HEAD.size + header_size
            end = start + body_size
            if len(buffer) < end:
                return
            with memoryview(buffer) as view:
                operations = _operations(view[HEAD.size : start])
                body = bytes(view[start:end])
            del buffer[:end]
            yield Frame(operations, body)
