"""The only room that writes ``Span.state``.

``TRANSITIONS`` is the whole list of legal moves; ``move`` makes one and keeps
the books that go with leaving one state and entering another.  What follows
from a move for other spans (an input arrived, a value is no longer needed) is
worked off from lists, never by recursion: a chain of a million is legal.

A step of the core lets go of so many spans, or fails so many, and no more; the rest
is left for the steps that follow (``leftovers``, ``later``).  So nobody waits while a graph of a million tasks is forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop
from typing import Final

from covey.errors import InternalError
from covey.ids import ClientId
from covey.scheduler.core import (
    brought,
    causes,
    dependents,
    dropping,
    functions,
    history,
    memory,
    naming,
    occupancy,
    pauses,
    placement,
    queues,
    report,
    spreading,
)
from covey.scheduler.core.functions import Function
from covey.scheduler.core.spans import inputs_of, strike
from covey.scheduler.core.state import (
    ASSIGNED,
    DETACHED,
    DONE,
    FAILED,
    FORGOTTEN,
    NOBODY,
    READY,
    RELEASED,
    WAITING,
    SchedulerState,
    Span,
    State,
    Worker,
)
from covey.wire.base import DEFAULT_OPTIONS, Extent, Failure
from covey.wire.worker_link import Stop

TRANSITIONS: Final = frozenset(
    {
        (RELEASED, WAITING),  # needed (again)
        (RELEASED, READY),  # needed, and no input is missing
        (RELEASED, ASSIGNED),  # needed, takes nothing, and a worker idles
        (RELEASED, DONE),  # a client brought the value
        (RELEASED, FAILED),  # an input has failed
        (RELEASED, FORGOTTEN),  # nothing can ask for it any more
        (WAITING, READY),  # the last input arrived
        (WAITING, ASSIGNED),  # sent ahead, to where its inputs are made;
        # or a worker that was there before runs it
        (WAITING, DONE),  # a copy turned up
        (WAITING, FAILED),  # an input failed, or cancelled
        (WAITING, RELEASED),  # nobody needs it
        (READY, ASSIGNED),  # dealt to a worker
        (READY, WAITING),  # an input was lost
        (READY, DONE),  # a value was put on a worker, or turned up
        (READY, FAILED),  # cancelled, or cannot run
        (READY, RELEASED),  # nobody needs it
        (ASSIGNED, DONE),  # it returned
        (ASSIGNED, READY),  # handed back, lost, or to be retried
        (ASSIGNED, WAITING),  # handed back, for an input was lost; recalled
        (ASSIGNED, FAILED),  # it failed for good
        (ASSIGNED, RELEASED),  # nobody needs it
        (DONE, RELEASED),  # not needed any more, or lost
        (DONE, FORGOTTEN),  # not needed any more, nor what would take it again
        (FAILED, RELEASED),  # to be retried, or not wanted any more
    }
)


#: For each state, a bit for each state that may follow.
_NEXT: Final = tuple(
    sum(1 << to for before, to in TRANSITIONS if before is state) for state in State
)

#: What has a value, or no state at all, cannot fail.
_MAY_FAIL: Final = frozenset({WAITING, READY, ASSIGNED, RELEASED})


def move(state: SchedulerState, span: Span, to: State) -> None:
    """Take *span* from its state to another, and keep the books.

    Raises:
        InternalError: there is no such transition.
    """
    before = span.state
    if not _NEXT[before] >> to & 1:
        raise InternalError(f"{span}: there is no way from {before.name} to {to.name}")
    if before is READY:
        _leave_queue(state, span)
    elif before is ASSIGNED:
        occupancy.unassign(state, span)
    elif before is FAILED:
        span.failure = None
    elif state.brought and before is WAITING and span in state.brought:
        state.brought[span] = False
    if to >= DONE and state.attempts:
        state.attempts.pop(span, None)
    if state.shy and to >= DONE and to is not RELEASED:
        state.shy.pop(span, None)
    span.state = to
    span.since = state.now
    if to is READY:
        state.ready_count += span.n
        queues.enqueue(state, span)
    was, is_now = before <= ASSIGNED, to <= ASSIGNED
    if was is not is_now and span.inputs != ():
        inputs = span.inputs
        for source in inputs if inputs is not None else inputs_of(state, span):
            source.pending += is_now - was


def _leave_queue(state: SchedulerState, span: Span) -> None:
    """*span* is READY no more: what it is instead is for the caller to enter."""
    state.ready_count -= span.n
    special = state.special_count
    if special and queues.demand_of(state, span) is not state.default_demand:
        state.special_count -= span.n
    queue, span.queue = span.queue, None
    assert queue is not None
    if queue[0][1] is span:
        heappop(queue)
    else:
        queue.leave()


# Beginning.


def begin(state: SchedulerState, span: Span) -> None:
    """*span* goes to a worker, whose books are for the caller to keep.

    As ``move``, without what does not concern it.
    """
    before = span.state
    if before is READY:
        _leave_queue(state, span)
    elif before is not RELEASED or span.inputs != ():
        move(state, span, ASSIGNED)
        return
    span.state, span.since = ASSIGNED, state.now


def demand(state: SchedulerState, span: Span) -> None:
    """A released span is needed: have it made, with what it takes."""
    todo = [span]
    while todo:
        current = todo.pop()
        if current.state is not RELEASED or not current.needed:
            # Whoever needed it may have failed for another input by now.
            continue
        if current.inputs == ():
            _demand_alone(state, current)
            continue
        missing, released = 0, []
        failed, made = None, False
        inputs = current.inputs
        for source in inputs if inputs is not None else inputs_of(state, current):
            stands = source.state
            if stands is not DONE:
                missing += 1
                if stands is RELEASED:
                    released.append(source)
                elif stands is ASSIGNED:
                    made = True
                elif stands is FAILED and failed is None:
                    failed = source
        if failed is not None:
            fail(state, current, causes.inherited(failed))
            continue
        current.missing = missing
        move(state, current, WAITING if missing else READY)
        if made and not released:
            placement.try_ahead(state, current)
        todo += released


def _demand_alone(state: SchedulerState, span: Span) -> None:
    """The same for what takes nothing: a client may have to bring it."""
    if span.pack is not None:
        line_up(state, span)
    elif brought.ask(state, span):
        span.missing = 1
        move(state, span, WAITING)
    else:
        fail(state, span, causes.unmakeable(state, span))


def line_up(state: SchedulerState, span: Span) -> None:
    """*span* is needed, was RELEASED, and takes nothing: as ``move``, with less ado."""
    span.state, span.since = READY, state.now
    state.ready_count += span.n
    queues.enqueue(state, span)


# Ending well.


def finish(state: SchedulerState, span: Span, worker: Worker, nbytes: int) -> None:
    """The values of *span* are on *worker*."""
    span.nbytes, span.replicas = nbytes, worker.itself
    worker.holds[span] = None
    memory.stores(state, worker, nbytes)
    takes = span.inputs != ()
    if takes or span.state is not ASSIGNED:
        move(state, span, DONE)
    else:
        # As ``move``, without what does not concern it.
        occupancy.unassign(state, span)
        if state.attempts:
            state.attempts.pop(span, None)
        if state.shy:
            state.shy.pop(span, None)
        span.state, span.since = DONE, state.now
    state.counters["tasks_done"] += span.n
    if span.dependents:
        _arrived(state, span, worker)
    if DETACHED in span.wanted:
        _undetach(state, span)
    for source in inputs_of(state, span) if takes else ():
        if not (source.pending or source.wanted):
            let_go(state, source)
    if not (span.wanted or span.pending):
        let_go(state, span)


def finish_all(
    state: SchedulerState, nbytes_of: dict[Span, int], worker: Worker
) -> None:
    """Values of single tasks are there that *worker* ran: as ``finish``, for many.

    The books of the worker are written once, and nothing is let go of in between.
    """
    now, place, holds = state.now, worker.itself, worker.holds
    counts: dict[Function | None, int] = {}
    unkept: dict[Span, None] = {}
    for span, nbytes in nbytes_of.items():
        special = worker.blocked or span.options is not DEFAULT_OPTIONS
        if special or span in worker.ahead:
            occupancy.unassign(state, span)
        else:
            del worker.assigned[span]
            span.worker, span.run = None, 0
            counts[span.function] = counts.get(span.function, 0) + 1
        span.nbytes, span.replicas = nbytes, place
        holds[span] = None
        if state.attempts:
            state.attempts.pop(span, None)
        if state.shy:
            state.shy.pop(span, None)
        span.state, span.since = DONE, now
        if span.dependents:
            _arrived(state, span, worker)
        inputs = span.inputs
        for source in inputs if inputs is not None else inputs_of(state, span):
            source.pending -= 1
            if not (source.pending or source.wanted):
                unkept[source] = None
        if span.wanted:
            if DETACHED in span.wanted:
                _undetach(state, span)
            report.stored(state, span)
        if not (span.pending or span.wanted):
            unkept[span] = None
    for function, n in counts.items():
        occupancy.count_out(state, worker, function, n)
    state.counters["tasks_done"] += len(nbytes_of)
    memory.stores(state, worker, sum(nbytes_of.values()))
    let_go_of_all(state, unkept)


def _arrived(state: SchedulerState, span: Span, worker: Worker) -> None:
    """What takes *span*, which is on *worker* now, may be ready."""
    for dependent in list(span.dependents or ()):
        stands = dependent.state
        if stands is WAITING:
            dependent.missing -= 1
            if not dependent.missing:
                move(state, dependent, READY)
                if dependent.rare is not None:
                    pauses.between_tries(state, dependent)
        elif stands is ASSIGNED and dependent.missing > 0:
            dependent.missing -= 1
            at = dependent.worker
            if at is not worker:
                _recall(state, dependent)
                requeue(state, dependent)
            elif not dependent.missing and dependent in at.ahead:
                occupancy.follow(state, at, dependent)


def _undetach(state: SchedulerState, span: Span) -> None:
    """What was detached has run to its end: it is held no more for that."""
    span.wanted -= {DETACHED}
    span.delivered -= {DETACHED}
    report.over(state, (span.extent,))


# Ending badly.


def fail(state: SchedulerState, span: Span, failure: Failure) -> None:
    """*span* has failed for good, and with it all that still waits for it.

    A dependent that has been dealt to a worker may have the value already; if
    not, the worker hands it back, and it fails then.  What was sent ahead has not.
    """
    fail_all(state, _fail_one(state, span, failure))


def _fail_one(state: SchedulerState, span: Span, failure: Failure) -> dict[Span, None]:
    """Fail one span; return those that wait for it."""
    if span.state not in _MAY_FAIL:
        return {}
    sources = inputs_of(state, span)
    if span.ahead:
        stop(state, span)
    move(state, span, FAILED)
    span.failure = failure
    state.counters["tasks_failed"] += span.n
    report.failed(state, span)
    if DETACHED in span.wanted:
        span.wanted -= {DETACHED}
        report.over(state, (span.extent,))
    doomed = {
        dependent: None
        for dependent in (span.dependents or ())
        if dependent.state is WAITING or dependent.ahead
    }
    for source in sources:
        let_go(state, source)
    let_go(state, span)
    return doomed


def fail_all(state: SchedulerState, doomed: dict[Span, None]) -> None:
    """Fail all that waits for a failed input, as far as this step may."""
    leftovers = state.leftovers
    while doomed:
        if leftovers.allowance <= 0:
            leftovers.fail_later(doomed)
            return
        span, _ = doomed.popitem()
        if span.state is not WAITING and not span.ahead:
            continue
        # What has failed may be made again by now.
        failed = next((s for s in inputs_of(state, span) if s.failure), None)
        if failed is not None:
            leftovers.allowance -= 1
            doomed.update(_fail_one(state, span, causes.inherited(failed)))


# Letting go.


def unwant(state: SchedulerState, span: Span, client: ClientId) -> None:
    """*client* holds no future of these tasks any more."""
    if strike_wish(state, span, client):
        let_go(state, span)


def strike_wish(state: SchedulerState, span: Span, client: ClientId) -> bool:
    """The same, but that nothing is let go of; say whether *client* had held any."""
    if client not in span.wanted:
        return False
    record = state.client_numbers.get(client)
    if record is not None:
        record.wants.pop(span, None)
    if len(span.wanted) == 1:
        span.wanted = span.delivered = NOBODY
    else:
        span.wanted -= {client}
        span.delivered -= {client}
    ids = state.ids_of.get(span.base) if state.ids_of else None
    if ids is not None:
        for task in ids.pop(client, ()):
            naming.drop_alias(state, span, task)
    return True


def let_go(state: SchedulerState, span: Span) -> None:
    """Release *span* if nobody keeps it, then forget it if nothing leads to it."""
    if not (span.pending or span.wanted):
        let_go_of_all(state, {span: None})


def let_go_of_all(state: SchedulerState, todo: dict[Span, None]) -> None:
    """Let go of all of these, and of what they lead to, as far as this step may."""
    leftovers = state.leftovers
    allowance = leftovers.allowance
    dropped: dict[Worker, list[Extent]] = {}
    while todo:
        if allowance <= 0:
            leftovers.let_go_later(todo)
            break
        current, _ = todo.popitem()
        stands = current.state
        if current.pending or current.wanted or stands is FORGOTTEN:
            continue
        allowance -= 1
        if current.replicas:
            dropping.drop_replicas(state, current, dropped)
        if stands is not RELEASED and (stands is not DONE or current.dependents):
            sources: Sequence[Span] = ()
            if stands <= ASSIGNED:
                sources = inputs_of(state, current)
                stop(state, current)
            move(state, current, RELEASED)
            for source in sources:
                todo[source] = None
        if not current.dependents:
            _forget(state, current, todo)
    leftovers.allowance = allowance
    if dropped:
        dropping.tell_all(state, dropped)


def stop(state: SchedulerState, span: Span, *, kill: bool = False) -> None:
    """Nobody needs what a worker was told to run: it may drop what it has of it.

    From then on the worker holds nothing that it made of these tasks, so whatever it
    said of that before it heard of this is stale and needs no answer.
    """
    if span.state is ASSIGNED and span.worker is not None:
        message = Stop(span.run, span.base, span.n, kill=kill)
        state.send(span.worker.peer, message)


def _forget(state: SchedulerState, span: Span, todo: dict[Span, None]) -> None:
    """Strike a span out that is not needed; add the inputs to *todo* that may go, too."""
    inputs = span.inputs
    if inputs != ():
        for source in inputs if inputs is not None else inputs_of(state, span):
            dependents.strike(source, span)
            # Who has others yet goes when the last of them does.
            if not source.dependents and not source.pending:
                todo[source] = None
        # A queue may hold on to what is forgotten; not to all that led to it as well.
        span.inputs = None if inputs is None else ()
    # It is DONE or RELEASED: no books are kept of these but one.
    span.state = FORGOTTEN
    if state.shy:
        state.shy.pop(span, None)
    pack, n = span.pack, span.n
    if n == 1:
        del state.spans[span.base]
    else:
        strike(state, span)
    # What had arguments of its own leaves nothing of them.
    if pack is not None and len(pack.sizes) > n and pack.drop(n):
        state.leftovers.thin_later(pack, span.base - span.at, len(pack))
    functions.count(state, span.function, -n)
    if state.spreads and span in state.spreads:
        spreading.forget(state, span)
    if state.brought:
        state.brought.pop(span, None)
    if state.losses:
        state.losses.pop(span, None)
    if state.versions.count or state.versions.outdated:
        state.versions.forget(span)
    if state.name_of or state.ids_of:
        naming.forget(state, span)


# Losing.


def add_replica(state: SchedulerState, span: Span, worker: Worker) -> None:
    """*worker* has come to hold a copy of a value that is there already."""
    if worker in span.replicas:
        return
    span.replicas += (worker,)
    worker.holds[span] = None
    memory.stores(state, worker, span.nbytes)
    for leaving in state.leaving:
        leaving.moving.pop(span, None)


def turn_up(state: SchedulerState, span: Span, worker: Worker, nbytes: int) -> None:
    """A copy is on *worker* of a value that was thought to be nowhere.

    Tasks there may count on it, so it is taken for the value, whatever is
    being done to make it again.
    """
    if span.state is FAILED:
        move(state, span, RELEASED)
        report.reverted(state, span)
    elif span.worker is not worker:
        stop(state, span)
    # What the worker itself still says of it will be stale news.
    finish(state, span, worker, nbytes)
    if span.state is DONE:
        history.found(state, span, worker)
        report.stored(state, span)


def lose_replica(state: SchedulerState, span: Span, worker: Worker) -> None:
    """A copy is gone.  With the last one, the value is; make it again if needed."""
    if worker not in span.replicas:
        return
    span.replicas = tuple(w for w in span.replicas if w is not worker)
    worker.holds.pop(span, None)
    worker.moving.pop(span, None)
    memory.stores(state, worker, -span.nbytes)
    if not span.replicas and span.state is DONE:
        _miss(state, span)
        revert(state, span)
        demand(state, span)


def withdraw(state: SchedulerState, span: Span) -> None:
    """The values of *span* do not count any more; whoever waits, waits again."""
    _miss(state, span)  # Who counts on them is stopped before they go.
    dropped: dict[Worker, list[Extent]] = {}
    dropping.drop_replicas(state, span, dropped)
    dropping.tell_all(state, dropped)


def _miss(state: SchedulerState, span: Span) -> None:
    move(state, span, RELEASED)
    for dependent in list(span.dependents or ()):
        if dependent.state is WAITING:
            dependent.missing += 1
        elif dependent.state is READY:
            dependent.missing = 1
            move(state, dependent, WAITING)
        elif dependent.ahead:
            dependent.missing += 1
            _recall(state, dependent)
            move(state, dependent, WAITING)


def revert(state: SchedulerState, span: Span) -> None:
    """Values are not there any more: say so, if they are to be made again."""
    if span.needed:
        state.counters["tasks_recomputed"] += span.n
        report.reverted(state, span)


def _recall(state: SchedulerState, span: Span) -> None:
    """What was sent ahead is stopped, since an input does not come after all.

    What was sent ahead of *span* in turn waits again; where *span* itself goes
    is for the caller to say.
    """
    if span.worker is not None and span.worker.peer in state.workers:
        stop(state, span)
    recall_dependents(state, span)


def recall_dependents(state: SchedulerState, span: Span) -> None:
    """*span* does not come where it was to: what was sent ahead of it waits again."""
    todo = [span]
    while todo:
        for dependent in todo.pop().dependents or ():
            if dependent.ahead:
                if dependent.worker is not None and (
                    dependent.worker.peer in state.workers
                ):
                    stop(state, dependent)
                move(state, dependent, WAITING)
                todo.append(dependent)


def requeue(state: SchedulerState, span: Span) -> None:
    """An assigned span must be placed anew, for whatever reason."""
    for source in put_back(state, span):
        demand(state, source)


def put_back(state: SchedulerState, span: Span) -> list[Span]:
    """An assigned span is assigned no more; return the inputs that it waits for."""
    recall_dependents(state, span)
    missing = [s for s in inputs_of(state, span) if s.state is not DONE]
    if not missing:
        move(state, span, READY)
        return []
    failed = next((s for s in missing if s.state is FAILED), None)
    if failed is not None:
        fail(state, span, causes.inherited(failed))
        return []
    span.missing = len(missing)
    move(state, span, WAITING)
    return missing
