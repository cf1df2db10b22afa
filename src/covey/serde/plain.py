"""Plain data: values that mean the same in any version, and in any language.

``None``, truth values, numbers, texts, bytes (not in JSON), lists, tuples (which
arrive as lists, but for the outermost) and dicts are plain.  Futures become references, and types with a
serializer of their own (``registry.register``) become its name and its bytes.
In ``arrow``, NumPy arrays are plain as well, and Arrow's and pandas' tables.
Everything else is refused by its path: no other code is run while reading.

A payload::

    codec u8 | kind u8: value, tuple, or arguments with keywords | body

What is special inside of the body is a MessagePack extension, or in JSON an
object with one key that begins with ``$covey``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final

from covey.errors import NotPicklable, TaskUnreadable, UsageError
from covey.payload import Buffer
from covey.serde import refs, registry
from covey.serde.call import Call
from covey.serde.culprit import type_name
from covey.serde.packing import LIMIT_BYTES, Packer

MSGPACK_CODEC: Final = 0x10
JSON_CODEC: Final = 0x11
ARROW_CODEC: Final = 0x12

_VALUE, _TUPLE, _CALL = 0, 1, 2

# The extensions.
_TASK: Final = 1
_REGISTERED: Final = 2
_TABLE: Final = 3

_PLAIN: Final = (type(None), bool, float, str)

#: What MessagePack can hold.
_INT_MIN: Final = -(1 << 63)
_INT_MAX: Final = (1 << 64) - 1

#: Bodies of tables and arrays below this size stay inside of the stream.
_OUT_OF_BAND_BYTES: Final = 4096


class PlainFormat:
    """One of the plain families."""

    def __init__(self, name: str, codec: int) -> None:
        self.name = name
        self._codec = codec

    def dumps(self, value: Any, name: str = "value") -> list[Buffer]:
        """Return the frames of *value*.

        Raises:
            NotPicklable: something in it is not plain; names its path.
        """
        kind = _VALUE
        if isinstance(value, Call):
            kind, value = _CALL, [list(value.args), value.kwargs]
        elif type(value) is tuple:
            kind = _TUPLE
        frames: list[Buffer] = []
        writer = _Writer(self.name, frames)
        try:
            body = writer.body(value, name)
        except RecursionError:
            raise NotPicklable(
                f"{name} is nested too deeply for the serializer {self.name!r}, or "
                f"contains itself"
            ) from None
        return [bytes((self._codec, kind)) + body, *frames]

    def packer(self, limit_bytes: int = LIMIT_BYTES) -> Packer:
        """Return a packer for small values."""
        return _PlainPacker(self, limit_bytes)


class _PlainPacker(Packer):
    """Packs values of a plain family."""

    __slots__ = ("_format",)

    def __init__(self, format_: PlainFormat, limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self._format = format_

    def add_all(self, values: Sequence[Any], before: bytes = b"") -> int:
        """Add nothing: each value is looked at by itself."""
        del values, before
        return -1

    def add_numbers(self, numbers: Sequence[Any]) -> bool:
        """Add nothing, as well."""
        del numbers
        return False

    def add(self, value: Any, name: str = "value") -> list[Buffer] | None:
        """Write *value* into the pack, or return its frames if it is too large."""
        frames = self._format.dumps(value, name)
        if len(frames) > 1 or len(frames[0]) > self.limit_bytes:
            return frames
        self._keep(bytes(frames[0]))
        return None


_FORMATS: Final = {
    "msgpack": PlainFormat("msgpack", MSGPACK_CODEC),
    "json": PlainFormat("json", JSON_CODEC),
    "arrow": PlainFormat("arrow", ARROW_CODEC),
}


def format_named(name: str) -> PlainFormat:
    """Return a plain family.

    Raises:
        UsageError: what it needs is not installed here.
    """
    if name != "json":
        _library("msgspec.msgpack", name)
    if name == "arrow":
        _library("pyarrow", name)
    return _FORMATS[name]


def _library(module: str, family: str) -> Any:
    # By name, for a runner starts without it.
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise UsageError(
            f"the serializer {family!r} needs the package {package!r}, which is not "
            f"installed in this Python: {error}"
        ) from None


# Writing.


class _Writer:
    """Writes one value."""

    def __init__(self, family: str, frames: list[Buffer]) -> None:
        self.family = family
        self.frames = frames
        self._json = family == "json"

    def body(self, value: Any, path: str) -> bytes:
        """Return the body of a payload."""
        tree = self._tree(value, path)
        if self._json:
            return json.dumps(tree, separators=(",", ":")).encode()
        encoded: bytes = _library("msgspec.msgpack", self.family).encode(tree)
        return encoded

    def _tree(self, value: Any, path: str) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is int:
            if not self._json and not _INT_MIN <= value <= _INT_MAX:
                raise self._refuse(value, path, "it has more than 64 bits")
            return value
        if kind is list or kind is tuple:
            return [self._tree(v, f"{path}[{i}]") for i, v in enumerate(value)]
        if kind is dict:
            return self._mapping(value, path)
        if kind in (bytes, bytearray, memoryview) and not self._json:
            return bytes(value)
        if isinstance(value, refs.Reference):
            return self._special(_TASK, value.refer().to_bytes(8, "little"))
        if isinstance(value, refs.References):
            return self._tree(list(value), path)  # type: ignore[call-overload]
        written = registry.written(value)
        if written is not None:
            name, data = written
            head = name.encode()
            size = len(head).to_bytes(2, "little")
            return self._special(_REGISTERED, size + head + data)
        if (
            kind.__module__ == "numpy"
            and hasattr(value, "item")
            and (kind.__name__ != "ndarray" and not value.shape)
        ):
            return self._tree(value.item(), path)
        if self.family == "arrow":
            return self._table(value, path)
        raise self._refuse(value, path)

    def _mapping(self, value: dict[Any, Any], path: str) -> dict[Any, Any]:
        for key in value:
            if type(key) is not str and (self._json or type(key) is not int):
                raise self._refuse(key, f"{path} key {key!r:.40}")
            if self._json and str(key).startswith("$covey"):
                raise self._refuse(key, f"{path} key {key!r:.40}", "it is reserved")
        return {k: self._tree(v, f"{path}[{k!r:.40}]") for k, v in value.items()}

    def _special(self, kind: int, data: bytes) -> Any:
        if self._json:
            return {f"$covey{kind}": base64.b64encode(data).decode()}
        return _library("msgspec.msgpack", self.family).Ext(kind, data)

    def _table(self, value: Any, path: str) -> Any:
        from covey.serde import tables

        parts = tables.parts_of(value)
        if parts is None:
            why = ""
            if type(value).__module__.partition(".")[0] in tables.PACKAGES:
                why = "it would not come back as what it is"
            raise self._refuse(value, path, why)
        head, buffers = parts
        places: list[bytes | int] = []
        for buffer in buffers:
            view = memoryview(buffer).cast("B")
            if view.nbytes < _OUT_OF_BAND_BYTES:
                places.append(bytes(view))
            else:
                places.append(len(self.frames))
                self.frames.append(view)
        packed = _library("msgspec.msgpack", self.family)
        return packed.Ext(_TABLE, packed.encode([head, places]))

    def _refuse(self, value: Any, path: str, why: str = "") -> NotPicklable:
        kinds = "None, bool, int, float, str, bytes, lists and dicts"
        if self._json:
            kinds = "None, bool, int, float, str, lists and dicts with str keys"
        if self.family == "arrow":
            kinds += ", NumPy arrays, pandas and Arrow tables"
        reason = why or f"the serializer {self.family!r} takes {kinds}"
        return NotPicklable(
            f"{path} ({type_name(value)}) is not plain data: {reason}. Convert it, "
            f"register a serializer for its type (covey.serde.register), or use the "
            f"serializer 'pickle'"
        )


# Reading.


def loads(stream: Buffer, buffers: Sequence[Buffer]) -> Any:
    """Return the value of a plain payload.

    Raises:
        TaskUnreadable: it is none, or cannot be read in this environment.
    """
    codec, kind = stream[0], stream[1]
    body = bytes(memoryview(stream)[2:])
    try:
        tree = _read_json(body) if codec == JSON_CODEC else _read(body, buffers)
    except (ValueError, KeyError, TypeError, UsageError) as error:
        raise TaskUnreadable(f"plain data cannot be read here: {error}") from error
    if kind == _TUPLE:
        return tuple(tree)
    if kind == _CALL:
        args, kwargs = tree
        return Call(tuple(args), kwargs)
    return tree


def _read_json(body: bytes) -> Any:
    def special(tree: dict[str, Any]) -> Any:
        if len(tree) == 1:
            key, data = next(iter(tree.items()))
            if key.startswith("$covey"):
                return _READERS[int(key[6:])](base64.b64decode(data))
        return tree

    return json.loads(body, object_hook=special)


def _read(body: bytes, buffers: Sequence[Buffer]) -> Any:
    packed = _library("msgspec.msgpack", "msgpack")

    def special(kind: int, data: memoryview) -> Any:
        if kind != _TABLE:
            return _READERS[kind](bytes(data))
        from covey.serde import tables

        head, places = packed.decode(bytes(data))
        parts = [buffers[p] if isinstance(p, int) else p for p in places]
        return tables.value_of(head, parts)

    return packed.decode(body, ext_hook=special)


def _read_task(data: bytes) -> Any:
    return refs.resolve(int.from_bytes(data, "little"))


def _read_registered(data: bytes) -> Any:
    end = 2 + int.from_bytes(data[:2], "little")
    return registry.load_registered(data[2:end].decode(), data[end:])


_READERS: Final[dict[int, Callable[[bytes], Any]]] = {
    _TASK: _read_task,
    _REGISTERED: _read_registered,
}
