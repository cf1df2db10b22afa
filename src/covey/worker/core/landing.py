"""What comes back from slots: which flight it is of, and what that means for the slot."""

from __future__ import annotations

from covey.errors import RemoteProtocolError
from covey.ids import RunId, TaskId
from covey.worker.core import dispatch, overdue
from covey.worker.core.state import Flight, Run, Slot, WorkerState


def flight_of(
    state: WorkerState, slot_number: int, run: RunId, task: TaskId
) -> tuple[Slot, Flight | None]:
    """Return a slot, and the flight of it that a task is part of, if any."""
    slot = state.slots[slot_number]
    flights = slot.flights
    if flights:
        # What ends is mostly the first, and what comes back the last.
        for flight in (flights[0], flights[-1]):
            if flight.run.run == run and flight.base <= task < flight.base + flight.n:
                return slot, flight
    for flight in flights:
        if flight.run.run == run and flight.base <= task < flight.base + flight.n:
            return slot, flight
    return slot, None


def demand(condition: bool) -> None:
    """Refuse news that does not fit what a slot has in hand: a runner made it up."""
    if not condition:
        raise RemoteProtocolError("news of tasks that it does not have in hand")


def land(
    state: WorkerState, slot_number: int, run_id: RunId, task: TaskId, n: int
) -> Run | None:
    """Note that *n* tasks have come back from a slot; return their run.

    Raises:
        RemoteProtocolError: they are not what the slot must speak of next.
    """
    slot = state.slots[slot_number]
    if (run_id, task) in slot.parked:
        demand(n == 1)
        parked = slot.parked.pop((run_id, task))
        if parked.done:
            slot.resumed -= 1
        return parked.run
    slot, flight = flight_of(state, slot_number, run_id, task)
    if flight is None:
        return None
    demand(task == flight.at and n <= flight.left)
    flight.done += n
    slot.less(flight, n)
    if flight.done >= flight.n:
        dispatch.end_flight(state, slot, flight)
    else:
        overdue.reach(state, slot, flight, flight.done)
    overdue.heard(state, slot)
    return flight.run
