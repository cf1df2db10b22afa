"""The inputs of what slots have in hand: values that must stay where they are."""

from __future__ import annotations

from covey.worker.core.extents import Extents
from covey.worker.core.state import WorkerState


def inputs_in_hand(state: WorkerState) -> Extents:
    """Return the inputs of all tasks that were sent to slots and have not ended."""
    inputs = Extents()
    for slot in state.slots:
        for flight in [*slot.flights, *slot.parked.values()]:
            run = flight.run
            offset = flight.base - run.base
            for first in run.aligned:
                inputs.add(first + offset, flight.n)
            for base, n in run.whole:
                inputs.add(base, n)
            for _, real in run.renamed:
                inputs.add(real, 1)
    return inputs
