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
import sys
import threading
from collections.abc import Callable, Collection, Iterable
from types import CodeType, FunctionType, ModuleType
from typing import IO, Any, Final, TypeVar

from covey.errors import TaskUnreadable
from covey.serde import arrays, methods, rebuilt
from covey.serde.code import tagged
from covey.serde.refs import Reference

T = TypeVar("T")

PROTOCOL: Final = 5

BufferCallback = Callable[[pickle.PickleBuffer], Any]

_reducers: dict[type, Callable[[Any], Any]] = {}
_writers: dict[type, tuple[str, Callable[[Any], bytes]]] = {}
_changes = 0
#: Plugins that have been asked already.
_loaded: set[str] = set()
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

    global _changes  # noqa: PLW0603  # as the tables are the process's own
    _changes += 1
    _loaders[label] = loads
    _writers[type_] = (label, dumps)
    _reducers[type_] = reduce


def load_plugins(names: Iterable[str]) -> None:
    """Let other packages register their serializers: ``plugins.serializers()``.

    One that cannot be loaded is told of, and values of its types fail by name.
    """
    from importlib import import_module

    for name in names:
        if name in _loaded:
            continue
        _loaded.add(name)
        module, _, attribute = name.partition(":")
        try:
            getattr(import_module(module), attribute)()
        except Exception as error:
            print(  # noqa: T201  # a runner's standard error is where its agent looks
                f"covey: the serializers of {name} cannot be loaded: {error!r}",
                file=sys.stderr,
            )


def unregister(type_: type) -> None:
    """Forget the writer of *type_*.  What was written before stays readable."""
    global _changes  # noqa: PLW0603  # as the tables are the process's own
    _changes += 1
    _reducers.pop(type_, None)
    _writers.pop(type_, None)


def written(value: Any) -> tuple[str, bytes] | None:
    """Return name and bytes of *value*, if its type has a serializer of its own."""
    writer = _writers.get(type(value))
    return None if writer is None else (writer[0], writer[1](value))


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


#: Whose futures are refused: they are nothing without the client that made them.
_OTHER_FUTURES: Final = "distributed.client"

#: Libraries whose arrays, tables and files are written in a form of ours; and that one.
_LIBRARIES: Final = frozenset(
    {"numpy", "numpy.ma", "pyarrow", "pandas", "h5py", _OTHER_FUTURES}
)

#: The table that was made last, and what it was made for.
_made: tuple[Any, dict[Any, Any]] = (None, {})


def dispatch_table() -> dict[Any, Any]:
    """Return reducers by type: what is registered, and our own.

    Our own are for functions that modules offer, for arrays and tables, and for open
    files of h5py.
    """
    global _made  # noqa: PLW0603  # one table serves the whole process
    # One flat dict, made again when something has changed: the C pickler looks into it
    # for every object that is not built in.
    modules = sys.modules
    present = () if _LIBRARIES.isdisjoint(modules) else _LIBRARIES & modules.keys()
    version = (len(copyreg.dispatch_table), len(_reducers), _changes, present)
    if _made[0] != version:
        _made = (version, {**copyreg.dispatch_table, **_ours(present), **_reducers})
    return _made[1]


def _ours(present: Collection[str]) -> dict[Any, Any]:
    ours = {**methods.REDUCERS, **arrays.REDUCERS}
    if not present:
        return ours
    from covey.serde import tables

    if _OTHER_FUTURES in present:
        other = getattr(sys.modules[_OTHER_FUTURES], "Future", None)
        # In a script that takes us for it, the name is ours.
        if isinstance(other, type) and not issubclass(other, Reference):
            ours[other] = _refuse
    if "h5py" in present:
        from covey.serde import hdf5

        ours.update(hdf5.reducers(sys.modules["h5py"]))
    return {**tables.reducers(present), **ours}


def _refuse(future: Any) -> Any:
    del future
    raise TypeError("it is a future of another scheduler")


def refuses(value: Any) -> bool:
    """Say whether *value* itself is what must not be pickled, whatever is inside of it."""
    return dispatch_table().get(type(value)) is _refuse


def used_table(stream: bytes) -> bool:
    """Say whether a pickle holds something that our table of reducers wrote."""
    return stream.find(b"covey.serde") >= 0


def may_hold_tables(stream: bytes) -> bool:
    """Say whether a pickle may hold what our table of reducers has an entry for.

    Those are arrays and tables, in a form of their version, and what is refused.
    """
    # What the libraries call inside of it.  One line each: this is asked often.
    return (
        stream.find(b"_frombuffer") >= 0
        or stream.find(b"_reconstruct") >= 0
        or stream.find(b"pyarrow") >= 0
        or stream.find(b"pandas") >= 0
        or stream.find(b"distributed.client") >= 0
    )


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
    theirs: Any = {}
    try:
        import cloudpickle
    except ModuleNotFoundError:
        pass
    else:
        below = cloudpickle.Pickler
        theirs = below.dispatch_table
    # The table has to be the class's: as an attribute of the instance it
    # would not reach the C code of the base class.
    table = {**theirs, **dispatch_table()}
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
