"""One value to frames and back.

Frame 0 is a pickle stream of protocol 5; the frames after it are the large
buffers that the stream refers to (PEP 574), so that an array is neither copied
into the stream nor out of it::

    value ──dumps──► [stream, buffer, buffer ...] ──loads──► value
                         │
                         └─ mentions ``__main__``, or cannot be pickled?
                            then cloudpickle writes it again, by value

The C pickler always goes first: it is fast, and what can be imported on the
other side must go by reference.  ``__main__`` is the exception, because another
process has another one.

The first byte of frame 0 names the codec.  A pickle of protocol 2 or later
starts with 0x80; other bytes are free for codecs to come (``CODECS``).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any, Final

from covey.errors import NotPicklable, TaskUnreadable
from covey.payload import LAYOUT_BYTE, Buffer, read_layout
from covey.serde import registry
from covey.serde.culprit import cannot_pickle
from covey.serde.naming import names_something
from covey.serde.registry import PROTOCOL, BufferCallback

#: Buffers below this size are cheaper inside the stream than as frames.
OUT_OF_BAND_BYTES: Final = 4096

#: Plain bytes and texts of at least this length become a buffer of their own.
LARGE_BYTES: Final = 1 << 16

_LONG: Final = frozenset({bytes, bytearray, str})

#: The same where it stands beside others, which may hold it as well: what can be changed is
#: to be one object for all of them.
_LONG_ARGUMENTS: Final = _LONG - {bytearray}

#: The first byte of a stream that pickle wrote.
PICKLE_CODEC: Final = 0x80

#: The same of several values in one: see ``bundled``.
BUNDLE_CODEC: Final = 0x03

Loader = Callable[[Buffer, Sequence[Buffer]], Any]


def _load_pickle(stream: Buffer, buffers: Sequence[Buffer]) -> Any:
    return pickle.loads(stream, buffers=buffers)


def _load_function(stream: Buffer, buffers: Sequence[Buffer]) -> Any:
    from covey.serde import functions

    del buffers
    return functions.loads_function(bytes(stream))


def _load_bundle(stream: Buffer, buffers: Sequence[Buffer]) -> Any:
    from covey.serde import bundled

    return bundled.Bundle(stream, buffers)


def _load_plain(stream: Buffer, buffers: Sequence[Buffer]) -> Any:
    from covey.serde import plain

    return plain.loads(stream, buffers)


def _load_layout(stream: Buffer, buffers: Sequence[Buffer]) -> Any:
    """Load a large value that came as small ones do, because descriptors were short."""
    del buffers
    inner = _frames_within(stream)
    # Copies, as a small value's arrays are: aligned, writable and nobody else's.
    return loads((inner[0], *map(bytearray, inner[1:])))


def _frames_within(stream: Buffer) -> list[memoryview]:
    inner = read_layout(memoryview(stream))
    if not inner or inner[0][:1] == bytes((LAYOUT_BYTE,)):
        raise TaskUnreadable("a value was laid out in memory as none is")
    return inner


#: What reads a frame 0 that starts with this byte.
CODECS: Final[dict[int, Loader]] = {
    PICKLE_CODEC: _load_pickle,
    LAYOUT_BYTE: _load_layout,
    0x02: _load_function,  # A function with a head, too large for a message.
    BUNDLE_CODEC: _load_bundle,
    0x10: _load_plain,  # MessagePack
    0x11: _load_plain,  # JSON
    0x12: _load_plain,  # Arrow
}


class _OutOfBand:
    """A large ``bytes`` or ``bytearray``, pickled as a buffer without a copy.

    A text is one with a copy, which takes a tenth of the time that pickle takes for it.
    """

    __slots__ = ("value",)

    def __init__(self, value: bytes | bytearray | str) -> None:
        self.value = value

    def __reduce_ex__(self, protocol: Any, /) -> tuple[object, ...]:
        value = self.value
        if isinstance(value, str):
            written = value.encode("utf-8", "surrogatepass")
            buffer = pickle.PickleBuffer(written)
            return (str, (buffer, "utf-8", "surrogatepass"))
        return (type(value), (pickle.PickleBuffer(value),))


def pickle_by_reference(value: Any, take_buffer: BufferCallback | None) -> bytes:
    """Pickle *value* with the C pickler, by our own table of reducers."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, PROTOCOL, buffer_callback=take_buffer)
    pickler.dispatch_table = registry.dispatch_table()
    pickler.dump(value)
    return file.getvalue()


def pickle_by_value(value: Any, take_buffer: BufferCallback | None) -> bytes:
    """Pickle *value* with cloudpickle and the registered serializers."""
    file = io.BytesIO()
    pickler = registry.by_value_pickler(file, take_buffer)
    pickler.dump(value)
    return file.getvalue()


def mentions_main(stream: bytes) -> bool:
    """Say whether *stream* may refer to something in ``__main__``."""
    return names_something(stream) and stream.find(b"__main__") >= 0


def _pickle(value: Any, frames: list[Buffer] | None) -> bytes:
    """Pickle *value*; append its large buffers to *frames* if that is given."""
    take_buffer: BufferCallback | None = None
    before = 0
    if frames is not None:
        before = len(frames)

        def take_buffer(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes < OUT_OF_BAND_BYTES:
                return True
            frames.append(raw)
            return False

    try:
        stream = pickle_by_reference(value, take_buffer)
    except Exception:
        pass
    else:
        if not mentions_main(stream):
            return stream
    if frames is not None:
        del frames[before:]
    return pickle_by_value(value, take_buffer)


def dumps(value: Any, name: str = "value") -> list[Buffer]:
    """Return the frames of *value*: the stream, then its large buffers.

    Args:
        value: anything that can be pickled.
        name: what to call it in an error message.

    Raises:
        NotPicklable: it cannot be; the message names the path of the culprit.
    """
    buffers: list[Buffer] = []
    written = value
    if type(value) in _LONG and len(value) >= LARGE_BYTES:
        written = _OutOfBand(value)
    try:
        stream = _pickle(written, buffers)
    except Exception as error:
        raise cannot_pickle(value, name, error) from error
    return [stream, *buffers]


def is_long(args: tuple[Any, ...]) -> bool:
    """Say whether one of the arguments of a call is a long byte string or text."""
    for value in args:  # any() takes three times as long
        if type(value) in _LONG_ARGUMENTS and len(value) >= LARGE_BYTES:
            return True
    return False


def length_of(args: tuple[Any, ...]) -> int:
    """Return how long the byte strings and texts among the arguments of a call are."""
    return sum([len(value) for value in args if type(value) in _LONG_ARGUMENTS])


def dumps_call(call: tuple[Any, ...], name: str = "value") -> list[Buffer]:
    """Return the frames of arguments, of which long byte strings and texts are buffers.

    Args:
        call: the arguments, in a tuple that nothing else refers to.
        name: what to call it in an error message.

    Raises:
        NotPicklable: it cannot be written.
    """
    # The same object twice is one buffer, and the same object again.
    outside: dict[int, Any] = {}
    for value in call:
        if type(value) in _LONG_ARGUMENTS and len(value) >= LARGE_BYTES:
            outside[id(value)] = _OutOfBand(value)
    return dumps(tuple(outside.get(id(value), value) for value in call), name)


def dumps_inline(value: Any, name: str = "value") -> bytes:
    """Return *value* as one byte string, with all buffers inside.

    Raises:
        NotPicklable: it cannot be pickled.
    """
    try:
        return _pickle(value, None)
    except NotPicklable:
        raise
    except Exception as error:
        raise cannot_pickle(value, name, error) from error


def loads(frames: Sequence[Buffer]) -> Any:
    """Return the value of *frames*.

    Raises:
        TaskUnreadable: no codec of this process reads such frames.
        Exception: whatever the value's own code raises while it is rebuilt.
    """
    stream = frames[0]
    codec = stream[0] if len(stream) else -1
    loader = CODECS.get(codec)
    if loader is None:
        raise TaskUnreadable(
            f"a value is written in codec {codec:#04x}, which this process does "
            "not know; do both sides run the same version of covey?"
        )
    return loader(stream, frames[1:])


def refuse_pickle(stream: Buffer) -> None:
    """Refuse what pickle wrote, where the user wants none to be read.

    Raises:
        TaskUnreadable: pickle wrote it.
    """
    if len(stream) and stream[0] == LAYOUT_BYTE:
        stream = _frames_within(stream)[0]
    if len(stream) and stream[0] in (PICKLE_CODEC, BUNDLE_CODEC):
        raise TaskUnreadable(
            "a value was written by pickle, and this client or task was told to read "
            "none (serializer=); write it with the same serializer"
        )


def loads_without_pickle(data: Buffer) -> Any:
    """The same as ``loads_inline``, but of nothing that pickle wrote.

    Raises:
        TaskUnreadable: pickle wrote it.
    """
    refuse_pickle(data)
    return loads_inline(data)


def loads_inline(data: Buffer) -> Any:
    """Return the value that ``dumps_inline``, or one element of a pack, holds."""
    if len(data) and data[0] == PICKLE_CODEC:
        return pickle.loads(data)
    return loads((data,))
