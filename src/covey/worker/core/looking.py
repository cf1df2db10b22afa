"""Looks at what executes: the marks of a process name its tasks, whatever these do.

A flight has been told of up to a task, and its slot has come further::

    flight   0  1  2 │ 3  4  5 │ 6 ...
                told of     ▲
                            the mark, which names 5: 3 and 4 have ended in time, and
                            5 has begun at this moment at the latest
"""

from __future__ import annotations

from covey.ids import RunId, TaskId
from covey.worker.core import overdue, parcels
from covey.worker.core.orders import Flush, Looked
from covey.worker.core.state import Flight, ParcelFlight, Slot, WorkerState


def on_looked(state: WorkerState, event: Looked) -> None:
    """Stop or kill who is over its time for certain; the time of others begins."""
    for slot in state.runners[event.runner].slots:
        if not slot.unsure:
            continue
        named = _named(slot, event.executing)
        if named is None:
            # It is between two tasks for a moment, or has not come to the first one.
            overdue.check(state, slot, slot.flights[0])
        else:
            _note(state, slot, *named)
            overdue.check(state, slot, named[0])


def _named(
    slot: Slot, executing: tuple[tuple[RunId, TaskId], ...]
) -> tuple[Flight, TaskId] | None:
    """Return which task in a slot's hands marks name, and its flight."""
    for flight in slot.flights:
        for run, base, n in parcels.places(flight):
            for marked, task in executing:
                if marked == run and base <= task < base + n:
                    return flight, task
    return None


def _note(state: WorkerState, slot: Slot, flight: Flight, task: TaskId) -> None:
    """This task executes: what comes before it in its slot's hands has ended."""
    first = slot.flights[0]
    for ended in slot.flights:
        if ended is flight:
            break
        ended.begun, ended.kill_at = state.now, 0.0
    if isinstance(flight, ParcelFlight):
        return  # Nodes with a time limit are in none.
    is_new = overdue.reach(state, slot, flight, task - flight.base)
    if is_new and (flight is not first or task != flight.at):
        state.order(Flush(slot.number))
