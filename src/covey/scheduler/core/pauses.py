"""Tasks that are ready, and wait a while before they are tried again.

A task whose inputs could not be reached, or that is to be retried with a back-off,
lies in a queue of its own, ordered by time, until its time has come.  Then it goes
into the queue where it would have gone at once.
"""

from __future__ import annotations

from typing import Final

from covey.scheduler.core import queues, tries
from covey.scheduler.core.state import SchedulerState, Span, State

#: Times are kept as whole microseconds, so that they order like ranks.
_TICKS: Final = 1_000_000

#: So many tries there may be in the pause after one in vain, if what did not come is made anew.
_TRIES: Final = 8


def put_off(state: SchedulerState, span: Span, seconds: float) -> None:
    """Let *span*, if it is ready, wait before it is dealt to a worker."""
    if span.state is not State.READY or seconds <= 0:
        return
    queues.put(span, state.pauses, (due_in(state, seconds), 0, 0))


def due_in(state: SchedulerState, seconds: float) -> int:
    """Return what time it will be in so many seconds, as times are kept here."""
    return round((state.now + seconds) * _TICKS)


def between_tries(state: SchedulerState, span: Span) -> None:
    """Let *span* wait a little, if what it takes was out of reach a while ago.

    What did not come has been made anew for it.  The next of its inputs may not come
    either, or the same one again.
    """
    if due_in(state, 0.0) < span.uncounted_until:
        put_off(state, span, tries.pause_seconds(span) / _TRIES)


def paused(state: SchedulerState, span: Span) -> bool:
    """Whether *span* waits for its time."""
    return span.queue is state.pauses


def left_seconds(state: SchedulerState, span: Span) -> float:
    """Return how long *span*, which is paused, waits yet; to answer a question."""
    dues = [due[0] for due, other in state.pauses if other is span]
    return max(0.0, max(dues, default=0) / _TICKS - state.now)


def wake_at(state: SchedulerState) -> float:
    """Return when the next one is due; 0 if there is none."""
    pauses = state.pauses
    # Some were released, or wait for an input again.
    if queues.top(pauses) is None:
        return 0.0
    due: int = pauses[0][0][0]
    return max(due / _TICKS, state.now)


def end(state: SchedulerState) -> None:
    """Let those whose time has come into the queues of the others."""
    pauses = state.pauses
    now = due_in(state, 0.0)
    while (span := queues.top(pauses)) is not None and pauses[0][0][0] <= now:
        queues.enqueue(state, span)
