"""Making inputs and the tasks that take them fit: where both are to be cut.

A tied input is exactly one span (``ties``), so new tasks come in as many pieces as their
inputs; and inputs are cut where the new tasks begin and end::

    xs      [ 0 1 2 3 ][ 4 ][ 5 6 7 8 9 ]
    pairs   [  0   1  ][  2  ][  3   4  ]      2 takes 4 and 5, as a whole

Whatever cannot be tied becomes single tasks with single inputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from covey.ids import TaskId
from covey.scheduler.core import ties
from covey.scheduler.core.spans import aliases_in, find, isolate, real
from covey.scheduler.core.state import SchedulerState, Span
from covey.wire.base import Extent
from covey.wire.client_link import Submit

#: After so many rounds of cutting inputs to fit each other, single tasks are cut.
_ROUNDS_MAX = 8


def real_extents(
    state: SchedulerState, extents: Sequence[Extent]
) -> tuple[tuple[Extent, ...], tuple[tuple[TaskId, TaskId], ...]]:
    """Return *extents* with the real ids of shared tasks, and what was renamed."""
    if not state.aliases:
        return tuple(extents), ()
    result: list[Extent] = []
    renamed = []
    for base, n in extents:
        at = base
        for task in aliases_in(state, base, n):
            if at < task:
                result.append((at, task - at))
            result.append((state.aliases[task], 1))
            renamed.append((task, state.aliases[task]))
            at = task + 1
        if at < base + n:
            result.append((at, base + n - at))
    return tuple(result), tuple(renamed)


def pieces(
    state: SchedulerState, message: Submit, whole: Sequence[Extent]
) -> list[Extent]:
    """Return where the tasks must be cut so that each tied input is one span.

    Returns:
        For each piece, its first task and the one behind it, counted from the first.
    """
    n = message.n
    taken = [*((task, 1) for task in message.aligned), *message.groups]
    if not taken:
        return [(0, n)]
    if n > 1 and not (
        _overlap(taken, n, whole)
        or any(aliases_in(state, first, g * n) for first, g in taken)
    ):
        found = _fitted(state, taken, n)
        if found and (taken == [(taken[0][0], 1)] or _all_agree(state, taken, found)):
            return found
    for first, g in taken:
        for index in range(n):
            _isolate_group(state, first + g * index, g)
    return [(index, index + 1) for index in range(n)]


def _isolate_group(state: SchedulerState, first: TaskId, g: int) -> None:
    if g == 1:
        isolate(state, real(state, first), 1)
        return
    for base, n in real_extents(state, [(first, g)])[0]:
        isolate(state, base, n)


def _fitted(
    state: SchedulerState, taken: Sequence[Extent], n: int
) -> list[Extent] | None:
    """Cut inputs until they fit each other; return the pieces, if it comes to an end.

    An input that is cut cuts what is tied to it, which may be another input,
    elsewhere: so it takes a few rounds.
    """
    places: list[int] = []
    for _ in range(_ROUNDS_MAX):
        cuts = {0, n}
        for first, g in taken:
            for part in isolate(state, first, g * n):
                # Where a part ends within a group, who takes that is alone.
                for at in (part.base - first, part.base - first + part.n):
                    cuts |= {at // g, -(-at // g)}
        if len(cuts) == len(places):
            return list(itertools.pairwise(places))
        places = sorted(cuts)
        for first, g in taken:
            for start, end in itertools.pairwise(places):
                isolate(state, first + g * start, g * (end - start))
    return None


def _overlap(taken: Sequence[Extent], n: int, whole: Sequence[Extent]) -> bool:
    """Whether a tied input is, in part, another input as well."""
    places = sorted((first, first + g * n) for first, g in set(taken))
    return any(
        end > following for (_, end), (following, _) in itertools.pairwise(places)
    ) or any(
        base < end and start < base + m for start, end in places for base, m in whole
    )


def _all_agree(
    state: SchedulerState, taken: Sequence[Extent], found: Sequence[Extent]
) -> bool:
    """Whether all pieces can be tied to their inputs, and what these hang together with."""
    together: dict[Span, tuple[set[Span], set[int]]] = {}
    for start, end in found:
        n = end - start
        if n == 1:
            continue
        spans: set[Span] = set()
        for first, g in taken:
            source = find(state, first + g * start)
            if source is not None and source not in spans:
                spans.update(ties.tied(state, source))
        sizes = {n, *(span.n for span in spans)}
        # Pieces that were looked at before may hang together with the same inputs.
        for more, others in [together[span] for span in spans if span in together]:
            spans |= more
            sizes |= others
        if not ties.agree(sizes):
            return False
        together.update(dict.fromkeys(spans, (spans, sizes)))
    return True
