"""Values that other workers have, and runs here need.

A value is asked of one holder at a time.  When that does not deliver, the next one
that the scheduler has named is asked at once; only when all have failed does the run
go back::

    Run(sources, spares) ──► FetchFrom(7) ──failed──► FetchFrom(9) ──► Fetched
                                                           └─failed──► Returned(lacking)
"""

from __future__ import annotations

from covey.wire.base import Extent
from covey.wire.worker_link import Holds, Lacks, Undelivered, Unfetched
from covey.worker.core import dispatch, overtaken
from covey.worker.core.orders import (
    DropValues,
    Fetched,
    FetchFailed,
    FetchFrom,
    Garbled,
    Tell,
)
from covey.worker.core.state import Fetching, Run, WorkerState


def want(state: WorkerState, extent: Extent, worker: int, run: Run | None) -> None:
    """Fetch values for a run, or because the scheduler wants them here."""
    if state.copies.covers(*extent):
        return
    fetching = state.fetching.get(extent)
    if fetching is None:
        fetching = state.fetching[extent] = Fetching(worker)
        state.order(FetchFrom(worker, extent, run.rank if run is not None else ()))
    elif worker != fetching.worker:
        know_spare(state, extent, worker)
    if run is None:
        fetching.asked.append(worker)
    else:
        run.missing.add(extent)
        fetching.runs.append(run)


def know_spare(state: WorkerState, extent: Extent, worker: int) -> None:
    """Another worker has what is being fetched, should the present one fail."""
    fetching = state.fetching.get(extent)
    if fetching is not None and worker not in fetching.known:
        fetching.known.append(worker)


def on_fetched(state: WorkerState, event: Fetched) -> None:
    """Copies have come: whoever waited for them may go on."""
    base, n = event.extent
    overtaken.mark(state, base, n)
    state.copies.add(base, n)
    came(state, base, n)
    how = (event.nbytes, event.worker, event.seconds, event.digests)
    state.order(Tell(Holds(base, n, *how)))
    fetching = state.fetching.pop(event.extent, None)
    if fetching is not None:
        for worker in fetching.failed:
            state.order(Tell(Undelivered(event.extent, worker)))
        for run in fetching.runs:
            if event.extent in run.missing:
                run.missing.discard(event.extent)
                if not run.missing and run.run in state.runs:
                    dispatch.requeue(state, run, run.base, run.left)
    dispatch.arrived(state, base, n)


def on_garbled(state: WorkerState, event: Garbled) -> None:
    """What is no good is not here: the scheduler knows another copy, or makes one."""
    extent = (event.task, 1)
    state.copies.discard(*extent)
    state.made.discard(*extent)
    state.unvouched.discard(*extent)
    state.order(DropValues((extent,)))
    state.order(Tell(Lacks((extent,), event.why)))
    state.lacked.add(event.task)
    for piece in [*(entry[2] for entry in state.entries()), *state.suspects]:
        run, n = piece.run, piece.n
        if n and dispatch.give_back_lacking(state, run, piece.base, n):
            piece.n = 0
            state.queued -= 0 if piece.alone else n


def came(state: WorkerState, base: int, n: int) -> None:
    """What was no good may be here once more."""
    if state.lacked:
        state.lacked = {t for t in state.lacked if not base <= t < base + n}


def on_fetch_failed(state: WorkerState, event: FetchFailed) -> None:
    """A holder has not delivered: ask the next one, or give the runs back."""
    fetching = state.fetching.get(event.extent)
    if fetching is None:
        return
    fetching.failed.append(fetching.worker)
    spare = fetching.next_spare()
    if spare is not None:
        fetching.worker = spare
        waiting = [run.rank for run in fetching.runs if event.extent in run.missing]
        state.order(FetchFrom(spare, event.extent, min(waiting, default=())))
        return
    del state.fetching[event.extent]
    base, n = event.extent
    for worker in fetching.asked:
        state.order(Tell(Unfetched((event.extent,), worker)))
    lacking = tuple((base, n, worker) for worker in fetching.failed)
    for run in fetching.runs:
        if run.run in state.runs and event.extent in run.missing:
            run.missing.clear()
            dispatch.return_live(state, run, run.base, run.left, lacking)
