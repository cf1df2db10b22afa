"""What a journal is made of: records, each of which can be told to be whole.

::

    MAGIC | record | record | ...        record:  head | msgpack: [client, message]
    head:  length u32, checksum of the length u32, checksum of the body u32

A writer that is killed leaves the last record short; whoever reads on cuts it off.
All else that does not fit is damage, and is refused: what lies behind it cannot be
trusted, and must not be lost without a word.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from covey.errors import RemoteProtocolError
from covey.payload import Buffer
from covey.wire.base import Message
from covey.wire.client_link import (
    DefineFunction,
    Detach,
    Ended,
    Over,
    Placed,
    Publish,
    Retry,
    Scatter,
    Submit,
    SubmitGraph,
    Unpublish,
)

MAGIC: Final = b"covey journal 1\n"

_HEAD: Final = struct.Struct("<III")
_LENGTH: Final = struct.Struct("<I")
_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final = msgspec.msgpack.Decoder(
    tuple[
        int,
        DefineFunction
        | Submit
        | SubmitGraph
        | Scatter
        | Placed
        | Detach
        | Retry
        | Publish
        | Unpublish
        | Ended
        | Over,
    ]
)


class Contents(NamedTuple):
    """What a journal says.

    Attributes:
        records: (number of the client, what was said).
        whole: how many of its bytes are whole records; what follows was cut short.
    """

    records: list[tuple[int, Any]]
    whole: int


def encode(records: Iterable[tuple[int, Message]]) -> bytes:
    """Return the bytes of *records*."""
    parts: list[bytes] = []
    for record in records:
        body = _encode(record)
        length = _LENGTH.pack(len(body))
        parts += (length, _LENGTH.pack(zlib.crc32(length)))
        parts += (_LENGTH.pack(zlib.crc32(body)), body)
    return b"".join(parts)


def decode(data: bytes) -> Contents:
    """Return what the bytes of a journal say.

    Raises:
        RemoteProtocolError: they are damaged, or no journal at all.
    """
    if not data.startswith(MAGIC):
        if MAGIC.startswith(data):
            return Contents([], 0)
        raise RemoteProtocolError("it is no journal of this version of covey")
    records: list[tuple[int, Any]] = []
    at = len(MAGIC)
    for end, record in whole(data, at):
        records.append(record)
        at = end
    return Contents(records, at)


def whole(data: Buffer, at: int = 0) -> Iterator[tuple[int, tuple[int, Any]]]:
    """Yield the whole records of *data* from *at* on, each with the place behind it.

    Raises:
        RemoteProtocolError: they are damaged.
    """
    while at + _HEAD.size <= len(data):
        length, of_length, of_body = _HEAD.unpack_from(data, at)
        if zlib.crc32(data[at : at + _LENGTH.size]) != of_length:
            raise _damaged(at)
        start, end = at + _HEAD.size, at + _HEAD.size + length
        if end > len(data):
            return
        body = data[start:end]
        if zlib.crc32(body) != of_body:
            if end == len(data):
                return  # It was about to be written when the machine went down.
            raise _damaged(at)
        try:
            record = _decoder.decode(body)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise RemoteProtocolError(
                f"the record at byte {at:,} is none of ours: {error}"
            ) from error
        yield end, record
        at = end


def length_at(data: Buffer, at: int) -> int:
    """Return how long the record is that begins there, of which all may not be here."""
    if at + _HEAD.size > len(data):
        return _HEAD.size
    return _HEAD.size + int(_HEAD.unpack_from(data, at)[0])


def _damaged(at: int) -> RemoteProtocolError:
    return RemoteProtocolError(f"the record at byte {at:,} is damaged")
