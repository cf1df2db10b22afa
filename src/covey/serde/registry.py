"""Serializers that a user brings along, by type.

``register(Image, dumps=to_png, loads=from_png)`` makes every ``Image``, at the
top of a value or deep inside one, travel as the bytes that ``to_png`` returns.
It works through the ``dispatch_table`` of picklers, for exactly that type and
not for its subclasses.  The reader must have registered the same name: put the
call into a module that both sides import.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import threading
from collections import ChainMap
from collections.abc import Callable, MutableMapping
from types import CodeType, FunctionType, ModuleType
from typing import IO, Any, Final, TypeVar

from covey.errors import TaskUnreadable
from covey.serde import methods, rebuilt
from covey.serde.code import tagged

T = TypeVar("T")

PROTOCOL: Final = 5

BufferCallback = Callable[[pickle.PickleBuffer], Any]

_reducers: dict[type, Callable[[Any], Any]] = {}
_loaders: dict[str, Callable[[bytes], Any]] = {}


def register(
    type_: type[T],
    dumps: Callable[[T], bytes],
    loads: Callable[[bytes], T],
    *,
    name: str | None = None,
) -> None:
    """Serialize instances of exactly *type_* with *dumps* and *loads*.

    Args:
        type_: the type whose instances are meant.
        dumps: makes bytes of an instance.
        loads: makes an instance of those bytes, on the other side.
        name: what the two sides call it; by default the qualified type name.
    """
    label = name or f"{type_.__module__}.{type_.__qualname__}"

    def reduce(value: T) -> tuple[object, ...]:
        return (load_registered, (label, dumps(value)))

    _loaders[label] = loads
    _reducers[type_] = reduce


def unregister(type_: type) -> None:
    """Forget the writer of *type_*.  What was written before stays readable."""
    _reducers.pop(type_, None)


def load_registered(name: str, data: bytes) -> Any:
    """Read a value that a registered serializer wrote.

    Raises:
        TaskUnreadable: nothing is registered here under *name*.
    """
    try:
        loads = _loaders[name]
    except KeyError:
        raise TaskUnreadable(
            f"a value was written by the serializer {name!r}, which is not "
            "registered in this process; call register() in a module that both "
            "the client and the workers import"
        ) from None
    return loads(data)


def in_use() -> bool:
    """Say whether anything is registered."""
    return bool(_reducers)


def dispatch_table(
    below: MutableMapping[Any, Any] | None = None,
) -> MutableMapping[Any, Any] | None:
    """Return what a pickler needs to know, or ``None`` if nothing is registered."""
    if not _reducers:
        return None
    return with_methods(below)


def with_methods(
    below: MutableMapping[Any, Any] | None = None,
) -> MutableMapping[Any, Any]:
    """Return what is registered, and how functions of modules are written."""
    below = copyreg.dispatch_table if below is None else below
    return ChainMap(_reducers, methods.REDUCERS, below)


class _Here(threading.local):
    by_source = False


_here: Final = _Here()


class by_source:  # noqa: N801  (used as a verb; a class, for ``submit`` is in a hurry)
    """``with by_source()``: code that this thread pickles travels as source text.

    That is for readers with another minor version of Python.
    """

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before = _here.by_source
        _here.by_source = True

    def __exit__(self, *_: object) -> None:
        _here.by_source = self._before


def by_value_pickler(
    file: IO[bytes] | io.RawIOBase,
    take_buffer: BufferCallback | None,
) -> pickle.Pickler:
    """Return a pickler for what cannot be imported, which knows what is registered.

    It is cloudpickle's.  In an environment without cloudpickle it is a plain one,
    so that what goes wrong is told about the value and not about a missing package.
    Inside ``by_source()`` it writes functions and classes as text.
    """
    below: type[pickle.Pickler] = pickle.Pickler
    theirs: Any = None
    try:
        import cloudpickle
    except ModuleNotFoundError:
        pass
    else:
        below = cloudpickle.Pickler
        theirs = below.dispatch_table
    # The table has to be the class's: as an attribute of the instance it
    # would not reach the C code of the base class.
    table = dict(with_methods(theirs))
    class_ = type("Pickler", (_ByValue, below), {"dispatch_table": table})
    pickler: pickle.Pickler = class_(file, PROTOCOL, buffer_callback=take_buffer)
    if _here.by_source:
        from covey.serde import source

        table[CodeType] = source.reduce_code
        table[ModuleType] = source.reduce_module
    elif CodeType in table:
        table[CodeType] = tagged(table[CodeType])
    return pickler


class _ByValue:
    """What our picklers decide before cloudpickle does."""

    namespaces: dict[int, dict[str, Any]] | None = None

    def reducer_override(self, value: Any) -> Any:
        """Write as text what must go as text, or was made from text here."""
        function = type(value) is FunctionType
        if (function or isinstance(value, type)) and (
            _here.by_source or rebuilt.was_made(value)
        ):
            from covey.serde import source

            if not source.importable(value):
                if self.namespaces is None:
                    self.namespaces = {}
                if function:
                    return source.reduce_function(value, self.namespaces)
                return source.reduce_class(value, self.namespaces)
        below = getattr(super(), "reducer_override", None)
        return NotImplemented if below is None else below(value)
