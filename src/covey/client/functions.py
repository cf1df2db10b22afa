"""Functions on their way out: pickled once, named by their bytes.

Pickling a function by value takes longer than running many a task.  A function
is pickled again only if what it refers to may have changed: its *fingerprint*
holds its code, defaults, closure and the globals that its code names.  What
could change inside without a new identity (a list, an array, an instance) has
no fingerprint, and such a function is pickled at every call.
"""

from __future__ import annotations

import hashlib
import types
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from covey.serde.functions import dumps_function, label

#: Values of these types never change.
_CONSTANT: Final = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    types.ModuleType,
    types.BuiltinFunctionType,
    type,
    range,
)

_CACHE_MAX: Final = 1024
_DEPTH_MAX: Final = 4


class Pickled(NamedTuple):
    """A function as bytes."""

    label: str
    digest: bytes
    payload: bytes


class FunctionCache:
    """Remembers the bytes of functions that cannot have changed."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, tuple[Any, ...], Pickled]] = {}

    def pickled(self, function: Callable[..., Any]) -> Pickled:
        """Return the bytes of *function*.

        Raises:
            NotPicklable: it cannot travel; the message names the culprit.
        """
        fingerprint = _fingerprint(function, _DEPTH_MAX)
        if fingerprint is not None:
            known = self._known.get(id(function))
            if known is not None and known[0] is function:
                if _same(known[1], fingerprint):
                    return known[2]
        payload = dumps_function(function)
        digest = hashlib.blake2b(payload, digest_size=16).digest()
        pickled = Pickled(label(function), digest, payload)
        if fingerprint is not None:
            if len(self._known) >= _CACHE_MAX:
                self._known.clear()
            self._known[id(function)] = (function, fingerprint, pickled)
        return pickled


def _same(one: tuple[Any, ...], two: tuple[Any, ...]) -> bool:
    if len(one) != len(two):
        return False
    for a, b in zip(one, two, strict=True):
        if a is b:
            continue
        if type(a) is tuple and type(b) is tuple and _same(a, b):
            continue
        return False
    return True


def _fingerprint(function: Any, depth: int) -> tuple[Any, ...] | None:
    """Return objects whose identities tell whether *function* is the same."""
    if not isinstance(function, types.FunctionType):
        return (function,) if isinstance(function, _CONSTANT) else None
    module = function.__module__
    if module != "__main__" and function.__closure__ is None:
        # By reference, most likely: its bytes are its name.
        return (function.__code__, module, function.__qualname__)
    if not depth:
        return None
    parts: list[Any] = [function.__code__]
    values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    if function.__dict__:
        return None
    for cell in function.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:
            return None
    known = function.__globals__
    values += [known[name] for name in _names(function.__code__) if name in known]
    for value in values:
        part = _constant(value, depth)
        if part is None:
            return None
        parts.append(part)
    return tuple(parts)


def _constant(value: Any, depth: int) -> tuple[Any, ...] | None:
    if isinstance(value, _CONSTANT):
        if isinstance(value, type) and value.__module__ == "__main__":
            return None
        return (value,)
    if isinstance(value, types.FunctionType):
        return _fingerprint(value, depth - 1)
    if type(value) is tuple:
        parts = [_constant(item, depth) for item in value[:32]]
        if len(value) > 32 or any(part is None for part in parts):
            return None
        return (value,)
    return None


def _names(code: types.CodeType) -> list[str]:
    """Return the names of globals that *code* or code inside it may use."""
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names += _names(constant)
    return names
