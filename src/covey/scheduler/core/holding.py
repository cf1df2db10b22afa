"""Which clients hold which tasks, and by which ids.

A client that submits a name that is taken gets the task that is there: the id
it has chosen becomes another id, an alias, of that task.  So a client may know
one task by several ids, and is told about each of them.
"""

from __future__ import annotations

from covey.ids import ClientId, TaskId
from covey.scheduler.core import report, transitions
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


def _know_as(state: SchedulerState, span: Span, number: ClientId, task: TaskId) -> None:
    ids = state.ids_of.get(span.base)
    if task != span.base and ids is None:
        own = (span.base,)
        ids = state.ids_of[span.base] = {
            c: own for c in span.wanted if c not in {DETACHED, KEPT}
        }
    if ids is not None and task not in ids.get(number, ()):
        ids[number] = (*ids.get(number, ()), task)
