"""Keyword arguments that all calls of a map have, and that go once, with the function.

Each call has them for itself all the same: what it does to them, the next one does not
see.  What never changes needs no such care, and is bound by ``functools.partial``; so is
what takes long to make, such as a table or a model: a runner makes it once.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from covey.payload import Buffer
from covey.serde.packing import LIMIT_BYTES
from covey.serde.values import dumps, dumps_inline, loads

#: What pickle writes in more bytes than this, buffers aside, takes a millisecond and more
#: to make.
ANEW_BYTES: Final = 1 << 16

#: Values of these types never change, or are shared by all who call them.
_SHARED: Final = frozenset(
    {
        *(type(None), bool, int, float, complex, str, bytes, range, type),
        *(types.FunctionType, types.BuiltinFunctionType, types.ModuleType),
    }
)


def with_keywords(
    function: Callable[..., Any], kwargs: dict[str, Any], shared: Iterable[str] = ()
) -> Callable[..., Any]:
    """Return a function that is called with *kwargs*, by each call as if it were alone.

    Args:
        function: what is called.
        kwargs: its keyword arguments.
        shared: the names of those that all calls of a runner may have together.
    """
    mine = {
        name: value
        for name, value in kwargs.items()
        if name not in shared and type(value) not in _SHARED
    }
    if len(mine) < len(kwargs):
        rest = {name: value for name, value in kwargs.items() if name not in mine}
        function = functools.partial(function, **rest)
    return WithKeywords(function, _written(mine)) if mine else function


class WithKeywords:
    """Calls a function with keyword arguments that are made anew for each call.

    What one call does to them, the next does not see.  As with other arguments, arrays in
    large ones are views of one memory, which cannot be written.

    Args:
        function: what is called.
        frames: the arguments, as they were written where the map was called.
    """

    __slots__ = ("_frames", "func")

    def __init__(self, function: Callable[..., Any], frames: Sequence[Buffer]) -> None:
        self.func = function
        self._frames = frames

    def __reduce__(self) -> tuple[object, ...]:
        return (WithKeywords, (self.func, tuple(map(bytes, self._frames))))

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        return self.func(*args, **loads(self._frames))


def _written(kwargs: dict[str, Any]) -> list[Buffer]:
    frames = [memoryview(frame).toreadonly() for frame in dumps(kwargs)]
    if sum(frame.nbytes for frame in frames) <= LIMIT_BYTES:
        return [dumps_inline(kwargs)]
    return [*frames]
