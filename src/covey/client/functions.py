"""Functions on their way out: pickled once, named by their bytes.

Pickling a function by value takes longer than running many a task.  So its
bytes are kept together with a *watch*: the code, defaults, closure cells and
globals that went into them, with the values that these had.  While all of
those are the same objects, the bytes are.  A function that refers to something
that can change inside without becoming another object (a list, an array, an
instance) is not watched but pickled anew at every call.

A name that no global has is that of a builtin or an attribute: neither goes into the
bytes, so all there is to watch is that no global takes that name.
"""

from __future__ import annotations

import hashlib
import sys
import types
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from covey.client import sources
from covey.serde.functions import dumps_function, goes_by_name, label

#: Values of these types never change.
_CONSTANT: Final = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    types.BuiltinFunctionType,
    type,
    range,
)

#: Fewer bytes than this are the name of a function, or that of code without lines.
_NAME_BYTES: Final = 200

_MISSING: Final = object()
_CACHE_MAX: Final = 1024
_CACHE_BYTES_MAX: Final = 64 << 20
_DEPTH_MAX: Final = 4


class Pickled(NamedTuple):
    """A function as bytes."""

    label: str
    digest: bytes
    payload: bytes


def digest_of(payload: bytes) -> bytes:
    """Return the name of a function: the hash of its bytes."""
    return hashlib.blake2b(payload, digest_size=16).digest()


class _Unwatchable(Exception):
    """The function refers to something that may change inside."""


class _Watch:
    """What went into the bytes of one function."""

    __slots__ = ("cells", "functions", "globals", "modules")

    def __init__(self, function: types.FunctionType) -> None:
        #: Functions, with the attributes that can be replaced.
        self.functions: list[tuple[types.FunctionType, Any, Any, Any]] = []
        self.globals: list[tuple[dict[str, Any], str, Any]] = []
        self.cells: list[tuple[types.CellType, Any]] = []
        #: How many modules there are, if it uses a package: those of its submodules
        #: that are imported go along.
        self.modules = 0
        self._enter(function, _DEPTH_MAX)

    def unchanged(self) -> bool:
        """Whether all of it is as it was."""
        for function, code, defaults, keywords in self.functions:
            if (
                function.__code__ is not code
                or function.__defaults__ is not defaults
                or function.__kwdefaults__ is not keywords
                or function.__dict__
            ):
                return False
        for known, name, value in self.globals:
            if known.get(name, _MISSING) is not value:
                return False
        if self.modules and self.modules != len(sys.modules):
            return False
        for cell, value in self.cells:  # noqa: SIM110  # all() takes as long as the rest
            if cell.cell_contents is not value:
                return False
        return True

    def _enter(self, function: types.FunctionType, depth: int) -> None:
        if any(entry[0] is function for entry in self.functions):
            return
        if not depth or function.__dict__:
            raise _Unwatchable
        code, keywords = function.__code__, function.__kwdefaults__
        self.functions.append((function, code, function.__defaults__, keywords))
        if goes_by_name(function):
            # Its bytes are its name, for as long as its module is not imported anew.
            self._watch_import(sys.modules[function.__module__])
            return
        for value in function.__defaults__ or ():
            self._look_at(value, depth)
        for cell in function.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:
                raise _Unwatchable from None
            self.cells.append((cell, value))
            self._look_at(value, depth)
        if keywords:
            # A dictionary that can be changed: each of them is watched as globals are.
            by_name = code.co_varnames[code.co_argcount :][: code.co_kwonlyargcount]
            for name in by_name:
                value = keywords.get(name, _MISSING)
                self.globals.append((keywords, name, value))
                if value is not _MISSING:
                    self._look_at(value, depth)
        known = function.__globals__
        for name in _names(code):
            value = known.get(name, _MISSING)
            self.globals.append((known, name, value))
            if value is not _MISSING:
                self._look_at(value, depth)

    def _watch_import(self, module: types.ModuleType) -> None:
        # Whatever stands in ``sys.modules``; a module that is imported anew has a new spec.
        known = getattr(module, "__dict__", {})
        self.globals.append((known, "__spec__", known.get("__spec__", _MISSING)))

    def _look_at(self, value: Any, depth: int) -> None:
        if isinstance(value, types.FunctionType):
            self._enter(value, depth - 1)
        elif type(value) is tuple:
            for item in value:
                self._look_at(item, depth)
        elif isinstance(value, types.ModuleType):
            self._watch_import(value)
            if "__path__" in vars(value):
                self.modules = len(sys.modules)
        elif not isinstance(value, _CONSTANT) or (
            isinstance(value, type) and value.__module__ == "__main__"
        ):
            raise _Unwatchable


def _names(code: types.CodeType) -> list[str]:
    """Return the names of globals that *code* or code inside it may use."""
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names += _names(constant)
    return names


class FunctionCache:
    """Remembers the bytes of functions that cannot have changed.

    Args:
        before: is called before a function is pickled.
    """

    def __init__(self, before: Callable[[], None] | None = None) -> None:
        self._before = before
        self._known: dict[int, tuple[Any, _Watch | None, Pickled]] = {}
        self._bytes = 0

    def pickled(self, function: Callable[..., Any]) -> Pickled:
        """Return the bytes of *function*.

        Raises:
            NotPicklable: it cannot travel; the message names the culprit.
        """
        known = self._known.get(id(function))
        if known is not None:
            same, watch, pickled = known
            if same is function and (watch is None or watch.unchanged()):
                return pickled
        if self._before is not None:
            self._before()
        watchable, watch = _watch(function)
        payload = dumps_function(function)
        if len(payload) > _NAME_BYTES:
            sources.remember(function)
        pickled = Pickled(label(function), digest_of(payload), payload)
        if watchable:
            if len(self._known) >= _CACHE_MAX or self._bytes > _CACHE_BYTES_MAX:
                self._known.clear()
                self._bytes = 0
            self._bytes += len(payload)
            self._known[id(function)] = (function, watch, pickled)
        return pickled


def _watch(function: Any) -> tuple[bool, _Watch | None]:
    """Return whether *function* can be watched, and the watch it takes."""
    if isinstance(function, types.BuiltinFunctionType):
        return True, None
    if not isinstance(function, types.FunctionType):
        return False, None
    try:
        return True, _Watch(function)
    except _Unwatchable:
        return False, None
