"""The trace in words: what was said by whom, message by message."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from covey.wire import client_link, introductions, worker_link
from covey.wire.base import Message

_LENGTH: Final = struct.Struct("<I")

#: In the place of a length: an acknowledgement.
_ACK: Final = 0xFFFF_FFFF

#: Longer values are cut.
_SHOWN: Final = 60


def _messages() -> dict[Any, type[Message]]:
    rooms = (client_link, worker_link, introductions)
    return {
        kind.__struct_config__.tag: kind
        for room in rooms
        for kind in vars(room).values()
        if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
    }


_BY_TAG: Final = _messages()


def in_words(happenings: Iterable[tuple[float, str, bytes]]) -> Iterator[str]:
    """Tell happenings, one line for each message."""
    for time, where, data in happenings:
        told = list(_tell(data)) if data else [""]
        for text in told:
            yield f"{time:10.4f}  {where}  {text}".rstrip()


def _tell(data: bytes) -> Iterator[str]:
    at = 0
    while at + _LENGTH.size <= len(data):
        (size,) = _LENGTH.unpack_from(data, at)
        if size == _ACK:
            at += _LENGTH.size + 4  # Its tail: the number is longer than a length.
            continue  # A beat: there are many, and they say little.
        body = data[at + _LENGTH.size : at + _LENGTH.size + size]
        at += _LENGTH.size + size
        try:
            batch = msgspec.msgpack.decode(body)
        except msgspec.MsgspecError:
            yield f"({len(body)} bytes of a frame that was cut)"
            continue
        for tag, *values in batch:
            kind = _BY_TAG[tag]
            fields = zip(kind.__struct_fields__, values, strict=False)
            shown = ", ".join(f"{name}={_show(value)}" for name, value in fields)
            yield f"{kind.__name__}({shown})"


def _show(value: Any) -> str:
    match value:
        case bytes():
            return f"<{len(value)} bytes>"
        case list():
            return "[" + ", ".join(map(_show, value)) + "]"
        case bool():
            return str(value)
        case int() if value > 1 << 24:
            return f"{value:x}"
    return str(value)[:_SHOWN]
