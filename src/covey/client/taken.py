"""Keywords that two want: ``submit``, and the function that it shall call.

``submit(get, url, timeout=5)`` limits the task and tells ``get`` nothing.  That is said
once, for it is seldom what was meant, and how to give it to the function.
"""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Callable
from typing import Any, Final

from covey.client.warn import is_ours, warn
from covey.errors import UsageError

#: The keywords of ``submit`` and ``map``, and what each means there.
MEANINGS: Final = {
    "key": "the name of the task",
    "pure": "whether equal calls run once",
    "priority": "higher runs first",
    "retries": "how often the task is tried again",
    "timeout": "seconds the task may run",
    "resources": "amounts the task holds",
    "workers": "where the task may run",
    "allow_other_workers": "whether workers= is a wish only",
    "serializer": "how arguments and result travel",
}

#: What people write when they mean one of these.
_SLIPS: Final = {
    "worker": "workers",
    "retry": "retries",
    "resource": "resources",
    "allow_other_worker": "allow_other_workers",
}


class _Function:
    """What is known of a function: its parameters, and what was said of it."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.parameters = tuple(inspect.signature(fn).parameters.values())
        self.told: set[str] = set()


_seen: weakref.WeakKeyDictionary[Callable[..., Any], _Function]
_seen = weakref.WeakKeyDictionary()


def tell(fn: Callable[..., Any], args: tuple[Any, ...], *values: Any) -> None:
    """Warn, once, of a keyword of ``submit`` that *fn* has a parameter for.

    What covey itself gives, as ``Client.run`` does, nobody has typed.

    Args:
        fn: what is to be called; it may be anything, for nobody has looked yet.
        args: what is given to it by position.
        *values: those of ``MEANINGS``, in that order; what is false was not given.
    """
    if is_ours(sys._getframe(2)):
        return
    known = _look_up(fn)
    if known is None:
        return
    missing = {
        parameter.name
        for at, parameter in enumerate(known.parameters)
        if parameter.kind is parameter.KEYWORD_ONLY
        or (parameter.kind is parameter.POSITIONAL_OR_KEYWORD and at >= len(args))
    }
    for name, value in zip(MEANINGS, values, strict=True):
        if not value or name not in missing or name in known.told:
            continue
        known.told.add(name)
        called = _name(fn)
        pair = f"{name}={value!r:.40}"
        warn(
            f"{pair} is taken by submit and map ({MEANINGS[name]}); {called}() has a "
            f"parameter of that name, which is told nothing. To give it to that: "
            f"functools.partial({called}, {pair})"
        )


def check_slips(fn: Callable[..., Any], keywords: dict[str, Any]) -> None:
    """Refuse a keyword that *fn* does not take, and that is nearly one of ``submit``.

    Raises:
        UsageError: there is one; the message tells which was meant.
    """
    if _SLIPS.keys().isdisjoint(keywords):
        return
    known = _look_up(fn)
    if known is None or any(p.kind is p.VAR_KEYWORD for p in known.parameters):
        return
    names = {parameter.name for parameter in known.parameters}
    for slip in _SLIPS.keys() & keywords.keys() - names:
        raise UsageError(
            f"{_name(fn)}() takes no {slip}=; did you mean {_SLIPS[slip]}= "
            f"({MEANINGS[_SLIPS[slip]]})?"
        )


def _look_up(fn: Callable[..., Any]) -> _Function | None:
    """Return what is known of *fn*; nothing if it does not say what it takes."""
    try:
        known = _seen.get(fn)
        if known is None:
            known = _seen[fn] = _Function(fn)
    except (TypeError, ValueError):
        return None  # Some builtins, and what can neither be kept nor called.
    return known


def _name(fn: Callable[..., Any]) -> str:
    return str(getattr(fn, "__name__", type(fn).__name__))
