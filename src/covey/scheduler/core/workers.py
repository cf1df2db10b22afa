"""What workers may say, and what follows from their coming and going."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from covey.errors import RemoteProtocolError
from covey.scheduler.core import (
    balance,
    functions,
    history,
    memory,
    occupancy,
    orphans,
    outcomes,
    pauses,
    placement,
    profiling,
    queues,
    reach,
    report,
    retrying,
    spreading,
    transitions,
    tries,
    versions,
    watching,
)
from covey.scheduler.core.checks import extent
from covey.scheduler.core.handlers import Handlers
from covey.scheduler.core.sources import introduce
from covey.scheduler.core.spans import find, isolate_all_own, isolate_own
from covey.scheduler.core.state import (
    ASSIGNED,
    DONE,
    Orphan,
    SchedulerState,
    Worker,
)
from covey.wire.base import Extent, Failure, Message
from covey.wire.client_link import Notice, WorkerGone
from covey.wire.worker_link import (
    Blocked,
    Engaged,
    Fetch,
    Forgot,
    FromWorker,
    Holds,
    Lacks,
    Leave,
    Leaving,
    Printed,
    Profiled,
    Reported,
    Resumed,
    Return,
    ReturnDone,
    Returned,
    Running,
    Status,
    Undelivered,
    Unfetched,
    Vouches,
)

#: So many values, or stretches of small ones, are to be fetched by one message.
FETCHED_AT_ONCE: Final = 4096

handlers: Handlers[Worker] = Handlers(outcomes.handlers)


# What comes back.


@handlers.add(Returned)
def on_returned(state: SchedulerState, worker: Worker, message: Returned) -> None:
    """Tasks come back that had not begun."""
    for base, n, _ in message.lacking:
        extent(base, n)
    spans = outcomes.current(state, worker, message.run, message.base, message.n)
    move = message.lacking and all(reach.may_move(state, s, worker) for s in spans)
    unreachable = counts = False
    for base, n, holder in message.lacking:
        held, avoid = reach.undelivered(
            state, worker, (base, n), holder, may_move=bool(move)
        )
        unreachable = unreachable or held
        # One that is away will be back or be lost; its copies may go one by one.
        if held and avoid is not None and state.workers[holder].away_since is None:
            counts = True
            state.shy.update(dict.fromkeys(spans, avoid))
    for span in outcomes.current(state, worker, message.run, message.base, message.n):
        if unreachable:
            if counts and not reach.count(state, span):
                transitions.fail(state, span, _inputs_out_of_reach(worker))
                continue
        elif not message.lacking:
            worker.handed_back.add(span.base)
        given = span.since
        transitions.requeue(state, span)
        if not message.lacking:
            # It has been ready all the time: what it wished for, it has waited for.
            span.since = given
        if unreachable:
            # The holder may have ended without our knowing it yet.
            pauses.put_off(state, span, tries.pause_seconds(span))


@handlers.add(Undelivered)
def on_undelivered(state: SchedulerState, worker: Worker, message: Undelivered) -> None:
    """A holder failed where another one delivered: others need not try it."""
    extent(*message.extent)
    state.counters["sources_failed"] += 1
    reach.undelivered(state, worker, message.extent, message.worker)


@handlers.add(ReturnDone)
def on_return_done(state: SchedulerState, worker: Worker, message: ReturnDone) -> None:
    """The worker may be asked again, if there was anything to hand back."""
    del message
    worker.returning = False
    if worker.leaving and worker.reluctant < math.inf:
        # It was asked for a part only, before it was known that it leaves.
        _have_handed_back(state, worker)
        worker.reluctant = math.inf
    balance.answered(state, worker)


@handlers.add(Blocked)
def on_blocked(state: SchedulerState, worker: Worker, message: Blocked) -> None:
    """A task waits for others, which may need its slot to ever come to their turn."""
    blocked = (message.run, message.task)
    for span in outcomes.current(state, worker, message.run, message.task, 1):
        if blocked not in worker.blocked:
            worker.blocked.add(blocked)
            occupancy.count_out(state, worker, span.function, 1)


@handlers.add(Resumed)
def on_resumed(state: SchedulerState, worker: Worker, message: Resumed) -> None:
    """A task goes on that waited for others."""
    blocked = (message.run, message.task)
    for span in outcomes.current(state, worker, message.run, message.task, 1):
        if blocked in worker.blocked:
            worker.blocked.remove(blocked)
            occupancy.count_in(state, worker, span.function, 1)


@handlers.add(Engaged)
def on_engaged(state: SchedulerState, worker: Worker, message: Engaged) -> None:
    """Slots are taken, or free again, that nothing here is counted for."""
    engaged = min(message.slots, worker.slots)
    more, worker.engaged = engaged - worker.engaged, engaged
    if more > 0:
        occupancy.count_in(state, worker, None, more)
    elif more < 0:
        occupancy.count_out(state, worker, None, -more)


# Copies.


@handlers.add(Holds)
def on_holds(state: SchedulerState, worker: Worker, message: Holds) -> None:
    """The worker has fetched copies."""
    extent(message.base, message.n)
    digests = versions.check(message.digests, message.n)
    at, end = message.base, message.base + message.n
    source = state.workers.get(message.source)
    if source is not None:
        state.counters["bytes_moved"] += message.nbytes
        how = (message.nbytes, message.seconds)
        history.moved(state, at, message.n, source, worker, *how)
    told = (message.base, message.n, message.nbytes, digests)
    for span in isolate_own(state, message.base, message.n):
        if at < span.base:
            _holds_unknown(state, worker, orphans.part(told, at, span.base))
        at = span.base + span.n
        mine = versions.part(digests, span.base - message.base, span.n)
        if worker.forgetting and versions.forgets(worker, span):
            continue
        if versions.is_other(state, span, mine):
            versions.refuse(state, span, worker)
        elif span.state is DONE:
            span.digests = span.digests or mine
            transitions.add_replica(state, span, worker)
            spreading.arrived(state, span, worker)
        else:
            nbytes = message.nbytes * span.n // message.n
            span.digests = mine or span.digests
            if span.worker is worker:
                # It may wait there for what nobody makes any more.  A copy stays.
                transitions.stop(state, span)
            transitions.turn_up(state, span, worker, nbytes)
    if at < end:
        _holds_unknown(state, worker, orphans.part(told, at, end))


@handlers.add(Vouches)
def on_vouches(state: SchedulerState, worker: Worker, message: Vouches) -> None:
    """Something on the worker takes values of which nobody has told the digests yet."""
    extent(message.base, message.n)
    digests = versions.check(message.digests, message.n)
    for span in isolate_own(state, message.base, message.n):
        if worker not in span.replicas:
            continue  # It has been told to drop them, and so what takes them.
        mine = versions.part(digests, span.base - message.base, span.n)
        if versions.is_other(state, span, mine):
            versions.refuse(state, span, worker)
            transitions.lose_replica(state, span, worker)
        else:
            span.digests = mine or span.digests


def _holds_unknown(state: SchedulerState, worker: Worker, orphan: Orphan) -> None:
    """Nobody has asked for these: they may be what an earlier life had fetched."""
    orphans.strike(state, worker, (orphan[:2],))
    orphans.keep(state, worker, orphan)
    orphans.settle(state)


@handlers.add(Lacks)
def on_lacks(state: SchedulerState, worker: Worker, message: Lacks) -> None:
    """The worker does not hold these, whatever we thought."""
    for base, n in message.extents:
        extent(base, n)
        span = find(state, base)
        if n == 1 and (span is None or worker not in span.replicas):
            # A client may tell only afterwards that it has brought it there.
            worker.given_up.add(base)
    orphans.strike(state, worker, message.extents)
    orphans.settle(state)
    for span in isolate_all_own(state, message.extents):
        if message.why and span.pack is None:
            state.losses[span] = f"{worker.name}: {message.why}"
        transitions.lose_replica(state, span, worker)


@handlers.add(Forgot)
def on_forgot(state: SchedulerState, worker: Worker, message: Forgot) -> None:
    """The worker has read that what it has of some tasks, or of none, is outdated."""
    if not message.extents:
        worker.distance.answered(state.now)
    else:
        versions.forgot(worker, message.extents)


@handlers.add(Unfetched)
def on_unfetched(state: SchedulerState, worker: Worker, message: Unfetched) -> None:
    """A copy could not be made: of what is being spread, or is to be moved."""
    for base, n in message.extents:
        extent(base, n)
    leaving = state.workers.get(message.worker)
    for span in isolate_all_own(state, message.extents):
        spreading.failed(state, span, worker)
        if leaving is not None and leaving.moving.get(span) is worker:
            del leaving.moving[span]
            leaving.refused.add(worker.peer)


@handlers.add(Status)
def on_status(state: SchedulerState, worker: Worker, message: Status) -> None:
    """Keep the latest facts for those who ask, and warn of trouble that is new."""
    trouble = message.facts.get("trouble")
    if type(trouble) is str and trouble not in {"", worker.facts.get("trouble")}:
        for client in state.clients.values():
            state.send(client.peer, Notice(f"worker {worker.name}: {trouble}"))
    history.strained(state, worker, message.facts)
    worker.facts = message.facts
    memory.sampled(state, worker, message.facts)
    history.sampled(state, worker, message.facts)


@handlers.add(Profiled)
def on_profiled(state: SchedulerState, worker: Worker, message: Profiled) -> None:
    """What code was seen to run there."""
    profiling.take(state, worker, message)


@handlers.add(Printed)
def on_printed(state: SchedulerState, worker: Worker, message: Printed) -> None:
    """Enter what a task printed into the stream."""
    history.printed(state, worker, message)


# Coming and going.


def join(state: SchedulerState, worker: Worker) -> None:
    """A worker has joined."""
    state.workers[worker.peer] = worker
    state.slots_count += worker.slots
    state.idle_slots += worker.idle_slots
    for demand in state.demands.values():
        queues.admit(demand, worker)
        if worker in demand.able:
            demand.noticed = False
    for client in state.clients.values():
        report.introduce_worker(state, client, worker)
    history.worker_joined(state, worker)
    if worker.peer in state.returning:
        watching.forget_pace(worker)
    if state.audience or worker.pace:
        watching.tell_pace(state)
    profiling.tell(state, worker)
    spreading.joined(state, worker)
    placement.welcome(state, worker)


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
    for table in (state.hungry, state.roomy, state.excess, state.loaded):
        table.pop(worker, None)
    state.slots_count -= worker.slots
    state.idle_slots -= worker.idle_slots
    state.leaving[worker] = None
    for other in list(state.leaving):
        _find_other_places(other, worker)
    _requeue_elsewhere(state, worker)
    if not worker.returning:
        _have_handed_back(state, worker)


def _have_handed_back(state: SchedulerState, worker: Worker) -> None:
    """Ask a worker that leaves for all that it need not end first."""
    surplus = worker.count - worker.slots
    if surplus > 0:
        worker.returning = True
        state.send(worker.peer, Return(surplus))


def retire_named(
    state: SchedulerState, names: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Let the workers of these names or addresses leave; all of them, or none.

    Returns:
        The names of those that leave, and what names nobody.
    """
    chosen = {n: [w for w in state.workers.values() if n in w.names] for n in names}
    unknown = [name for name, found in chosen.items() if not found]
    leaving = [worker for found in chosen.values() for worker in found]
    if unknown:
        return [], unknown
    for worker in leaving:
        retire(state, worker)
    return [worker.name for worker in leaving], []


def _requeue_elsewhere(state: SchedulerState, worker: Worker) -> None:
    """What lay ready for *worker* goes into other queues."""
    for span in queues.lying_ready(worker):
        queues.enqueue(state, span)
    worker.queue.clear()
    worker.asking.clear()


def _find_other_places(leaving: Worker, target: Worker) -> None:
    """What was to go from *leaving* to *target* must go elsewhere."""
    for span in [s for s, place in leaving.moving.items() if place is target]:
        del leaving.moving[span]


def see_off(state: SchedulerState) -> None:
    """Bring those who want to leave a step further."""
    for worker in list(state.leaving):
        if worker.assigned or worker.moving or worker in state.orphans:
            continue  # Whoever wants what it has may still come back.
        if not _move_data(state, worker):
            del state.leaving[worker]
            state.send(worker.peer, Leave())


def _move_data(state: SchedulerState, worker: Worker) -> bool:
    """Have what only *worker* has copied elsewhere; say whether there is any.

    Where nobody is left who could take it, it goes with the worker.
    """
    others = [
        other
        for other in state.workers.values()
        if not other.leaving and other.peer not in worker.refused
    ]
    if not others:
        return False
    orders: dict[Worker, list[Extent]] = {}
    for span in worker.holds:
        # A copy on another worker that leaves, or was let go, is none to count on.
        if all(holder.leaving for holder in span.replicas):
            target = others[len(worker.moving) % len(others)]
            worker.moving[span] = target
            orders.setdefault(target, []).append(span.extent)
    for target, wanted in orders.items():
        introduce(state, target, worker)
        for start in range(0, len(wanted), FETCHED_AT_ONCE):
            some = tuple(wanted[start : start + FETCHED_AT_ONCE])
            state.send(target.peer, Fetch(some, worker.number))
    return bool(orders)


def lose(state: SchedulerState, worker: Worker) -> None:
    """A worker is gone: place its runs anew, and make again what only it had."""
    if state.workers.pop(worker.peer, None) is None:
        return
    if not worker.leaving:
        # Nothing that is placed anew below shall go to it.
        worker.leaving = True
        state.slots_count -= worker.slots
        state.idle_slots -= worker.idle_slots
    functions.leave(worker)
    for demand in worker.demands:
        demand.leave(worker)
    state.leaving.pop(worker, None)
    state.orphans.pop(worker, None)
    state.versions.refused.pop(worker, None)
    for other in state.leaving:
        _find_other_places(other, worker)
    history.worker_left(state, worker)
    held = list(worker.holds)
    for span in held:
        transitions.lose_replica(state, span, worker)
    spreading.lost(state, worker, held)
    for span in list(worker.assigned):
        if span.state is not ASSIGNED or span.ahead:
            continue  # What was sent ahead waits again as soon as its inputs do.
        retrying.lost(state, span, worker)
    _requeue_elsewhere(state, worker)
    for table in (state.hungry, state.roomy, state.eager, state.loaded, state.excess):
        table.pop(worker, None)
    # It holds nothing any more, and nobody shall have to find out that it keeps itself.
    worker.itself = ()
    for client in state.clients.values():
        if worker.peer in client.workers_told:
            client.workers_told.discard(worker.peer)
            state.send(client.peer, WorkerGone(worker.number))


def _inputs_out_of_reach(worker: Worker) -> Failure:
    return Failure(
        "lost",
        "DataLost",
        f"the inputs of the task could not be brought to a worker that runs it (the "
        f"last: {worker.name}), though their holders are there. Look at whether the "
        f"workers can reach each other's data ports, or call the scheduler anew",
        details={"worker": worker.name},
    )


@handlers.add(Running, Reported)
def on_report(state: SchedulerState, worker: Worker, message: Message) -> None:
    """Who is new has nothing to report; what returning workers say is in ``recovery``.

    Raises:
        RemoteProtocolError: always.
    """
    del state, message
    raise RemoteProtocolError(f"worker {worker.name} reports what it never was given")


handlers.must_cover(FromWorker)
