"""Slots that take nothing, though the scheduler takes them for free.

Two things engage a slot of which the scheduler knows nothing: a task that it has
stopped, because nobody wants it any more, and that runs to its end all the same; and
a task that must be alone in its process, whose neighbours stay empty for as long.
Where that lasts, the scheduler is told, or it would give such slots work that other
workers could begin at once.
"""

from __future__ import annotations

import math
from typing import Final

from covey.wire.worker_link import Engaged
from covey.worker.core.orders import Tell
from covey.worker.core.state import Slot, WorkerState
from covey.worker.core.waiting import wake

#: What is over sooner is not worth telling.
LASTING_SECONDS: Final = 0.05


def look(state: WorkerState) -> None:
    """Tell the scheduler how many slots are engaged, if that has changed for a while."""
    engaged = sum(map(_is_engaged, state.slots))
    if engaged <= state.engaged:
        state.engaged_since = math.inf
        if engaged < state.engaged:
            _tell(state, engaged)
        if not engaged:
            state.may_engage = any(run.stopped for run in state.runs.values())
        return
    state.engaged_since = min(state.engaged_since, state.now)
    # Compared as the tick is ordered, or it could come a rounding error too early.
    due = state.engaged_since + LASTING_SECONDS
    if state.now >= due:
        state.engaged_since = math.inf
        _tell(state, engaged)
    else:
        wake(state, due)


def _tell(state: WorkerState, engaged: int) -> None:
    state.engaged = engaged
    state.order(Tell(Engaged(engaged)))


def _is_engaged(slot: Slot) -> bool:
    if slot.flights:
        first = slot.flights[0]
        return bool(first.run.stopped) and not first.run.live(first.at, 1)
    return slot.runner.exclusive
