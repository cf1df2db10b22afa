"""Who is to blame when a value cannot be pickled.

``cannot pickle '_thread.lock' object`` does not help when the lock is four
levels deep.  ``find_culprit`` walks down, at every level into the first child
that cannot be pickled either, and returns the path::

    kwargs["db"].conn: _thread.lock

It runs only after a failure, and it is bounded: it gives up after
``MAX_ATTEMPTS`` trials and names the deepest value it got to.
"""

from __future__ import annotations

import io
import types
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from covey.errors import NotPicklable, UsageError
from covey.serde.call import Call
from covey.serde.registry import by_value_pickler, refuses

MAX_DEPTH: Final = 16
MAX_ATTEMPTS: Final = 500
MAX_CHILDREN: Final = 200

#: What to do about the usual suspects, by a part of the type's name.
_REMEDIES: Final = {
    "distributed.client": "Its value is with its own client: fetch it there "
    "(future.result()) and pass that.",
    "lock": "Locks belong to one process: create it inside the task.",
    "socket": "Connections belong to one process: open it inside the task.",
    "connection": "Connections belong to one process: open it inside the task.",
    "sqlite3": "Connections belong to one process: open it inside the task.",
    "_io.": "Open files belong to one process: pass the path, open it in the task.",
    "generator": "A generator cannot travel: pass a list, or what makes it.",
    "coroutine": "A coroutine cannot travel: submit the async function itself.",
    "thread": "Threads belong to one process: start it inside the task.",
}
#: What to do about a lock that is inside of an object whose type begins so.
_LOCKS_OF: Final = {
    "xarray.": "It is a lock that xarray chose, for the scheduler that was dask's when the "
    "data set was opened or written: do that while the client is the default one "
    "(set_as_default=True), or in `with dask.config.set(scheduler=client)`.",
}
_REMEDY: Final = (
    "Create it inside the task, leave it out, or give its class __reduce__ or "
    "__getstate__."
)


class _Nowhere(io.RawIOBase):
    """A file that keeps nothing."""

    def write(self, data: Any, /) -> int:
        return len(data)


class _Search:
    """One search; counts its attempts and remembers where it has been."""

    def __init__(self) -> None:
        self.attempts = 0
        self.seen: set[int] = set()
        #: The types of what the culprit was found in.
        self.within: list[str] = []

    def fails(self, value: Any) -> bool:
        """Say whether *value* on its own cannot be pickled."""
        self.attempts += 1
        try:
            by_value_pickler(_Nowhere(), lambda _buffer: None).dump(value)
        except Exception:
            return True
        return False

    def descend(self, value: Any, path: str) -> tuple[str, Any]:
        """Return the path of the deepest culprit inside *value*, and itself."""
        for _ in range(MAX_DEPTH):
            self.seen.add(id(value))
            for step, child in islice(_children(value, path), MAX_CHILDREN):
                if self.attempts >= MAX_ATTEMPTS:
                    return path, value
                if id(child) not in self.seen and self.fails(child):
                    self.within.append(type_name(value))
                    path, value = step, child
                    break
            else:
                break
        return path, value


def _children(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield what *value* is made of, with the path of each part."""
    if refuses(value):
        return
    if isinstance(value, Call):
        yield from _children(value.args, "args")
        yield from _children(value.kwargs, "kwargs")
    elif isinstance(value, dict):
        for key, item in list(value.items()):
            yield f"{path}[{_brief(key)}]", item
            yield f"{path} key {_brief(key)}", key
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(list(value)):
            yield f"{path}[{index}]", item
    elif isinstance(value, (set, frozenset)):
        for item in list(value):
            yield f"{path}{{{_brief(item)}}}", item
    elif isinstance(value, types.FunctionType):
        yield from _captured(value, path)
    elif isinstance(value, types.MethodType):
        yield f"{path}.__self__", value.__self__
    yield from _attributes(value, path)


def _captured(function: types.FunctionType, path: str) -> Iterator[tuple[str, Any]]:
    """Yield what a function takes along: closure, globals and defaults."""
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f"{path} closure variable {name!r}", cell.cell_contents
        except ValueError:
            continue
    for name in code.co_names:
        if name in function.__globals__:
            yield f"{path} global {name!r}", function.__globals__[name]
    for index, default in enumerate(function.__defaults__ or ()):
        yield f"{path} default {index}", default
    for name, default in (function.__kwdefaults__ or {}).items():
        yield f"{path} default {name!r}", default


def _attributes(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the attributes that an instance keeps."""
    if isinstance(value, (type, types.ModuleType)):
        return
    if isinstance(value, BaseException):
        for index, item in enumerate(value.args):
            yield f"{path}.args[{index}]", item
    fields = getattr(value, "__dict__", None)
    if isinstance(fields, dict):
        for name, item in list(fields.items()):
            yield f"{path}.{name}", item
    for class_ in type(value).__mro__:
        slots = class_.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            try:
                yield f"{path}.{name}", getattr(value, name)
            except Exception:  # noqa: S112  # an unset slot is no culprit
                continue
    for name in ("func", "args", "keywords"):  # functools.partial keeps these in C
        if type(value).__name__ == "partial" and hasattr(value, name):
            yield f"{path}.{name}", getattr(value, name)


def _brief(value: Any) -> str:
    """Return a short repr, whatever the object's own one does."""
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 40 else text[:37] + "..."


def type_name(value: Any) -> str:
    """Return the type of *value* as users know it: ``_thread.lock``, ``list``."""
    class_ = type(value)
    module = getattr(class_, "__module__", "builtins")
    name = getattr(class_, "__qualname__", class_.__name__)
    return name if module in ("builtins", "__main__") else f"{module}.{name}"


def _search(value: Any, name: str) -> tuple[str, Any, list[str]]:
    search = _Search()
    try:
        return (*search.descend(value, name), search.within)
    except Exception:
        # Walking over somebody's object runs somebody's code.
        return name, value, []


def _remedy(type_: str, within: list[str]) -> str:
    """Return what to do about a culprit.

    Args:
        type_: of the culprit.
        within: the types of what it was found in, from the outside in.
    """
    if "lock" in type_:
        for outer in within:
            for beginning, text in _LOCKS_OF.items():
                if outer.startswith(beginning):
                    return text
    return next((text for part, text in _REMEDIES.items() if part in type_), _REMEDY)


def find_culprit(value: Any, name: str) -> str:
    """Return the path and type of what keeps *value* from being pickled.

    Args:
        value: what could not be pickled.
        name: where the path starts, such as ``args`` or ``result``.
    """
    path, culprit, _ = _search(value, name)
    return f"{path}: {type_name(culprit)}"


def cannot_pickle(value: Any, name: str, error: BaseException) -> NotPicklable:
    """Make the error that tells a user what cannot travel, and what to do."""
    if isinstance(error, NotPicklable):
        return error
    if isinstance(error, RecursionError) or isinstance(
        # cloudpickle wraps it.
        error.__cause__ or error.__context__,
        RecursionError,
    ):
        return NotPicklable(
            f"cannot pickle {name} ({type_name(value)}): it is nested too deeply. "
            "Flatten it, or raise sys.setrecursionlimit()."
        )
    path, culprit, within = _search(value, name)
    type_ = type_name(culprit)
    remedy = _remedy(type_, within)
    try:
        message = str(error) or type(error).__name__
    except Exception:
        message = type(error).__name__
    if isinstance(error, UsageError):
        # It is one of ours, and says itself what to do.
        return NotPicklable(f"{path} ({type_}) cannot be sent: {message}")
    return NotPicklable(f"cannot pickle {path} ({type_}): {message}. {remedy}")
