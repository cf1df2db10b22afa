"""How the futures in many argument lists hang together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

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

#: Groups of more than this are no groups.
GROUP_MAX: Final = 64

Column: TypeAlias = tuple[TaskId, int]
"""What the first task takes, and how far on what each next one takes is."""


def split_needs(
    ids: list[TaskId],
) -> tuple[tuple[TaskId, ...], tuple[Extent, ...]]:
    """Return single inputs, and stretches of neighbouring ones, each once."""
    if len(ids) == 1:
        return (ids[0],), ()
    singles: list[TaskId] = []
    stretches: list[Extent] = []
    for base, n in extents_of(set(ids)):
        if n >= _WHOLE_MIN:
            stretches.append((base, n))
        else:
            singles += range(base, base + n)
    return tuple(singles), tuple(stretches)


class Shape(NamedTuple):
    """How tasks hang together with what they take, as ``Submit`` says it."""

    aligned: tuple[TaskId, ...]
    groups: tuple[Extent, ...]
    whole: tuple[Extent, ...]


def shape_of(ids: list[TaskId], marks: list[int], n: int) -> Shape | None:
    """Return how the futures in *n* argument lists hang together, if they do.

    Args:
        ids: the ids of all futures met, in order.
        marks: how many had been met after each argument list.
        n: how many argument lists there are.

    Returns:
        First ids of inputs that go up by one from task to task, groups of which each
        task takes the next, and extents that all tasks take; ``None`` if it is none of
        these for some input.
    """
    k = marks[0] if marks else 0
    if len(marks) != n or not k or marks != list(range(k, n * k + 1, k)):
        return None
    columns: list[Column] = []
    same: list[TaskId] = []
    for j in range(k):
        column = ids[j::k]
        first = column[0]
        stride = column[1] - first if n > 1 else 0
        if not stride and column.count(first) == n:
            same.append(first)
        elif stride > 0 and column == [*range(first, first + n * stride, stride)]:
            columns.append((first, stride))
        else:
            return None
    groups = groups_of(columns)
    if groups is None:
        return None
    aligned = tuple(first for first, stride in columns if stride == 1)
    singles, whole = split_needs(same)
    return Shape(aligned, groups, (*whole, *((task, 1) for task in singles)))


def stretches_of(needs: Sequence[tuple[TaskId, ...]]) -> list[tuple[int, int]]:
    """Return where neighbours take the same inputs: first of them, and end, in order."""
    cuts = [i for i in range(1, len(needs)) if needs[i] != needs[i - 1]]
    return [*pairwise((0, *cuts, len(needs)))]


def groups_of(columns: Sequence[Column]) -> tuple[Extent, ...] | None:
    """Return the groups that columns with strides over one make up together.

    Args:
        columns: for each, what the first task takes, and how far apart what its
            neighbours take is.

    Returns:
        For each group, what the first task takes: those of the next are its neighbours.
        ``None`` if something lies between groups that no task takes, for that must be
        neither kept nor fetched for them; or if a group is very large.
    """
    firsts: dict[int, list[TaskId]] = {}
    for first, stride in sorted({*columns}):
        if stride > 1:
            firsts.setdefault(stride, []).append(first)
    groups = []
    for g, starts in firsts.items():
        for at in range(0, len(starts), g):
            first = starts[at]
            if g > GROUP_MAX or starts[at : at + g] != [*range(first, first + g)]:
                return None
            groups.append((first, g))
    return tuple(groups)


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
