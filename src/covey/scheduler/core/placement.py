"""Which worker, in which order: late binding.

Ready spans lie in ``queues``.  After each batch of news, workers with room are served in turn.  A worker gets enough
to stay busy over a round trip and no more: deep queues of microsecond tasks,
one or two long ones.  What it has not begun it can be asked to hand back when
another worker would idle, so there is no stealing protocol.

No task costs a look at all the workers, but one that has failed and is to run
elsewhere, and values that clients bring, which are spread over them.
"""

from __future__ import annotations

import itertools
from typing import Final

from covey.ids import TaskId
from covey.scheduler.core import (
    balance,
    bringing,
    distance,
    memory,
    sending,
    tries,
    wishes,
)
from covey.scheduler.core.balance import LOOKED_AT, UNKNOWN_SECONDS
from covey.scheduler.core.demand import Demand
from covey.scheduler.core.occupancy import AMOUNT_ERROR
from covey.scheduler.core.queues import (
    avoided,
    demand_of,
    first_of,
    is_here,
    put,
    top,
)
from covey.scheduler.core.spans import cut, inputs_of
from covey.scheduler.core.state import (
    WAITING,
    InTurn,
    SchedulerState,
    Span,
    Worker,
)
from covey.scheduler.core.ties import even
from covey.wire.base import DEFAULT_OPTIONS

#: A slot is given more as long as it has less than this ahead, and what it does in a round
#: trip to its worker (``distance``): that is for a slow turn of somebody's loop.
AHEAD_SECONDS: Final = 0.05

#: Of many tasks that hang together it is given so many that it has this much ahead then, or
#: half a task more for each slot: to fill up every little gap would cut them into little
#: slices, each with news of its own.
FULL_SECONDS: Final = 0.1

#: What all slots of a worker have ended so soon is not worth more runs than one: to say it
#: to another worker takes as long.
TOGETHER_SECONDS: Final = 0.001

#: However short they are, no more runs than this for each slot are sent ahead: news of
#: all of them may come at once, and shall not hold up the loop for long.
RUNS_AHEAD: Final = 256

#: What moving data is taken to cost, for the choice between waiting and moving.
BYTES_PER_SECOND: Final = 500e6
TRANSFER_SECONDS: Final = 0.001

#: A task with more inputs than this is not sent ahead of them.
AHEAD_INPUTS: Final = 8

#: Arguments sent with one run, at most.
RUN_BYTES: Final = 1 << 20

# Serving workers.


def feed(state: SchedulerState, worker: Worker) -> None:
    """*worker* may have room: serve it at the end of this batch."""
    memory.reconsider(state, worker)


def welcome(state: SchedulerState, worker: Worker) -> None:
    """*worker* has come, or come back: it may take what found no place before."""
    feed(state, worker)
    while (span := top(state.homeless)) is not None:
        put(span, state.data_queue, span.rank)


def plan(state: SchedulerState) -> None:
    """Serve the workers that have room: first those with idle slots.

    Nothing is dealt out as long as peers of another life are waited for.
    """
    if state.window is not None:
        return
    if state.data_queue:
        bringing.place_all(state)
    if state.wishes:
        wishes.rouse(state)
    # Else a worker would take back what it has just handed back for an idle one.
    unserved = _serve_all(state, state.hungry)
    if state.ready_count:
        unserved += _serve_all(state, state.roomy)
    for worker in unserved:
        # They have looked: nothing that is asked for by name is for them.
        memory.enlist(state, worker)
        if worker.has_queued:
            state.eager[worker] = None
    if state.excess and state.hungry:
        balance.call_back(state)


def begin_at_once(state: SchedulerState, span: Span) -> bool:
    """Give a new task, which takes nothing, to a worker that idles, if nothing is ready.

    As ``plan`` would if it lined up, where nothing else has come with it.
    """
    function, hungry = span.function, state.hungry
    if state.ready_count or state.window is not None or not hungry:
        return False
    if span.options is not DEFAULT_OPTIONS or (function and function.environment):
        return False
    worker = next(iter(hungry))
    idle = worker.slots - worker.busy
    if idle < 1 or not is_here(state, worker):
        return False
    if not memory.may_begin(worker, span, None):
        return False
    sending.send(state, worker, span)
    if idle > 1:
        hungry.move_to_end(worker)  # When all the others have been served.
    else:
        del hungry[worker]
        state.roomy[worker] = None
    return True


def _serve_all(state: SchedulerState, table: InTurn) -> list[Worker]:
    """Serve those in *table* in turn; return those for whom there was nothing.

    Each leaves the table when it is looked at, and comes to the one where it belongs
    when it may be served again: so no look is in vain more than once.
    """
    unserved: list[Worker] = []
    passed: list[Worker] = []
    idle = table is state.hungry
    stuck = False
    while table and state.ready_count:
        if stuck or state.eager:
            worker = _next(state, table, stuck, passed)
            if worker is None:
                break
        else:
            worker = next(iter(table))
        del table[worker]
        if not is_here(state, worker):
            continue
        if idle and worker.busy >= worker.slots:
            state.roomy[worker] = None
            if worker.has_queued:
                passed.append(worker)
        elif not idle and not _may_have_more(state, worker):
            continue
        elif _serve(state, worker):
            memory.reconsider(state, worker)
            stuck = False
        elif not worker.withheld:
            unserved.append(worker)
            stuck = True
    if passed:
        state.eager |= dict.fromkeys(passed)
    return unserved


def _next(
    state: SchedulerState,
    table: InTurn,
    stuck: bool,
    passed: list[Worker],
) -> Worker | None:
    """Return whom to serve next: first those for whom something lies ready.

    Where one found nothing (*stuck*), no other will that is not asked for by name or
    for its resources: with many workers, it would take long to let each of them look.
    Those in another table that come up are added to *passed*.
    """
    if stuck and state.special_count:
        _rouse(state)
    while state.eager:
        worker, _ = state.eager.popitem()
        if worker in table:
            return worker
        if worker in state.roomy:
            passed.append(worker)
    return None if stuck else next(iter(table))


def _rouse(state: SchedulerState) -> None:
    """Those shall look that are asked for by name or for their resources.

    What lies in the queues of other workers is asked for anew each time, since it may
    pay by now to move it.
    """
    awake, state.awake = state.awake, {}
    lookers = [wishes.lookers(state, demand) for demand in awake]
    for owner in itertools.islice(state.loaded, LOOKED_AT):
        for span in first_of(owner):
            demand = demand_of(state, span)
            if demand not in awake:
                awake[demand] = None
                lookers.append(wishes.lookers(state, demand, span))
    for workers in lookers:
        for worker in workers:
            if worker in state.hungry or worker in state.roomy:
                state.eager[worker] = None


def _serve(state: SchedulerState, worker: Worker) -> bool:
    """Give *worker* one slice of what it should run next, if there is any.

    And what can follow it there.
    """
    span = _choose(state, worker)
    if span is None:
        return False
    if span.n > 1:
        k = _slice(state, worker, span)
        if k < span.n:
            span = cut(state, span, even(span, k))
    span.missing = 0
    sending.send(state, worker, span)
    if span.dependents:
        _send_followers(state, worker, span)
    return True


def _may_have_more(state: SchedulerState, worker: Worker) -> bool:
    """Whether to give *worker*, all of whose slots are busy, more at this moment."""
    if not balance.may_have_more(state, worker):
        return False
    return _room(worker) or _is_urgent(state, worker)


def _room(worker: Worker, backlog: float | None = None) -> bool:
    """Whether *worker* may be given more; *backlog* is what it has, where that is known."""
    count, slots = worker.count, worker.slots
    if count < slots:
        return True
    if len(worker.assigned) >= RUNS_AHEAD * slots:
        return False
    if backlog is None:
        backlog = worker.backlog_seconds(UNKNOWN_SECONDS)
    if backlog >= (AHEAD_SECONDS + worker.distance.seconds) * slots:
        return distance.at_hand(worker, count, backlog) < 2 * slots
    return True


def _is_urgent(state: SchedulerState, worker: Worker) -> bool:
    """Whether *worker*, which has no room, is to get what goes before all that lies there.

    A higher priority begins at the worker as soon as it is there, whatever lies in line.
    """
    lowest = worker.lowest
    heaps = [state.default_demand.heap, worker.queue]
    if state.special_count:
        heaps += [demand.heap for demand in worker.demands]
    for heap in heaps:
        first = top(heap)
        if first is not None and first.rank[0] < lowest:
            break
    else:
        return False
    slots = worker.slots
    if len(worker.assigned) >= RUNS_AHEAD * slots:
        return False
    span = _choose(state, worker)
    if span is None or span.rank[0] >= lowest:
        return False
    count, backlog = _before(worker, span)
    if count < slots:
        return True
    if backlog >= (AHEAD_SECONDS + worker.distance.seconds) * slots:
        return False
    return distance.at_hand(worker, count, backlog) < 2 * slots


def _before(worker: Worker, span: Span) -> tuple[int, float]:
    """Return how many tasks *worker* has that *span* does not go before by its priority.

    And how many seconds they take.  What is urgent was given last, and is looked for there.
    """
    priority = span.rank[0]
    if priority >= worker.lowest:
        return worker.count, worker.backlog_seconds(UNKNOWN_SECONDS)
    count, seconds = 0, 0.0
    for other in itertools.islice(reversed(worker.assigned), 4 * worker.slots):
        if other.rank[0] <= priority:
            count += other.n
            known = other.function.seconds if other.function is not None else 0.0
            seconds += other.n * (UNKNOWN_SECONDS if known is None else known)
    return count, seconds


def _choose(state: SchedulerState, worker: Worker) -> Span | None:
    """Return the ready span that *worker* should get next."""
    worker.withheld = False
    best = None
    if worker.queue or worker.asking:
        best = _own(state, worker)
    span = top(state.default_demand.heap)
    if (
        span is not None
        and (best is None or span.rank < best.rank)
        and memory.may_begin(worker, span, best)
    ):
        best = span
    for demand in worker.demands if state.special_count else ():
        span = top(demand.heap)
        if span is None or (best is not None and best.rank <= span.rank):
            continue
        if demand.resources and not fits_now(worker, demand):
            continue
        if demand.named and not wishes.may_take(state, demand, span, worker):
            continue
        if memory.may_begin(worker, span, best):
            best = span
    if best is None:
        best = _from_another(state, worker)
    return best


def _own(state: SchedulerState, worker: Worker) -> Span | None:
    """Return what lies in the queues of *worker* itself that it can run now."""
    best = top(worker.queue)
    if worker.asking:
        for key, heap in list(worker.asking.items()):
            demand, _ = key
            span = top(heap)
            if span is None:
                del worker.asking[key]
            elif (best is None or span.rank < best.rank) and fits_now(worker, demand):
                best = span
    if best is None and not worker.asking:
        state.loaded.pop(worker, None)
    return best


def fits_now(worker: Worker, demand: Demand) -> bool:
    """Whether *worker* has the resources free at this moment."""
    if not demand.resources:
        return True
    free = worker.free
    return all(
        free.get(name, 0) + AMOUNT_ERROR >= need
        for name, need in demand.resources.items()
    )


def _from_another(state: SchedulerState, worker: Worker) -> Span | None:
    """Return a span that lies in another worker's queue, if moving it pays."""
    for owner in list(itertools.islice(state.loaded, LOOKED_AT)):
        spans = first_of(owner)
        if not spans:
            del state.loaded[owner]
        for span in spans:
            if _may_move(state, span, owner, worker):
                return span
    return None


def _may_move(state: SchedulerState, span: Span, owner: Worker, worker: Worker) -> bool:
    """Whether *span*, which lies in the queue of *owner*, had better run on *worker*."""
    demand = demand_of(state, span)
    if not demand.admits(worker) or not fits_now(worker, demand):
        return False
    if span.unreached and not owner.leaving and state.now < tries.elsewhere_at(span):
        # Moving its inputs has failed before.
        balance.look_again(state, tries.elsewhere_at(span))
        return False
    if worker.name in avoided(state, span):
        # Another one may take it, who would not look where this one finds nothing.
        state.eager |= dict.fromkeys(itertools.islice(state.hungry, 1))
        return False
    if owner.away_since is not None:
        return False  # Its inputs cannot be reached; they may soon be.
    if demand.named and not wishes.may_take(state, demand, span, worker):
        return False
    if owner.leaving:
        return True
    if owner.busy < owner.slots and fits_now(owner, demand):
        return False  # It will be served in this very round.
    moving = TRANSFER_SECONDS + _input_bytes(state, span) / BYTES_PER_SECOND
    if moving < balance.waits(state, owner):
        return True
    balance.look_again(state, owner.stirred + max(moving, balance.SILENT_SECONDS))
    return False


def _input_bytes(state: SchedulerState, span: Span) -> int:
    """Return about how many bytes one task of *span* takes as inputs."""
    return sum(
        source.nbytes // span.n
        if source.dependents and source.dependents.get(span)
        else source.nbytes
        for source in inputs_of(state, span)
    )


def _slice(state: SchedulerState, worker: Worker, span: Span) -> int:
    """Return how many tasks of *span*, which are several, to give to *worker* at once."""
    slots = worker.slots
    function = span.function
    assert function is not None
    idle = slots - worker.busy
    if span.options.resources:
        # One by one beyond the idle slots: a run holds its resources while it
        # waits in line.
        k = max(1, min(span.n, idle))
        for name, need in span.options.resources.items():
            if need:
                free = worker.free.get(name, 0) + AMOUNT_ERROR
                k = int(min(k, free // need))
        return max(1, cap_by_bytes(span, k))
    # When little is left, every slot gets its share of it.
    share = -(-state.ready_count // max(1, state.slots_count)) * slots
    each = function.seconds
    count, backlog = _before(worker, span)
    if each is None:
        k = idle if idle > 0 else 2 * slots - count
    else:
        each = max(each, 1e-7)
        away = worker.distance.seconds * slots
        free = FULL_SECONDS * slots + away - backlog
        least = 2 * slots + slots // 2 - count + int(away / each)
        k = max(idle, least, int(free / each))
        share = max(share, int(TOGETHER_SECONDS * slots / each))
    k = memory.some_of(worker, span, max(1, min(k, share, span.n)))
    return cap_by_bytes(span, k)


def cap_by_bytes(span: Span, k: int) -> int:
    """Return *k*, or fewer, tasks of *span* whose arguments are no burden for a link."""
    pack = span.pack
    if pack is None or pack.nbytes <= RUN_BYTES:
        return k
    ends = pack.ends()
    start = ends[span.at - 1] if span.at else 0
    while k > 1 and ends[span.at + k - 1] - start > RUN_BYTES:
        k //= 2
    return k


def try_ahead(state: SchedulerState, span: Span) -> None:
    """*span* waits: send it ahead if one worker is to make all that it lacks."""
    for source in inputs_of(state, span)[:AHEAD_INPUTS]:
        worker = source.worker
        if worker is not None:
            ahead = _ahead(state, worker, span)
            if ahead is not None and is_here(state, worker) and _room(worker):
                sending.send(state, worker, span, ahead)
            return


def _send_followers(state: SchedulerState, worker: Worker, span: Span) -> None:
    """Send the tasks ahead that wait for nothing but what *worker* is to make.

    So a chain runs without a round trip for every link.
    """
    if not is_here(state, worker):
        return
    todo = [span]
    backlog: float | None = None
    for source in todo:
        for dependent in source.dependents or ():
            if dependent.state is not WAITING:
                continue
            ahead = _ahead(state, worker, dependent)
            if ahead is None:
                continue
            if backlog is None:
                backlog = worker.backlog_seconds(UNKNOWN_SECONDS)
            if not _room(worker, backlog):
                return
            sending.send(state, worker, dependent, ahead)
            function = dependent.function
            known = function.seconds if function is not None else 0.0
            backlog += UNKNOWN_SECONDS if known is None else known
            todo.append(dependent)


def _ahead(
    state: SchedulerState, worker: Worker, span: Span
) -> tuple[tuple[TaskId, ...], int] | None:
    """Return what *span* lacks that is being made on *worker*; ``None`` if it lacks more.

    Or if it may not be sent ahead of that for another reason.  With it comes how many
    bytes of what it takes lie on *worker* already.
    """
    sources = span.inputs
    if sources is None:
        if span.n > 1 or span.whole:
            return None  # A span of one takes no groups.
        sources = tuple(inputs_of(state, span))
    awaits: list[TaskId] = []
    here = 0
    for source in sources[:AHEAD_INPUTS]:
        if worker in source.replicas:
            here += source.nbytes
        elif source.worker is worker:
            awaits.append(source.base)
        else:
            return None
    if len(sources) > AHEAD_INPUTS or span.pack is None or span.state is not WAITING:
        return None  # It would take long to look at.
    if state.shy and state.shy.get(span) is worker:
        return None
    if span.options.resources:
        return None  # It would hold amounts while it waits.
    function = span.function
    if span.options is not DEFAULT_OPTIONS or (function and function.environment):
        demand = demand_of(state, span)
        if not (demand is state.default_demand or demand.admits(worker)):
            return None
        if demand.named and not wishes.is_for(state, demand, worker):
            return None
    return (*awaits,), here
