"""Finding spans by id, and cutting them.

Spans of one client are disjoint.  A span of one is found by its id in a dict;
a longer one by bisection among the bases of the longer ones.

Cutting a span whose tasks are tied to the tasks of another span, each to one
(``beside``) or to a group (``groups``), cuts that one at the same place, and so
on along the ties, so that a tied input is always exactly one span: see ``ties``.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappush
from typing import Any

from covey.ids import TaskId, client_of
from covey.scheduler.core import dependents, ties
from covey.scheduler.core.state import (
    ASSIGNED,
    DONE,
    WAITING,
    SchedulerState,
    Span,
)


def remember(state: SchedulerState, span: Span) -> None:
    """Enter a new span into the tables."""
    state.spans[span.base] = span
    if span.n > 1:
        starts = state.starts.setdefault(client_of(span.base), [])
        if not starts or starts[-1] < span.base:
            starts.append(span.base)
        else:
            insort(starts, span.base)


def strike(state: SchedulerState, span: Span) -> None:
    """Take a span out of the tables."""
    del state.spans[span.base]
    if span.n > 1:
        _strike_start(state, span.base)


def _strike_start(state: SchedulerState, base: TaskId) -> None:
    starts = state.starts[client_of(base)]
    index = bisect_left(starts, base)
    if index < len(starts) and starts[index] == base:
        del starts[index]
    if not starts:
        del state.starts[client_of(base)]


def thin(state: SchedulerState) -> None:
    """Copy what is needed of packs out of them, as far as this step may."""
    leftovers = state.leftovers
    while leftovers.thinned:
        pack, (base, n) = next(iter(leftovers.thinned.items()))
        for span in covering(state, base, n) if pack.dropped < len(pack) else ():
            if span.pack is not pack:
                continue
            if leftovers.allowance <= 0:
                leftovers.thinned[pack] = (span.base, base + n - span.base)
                return
            leftovers.allowance -= 1
            span.pack, span.at = pack.copy(span.at, span.at + span.n), 0
        del leftovers.thinned[pack]


def find(state: SchedulerState, task: TaskId) -> Span | None:
    """Return the span that *task* belongs to, or ``None`` if it is not known."""
    span = state.spans.get(task)
    if span is not None:
        return span
    if state.aliases:
        alias = state.aliases.get(task)
        if alias is not None:
            return state.spans.get(alias)
    starts = state.starts.get(client_of(task))
    if not starts:
        return None
    index = bisect_right(starts, task) - 1
    if index < 0:
        return None
    span = state.spans.get(starts[index])
    if span is not None and task < span.base + span.n:
        return span
    return None


def real(state: SchedulerState, task: TaskId) -> TaskId:
    """Return the id of a task itself, where *task* may be another one for it."""
    return state.aliases.get(task, task)


def aliases_in(state: SchedulerState, base: TaskId, n: int) -> list[TaskId]:
    """Return, in order, the ids among these that stand for tasks elsewhere."""
    aliases = state.aliases
    if not aliases:
        return []
    if n <= len(aliases):
        return [task for task in range(base, base + n) if task in aliases]
    return sorted(task for task in aliases if base <= task < base + n)


def covering(state: SchedulerState, base: TaskId, n: int) -> Iterator[Span]:
    """Yield the spans that hold any of the tasks, in order, unknown ones left out."""
    task, end = base, base + n
    known: Iterator[TaskId] | None = None
    while task < end:
        span = find(state, task)
        if span is None:
            # Ids may be sparse and an extent huge: the work is bounded by what
            # is known, whatever a peer claims.
            known = known or iter(_known(state, task, end))
            task = next((k for k in known if k > task), end)
            continue
        yield span
        # A shared task answers to an id that lies outside of its span.
        task = (
            span.base + span.n if span.base <= task < span.base + span.n else task + 1
        )


def _known(state: SchedulerState, start: TaskId, end: TaskId) -> Iterable[TaskId]:
    """Return, in order, the ids from *start* on at which something known begins."""
    spans, aliases = state.spans, state.aliases
    if end - start <= len(spans) + len(aliases):
        return (task for task in range(start, end) if task in spans or task in aliases)
    found = [
        task for table in (spans, aliases) for task in table if start <= task < end
    ]
    return sorted(found)


def isolate(state: SchedulerState, base: TaskId, n: int) -> list[Span]:
    """Return the spans of exactly these tasks, cut off from their neighbours."""
    spans = state.spans
    span = spans.get(base)
    if span is not None and span.n == n:
        return [span]
    if span is not None and span.n == 1:
        # Most often a stretch of nodes of a graph: nothing is cut then.
        single = []
        for task in range(base, base + n):
            span = spans.get(task)
            if span is None or span.n > 1:
                break
            single.append(span)
        else:
            return single
    span = spans.get(base) or find(state, base)
    if span is not None and _is_free(span) and _holds(span, base, n):
        # Of the calls of a map mostly one ends in the midst of others.
        if span.base < base:
            _cut_one(state, span, base - span.base)
        return [_cut_one(state, span, n) if n < span.n else span]
    _cut_at(state, base)
    _cut_at(state, base + n)
    return list(covering(state, base, n))


def isolate_all(
    state: SchedulerState, extents: Sequence[tuple[TaskId, int]]
) -> Iterator[Span]:
    """Isolate all of *extents*, then yield the spans of each in turn."""
    for base, n in extents:
        isolate(state, base, n)
    for base, n in extents:
        yield from list(covering(state, base, n))


def isolate_own(state: SchedulerState, base: TaskId, n: int) -> list[Span]:
    """Isolate the tasks that have these ids themselves: what a worker means by them.

    In another life of the scheduler a shared task may have had one of its other
    ids.  What a worker has under that is of no use: nobody would find it there.
    """
    parts = isolate(state, base, n)
    return [span for span in parts if base <= span.base < base + n]


def isolate_all_own(
    state: SchedulerState, extents: Sequence[tuple[TaskId, int]]
) -> Iterator[Span]:
    """Isolate all of *extents* as ``isolate_own`` does, then yield the spans."""
    for base, n in extents:
        isolate(state, base, n)
    for base, n in extents:
        yield from isolate_own(state, base, n)


def _cut_at(state: SchedulerState, task: TaskId) -> None:
    """Make *task* the first of its span.

    A cut may cut other spans as well, those of the same extent included: who
    wants to see the parts must look again when all cuts are made.
    """
    span = find(state, task)
    if span is not None and span.base < task < span.base + span.n:
        cut(state, span, task - span.base)


def inputs_of(state: SchedulerState, span: Span) -> Sequence[Span]:
    """Return the spans that *span* takes as inputs, each once.

    A span of one with spans of one as inputs, such as a node of a graph, knows them:
    none of those is ever cut, or forgotten before it.  What takes nothing knows that.
    """
    if span.inputs is not None:
        return span.inputs
    if not span.whole and not span.groups and len(span.beside) == 1:
        single = find(state, span.beside[0])
        return [single] if single is not None else []
    found: dict[Span, None] = {}
    for task in span.beside:
        source = find(state, task)
        if source is not None:
            found[source] = None
    for task, _ in span.groups:
        source = find(state, task)
        if source is not None:
            found[source] = None
    for base, n in span.whole:
        for source in covering(state, base, n):
            found[source] = None
    return list(found)


def cut(state: SchedulerState, span: Span, k: int) -> Span:
    """Cut *span* after its first *k* tasks, and return the new left part.

    The object at hand becomes the right part, so that a queue entry goes on
    to stand for what is left when slices are dealt from the front.  Where the cut
    tears groups apart that others take, these are cut off first: there are more
    parts then, of which the first is returned, and the last is the object at hand.
    """
    assert 0 < k < span.n
    if _is_free(span):
        return _cut_one(state, span, k)
    base, task = span.base, span.base + k
    part = span
    while part.base < task:
        at = task - part.base
        tied = ties.tied(state, part)
        smallest = min(tied, key=lambda other: other.n).n
        each = part.n // smallest
        torn = at % each
        if torn:
            # Cut off what takes the group: from behind, then from what is before it.
            assert smallest > 1
            after = at - torn + each
            at = after if after < part.n else at - torn
        _cut_all(state, tied, part, at)
        found = find(state, task)
        assert found is not None
        part = found
    return state.spans[base]


def _holds(span: Span, base: TaskId, n: int) -> bool:
    """Whether all of these are tasks of *span*, by their own ids."""
    return span.base <= base and base + n <= span.base + span.n


def _is_free(span: Span) -> bool:
    """Whether no other span has to do with where this one is cut."""
    return span.inputs == () and not span.dependents


def _cut_all(state: SchedulerState, tied: list[Span], span: Span, k: int) -> None:
    """Cut *span* after its first *k* tasks, and all that is tied to it there."""
    n = span.n
    lefts = {part: _cut_one(state, part, k * part.n // n) for part in tied}
    for right, left in lefts.items():
        _share_dependents(right, left, lefts)
    for right, left in lefts.items():
        _share_whole_inputs(state, right, left)
    for parts in lefts.items():
        for part in parts:
            if part.n == 1 and part.groups:
                ties.loosen(state, part)


def _cut_one(state: SchedulerState, right: Span, k: int) -> Span:
    base = right.base
    left = Span(
        base,
        k,
        right.function,
        right.pack,
        right.at,
        right.options,
        right.rank,
        right.wanted,
    )
    left.delivered = right.delivered
    left.state = right.state
    left.since = right.since
    left.inputs = right.inputs
    left.missing = right.missing
    left.run = right.run
    left.worker = right.worker
    left.replicas = right.replicas
    if right.nbytes:
        left.nbytes = right.nbytes * k // right.n
    if right.digests:
        left.digests, right.digests = right.digests[: 4 * k], right.digests[4 * k :]
    if right.rare is not None:
        left.rare = {**right.rare}
    if right.inputs != ():
        left.beside, left.groups, left.whole = right.beside, right.groups, right.whole
        right.beside = tuple(task + k for task in right.beside)
        right.groups = tuple((first + k * g, g) for first, g in right.groups)
    if (
        state.attempts
        or state.shy
        or state.leftovers.any
        or state.versions.count
        or state.versions.outdated
    ):
        _share_what_few_have(state, right, left)
    right.base = base + k
    right.n -= k
    right.at += k
    right.nbytes -= left.nbytes
    state.spans[base] = left
    state.spans[base + k] = right
    _enter_starts(state, left, right)
    if right.state is ASSIGNED and right.worker is not None:
        right.worker.assigned[left] = None
    for worker in right.replicas:
        worker.holds[left] = None
        if right in worker.moving:
            worker.moving[left] = worker.moving[right]
    for number in right.wanted:
        client = state.client_numbers.get(number) or state.leftovers.gone.get(number)
        if client is not None:
            client.wants[left] = None
    if right.queue is not None:
        left.queue = right.queue
        heappush(left.queue, (left.rank, left))
    return left


def _share_what_few_have(state: SchedulerState, right: Span, left: Span) -> None:
    """Enter *left* in those tables of few spans in which *right* is."""
    tables: tuple[dict[Span, Any], ...] = (
        state.attempts,
        state.shy,
        state.versions.count,
        state.versions.outdated,
        state.leftovers.unkept,
        state.leftovers.doomed,
    )
    for table in tables:
        if right in table:
            table[left] = table[right]


def _enter_starts(state: SchedulerState, left: Span, right: Span) -> None:
    """What was one span, longer than one, is two: enter where longer ones start."""
    starts = state.starts[client_of(left.base)]
    index = bisect_left(starts, left.base)
    if left.n == 1 and right.n == 1:
        del starts[index]
    elif left.n == 1:
        starts[index] = right.base
    elif right.n > 1:
        starts.insert(index + 1, right.base)
    if not starts:
        del state.starts[client_of(left.base)]


def _share_dependents(right: Span, left: Span, lefts: dict[Span, Span]) -> None:
    """Give *left* the dependents of *right*: tied ones their left, others as well."""
    if not right.dependents:
        return
    left.dependents = None
    left.pending = 0
    for dependent, g in right.dependents.items():
        mine = lefts[dependent] if g else dependent
        dependents.add(left, mine, g)
        if dependent.unfinished:
            left.pending += 1
        waits = dependent.state is WAITING or dependent.ahead
        if not g and right.state is not DONE and waits:
            # What was one input is now two, for the left of the dependent, too.  Who
            # was dealt all its inputs waits for none of them, whatever becomes of them.
            dependent.missing += 1
            if dependent in lefts:
                lefts[dependent].missing += 1


def _share_whole_inputs(state: SchedulerState, right: Span, left: Span) -> None:
    """Enter *left* as a dependent of what *right* takes entirely."""
    for base, n in right.whole:
        for source in covering(state, base, n):
            assert source.dependents is not None
            if not dependents.has(source, left):
                dependents.add(source, left, 0)
                source.pending += left.unfinished
