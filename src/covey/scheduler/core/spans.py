"""Finding spans by id, and cutting them.

Spans of one client are disjoint.  A span of one is found by its id in a dict;
a longer one by bisection among the bases of the longer ones.

Cutting a span whose tasks are tied one to one to the tasks of another span
(``aligned``) cuts that one at the same place, and so on along the ties, so
that an aligned input is always exactly one span.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from heapq import heappush

from covey.ids import TaskId, client_of
from covey.scheduler.core.state import SchedulerState, Span, State


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


def find(state: SchedulerState, task: TaskId) -> Span | None:
    """Return the span that *task* belongs to, or ``None`` if it is not known."""
    span = state.spans.get(task)
    if span is not None:
        return span
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


def covering(state: SchedulerState, base: TaskId, n: int) -> Iterator[Span]:
    """Yield the spans that hold any of the tasks, in order, unknown ones left out."""
    task, end = base, base + n
    while task < end:
        span = find(state, task)
        if span is None:
            task = _next_known(state, task, end)
            continue
        yield span
        # A shared task answers to an id that lies outside of its span.
        task = span.base + span.n if span.base <= task < span.base + span.n else task + 1


def _next_known(state: SchedulerState, task: TaskId, end: TaskId) -> TaskId:
    """Return the first id after *task* that may be known, at most *end*."""
    if end - task <= 4096:
        return task + 1
    starts = state.starts.get(client_of(task), [])
    index = bisect_right(starts, task)
    stop = min(end, starts[index]) if index < len(starts) else end
    singles = (t for t in range(task + 1, stop) if t in state.spans)
    return next(singles, stop)


def isolate(state: SchedulerState, base: TaskId, n: int) -> list[Span]:
    """Return the spans of exactly these tasks, cut off from their neighbours."""
    span = state.spans.get(base)
    if span is not None and span.n == n:
        return [span]
    end = base + n
    parts = []
    for span in list(covering(state, base, n)):
        if span.base < base < span.base + span.n:
            cut(state, span, base - span.base)
        if span.base < end < span.base + span.n:
            span = cut(state, span, end - span.base)
        parts.append(span)
    return parts


def isolate_all(
    state: SchedulerState, extents: Iterable[tuple[TaskId, int]]
) -> Iterator[Span]:
    """Isolate each of *extents* in turn."""
    for base, n in extents:
        yield from isolate(state, base, n)


def inputs_of(state: SchedulerState, span: Span) -> list[Span]:
    """Return the spans that *span* takes as inputs, each once."""
    if not span.whole and len(span.aligned) == 1:
        single = find(state, span.aligned[0])
        return [single] if single is not None else []
    found: dict[Span, None] = {}
    for task in span.aligned:
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
    to stand for what is left when slices are dealt from the front.
    """
    assert 0 < k < span.n
    tied = _tied(state, span)
    lefts = {part: _cut_one(state, part, k) for part in tied}
    for right, left in lefts.items():
        _share_dependents(right, left, lefts)
        _share_whole_inputs(state, right, left)
    return lefts[span]


def _tied(state: SchedulerState, span: Span) -> list[Span]:
    """Return the spans tied to *span*, directly or along others, itself first."""
    tied = [span]
    seen = {span}
    for part in tied:
        neighbours = [d for d, aligned in (part.dependents or {}).items() if aligned]
        neighbours += [state.spans[task] for task in part.aligned]
        for neighbour in neighbours:
            if neighbour not in seen:
                assert neighbour.n == span.n
                seen.add(neighbour)
                tied.append(neighbour)
    return tied


def _cut_one(state: SchedulerState, right: Span, k: int) -> Span:
    left = Span(
        right.base,
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
    left.aligned = right.aligned
    left.whole = right.whole
    left.missing = right.missing
    left.run = right.run
    left.worker = right.worker
    left.replicas = right.replicas
    left.attempts = right.attempts
    left.losses = right.losses
    left.failure = right.failure
    left.nbytes = right.nbytes * k // right.n
    if right.n > 1:
        _strike_start(state, right.base)
    right.base += k
    right.n -= k
    right.at += k
    right.nbytes -= left.nbytes
    right.aligned = tuple(task + k for task in right.aligned)
    remember(state, left)
    remember(state, right)
    if right.state is State.ASSIGNED and right.worker is not None:
        right.worker.assigned[left] = None
    for worker in right.replicas:
        worker.holds[left] = None
    for number in right.wanted:
        client = state.client_numbers.get(number)
        if client is not None:
            client.wants[left] = None
    if right.queue is not None:
        left.queue = right.queue
        state.last_entry += 1
        heappush(left.queue, (left.rank, state.last_entry, left))
    return left


def _share_dependents(right: Span, left: Span, lefts: dict[Span, Span]) -> None:
    """Give *left* the dependents of *right*: tied ones their left, others as well."""
    if not right.dependents:
        return
    left.dependents = {}
    left.pending = 0
    for dependent, aligned in right.dependents.items():
        mine = lefts[dependent] if aligned else dependent
        left.dependents[mine] = aligned
        if dependent.unfinished:
            left.pending += 1
            if not aligned and right.state is not State.DONE:
                dependent.missing += 1


def _share_whole_inputs(state: SchedulerState, right: Span, left: Span) -> None:
    """Enter *left* as a dependent of what *right* takes entirely."""
    for base, n in right.whole:
        for source in covering(state, base, n):
            assert source.dependents is not None
            if left not in source.dependents:
                source.dependents[left] = False
                source.pending += left.unfinished
