"""A value in a segment, read without a copy.

The buffers of the value are views into the mapped segment, so its arrays are
read-only, and the memory stays mapped for as long as one of them is alive.
"""

from __future__ import annotations

import io
import pickle
from typing import Any, TypeVar

from covey.payload import read_layout
from covey.serde import registry
from covey.serde.registry import PROTOCOL
from covey.serde.values import loads, refuse_pickle
from covey.store.segments import open_segment


def read_value(place: str, size: int, *, plain: bool = False) -> Any:
    """Return the value in the segment at *place*.

    Args:
        place: where the segment is.
        size: how many bytes it has.
        plain: refuse what pickle wrote.

    Raises:
        OSError: the segment is gone, or belongs to somebody else.
        ValueError: what is there is no payload of that size.
    """
    return value_of(open_value(place, size), plain=plain)


def open_value(place: str, size: int) -> list[memoryview]:
    """Return the frames of the value in the segment at *place*.

    Raises:
        FileNotFoundError: it is gone, or another one is there.
        OSError: the segment belongs to somebody else, or cannot be opened.
        ValueError: what is there is no payload of that size.
    """
    return read_layout(open_segment(place, size).view)


def value_of(frames: list[memoryview], *, plain: bool = False) -> Any:
    """Return the value that consists of *frames*; *plain* refuses what pickle wrote."""
    if plain:
        refuse_pickle(frames[0])
    return loads(frames)


T = TypeVar("T")


def writable(value: T) -> T:
    """Return *value* with arrays that can be written.

    Large arguments and results are mapped from memory that other processes read,
    too, so their arrays are read-only::

        def double(x):
            x = covey.writable(x)
            x *= 2
            return x

    Args:
        value: an array, or anything that holds arrays: a list of them, a data
            frame, an object of your own.

    Returns:
        A copy; or *value* itself, if nothing in it is read-only.
    """
    file = io.BytesIO()
    try:
        pickler = _Pickler(file, PROTOCOL)
        pickler.dispatch_table = registry.dispatch_table()
        pickler.dump(value)
    except Exception:
        by_value = type(registry.by_value_pickler(io.BytesIO(), None))
        file = io.BytesIO()
        pickler = type("_Pickler", (_Apart, by_value), {})(file, PROTOCOL)
        pickler.dump(value)
    buffers = pickler.buffers
    if not any(buffer.raw().readonly for buffer in buffers):
        return value
    file.seek(0)
    unpickler = _Unpickler(file)
    unpickler.copies = [bytearray(buffer.raw()) for buffer in buffers]
    copy: T = unpickler.load()
    return copy


class _Apart:
    """Leaves buffers out of what is pickled, and keeps them.

    They are left out as persistent ids: pickle's own way to leave out buffers
    makes them read-only again.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.buffers: list[pickle.PickleBuffer] = []

    def persistent_id(self, item: Any) -> int | None:
        if type(item) is not pickle.PickleBuffer:
            return None
        self.buffers.append(item)
        return len(self.buffers) - 1


class _Pickler(_Apart, pickle.Pickler):
    pass


class _Unpickler(pickle.Unpickler):
    """Puts copies into the places of buffers."""

    copies: list[bytearray]

    def persistent_load(self, pid: Any) -> bytearray:
        copy: bytearray = self.copies[pid]
        return copy
