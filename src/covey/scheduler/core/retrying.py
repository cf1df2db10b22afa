"""Trying again: what an attempt that came to nothing counts for, and what follows.

A task has two counts.  Attempts that *failed* use up its ``retries``, if these are
for such failures.  Attempts that were *lost* with their worker use up nothing: the
task had no part in that, as far as is known.  After some of them it is suspected all
the same, since it may be what takes workers down: then each that is lost has failed.
Attempts whose inputs could not be fetched are neither of these: ``workers`` counts them.
::

    failed ─► worth another attempt? ─► ready again, after a pause if one was asked for
       │             │ no
       │             └─► failed for good, with the places of all attempts
       └─► the environment could not be had there ─► another worker, if one is left

The client that made the task is told of both counts each time.  So another life of the
scheduler goes on counting where this one stopped.
"""

from __future__ import annotations

from typing import Final

import msgspec

from covey import errors
from covey.ids import RunId, client_of
from covey.scheduler.core import (
    checks,
    history,
    pauses,
    queues,
    transitions,
    unfit,
)
from covey.scheduler.core.spans import isolate
from covey.scheduler.core.state import Client, SchedulerState, Span, Worker
from covey.wire.base import Again, Attempt, Failure
from covey.wire.client_link import Tried

#: When a task was lost with this many workers, to be lost once more is to fail.
LOSSES_MAX: Final = 4

#: So many attempts of a task are remembered, and so much of what each said.
_KEPT: Final = 8
_MESSAGE_KEPT: Final = 200

#: However often it doubles, a pause is never longer, if it was not so at first.
_PAUSE_SECONDS_MAX: Final = 3600.0
_DOUBLINGS_MAX: Final = 64


def failed(state: SchedulerState, span: Span, worker: Worker, failure: Failure) -> None:
    """A run of *span* failed on *worker*: again, if it may be; else for good."""
    message = failure.message[:_MESSAGE_KEPT]
    how = (failure.kind, failure.type_name, message)
    _note(state, span, Attempt(worker.name, *how, span.run))
    if failure.kind == "environment" and _moves(state, span, worker):
        history.retried(state, span, worker, failure)
        transitions.requeue(state, span)
        return
    _try_again(state, span, worker, failure)


def _try_again(
    state: SchedulerState, span: Span, worker: Worker, failure: Failure
) -> None:
    """Use up one of the retries, if there is one left that is for such failures."""
    if not (
        span.attempts < span.options.retries and worth(span.options.again, failure)
    ):
        transitions.fail(state, span, _with_attempts(state, span, failure))
        return
    span.attempts += 1
    history.retried(state, span, worker, failure)
    _tell(state, span)
    transitions.requeue(state, span)
    pauses.put_off(state, span, pause_seconds(span))


def _moves(state: SchedulerState, span: Span, worker: Worker) -> bool:
    """*worker* could not have the environment of *span*: say whether others might.

    It uses up no attempt, for the task was not even begun.
    """
    demand = queues.demand_of(state, span)
    if not demand.environment:
        return False
    if demand.environment not in worker.unfit:
        unfit.mark(state, worker, demand.environment)
        for other in queues.lying_ready(worker):
            queues.enqueue(state, other)
    return unfit.others(state, demand)


def lost(state: SchedulerState, span: Span, worker: Worker) -> None:
    """*span* was lost with *worker*, which had it in hand: again, elsewhere."""
    span.losses += 1
    _note(state, span, Attempt(worker.name, "gone", "WorkerDied"))
    if span.losses > LOSSES_MAX:
        _try_again(state, span, worker, _lost_too_often(worker, span.losses))
        return
    _tell(state, span)
    transitions.requeue(state, span)


def worth(again: Again | None, failure: Failure) -> bool:
    """Whether such a failure is one for which the task is to be tried again."""
    if failure.kind == "cancelled":
        return False
    if again is None or not again.on:
        return True
    return not set(again.on).isdisjoint(failure.classes or _own_classes(failure))


def _own_classes(failure: Failure) -> list[str]:
    """Return the full names of the classes of a failure that is ours."""
    found = getattr(errors, failure.type_name, None)
    if failure.kind == "raised" or not isinstance(found, type):
        return []
    return [f"{c.__module__}.{c.__qualname__}" for c in found.__mro__]


def pause_seconds(span: Span) -> float:
    """Return how long *span*, which has failed, is to wait for its next attempt."""
    again = span.options.again
    if again is None or not again.delay_seconds:
        return 0.0
    longest = max(again.delay_seconds, _PAUSE_SECONDS_MAX)
    times = min(span.attempts - 1, _DOUBLINGS_MAX)
    return min(longest, again.delay_seconds * again.factor**times)


def _note(state: SchedulerState, span: Span, attempt: Attempt) -> None:
    before = state.attempts.get(span, ())
    state.attempts[span] = (*before[1 - _KEPT :], attempt)


def _with_attempts(state: SchedulerState, span: Span, failure: Failure) -> Failure:
    attempts = state.attempts.get(span, ())
    return msgspec.structs.replace(
        failure, attempts=attempts if len(attempts) > 1 else (), classes=()
    )


def _lost_too_often(worker: Worker, losses: int) -> Failure:
    return Failure(
        "died",
        "WorkerDied",
        f"the task was lost with {losses} workers one after the other (the last: "
        f"{worker.name}). If the task itself takes whole machines down, look at its "
        f"memory use; if the workers left for other reasons, submit it again, with "
        f"retries= for more of them",
        details={"worker": worker.name},
    )


# Over the death of a scheduler.


def _tell(state: SchedulerState, span: Span) -> None:
    """Let the client that made *span* know how often it was tried."""
    client = state.client_numbers.get(client_of(span.base))
    if client is not None:
        attempts = state.attempts.get(span, ())
        message = Tried(span.base, span.n, span.attempts, span.losses, attempts)
        state.send(client.peer, message)


def has_counted(state: SchedulerState, span: Span, run: RunId) -> bool:
    """Whether *run* is an attempt at *span* that is known to have failed."""
    return any(attempt.run == run for attempt in state.attempts.get(span, ()))


def recall(state: SchedulerState, client: Client, message: Tried) -> None:
    """Go on counting where another life of the scheduler stopped."""
    checks.own(client, ((message.base, message.n),))
    for span in isolate(state, message.base, message.n):
        if not span.unfinished:
            continue  # It is there, or nobody needs it.
        span.attempts = max(span.attempts, message.failed)
        span.losses = max(span.losses, message.lost)
        if message.attempts:
            state.attempts[span] = message.attempts[-_KEPT:]
        if span.attempts:
            # Nobody knows how much of it has passed.
            pauses.put_off(state, span, pause_seconds(span))
