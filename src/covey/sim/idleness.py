"""No task waits for long while a slot is free that could run it.

A scheduler may give a task to a worker that turns out to be busy for an hour; it may
not leave it there while another worker has nothing to do.  Looked at from outside:
with what slots really do, not with what the scheduler believes of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from covey.ids import RunId, TaskId
from covey.scheduler.core import pauses, placement
from covey.scheduler.core.queues import avoided, demand_of
from covey.scheduler.core.spans import find, inputs_of
from covey.scheduler.core.state import READY, SchedulerState, Span
from covey.scheduler.core.state import Worker as Record
from covey.sim.oracle import Wrong
from covey.sim.worker import Worker
from covey.worker.core.parcels import places
from covey.worker.core.state import Parcel

if TYPE_CHECKING:
    from covey.sim.scheduler import Scheduler

#: For so long a task may wait beside a free slot: estimates are found to be wrong,
#: and tasks are asked back, in less.
WAIT_SECONDS: Final = 5.0


class Idleness:
    """Who has waited since when for a slot that is free."""

    def __init__(self) -> None:
        #: By worker and task.
        self._since: dict[tuple[str, TaskId], float] = {}

    def look(self, scheduler: Scheduler, workers: Iterable[Worker], now: float) -> None:
        """Look at all slots and all that waits.

        Raises:
            Wrong: a task has waited for too long beside a slot that is free.
        """
        state = scheduler.core.state
        before, self._since = self._since, {}
        played = {worker.address: worker for worker in workers}
        records = [
            (record, played[record.addresses[0]])
            for record in state.workers.values()
            if record.addresses[0] in played
        ]
        free = [record for record, worker in records if _has_room(record, worker)]
        if not free or state.window is not None or state.returning:
            return
        for span, task in _waiting(state, records):
            for record in free:
                if not _could_run(state, record, span):
                    continue
                key = (record.name, task)
                since = self._since[key] = before.get(key, now)
                if now - since > WAIT_SECONDS:
                    raise Wrong(
                        f"task {task:x} has waited for {now - since:.1f} s while "
                        f"{record.name} has a free slot: {span}"
                    )


def _has_room(record: Record, worker: Worker) -> bool:
    """Whether a worker has a slot that does nothing, and may be given something."""
    if record.leaving or record.away_since is not None:
        return False
    if record.count >= record.slots:
        return False
    return any(
        slot.runner.ready
        and slot.idle
        and not (slot.retracting or slot.runner.dying)
        and not (slot.runner.reserved or slot.runner.exclusive)
        for slot in worker.core.state.slots
    )


def _could_run(state: SchedulerState, record: Record, span: Span) -> bool:
    demand = demand_of(state, span)
    if not demand.admits(record) or record.name in avoided(state, span):
        return False
    return placement.fits_now(record, demand)


def _waiting(
    state: SchedulerState, records: list[tuple[Record, Worker]]
) -> Iterator[tuple[Span, TaskId]]:
    """Yield what waits for nothing but a slot."""
    for span in state.spans.values():
        if span.state is not READY or span.function is None:
            continue
        if not (pauses.paused(state, span) or _out_of_reach(state, span)):
            yield span, span.base
    for record, worker in records:
        for run, base, end in _unbegun(worker):
            for task in range(base, end):
                held = find(state, task)
                # It may have been handed back, or not be heard of here yet.
                if held is None or held.worker is not record or held.run != run:
                    continue
                if not held.ahead:
                    yield held, task


def _out_of_reach(state: SchedulerState, span: Span) -> bool:
    """Whether all who hold an input are away: they are waited for, as it is written.

    One that has begun anew before its welcome came is taken for two, of which the earlier
    one stays away until it is given up.
    """
    return any(
        source.replicas and all(w.away_since is not None for w in source.replicas)
        for source in inputs_of(state, span)
    )


def _unbegun(worker: Worker) -> Iterator[tuple[RunId, TaskId, TaskId]]:
    """Yield what a worker has in hand, with all its inputs, and has not begun."""
    core = worker.core.state
    for _, _, piece in core.entries():
        if isinstance(piece.run, Parcel):
            for node in piece.run.nodes if piece.n else ():
                yield node.run, node.base, node.base + 1
        else:
            yield piece.run.run, piece.base, piece.base + piece.n
    for slot in core.slots:
        first = True
        for flight in slot.flights:
            if flight.run.rides is None:
                for run, base, n in places(flight):
                    yield run, base + first, base + n
                    first = False
            first = False
