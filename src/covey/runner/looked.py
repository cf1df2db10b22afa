"""Values of which many tasks only take an item, decoded once.

Each task has its inputs for itself: one that changes what it was given changes nothing for
the next.  A shuffle has tasks without number that take one of the frames of a
dict, which would be decoded anew for each of them.  Who only looks into a dict, list or tuple
changes nothing, so these share what they look into.

Whether it is such a one is asked before the call: what an object of somebody's own class
does with a key, nobody knows.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import FunctionType
from typing import Any, Final, Protocol

#: What may be kept so, as long as it was when it came.
LOOKED_BYTES: Final = 1 << 21

_ITEMS: Final = (dict.__getitem__, list.__getitem__, tuple.__getitem__)

#: By this method, a callable of covey's own that calls another one returns what tells, from
#: the arguments of a call, into what that looks; ``None`` if calls may do anything else.
LOOKS_INTO: Final = "__covey_looks_into__"


class NotPlain(Exception):  # It is no error: the call is made in another way.
    """A call would look into something that is no plain dict, list or tuple."""


class Shares(Protocol):
    """Who tells whether others have what a task was given.

    Attributes:
        shared: whether they have any of it.
    """

    shared: bool


def looking(
    function: Callable[..., Any], given: Shares | None = None
) -> Callable[..., Any] | None:
    """Return what calls a function if it takes an item of its argument, and nothing else.

    Args:
        function: which function.
        given: tells whether others have the arguments of a call; by default, they may.

    Returns:
        A function that raises ``NotPlain``, having called nothing, if others have its
        arguments and that argument runs somebody's code; ``None`` for all other functions.
    """
    if type(function) is FunctionType:
        return None  # It may do anything, and most functions are such.
    looks_into = _what_is_looked_into(function)
    if looks_into is None:
        return None

    def call(*args: Any, **keywords: Any) -> Any:
        if keywords or not (
            (given is not None and not given.shared) or is_plain(looks_into(*args))
        ):
            raise NotPlain
        return function(*args)

    return call


def only_looks(
    function: Callable[..., Any],
) -> Callable[[tuple[Any, ...]], bool] | None:
    """Return what tells whether a call with these arguments only looks into them.

    Returns:
        ``None`` if calls of this function may do anything else.
    """
    looks_into = _what_is_looked_into(function)
    if looks_into is None:
        return None
    return lambda args: is_plain(looks_into(*args))


def _what_is_looked_into(function: Callable[..., Any]) -> Callable[..., Any] | None:
    if function is operator.getitem:
        return _first
    # Of its class: what a user's object answers to any name counts for nothing.
    method = vars(type(function)).get(LOOKS_INTO)
    found: Callable[..., Any] | None = None if method is None else method(function)
    return found


def _first(*args: Any) -> Any:
    return args[0] if args else None


def is_plain(value: Any) -> bool:
    """Say whether taking an item of a value runs nobody's code, which might change it."""
    kind = type(value)
    taken = getattr(kind, "__getitem__", None)
    return taken in _ITEMS and not hasattr(kind, "__missing__")


class Looked:
    """What tasks looked into of late, the last at the end."""

    __slots__ = ("_nbytes", "_values")

    def __init__(self) -> None:
        self._values: dict[int, tuple[bytes, Any]] = {}
        self._nbytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def clear(self) -> None:
        """Keep nothing."""
        self._values = {}
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """The bytes of all payloads that are kept."""
        return self._nbytes

    def value(self, task: int, payload: bytes, decode: Callable[[bytes], Any]) -> Any:
        """Return the value of a task.

        Args:
            task: whose value it is.
            payload: the value as it came.
            decode: makes the value of it.
        """
        found = self._values.pop(task, None)
        if found is not None:
            # It may have been made again, and differ.
            if found[0] == payload:
                self._values[task] = found
                return found[1]
            self._nbytes -= len(found[0])
        value = decode(payload)
        if len(payload) <= LOOKED_BYTES and is_plain(value):
            self._nbytes += len(payload)
            self._values[task] = (payload, value)
            while self._nbytes > LOOKED_BYTES and self._values:
                before, _ = self._values.pop(next(iter(self._values)))
                self._nbytes -= len(before)
        return value
