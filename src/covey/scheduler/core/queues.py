"""Where ready spans lie until a worker takes them, and who may take which.

A ready span lies in the queue of the worker where most of its inputs are, or else in
that of its ``Demand``: what resources and workers it asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappush

from covey.ids import client_of
from covey.scheduler.core import memory, tries, unfit
from covey.scheduler.core.balance import LOOKED_AT
from covey.scheduler.core.demand import DEMANDS_MAX, Demand
from covey.scheduler.core.heap import Heap
from covey.scheduler.core.spans import inputs_of
from covey.scheduler.core.state import (
    Rank,
    SchedulerState,
    Span,
    Worker,
)
from covey.wire.base import DEFAULT_OPTIONS
from covey.wire.client_link import Notice


def demand_of(state: SchedulerState, span: Span) -> Demand:
    """Return the queue of those that ask for the same as *span*."""
    options = span.options
    function = span.function
    environment = function.environment if function is not None else ""
    if not environment and (
        options is DEFAULT_OPTIONS or not (options.resources or options.workers)
    ):
        return state.default_demand
    # Unhashable members: the text of what is asked for is the key.
    key = _demand_key(options.resources, options.workers, options.allow_other_workers)
    demand = state.demands.get(key + environment)
    if demand is None:
        if len(state.demands) >= state.demands_max:
            _forget_demands(state)
        python = function.python if function is not None else ""
        demand = Demand(options, python, environment)
        state.demands[key + environment] = demand
        for worker in state.workers.values():
            admit(demand, worker)
    return demand


def admit(demand: Demand, worker: Worker) -> None:
    """Note it, if *worker* can run what asks for *demand*."""
    if demand.admits(worker) and worker not in demand.able:
        demand.enter(worker)


def _forget_demands(state: SchedulerState) -> None:
    """Forget what nothing that is ready asks for: it is entered anew when needed."""
    left = {key: demand for key, demand in state.demands.items() if top(demand.heap)}
    for worker in state.workers.values():
        worker.demands = [demand for demand in worker.demands if demand.heap]
    state.demands = left
    state.demands_max = max(DEMANDS_MAX, 2 * len(left))


def _demand_key(
    resources: dict[str, float], workers: tuple[str, ...], allow_others: bool
) -> str:
    return f"{sorted(resources.items())} {sorted(workers)} {allow_others}"


def is_here(state: SchedulerState, worker: Worker) -> bool:
    """Whether *worker* may be given anything now.

    Who is away is served when it is back, and has told what it has.
    """
    if worker.leaving or worker.peer not in state.workers:
        return False
    return worker.away_since is None and worker.peer not in state.returning


def enqueue(state: SchedulerState, span: Span) -> None:
    """Put a span that has just become READY into a queue."""
    demand = demand_of(state, span)
    if (
        demand is state.default_demand
        and span.function is not None
        and span.inputs == ()
        and span.rare is None
        and span not in state.shy
    ):
        # Anybody may take it, and nothing that it takes is anywhere.
        put(span, demand.heap, span.rank)
    else:
        _enqueue_near(state, span, demand)


def _enqueue_near(state: SchedulerState, span: Span, demand: Demand) -> None:
    """The same of what had better run somewhere, or may not run everywhere."""
    queue = demand.heap if span.function is not None else state.data_queue
    if demand is not state.default_demand and span.queue is None:
        state.special_count += span.n
    if demand.environment:
        unfit.forgive(state, demand)
    place = None
    wary = False
    if span.function is not None and (span.rare is not None or span in state.shy):
        names = avoided(state, span)
        wary = bool(names or span.unreached)
        place = _elsewhere(state, names, demand)
    if span.inputs != ():
        sources = inputs_of(state, span)
        memory.hasten(span, sources)
        if place is None:
            place = _nearest(sources, demand)
    if place is not None:
        queue = _queue_of(state, place, demand, wary=wary)
        state.loaded[place] = None
        if place.withheld:
            memory.reconsider(state, place)
        if place in state.hungry or place in state.roomy:
            state.eager[place] = None
    if demand is not state.default_demand:
        if place is None:
            _notice_if_impossible(state, span, demand)
        if top(queue) is None:
            # Where others wait already, all who are able have looked.
            state.awake[demand] = None
    put(span, queue, span.rank)


def _queue_of(
    state: SchedulerState, worker: Worker, demand: Demand, *, wary: bool
) -> Heap:
    """Return the queue of *worker* for what asks for *demand*.

    What waits there for amounts that are in use, or may not go to everybody else, holds
    up nothing that may: so it is with what is *wary*, for it was tried somewhere in vain.
    """
    if demand is state.default_demand and not wary:
        return worker.queue
    return worker.asking.setdefault((demand, wary), Heap())


def first_of(worker: Worker) -> list[Span]:
    """Return the first span of each of a worker's own queues.

    Of those that are wary several, for each may avoid another place.
    """
    firsts = [top(worker.queue)]
    for (_, wary), heap in worker.asking.items():
        firsts.append(top(heap))
        if wary:
            firsts += [span for _, span in heap[1:LOOKED_AT] if span.queue is heap]
    return [span for span in firsts if span is not None]


def lying_ready(worker: Worker) -> list[Span]:
    """Return all spans that lie in a worker's own queues."""
    return [
        span
        for heap in (worker.queue, *worker.asking.values())
        for _, span in heap
        if span.queue is heap
    ]


def avoided(state: SchedulerState, span: Span) -> set[str]:
    """Return the names of workers where *span* is rather not to run.

    It has failed there and asks for another one; or that worker is out of reach of others,
    which is tried again when *span* has waited for long.
    """
    again = span.options.again
    names: set[str] = set()
    if again is not None and again.elsewhere:
        names = {attempt.worker for attempt in state.attempts.get(span, ())}
    shunned = state.shy.get(span)
    if shunned is None or tries.may_be_anywhere(span, state.now):
        return names
    return {*names, shunned.name}


def _elsewhere(state: SchedulerState, names: set[str], demand: Demand) -> Worker | None:
    """Return the idlest worker that is none of these, if there are any.

    It looks at all workers, for tasks only that avoid some.
    """
    if not names:
        return None
    others = [
        worker
        for worker in state.workers.values()
        if worker.name not in names
        and not worker.leaving
        and worker.away_since is None
        and demand.admits(worker)
    ]
    named = demand.named
    return min(others, key=lambda w: (w not in named, w.count / w.slots), default=None)


def _nearest(sources: Sequence[Span], demand: Demand) -> Worker | None:
    """Return the worker that holds most of these, if what takes them may run there."""
    if len(sources) == 1:
        holders = sources[0].replicas
        best = holders[0] if holders else None
    else:
        nbytes: dict[Worker, int] = {}
        for source in sources:
            for worker in source.replicas:
                nbytes[worker] = nbytes.get(worker, 0) + source.nbytes + 1
        best = max(nbytes, key=nbytes.__getitem__) if nbytes else None
    if best is None or best.leaving or not demand.admits(best):
        return None
    if demand.named and best not in demand.named:
        return None
    return best


def _notice_if_impossible(state: SchedulerState, span: Span, demand: Demand) -> None:
    if demand.noticed or any(demand.admits(w) for w in state.workers.values()):
        return
    demand.noticed = True
    label = span.function.label if span.function is not None else "data"
    text = (
        f"{label}: no worker can run this now: it asks for {describe(demand)}. "
        f"It waits until a worker that can joins; workers offer: {offers(state, demand)}"
    )
    for number in span.wanted or (client_of(span.base),):
        client = state.client_numbers.get(number)
        if client is not None:
            state.send(client.peer, Notice(text))


def describe(demand: Demand) -> str:
    """Say in words what *demand* asks for."""
    parts = [f"{name}={amount:g}" for name, amount in demand.resources.items()]
    if demand.python:
        parts.append(f"Python {demand.python}")
    if demand.workers:
        parts.append("one of the workers " + ", ".join(sorted(demand.workers)))
    return " and ".join(parts) or "nothing special"


def offers(state: SchedulerState, demand: Demand) -> str:
    """Say in words what the workers offer of what is asked for."""
    if not state.workers:
        return "nothing, for there is no worker"
    shown = []
    for worker in list(state.workers.values())[:8]:
        amounts = " ".join(f"{k}={v:g}" for k, v in worker.resources.items())
        if demand.python and worker.pythons:
            amounts = ", ".join([f"Python {' '.join(worker.pythons)}", amounts])
        shown.append(f"{worker.name} ({amounts.rstrip(', ') or 'no resources'})")
    more = len(state.workers) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def top(heap: Heap) -> Span | None:
    """Return the first span of a queue, after throwing out what has left it."""
    while heap:
        span: Span = heap[0][1]
        if span.queue is heap:
            return span
        heap.pop_left()
    return None


def put(span: Span, queue: Heap, rank: Rank) -> None:
    """Let *span*, which is ready, lie in *queue*, wherever it lay before."""
    before, span.queue = span.queue, queue
    heappush(queue, (rank, span))
    if before is not None:
        before.leave()
