"""Where values go that clients bring: they are spread over the workers, and wait for no slot."""

from __future__ import annotations

from covey.payload import Pack
from covey.scheduler.core import placement, report, transitions
from covey.scheduler.core.queues import demand_of, is_here, put, top
from covey.scheduler.core.spans import cut
from covey.scheduler.core.state import DONE, READY, SchedulerState, Span, Worker
from covey.scheduler.core.ties import even
from covey.wire.worker_link import Put


def place_all(state: SchedulerState) -> None:
    """Give all that lies ready to workers, as far as there are any that may have it."""
    while (span := top(state.data_queue)) is not None:
        demand = demand_of(state, span)
        places = [
            worker
            for worker in state.workers.values()
            # What lies with one that is away nobody could fetch.
            if is_here(state, worker) and demand.admits(worker)
        ]
        shunned = state.shy.get(span)
        places = [worker for worker in places if worker is not shunned] or places
        if places:
            _spread(state, span, places)
        else:
            put(span, state.homeless, span.rank)


def _spread(state: SchedulerState, span: Span, places: list[Worker]) -> None:
    """Give each of *places* its share of *span*, by slots."""
    slots = sum(worker.slots for worker in places)
    n = span.n
    while span.state is READY:
        worker = places[state.scatter_turn % len(places)]
        state.scatter_turn += 1
        k = placement.cap_by_bytes(span, min(span.n, -(-n * worker.slots // slots)))
        if k < span.n:
            _place(state, worker, cut(state, span, even(span, k)))
        else:
            _place(state, worker, span)


def _place(state: SchedulerState, worker: Worker, span: Span) -> None:
    """Place the values of *span*, which a client brought, on *worker*."""
    assert span.pack is not None
    pack: Pack = span.pack.cut(span.at, span.at + span.n)
    message = Put(span.base, span.n, pack.sizes_bytes(), bytes(pack.data))
    state.send(worker.peer, message)
    transitions.finish(state, span, worker, pack.nbytes)
    if span.state is DONE:
        report.stored(state, span)
