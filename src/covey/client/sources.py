"""Where code stands that went by value: for the tracebacks of what failed.

Code that goes by value does not say which file it is from, so that the same function
is the same bytes wherever it was typed.  A traceback from a runner then shows neither
file nor line::

    File "<dynamic-code>", line 12, in scale

Whoever sent the function knows both.  So they are filled in where the failure is
read, and nothing is sent along, or looked for, while all goes well.
"""

from __future__ import annotations

import functools
import linecache
import re
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Final

#: The code of so many functions is remembered, those that were sent last.
_KEPT: Final = 1024

#: Code that was sent, and the globals in which helpers of it are found.
_sent: OrderedDict[types.CodeType, dict[str, Any]] = OrderedDict()

_FRAME: Final = re.compile(
    r'^(?P<indent>[ |]*)File "<dynamic-code>", line (?P<line>\d+), in (?P<name>\S+)$',
    re.MULTILINE,
)


def remember(function: Callable[..., Any]) -> None:
    """Note that *function* was sent by value."""
    while isinstance(function, functools.partial):
        function = function.func
    if not isinstance(function, types.FunctionType):
        return
    _sent[function.__code__] = function.__globals__
    _sent.move_to_end(function.__code__)
    if len(_sent) > _KEPT:
        _sent.popitem(last=False)


def filled_in(text: str) -> str:
    """Return a traceback with file and line of all code that was sent from here."""
    if "<dynamic-code>" not in text:
        return text
    places: dict[str, set[tuple[str, int]]] = {}
    for code in _all_code():
        lines = places.setdefault(code.co_name, set())
        lines.update((code.co_filename, n) for _, _, n in code.co_lines() if n)

    def with_place(frame: re.Match[str]) -> str:
        line = int(frame["line"])
        files = {file for file, n in places.get(frame["name"], ()) if n == line}
        if len(files) != 1:
            return frame[0]  # Not ours; or it could be one or the other.
        (file,) = files
        shown = f'{frame["indent"]}File "{file}", line {line}, in {frame["name"]}'
        source = linecache.getline(file, line).strip()
        return f"{shown}\n{frame['indent']}  {source}" if source else shown

    return _FRAME.sub(with_place, text)


def _all_code() -> Iterator[types.CodeType]:
    """Yield the code that was sent, that inside of it, and that of its helpers."""
    todo: list[tuple[types.CodeType, dict[str, Any]]] = list(_sent.items())
    seen: set[types.CodeType] = set()
    while todo:
        code, known = todo.pop()
        if code in seen:
            continue
        seen.add(code)
        yield code
        inside = [c for c in code.co_consts if isinstance(c, types.CodeType)]
        todo += [(constant, known) for constant in inside]
        for name in code.co_names:
            todo += _helpers(known.get(name))


def _helpers(value: Any) -> list[tuple[types.CodeType, dict[str, Any]]]:
    """Return the code of a function, or of the methods of a class."""
    if isinstance(value, type) and value.__module__ == "__main__":
        found = [m for m in vars(value).values() if isinstance(m, types.FunctionType)]
    else:
        found = [value] if isinstance(value, types.FunctionType) else []
    return [(function.__code__, function.__globals__) for function in found]
