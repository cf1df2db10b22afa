"""Which clients hold which tasks, and by which ids.

A client that submits a name that is taken gets the task that is there: the id
it has chosen becomes another id, an alias, of that task.  So a client may know
one task by several ids, and is told about each of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from covey.ids import ClientId, TaskId
from covey.scheduler.core import report, transitions
from covey.scheduler.core.spans import isolate
from covey.scheduler.core.state import (
    DETACHED,
    KEPT,
    Client,
    SchedulerState,
    Span,
    State,
)


def want(state: SchedulerState, client: Client, span: Span, task: TaskId) -> None:
    """*client* has come to hold futures of *span*, and waits for their ends."""
    if client.number in span.wanted:
        # It has not found the value where it was said to be: perhaps elsewhere.
        span.replicas = span.replicas[1:] + span.replicas[:1]
    hold(state, client, span, task)
    span.delivered -= client.itself
    if span.state is State.RELEASED:
        # Should that fail at once, the client is told so by this.
        transitions.demand(state, span)
    else:
        report.current(state, span, client, task)


def hold(state: SchedulerState, client: Client, span: Span, task: TaskId) -> None:
    """*client* holds futures of *span*, which it knows by the id *task*."""
    number = client.number
    _know_as(state, span, number, task)
    if number not in span.wanted:
        span.wanted = span.wanted | client.itself if span.wanted else client.itself
        client.wants[span] = None


def keep(state: SchedulerState, span: Span, task: TaskId) -> None:
    """Somebody who comes back may hold *span* by the id *task*, or take it."""
    _know_as(state, span, KEPT, task)
    span.wanted |= {KEPT}
    span.delivered |= {KEPT}


def detach(state: SchedulerState, span: Span, task: TaskId) -> None:
    """*span*, which is unfinished, runs to its end whoever leaves: so said of *task*."""
    span.wanted |= {DETACHED}
    known = state.detached_as.get(span.base, ())
    if task != span.base and task not in known:
        state.detached_as[span.base] = (*known, task)


def _know_as(state: SchedulerState, span: Span, number: ClientId, task: TaskId) -> None:
    ids = state.ids_of.get(span.base)
    if task != span.base and ids is None:
        own = (span.base,)
        ids = state.ids_of[span.base] = {
            c: own for c in span.wanted if c not in {DETACHED, KEPT}
        }
    if ids is not None and task not in ids.get(number, ()):
        ids[number] = (*ids.get(number, ()), task)


def parts(state: SchedulerState, base: TaskId, n: int) -> Iterator[tuple[Span, TaskId]]:
    """Isolate some tasks; yield the spans, and by which of these ids they are known."""
    at = base
    for part in isolate(state, base, n):
        # A shared task answers to an id that lies outside of its span.
        here = part.base if base <= part.base < base + n else None
        if here is None:
            here = _alias_from(state, at, part)
        yield part, here
        at = here + part.n


def _alias_from(state: SchedulerState, at: TaskId, span: Span) -> TaskId:
    """Return the first id from *at* on that stands for *span*."""
    return min(
        task
        for task in itertools.chain(*state.ids_of[span.base].values())
        if task >= at and task != span.base
    )
