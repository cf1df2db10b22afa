"""What takes longer than it should: news that is kept back, and tasks that are to stop.

The time of a task with a limit begins when it is known to have begun.  The first one that
a slot is sent begins at once; each of those behind it has begun when the one before is told
of.  News may be kept back, though, and whoever holds the GIL for long keeps back all: so
nobody is stopped whose neighbours may execute in its place before a *look* at what the
process says executes, which anybody can read at any time (see ``looking``).
"""

from __future__ import annotations

import math
from typing import Final

from covey.worker.core.dispatch import SILENCE_SECONDS
from covey.worker.core.orders import Flush, Interrupt, Kill, Look
from covey.worker.core.state import Flight, Slot, WorkerState
from covey.worker.core.waiting import wake

#: A task that was asked to stop is given so long before its process is killed.
GRACE_SECONDS: Final = 0.5


def heard(state: WorkerState, slot: Slot) -> None:
    """A slot has told of ends: what ends next may be hidden by what follows, again.

    It is silent no more, and may have more, whatever it told of.
    """
    slot.flushed, slot.emptied = False, 0.0
    if slot.flights:
        slot.flights[0].since = state.now
        slot.hungry[slot] = None
        if slot.count > 1:
            wake(state, state.now + SILENCE_SECONDS)


def ask_for_news(state: WorkerState) -> None:
    """Have slots send outcomes that wait behind a task that takes long."""
    soonest = 0.0
    for slot in state.slots:
        if slot.count < 2 or slot.flushed or not slot.runner.ready:
            continue
        due = slot.flights[0].since + SILENCE_SECONDS
        if state.now >= due:
            slot.flushed = True
            state.order(Flush(slot.number))
        elif not soonest or due < soonest:
            soonest = due
    if soonest:
        # At one go for all that are due about then.
        wake(state, max(soonest, state.now + SILENCE_SECONDS / 2))


def reach(state: WorkerState, slot: Slot, flight: Flight, index: int) -> bool:
    """This one of a flight's tasks executes, or will next: say whether that is new."""
    if index <= flight.reached and flight.begun < math.inf:
        return False
    flight.reached, flight.begun = max(index, flight.reached), state.now
    # Who was to stop has ended; the next one may have to stop as well.
    flight.kill_at = 0.0
    if flight.run.killed and not flight.run.live(flight.executing, 1):
        stop_executing(state, slot, flight)
    return True


def stop_executing(state: WorkerState, slot: Slot, flight: Flight) -> None:
    """Ask the task of a flight to stop; kill its process if it does not."""
    if flight.kill_at:
        return
    flight.kill_at = state.now + GRACE_SECONDS
    flight.asked += (flight.executing,)
    state.order(Interrupt(slot.number, flight.run.run, flight.executing))
    wake(state, flight.kill_at)


def limit(state: WorkerState) -> None:
    """From now on tasks are here that have a time limit, or are to end at once."""
    if not state.limited:
        state.limited = True
        _begin_all(state)


def _begin_all(state: WorkerState) -> None:
    """Note of first flights that what was before them is over."""
    for slot in state.slots:
        if slot.flights and slot.flights[0].begun == math.inf:
            reach(state, slot, slot.flights[0], 0)


def check_deadlines(state: WorkerState) -> None:
    """Stop tasks that ran out of time; kill those that did not stop when asked."""
    if not state.limited:
        return
    _begin_all(state)
    for runner in state.runners:
        look = False
        for slot in runner.slots:
            for flight in slot.parked.values():
                check(state, slot, flight)
            if slot.unsure:
                look |= _is_silent(state, slot)
            else:
                for flight in slot.flights:
                    if flight.kill_at or flight.run.timeout_seconds:
                        check(state, slot, flight)
        if look:
            state.order(Look(runner.number))
    state.limited = any(
        run.timeout_seconds or run.killed for run in state.runs.values()
    )


def check(state: WorkerState, slot: Slot, flight: Flight) -> None:
    """Stop the task of a flight that executes, or kill it, if it is time."""
    due = flight.due
    if state.now < due:
        if due < math.inf:
            wake(state, due)
    elif not flight.kill_at:
        stop_executing(state, slot, flight)
    elif not slot.runner.dying:
        slot.runner.dying = True
        state.order(Kill(slot.runner.number))


def _is_silent(state: WorkerState, slot: Slot) -> bool:
    """Whether to look at what executes: there was no news for a while, or it is time."""
    first = slot.flights[0]
    due = min(first.since + SILENCE_SECONDS, first.due)
    if state.now < due:
        wake(state, due)
        return False
    wake(state, state.now + SILENCE_SECONDS)
    return True
