"""Keyword arguments that all calls of a map have, and that go once, with the function.

Each call has them for itself all the same: what it does to them, the next one does not
see.  What never changes needs no such care, and is bound by ``functools.partial``.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Sequence
from typing import Any, Final

from covey.payload import Buffer
from covey.serde.packing import LIMIT_BYTES
from covey.serde.values import dumps, dumps_inline, loads

#: Values of these types never change, or are shared by all who call them.
_SHARED: Final = frozenset(
    {
        *(type(None), bool, int, float, complex, str, bytes, range, type),
        *(types.FunctionType, types.BuiltinFunctionType, types.ModuleType),
    }
)


def with_keywords(
    function: Callable[..., Any], kwargs: dict[str, Any]
) -> Callable[..., Any]:
    """Return a function that is called with *kwargs*, by each call as if it were alone.

    Args:
        function: what is called.
        kwargs: its keyword arguments.
    """
    if _SHARED.issuperset(map(type, kwargs.values())):
        return functools.partial(function, **kwargs)
    return WithKeywords(function, kwargs)


class WithKeywords:
    """Calls a function with keyword arguments that are made anew for each call.

    What one call does to them, the next does not see.  As with other arguments, arrays in
    large ones are views of one memory, which cannot be written.
    """

    __slots__ = ("_frames", "_kwargs", "func")

    def __init__(self, function: Callable[..., Any], kwargs: dict[str, Any]) -> None:
        self.func = function
        self._kwargs = kwargs
        self._frames: Sequence[Buffer] = ()

    def __reduce__(self) -> tuple[object, ...]:
        return (WithKeywords, (self.func, self._kwargs))

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        if not self._frames:
            self._frames = self._written()
        return self.func(*args, **loads(self._frames))

    def _written(self) -> list[Buffer]:
        frames = [memoryview(frame).toreadonly() for frame in dumps(self._kwargs)]
        if sum(frame.nbytes for frame in frames) <= LIMIT_BYTES:
            return [dumps_inline(self._kwargs)]
        return [*frames]
