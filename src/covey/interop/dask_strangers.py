"""What stands in a graph and is of another scheduler than covey.

A future of ``distributed`` is what dask calls a ``TaskRef``: the name of a task.  Where a
graph holds one, dask says that it takes the key of that future, and leaves out a node that
is nothing but the future.  What reaches us then lacks a key.  So before we say that, the
graph is looked through, as it was before dask has put it in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from covey.errors import UsageError
from covey.interop import exchanges
from covey.interop.dask_annotations import graphs_in

#: What stands between the two halves of an exchange of dask.distributed's own.
_BARRIER: Final = "P2PBarrierTask"

#: What to do about a future of another scheduler, for messages.
_ELSEWHERE: Final = (
    "its value is not here. Compute with the client it came from, or fetch the value "
    "there (future.result(), collection.compute()) and pass that"
)


def refuse(key: Any, value: Any) -> None:
    """Raise if a value of a graph is of another scheduler than covey.

    dask would take its future for another name of a task, which the graph then lacks;
    and an exchange that its workers carry out themselves would fail in the middle.

    Raises:
        UsageError: it is.
    """
    from dask._task_spec import DataNode

    if isinstance(value, DataNode):
        value = value.value
    if type(value).__name__ == _BARRIER:
        raise UsageError(
            f"{key!r} is part of an exchange (p2p) that only workers of dask.distributed "
            f"carry out. {exchanges.BY_TASKS}"
        )
    if _is_future(value):
        raise UsageError(
            f"{key!r} is a future of another scheduler ({_kind(value)}): {_ELSEWHERE}"
        )


def behind(dsk: Any, key: Any, users: list[Any]) -> UsageError | None:
    """Return what to say if a key that is missing is that of a future of another scheduler.

    Args:
        dsk: a dict or an expression, as it was given.
        key: what is missing.
        users: what takes it.
    """
    for value in _values_in(dsk):
        if _is_future(value) and value.key == key:
            who = f"{users[0]!r} takes {key!r}," if users else f"{key!r} is"
            return UsageError(
                f"{who} a future of another scheduler ({_kind(value)}): {_ELSEWHERE}"
            )
    return None


def _is_future(value: Any) -> bool:
    from dask._task_spec import TaskRef

    kind = type(value)
    return kind is not TaskRef and (
        isinstance(value, TaskRef) or getattr(kind, "__dask_future__", False) is True
    )


def _kind(future: Any) -> str:
    kind = type(future)
    return f"{kind.__module__}.{kind.__qualname__}"


def _values_in(dsk: Any) -> Iterable[Any]:
    """Yield everything that stands in a graph, however deep in lists and tasks."""
    from dask._expr import Expr
    from dask._task_spec import DataNode, Task

    work: list[Any] = [graph.layers for graph in graphs_in(dsk)]
    if isinstance(dsk, Expr):
        for part in dsk.walk():
            work += part.operands
    elif isinstance(dsk, Mapping):
        work.append(dsk)
    seen: set[int] = set()
    while work:
        value = work.pop()
        if isinstance(value, Task):
            inside: Iterable[Any] = (*value.args, *value.kwargs.values())
        elif isinstance(value, DataNode):
            inside = (value.value,)
        elif isinstance(value, Mapping):
            inside = value.values()
        elif isinstance(value, list | tuple | set | frozenset):
            inside = value
        else:
            yield value
            continue
        if id(value) not in seen:
            seen.add(id(value))
            work += inside
