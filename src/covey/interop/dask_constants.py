"""Constants in nodes of dask that many tasks run, so that each has them for itself.

What dask has fused for all chunks of an array alike is one function, loaded once in a
runner.  A dict or a list in there is an argument to those who wrote the graph, and what
one chunk's call does to it the next must not see.  So a node with such constants is made
anew for each call, but for its functions::

    Task(blk, TaskRef("x"), opts={})   ──►  stream with a hole for blk  ──►  a node a call

The runners import this room, so it knows neither client nor wire.
"""

from __future__ import annotations

import functools
import io
import pickle
import types
from typing import Any, Final

#: What never changes, or is shared by all who call it.
_FIXED: Final = frozenset(
    {
        *(type(None), bool, int, float, complex, str, bytes, range, slice),
        *(type(Ellipsis), type, types.FunctionType, types.BuiltinFunctionType),
    }
)
_SHARED: Final = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.ModuleType,
    functools.partial,
    type,
)


def may_change(value: Any) -> bool:
    """Say whether a call that was given a constant could change it."""
    from dask import _task_spec as spec

    kind = type(value)
    if kind in _FIXED or isinstance(value, _SHARED):
        return False
    if kind is tuple or kind is frozenset:
        return any(map(may_change, value))
    if kind is spec.TaskRef or kind is spec.Alias:
        return False
    if isinstance(value, spec.DataNode):
        return may_change(value.value)
    if isinstance(value, spec.Task):
        return any(map(may_change, (*value.args, *value.kwargs.values())))
    # Numbers of NumPy, and types of its arrays.
    return not any(
        base.__module__ == "numpy" and base.__name__ in {"generic", "dtype"}
        for base in kind.__mro__
    )


class Anew:
    """A node of which each call gets one of its own.

    Raises:
        Exception: whatever pickling it raises.
    """

    __slots__ = ("_shared", "_stream")

    def __init__(self, node: Any) -> None:
        file = io.BytesIO()
        pickler = _Pickler(file, pickle.HIGHEST_PROTOCOL)
        pickler.dump(node)
        self._stream = file.getvalue()
        self._shared = pickler.shared

    def node(self) -> Any:
        """Return one more of it."""
        unpickler = _Unpickler(io.BytesIO(self._stream))
        unpickler.shared = self._shared
        return unpickler.load()


class _Pickler(pickle.Pickler):
    """Leaves out what is shared, and keeps it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.shared: list[Any] = []

    def persistent_id(self, value: Any) -> int | None:
        if not isinstance(value, _SHARED):
            return None
        self.shared.append(value)
        return len(self.shared) - 1


class _Unpickler(pickle.Unpickler):
    shared: list[Any]

    def persistent_load(self, pid: int) -> Any:
        return self.shared[pid]
