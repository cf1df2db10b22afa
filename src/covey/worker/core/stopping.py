"""What nobody needs any more: values are dropped, and tasks stopped."""

from __future__ import annotations

from covey.ids import TaskId
from covey.wire import worker_link
from covey.wire.base import Extent
from covey.worker.core import dispatch, overdue, parcels
from covey.worker.core.orders import DropValues
from covey.worker.core.state import Piece, Run, Slot, WorkerState
from covey.worker.core.waiting import enqueue


def drop(state: WorkerState, extents: tuple[Extent, ...]) -> None:
    """Let go of values."""
    for known in (state.copies, state.made, state.unvouched):
        known.discard_all(extents)
    state.order(DropValues(extents))


def on_stop(state: WorkerState, message: worker_link.Stop) -> None:
    """Nothing that was made of these tasks here is held, and nothing is said of them.

    A copy that came from elsewhere stays: the scheduler counts on it, or is about to.
    """
    parcels.separate(state, message.run)
    made = tuple(state.copies.gaps(message.base, message.n))
    if made:
        drop(state, made)
    run = state.runs.get(message.run)
    if run is None:
        return
    lo, hi = message.base, message.base + message.n
    for piece in [*(entry[2] for entry in state.entries()), *state.suspects]:
        if piece.run is run:
            _take_out(state, piece, lo, hi)
    run.stopped.append((lo, hi))
    state.may_engage = True
    if run.missing and run.rides is None and not run.live(run.base, run.left):
        run.missing.clear()
        dispatch.finish_tasks(state, run, run.left)
        return
    if not message.kill:
        return
    overdue.limit(state)
    run.killed = True
    for slot in state.slots:
        for flight in [*slot.flights, *slot.parked.values()]:
            if flight.run is run and lo <= flight.executing < hi:
                overdue.stop_executing(state, slot, flight)
        if not slot.retracting and slot.runner.ready and _holds_unbegun(slot, run):
            # What it has not begun of these, it need not begin.
            dispatch.retract(state, slot)


def _holds_unbegun(slot: Slot, run: Run) -> bool:
    """Whether a slot has tasks in hand that were stopped before they began."""
    begun = True
    for flight in slot.flights:
        if flight.run is run and flight.left > begun:
            live = sum(n for _, n in run.live(flight.at + begun, flight.left - begun))
            if live < flight.left - begun:
                return True
        begun = False
    return False


def _take_out(state: WorkerState, piece: Piece, lo: TaskId, hi: TaskId) -> None:
    """Take the tasks *lo* to *hi* out of a queued piece."""
    start, end = piece.base, piece.base + piece.n
    cut_lo, cut_hi = max(lo, start), min(hi, end)
    if cut_lo >= cut_hi:
        return
    if not piece.alone:
        state.queued -= end - cut_lo
    piece.n = cut_lo - start
    if cut_hi < end:
        # The tail goes on as a piece of its own; a suspect has none.
        enqueue(state, Piece(piece.run, cut_hi, end - cut_hi))
    dispatch.finish_tasks(state, piece.run, cut_hi - cut_lo)
