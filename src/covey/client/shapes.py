"""How the futures in many argument lists hang together."""

from __future__ import annotations

from typing import Final

from covey.client.extents import extents_of
from covey.ids import TaskId
from covey.payload import Pack
from covey.wire.base import Extent, Options
from covey.wire.client_link import SubmitGraph

#: As many futures of neighbouring tasks in one argument list are named as a whole.
_WHOLE_MIN: Final = 4

#: Calls that take other futures each travel as the nodes of one graph, unless one of
#: them takes more than this: a graph names its inputs one by one.
NODE_INPUTS: Final = 16


def split_needs(
    ids: list[TaskId],
) -> tuple[tuple[TaskId, ...], tuple[Extent, ...]]:
    """Return single inputs, and stretches of neighbouring ones, each once."""
    singles: list[TaskId] = []
    stretches: list[Extent] = []
    for base, n in extents_of(set(ids)):
        if n >= _WHOLE_MIN:
            stretches.append((base, n))
        else:
            singles += range(base, base + n)
    return tuple(singles), tuple(stretches)


def shape_of(
    ids: list[TaskId], marks: list[int], n: int
) -> tuple[tuple[TaskId, ...], tuple[Extent, ...]] | None:
    """Return how the futures in *n* argument lists hang together, if they do.

    Args:
        ids: the ids of all futures met, in order.
        marks: how many had been met after each argument list.
        n: how many argument lists there are.

    Returns:
        First ids of inputs that go up by one from task to task, and extents
        that all tasks take; ``None`` if it is neither for some input.
    """
    k = marks[0] if marks else 0
    if len(marks) != n or not k or marks != list(range(k, n * k + 1, k)):
        return None
    aligned: list[TaskId] = []
    same: list[TaskId] = []
    for j in range(k):
        column = ids[j::k]
        first = column[0]
        if column[-1] == first and column.count(first) == n:
            same.append(first)
        elif column == list(range(first, first + n)):
            aligned.append(first)
        else:
            return None
    singles, whole = split_needs(same)
    return tuple(aligned), (*whole, *((task, 1) for task in singles))


def as_graph(
    base: TaskId,
    fn: int,
    pack: Pack,
    needs: list[tuple[TaskId, ...]],
    options: Options,
) -> SubmitGraph:
    """Return the message of calls that take other futures each, all of them wanted."""
    n = len(needs)
    return SubmitGraph(
        base,
        (fn,) * n,
        pack.sizes_bytes(),
        bytes(pack.data),
        tuple(needs),
        tuple(range(n)),
        ((base, n),),
        (options,),
    )
