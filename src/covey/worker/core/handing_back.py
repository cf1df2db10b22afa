"""What the scheduler wants back: unbegun tasks that other workers could begin at once.

What is queued goes at once, the last in line first.  If that is not enough, slots are
asked for what they have not begun; who executes Python hands it over between two bytes
of it, and who holds the GIL does not, perhaps for an hour.  If its process ends meanwhile,
what lay in its hands is queued again, and goes back from there.
"""

from __future__ import annotations

from covey.ids import TaskId
from covey.wire.worker_link import ReturnDone, Returned
from covey.worker.core import parcels
from covey.worker.core.dispatch import finish_tasks, requeue, retract, return_live
from covey.worker.core.orders import Tell
from covey.worker.core.state import Run, Slot, WorkerState


def hand_back(state: WorkerState, count: int) -> None:
    """The scheduler wants up to *count* unbegun tasks back: the last in line first."""
    state.return_asked = True
    count -= _hand_back_queued(state, count)
    waiting = {
        run.run: run for fetching in state.fetching.values() for run in fetching.runs
    }
    for run in sorted(waiting.values(), key=lambda r: (r.rank, r.run), reverse=True):
        if count <= 0:
            break
        if run.run in state.runs and run.missing:
            some = min(count, run.left)
            if some == run.left:
                run.missing.clear()
            # The rest still waits: whoever has just room for it would be given it once
            # more, and begin to fetch anew.
            count -= some
            return_live(state, run, run.base + run.left - some, some)
    if count > 0:
        for slot in state.slots:
            unbegun = _wanted_of(slot)
            if unbegun <= 0 or slot.emptied > state.now or not slot.runner.ready:
                continue
            if not slot.retracting:  # Else it was asked for a neighbour that is dry.
                retract(state, slot)
            state.to_return += min(count, unbegun)
            count -= unbegun
            if count <= 0:
                break
    maybe_be_done(state)


def _wanted_of(slot: Slot) -> int:
    """Return how many tasks *slot* has not begun, and the scheduler has not stopped."""
    unbegun = slot.unbegun
    begun = True
    for flight in slot.flights:
        run, n = flight.run, flight.left - begun
        if run.stopped and n > 0 and run.rides is not slot:
            unbegun -= n - sum(live for _, live in run.live(flight.at + begun, n))
        begun = False
    return unbegun


def take_back(state: WorkerState, run: Run, base: TaskId, n: int) -> None:
    """A slot handed tasks back: on to the scheduler, if it asked; else requeue."""
    onward = min(n, state.to_return)
    if onward and run.stopped:
        onward, wanted = 0, state.to_return
        for start, live in reversed(run.live(base, n)):
            some = min(live, wanted)
            wanted -= some
            # With what was stopped behind them, and is over.
            onward = base + n - (start + live - some)
            if not wanted:
                break
        state.to_return = wanted
    else:
        state.to_return -= onward
    if onward:
        return_live(state, run, base + n - onward, onward)
    if n > onward:
        requeue(state, run, base, n - onward)


def asked_in_vain(state: WorkerState) -> None:
    """A slot's process is gone, which was asked for what lies in the queue again."""
    state.to_return -= _hand_back_queued(state, state.to_return)
    maybe_be_done(state)


def maybe_be_done(state: WorkerState) -> None:
    """Tell the scheduler, once everything that could go back has gone."""
    if state.return_asked and not any(slot.retracting for slot in state.slots):
        state.return_asked = False
        state.to_return = 0
        state.order(Tell(ReturnDone()))


def _hand_back_queued(state: WorkerState, count: int) -> int:
    """Give up to *count* queued tasks back; return how many these are."""
    if not count:
        return 0
    parcels.separate_queued(state)
    left = count
    for _, _, piece in sorted(state.entries(), reverse=True):
        if not left:
            break
        run = piece.run
        if run.run not in state.runs or not piece.n:
            continue
        n = min(left, piece.n)
        piece.n -= n
        state.queued -= n
        left -= n
        state.order(Tell(Returned(run.run, piece.base + piece.n, n)))
        finish_tasks(state, run, n)
    return count - left
