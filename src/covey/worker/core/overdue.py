"""What takes longer than it should: news that is kept back, and tasks that are to stop."""

from __future__ import annotations

from typing import Final

from covey.worker.core.dispatch import SILENCE_SECONDS
from covey.worker.core.orders import Flush, Interrupt, Kill
from covey.worker.core.state import Flight, Slot, WorkerState
from covey.worker.core.waiting import wake

#: A task that was asked to stop is given so long before its process is killed.
GRACE_SECONDS: Final = 0.5


def ask_for_news(state: WorkerState) -> None:
    """Have slots send outcomes that wait behind a task that takes long."""
    for slot in state.slots:
        if slot.flushed or not slot.flights or not slot.runner.ready:
            continue
        if slot.count < 2:
            continue
        due = slot.flights[0].since + SILENCE_SECONDS
        if state.now >= due:
            slot.flushed = True
            state.order(Flush(slot.number))
        else:
            wake(state, due)


def stop_executing(state: WorkerState, slot: Slot, flight: Flight) -> None:
    """Ask the task of a flight to stop; kill its process if it does not."""
    if flight.kill_at:
        return
    flight.kill_at = state.now + GRACE_SECONDS
    state.order(Interrupt(slot.number, flight.run.run, flight.at))
    wake(state, flight.kill_at)


def check_deadlines(state: WorkerState) -> None:
    """Stop tasks that ran out of time; kill those that did not stop when asked."""
    for slot in state.slots:
        for flight in [*slot.flights, *slot.parked.values()]:
            if flight.kill_at:
                if state.now < flight.kill_at:
                    wake(state, flight.kill_at)
                elif not slot.runner.dying:
                    slot.runner.dying = True
                    state.order(Kill(slot.runner.number))
            elif flight.deadline:
                if state.now >= flight.deadline:
                    stop_executing(state, slot, flight)
                else:
                    wake(state, flight.deadline)
