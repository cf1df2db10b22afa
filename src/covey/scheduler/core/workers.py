"""What workers may say, and what follows from their coming and going."""

from __future__ import annotations

from covey.scheduler.core import placement, report, transitions
from covey.scheduler.core.handlers import Handlers
from covey.scheduler.core.spans import covering, find, isolate
from covey.scheduler.core.state import (
    Function,
    SchedulerState,
    Span,
    State,
    Worker,
)
from covey.wire.base import Failure
from covey.wire.worker_link import (
    Drop,
    Fetch,
    FromWorker,
    Holds,
    Lacks,
    Leave,
    Leaving,
    Ran,
    RanStored,
    Returned,
    ReturnDone,
    RunFailed,
    Status,
)

#: A task that was lost with this many workers is not tried on another one.
LOSSES_MAX = 4

#: How fast the average duration of a function follows new measurements.
_LEARNING = 0.3

handlers: Handlers[Worker] = Handlers()


# Outcomes.


def _current(
    state: SchedulerState, worker: Worker, run: int, base: int, n: int
) -> list[Span]:
    """Return the spans of which this is news: *run* is their present attempt."""
    span = state.spans.get(base)
    if span is not None and span.n == n and span.run == run:
        return [span] if span.worker is worker else []
    for part in list(covering(state, base, n)):
        if part.run == run and part.worker is worker:
            lo, hi = max(base, part.base), min(base + n, part.base + part.n)
            isolate(state, lo, hi - lo)
    return [
        part
        for part in covering(state, base, n)
        if part.run == run and part.worker is worker
    ]


def _learn(function: Function | None, seconds: float, n: int) -> None:
    if function is None:
        return
    each = seconds / n
    known = function.seconds
    if known is None:
        function.seconds = each
    else:
        # Many calls in one report weigh as much as the calls would one by one.
        weight = 1.0 - (1.0 - _LEARNING) ** min(n, 8)
        function.seconds = known + weight * (each - known)


def _drop_stale(
    state: SchedulerState, worker: Worker, base: int, n: int, live: list[Span]
) -> None:
    """Have values dropped that nobody asked for any more."""
    at = base
    for span in live:
        if at < span.base:
            _drop_unheld(state, worker, at, span.base - at)
        at = span.base + span.n
    if at < base + n:
        _drop_unheld(state, worker, at, base + n - at)


def _drop_unheld(state: SchedulerState, worker: Worker, base: int, n: int) -> None:
    held = any(worker in span.replicas for span in covering(state, base, n))
    if not held:
        state.send(worker.peer, Drop(((base, n),)))


@handlers.add(Ran)
def on_ran(state: SchedulerState, worker: Worker, message: Ran) -> None:
    """Tasks returned small values, which come along."""
    base, n = message.base, message.n
    spans = _current(state, worker, message.run, base, n)
    live = sum(span.n for span in spans)
    if live < n:
        _drop_stale(state, worker, base, n, spans)
    if not spans:
        return
    _learn(spans[0].function, message.seconds, n)
    for span in spans:
        report.ran(state, span, worker, message.seconds * span.n / n)
    if live == n:
        report.finished(state, spans, message.sizes, message.data)
        share = len(message.data) / n
        for span in spans:
            transitions.finish(state, span, worker, int(share * span.n))
        return
    from covey.payload import Pack

    pack = Pack.from_wire(message.sizes, message.data)
    for span in spans:
        part = pack.cut(span.base - base, span.base - base + span.n)
        report.finished(state, [span], part.sizes_bytes(), bytes(part.data))
        transitions.finish(state, span, worker, part.nbytes)


@handlers.add(RanStored)
def on_ran_stored(state: SchedulerState, worker: Worker, message: RanStored) -> None:
    """Tasks returned values that rest on the worker."""
    base, n = message.base, message.n
    spans = _current(state, worker, message.run, base, n)
    if sum(span.n for span in spans) < n:
        _drop_stale(state, worker, base, n, spans)
    for span in spans:
        _learn(span.function, message.seconds * span.n / n, span.n)
        report.ran(state, span, worker, message.seconds * span.n / n)
        transitions.finish(state, span, worker, message.nbytes * span.n // n)
        if span.state is State.DONE:
            report.stored(state, span)


@handlers.add(RunFailed)
def on_run_failed(state: SchedulerState, worker: Worker, message: RunFailed) -> None:
    """One task failed: again, if it may be; else for good."""
    for span in _current(state, worker, message.run, message.task, 1):
        failure = message.failure
        _learn(span.function, message.seconds, 1)
        if failure.kind != "cancelled" and span.attempts < span.options.retries:
            span.attempts += 1
            transitions.requeue(state, span)
        else:
            transitions.fail(state, span, failure)


@handlers.add(Returned)
def on_returned(state: SchedulerState, worker: Worker, message: Returned) -> None:
    """Tasks come back that had not begun."""
    for base, n in message.lacking:
        for source in list(covering(state, base, n)):
            for holder in source.replicas:
                # Whoever was named as the source could not deliver.
                if holder is not worker and holder.peer not in state.workers:
                    transitions.lose_replica(state, source, holder)
    for span in _current(state, worker, message.run, message.base, message.n):
        transitions.requeue(state, span)


@handlers.add(ReturnDone)
def on_return_done(state: SchedulerState, worker: Worker, message: ReturnDone) -> None:
    """The worker may be asked again."""
    del state, message
    worker.returning = False


# Copies.


@handlers.add(Holds)
def on_holds(state: SchedulerState, worker: Worker, message: Holds) -> None:
    """The worker has fetched copies."""
    for span in list(covering(state, message.base, message.n)):
        whole = (
            span.base >= message.base and span.base + span.n <= message.base + message.n
        )
        if not whole or span.state is not State.DONE:
            lo = max(span.base, message.base)
            hi = min(span.base + span.n, message.base + message.n)
            if span.state is State.DONE:
                for part in isolate(state, lo, hi - lo):
                    _add_replica(part, worker)
            else:
                state.send(worker.peer, Drop(((lo, hi - lo),)))
            continue
        _add_replica(span, worker)
    if find(state, message.base) is None:
        state.send(worker.peer, Drop(((message.base, message.n),)))


def _add_replica(span: Span, worker: Worker) -> None:
    if worker not in span.replicas:
        span.replicas += (worker,)
        worker.holds[span] = None
        worker.stored_bytes += span.nbytes


@handlers.add(Lacks)
def on_lacks(state: SchedulerState, worker: Worker, message: Lacks) -> None:
    """The worker does not hold these, whatever we thought."""
    for base, n in message.extents:
        for span in list(covering(state, base, n)):
            transitions.lose_replica(state, span, worker)


@handlers.add(Status)
def on_status(state: SchedulerState, worker: Worker, message: Status) -> None:
    """Keep the latest facts for those who ask."""
    del state
    worker.facts = message.facts


# Coming and going.


def join(state: SchedulerState, worker: Worker) -> None:
    """A worker has joined."""
    state.workers[worker.peer] = worker
    state.slots_count += worker.slots
    for demand in state.demands.values():
        if demand.admits(worker):
            worker.demands.append(demand)
    for client in state.clients.values():
        report.introduce_worker(state, client, worker)
    state.events.append((state.now, "worker-joined", worker.name, worker.slots))
    placement.feed(state, worker)


@handlers.add(Leaving)
def on_leaving(state: SchedulerState, worker: Worker, message: Leaving) -> None:
    """Give it no more, let it finish, move what only it has."""
    del message
    retire(state, worker)


def retire(state: SchedulerState, worker: Worker) -> None:
    """Let *worker* leave in good order."""
    if worker.leaving:
        return
    worker.leaving = True
    state.hungry.pop(worker, None)
    state.excess.pop(worker, None)
    state.slots_count -= worker.slots
    state.leaving[worker] = None


def see_off(state: SchedulerState) -> None:
    """Bring those who want to leave a step further."""
    for worker in list(state.leaving):
        if worker.assigned:
            continue
        if _move_data(state, worker):
            del state.leaving[worker]
            state.send(worker.peer, Leave())


def _move_data(state: SchedulerState, worker: Worker) -> bool:
    """Have data copied of which *worker* has the only copy; tell when all is done."""
    others = [w for w in state.workers.values() if not w.leaving]
    unique = [s for s in worker.holds if len(s.replicas) == 1 and s.kept]
    if not unique or not others:
        return True
    for index, span in enumerate(unique):
        if span.base in worker.moving:
            continue
        worker.moving.add(span.base)
        other = others[index % len(others)]
        placement.introduce_peer(state, other, worker)
        state.send(other.peer, Fetch((span.extent,), worker.number))
    return False


def lose(state: SchedulerState, worker: Worker) -> None:
    """A worker is gone: place its runs anew, and make again what only it had."""
    if state.workers.pop(worker.peer, None) is None:
        return
    if not worker.leaving:
        state.slots_count -= worker.slots
    state.leaving.pop(worker, None)
    state.loaded.pop(worker, None)
    state.excess.pop(worker, None)
    state.events.append((state.now, "worker-left", worker.name, worker.slots))
    for span in list(worker.holds):
        transitions.lose_replica(state, span, worker)
    for span in list(worker.assigned):
        if span.state is not State.ASSIGNED:
            continue
        span.losses += 1
        if span.losses > LOSSES_MAX:
            transitions.fail(state, span, _lost_too_often(worker, span.losses))
        else:
            transitions.requeue(state, span)
    for _, _, span in list(worker.queue):
        if span.queue is worker.queue and span.state is State.READY:
            placement.enqueue(state, span)
    state.hungry.pop(worker, None)
    from covey.wire.client_link import WorkerGone

    for client in state.clients.values():
        if worker.peer in client.workers_told:
            state.send(client.peer, WorkerGone(worker.number))


def _lost_too_often(worker: Worker, losses: int) -> Failure:
    return Failure(
        "died",
        "RunnerDied",
        f"the task was lost with {losses} workers one after the other (the last: "
        f"{worker.name}). If the task itself takes whole machines down, look at its "
        f"memory use; if the workers left for other reasons, submit it again",
        details={"worker": worker.name},
    )


handlers.must_cover(FromWorker)
