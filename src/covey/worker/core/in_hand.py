"""What slots have in hand, and its inputs: values that must stay where they are."""

from __future__ import annotations

from covey.ids import RunId, TaskId
from covey.worker.core.extents import Extents
from covey.worker.core.parcels import places
from covey.worker.core.state import Slot, WorkerState


def inputs_in_hand(state: WorkerState) -> Extents:
    """Return the inputs of all tasks that were sent to slots and have not ended."""
    inputs = Extents()
    for slot in state.slots:
        for flight in [*slot.flights, *slot.parked.values()]:
            for base, n in flight.run.inputs(flight.base, flight.n):
                inputs.add(base, n)
            for _, real in flight.run.renamed:
                inputs.add(real, 1)
    return inputs


def has_in_hand(slot: Slot, run: RunId, task: TaskId) -> bool:
    """Say whether a slot was given this task, and has not told its end yet."""
    if (run, task) in slot.parked:
        return True
    return any(
        number == run and base <= task < base + n
        for flight in slot.flights
        for number, base, n in places(flight)
    )
