"""The door of the worker's core: events in, orders out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, TypeAlias, get_args

from covey.ids import RunId, TaskId
from covey.wire import worker_link
from covey.wire.base import Failure
from covey.wire.worker_link import RanStored, RunFailed, ToWorker
from covey.worker.core import (
    asides,
    dispatch,
    engaged,
    fetching,
    handing_back,
    learning,
    looking,
    nodes,
    overdue,
    overtaken,
    parcels,
    stopping,
    vouching,
    waiting,
)
from covey.worker.core.landing import demand, flight_of, land
from covey.worker.core.orders import (
    AnyEvent,
    AnyOrder,
    Fetched,
    FetchFailed,
    Garbled,
    KeepFunction,
    KeepValues,
    Kill,
    Looked,
    MemoryShort,
    NoEnvironment,
    Report,
    ReportStored,
    RetractDone,
    RunnerEnded,
    RunnerGrown,
    RunnerReady,
    SlotBlocked,
    SlotFailed,
    SlotRan,
    SlotRanNodes,
    SlotResumed,
    SlotReturned,
    Spawn,
    Stow,
    Tell,
    Tick,
    Told,
)
from covey.worker.core.state import Flight, Run, WorkerState

_Handler: TypeAlias = Callable[[WorkerState, Any], None]


class WorkerCore:
    """A worker, without its sockets and processes."""

    def __init__(self, runners: int, threads: int) -> None:
        self.state = WorkerState(runners, threads)

    def step(
        self, event: AnyEvent, now: float, *, more: bool = False
    ) -> list[AnyOrder]:
        """Take in one event; return what must be done.

        With *more*, another event of the same moment follows: nothing is sent to
        slots before that is taken in, too.
        """
        state = self.state
        state.now = now
        if state.parcels:
            parcels.make_way(state, event)
        _EVENTS[type(event)](state, event)
        if not more:
            dispatch.fill(state)
            if state.may_engage:
                engaged.look(state)
        orders, state.orders = state.orders, []
        state.order = state.orders.append
        return orders


# News from the scheduler.


def _on_told(state: WorkerState, event: Told) -> None:
    for message in nodes.take_in(state, event.messages):
        _MESSAGES[type(message)](state, message)


def _on_define(state: WorkerState, message: worker_link.Define) -> None:
    state.undefined.discard(message.fn)
    if message.environment:
        state.environments[message.fn] = message.environment
    state.order(KeepFunction(message.fn, message.label, message.payload))


def _on_undefine(state: WorkerState, message: worker_link.Undefine) -> None:
    state.undefined.add(message.fn)
    dispatch.forget_function(state, message.fn)


def _on_put(state: WorkerState, message: worker_link.Put) -> None:
    state.order(KeepValues(message.base, message.n, message.sizes, message.data))
    state.made.add(message.base, message.n)
    fetching.came(state, message.base, message.n)
    dispatch.arrived(state, message.base, message.n)


def _on_drop(state: WorkerState, message: worker_link.Drop) -> None:
    stopping.drop(state, message.extents)


def _on_forget(state: WorkerState, message: worker_link.Forget) -> None:
    stopping.drop(state, message.extents)
    state.order(Tell(worker_link.Forgot(message.extents)))


def _on_return(state: WorkerState, message: worker_link.Return) -> None:
    # What came along with this begins first, where slots are free: else tasks would go
    # round among workers for ever, whose links are slow.
    dispatch.fill(state)
    handing_back.hand_back(state, message.count)


def _on_fetch(state: WorkerState, message: worker_link.Fetch) -> None:
    for extent in message.extents:
        fetching.want(state, extent, message.worker, None)


# News from the slots.


def _on_slot_ran(state: WorkerState, event: SlotRan) -> None:
    run = land(state, event.slot, event.run, event.base, event.n)
    if run is None:
        return
    learning.learn(state, run.fn, event.seconds, event.n)
    slot = state.slots[event.slot]
    if slot.overtaken and overtaken.runs_again(state, slot, event.run, event.base, run):
        return
    if run.stopped:
        for base, n in run.live(event.base, event.n):
            share = n / event.n
            _keep(
                state,
                run,
                base,
                n,
                event.seconds * share,
                int(event.nbytes * share),
                event,
            )
    else:
        _keep(state, run, event.base, event.n, event.seconds, event.nbytes, event)
    dispatch.finish_tasks(state, run, event.n)


def _keep(
    state: WorkerState,
    run: Run,
    base: TaskId,
    n: int,
    seconds: float,
    nbytes: int,
    event: SlotRan,
) -> None:
    """Keep values that a slot brought, and tell the scheduler of them."""
    state.order(Stow(base, n))
    state.made.add(base, n)
    digests = run.digests or vouching.at_once(state, base, n)
    fetching.came(state, base, n)
    dispatch.arrived(state, base, n)
    if run.reply and event.inline:
        state.order(Report(run.run, base, n, seconds, event.slot, digests))
    elif digests:
        state.order(ReportStored(run.run, base, n, seconds, nbytes, event.slot))
    else:
        state.order(Tell(RanStored(run.run, base, n, seconds, nbytes, event.slot)))


def _on_slot_failed(state: WorkerState, event: SlotFailed) -> None:
    slot, flight = flight_of(state, event.slot, event.run, event.task)
    parked = slot.parked.get((event.run, event.task))
    stopped = parked or flight
    failure = event.failure
    if stopped is not None and event.task in stopped.asked:
        failure = _stopped(stopped, failure)
    run = land(state, event.slot, event.run, event.task, 1)
    if run is None:
        return
    learning.learn(state, run.fn, event.seconds, 1)
    if slot.overtaken and overtaken.runs_again(state, slot, event.run, event.task, run):
        return
    if run.live(event.task, 1):
        message = RunFailed(event.run, event.task, event.seconds, failure, event.slot)
        state.order(Tell(message))
    dispatch.finish_tasks(state, run, 1)


def _stopped(flight: Flight, failure: Failure) -> Failure:
    """Return the failure of a task that we stopped ourselves."""
    if flight.run.timeout_seconds:
        return Failure(
            "timeout",
            "TaskTimedOut",
            f"the task ran longer than its timeout of "
            f"{flight.run.timeout_seconds:g} s and was stopped",
            details=failure.details,
        )
    return Failure(
        "cancelled", "TaskCancelled", "cancelled while it ran", details=failure.details
    )


def _on_slot_returned(state: WorkerState, event: SlotReturned) -> None:
    slot, flight = flight_of(state, event.slot, event.run, event.base)
    if flight is None:
        return
    # What comes back is always the end of a flight: it becomes shorter.
    demand(event.base >= flight.at)
    demand(event.base + event.n == flight.base + flight.n)
    flight.n -= event.n
    # A mark is no more than what a process says.
    flight.reached = min(flight.reached, max(0, flight.n - 1))
    slot.less(flight, event.n)
    slot.overtaken.discard((event.run, event.base))
    if flight.done >= flight.n:
        dispatch.end_flight(state, slot, flight)
    handing_back.take_back(state, flight.run, event.base, event.n)


def _on_retract_done(state: WorkerState, event: RetractDone) -> None:
    slot = state.slots[event.slot]
    if slot.retracting:
        slot.retracting = False
        slot.emptied = state.now + dispatch.EMPTIED_SECONDS
        handing_back.maybe_be_done(state)


def _on_slot_blocked(state: WorkerState, event: SlotBlocked) -> None:
    slot = state.slots[event.slot]
    again = slot.parked.get((event.run, event.task))
    if again is not None:
        if again.done:
            again.done = 0
            slot.resumed -= 1
            state.order(Tell(worker_link.Blocked(event.run, event.task)))
        return
    slot, flight = flight_of(state, event.slot, event.run, event.task)
    if flight is None:
        return
    demand(event.task == flight.at)
    if flight.run.missing:
        waiting.has_begun(state, flight.run)
    how = (state.now, flight.each)
    alone = Flight(flight.run, event.task, 1, *how, alone=flight.alone)
    alone.begun, alone.asked = state.now, flight.asked
    if flight.executing == event.task:
        alone.begun = min(flight.begun, state.now)
        alone.kill_at = flight.kill_at
    slot.parked[event.run, event.task] = alone
    # Where a task waits nobody leaves; what it waits for may have to run here.
    slot.runner.wanted = None
    state.order(Tell(worker_link.Blocked(event.run, event.task)))
    flight.done += 1
    slot.less(flight, 1)
    if flight.done >= flight.n:
        dispatch.end_flight(state, slot, flight)
    else:
        overdue.reach(state, slot, flight, flight.done)


def _on_slot_resumed(state: WorkerState, event: SlotResumed) -> None:
    slot = state.slots[event.slot]
    parked = slot.parked.get((event.run, event.task))
    if parked is not None and not parked.done:
        # ``done`` of a parked flight tells that it executes again.
        parked.done = 1
        slot.resumed += 1
        state.order(Tell(worker_link.Resumed(event.run, event.task)))


# News of processes.


def _on_runner_ready(state: WorkerState, event: RunnerReady) -> None:
    runner = state.runners[event.runner]
    runner.ready = True
    runner.dying = False
    if runner.since == math.inf:
        # However long the start took: its stay begins now.
        runner.since = state.now


def _on_runner_ended(state: WorkerState, event: RunnerEnded) -> None:
    """Blame what executed; what merely lay in its hands is dispatched again."""
    runner = state.runners[event.runner]
    killed, runner.dying = runner.dying or event.blameless, False
    runner.ready = runner.reserved = False
    in_hand: list[Flight] = []
    next_in_line: list[Flight] = []
    for slot in runner.slots:
        in_hand += [*slot.flights, *slot.parked.values()]
        next_in_line += [*itertools.islice(slot.flights, 2), *slot.parked.values()]
        for (run, task), flight in slot.parked.items():
            if not flight.done:
                # It waits for others no more: whatever runs it again needs a slot.
                state.order(Tell(worker_link.Resumed(run, task)))
        for flight in slot.flights:
            dispatch.forget_flight(state, flight)
        slot.clear()
    executing = {
        (flight.run.run, task)
        for flight in in_hand
        for run, task in event.executing
        if run == flight.run.run and flight.at <= task < flight.base + flight.n
    }
    certain = len(executing) == 1
    if not executing and not killed:
        # It died between two tasks, or before its first one.  That happens once;
        # what makes it happen again is found among the next in line.
        executing = {(flight.run.run, flight.at) for flight in next_in_line}
        certain = len(in_hand) == 1 and in_hand[0].alone
    for flight in in_hand:
        _take_down(state, event, flight, executing, certain=certain, killed=killed)
    handing_back.asked_in_vain(state)
    if runner.extra:
        runner.gone = True  # If it is needed still, it is started again.
    else:
        state.order(Spawn(event.runner, runner.environment))


def _on_no_environment(state: WorkerState, event: NoEnvironment) -> None:
    """Nothing that asks for it can run here; the runner goes back to the usual one."""
    dispatch.fail_all(state, event.environment, event.failure)
    state.queues.pop(event.environment, None)
    alone = [p for p in state.suspects if p.run.environment == event.environment]
    for piece in alone:
        state.suspects.remove(piece)
        dispatch.fail(state, piece.run, piece.base, event.failure)
    runner = state.runners[event.runner]
    if runner.extra:
        runner.gone = True
        return
    runner.environment = ""
    runner.since = math.inf
    state.order(Spawn(event.runner))


def _take_down(
    state: WorkerState,
    event: RunnerEnded,
    flight: Flight,
    executing: set[tuple[RunId, TaskId]],
    *,
    certain: bool,
    killed: bool,
) -> None:
    """A flight went down with its process: who is to blame, who tries again?"""
    run = flight.run
    at, end = flight.at, flight.base + flight.n
    guilty = {task for r, task in executing if r == run.run and at <= task < end}
    if flight.kill_at:
        guilty.add(flight.executing)
    for task in sorted(guilty):
        if task > at:
            dispatch.requeue(state, run, at, task - at)
        at = task + 1
        if flight.kill_at and task == flight.executing:
            dispatch.fail(state, run, task, _stopped(flight, event.failure))
        elif killed:
            # The process was ended on purpose, because of another task or of none.
            dispatch.requeue(state, run, task, 1)
        elif certain:
            dispatch.fail(state, run, task, event.failure)
        else:
            # One of several: each is tried again by itself.  Even one that began
            # alone may have had company, while it waited for tasks of its own.
            dispatch.requeue(state, run, task, 1, alone=True)
    if at < end:
        dispatch.requeue(state, run, at, end - at)


# News of memory.


def _on_memory_short(state: WorkerState, event: MemoryShort) -> None:
    state.memory_short = event.short
    state.memory_hold = event.short and event.hold


def _on_runner_grown(state: WorkerState, event: RunnerGrown) -> None:
    """Start a runner anew between two tasks; it loses nothing but its memory."""
    runner = state.runners[event.runner]
    if runner.ready and not runner.dying and runner.idle and not runner.parked:
        runner.dying = True
        state.order(Kill(runner.number, "it kept the memory of tasks that had ended"))


# Time.


def _on_tick(state: WorkerState, event: Tick) -> None:
    del event
    state.wake_at = 0.0
    overdue.check_deadlines(state)
    overdue.ask_for_news(state)
    parcels.lose_patience(state)


_MESSAGES: dict[type, _Handler] = {
    worker_link.Define: _on_define,
    worker_link.Undefine: _on_undefine,
    worker_link.Run: nodes.on_run,
    worker_link.Put: _on_put,
    worker_link.Drop: _on_drop,
    worker_link.Forget: _on_forget,
    worker_link.Return: _on_return,
    worker_link.Stop: stopping.on_stop,
    worker_link.Peer: asides.on_peer,
    worker_link.Fetch: _on_fetch,
    worker_link.Leave: asides.on_leave,
    worker_link.Watched: asides.on_watched,
    worker_link.Meet: asides.on_meet,
}
_EVENTS: dict[type, _Handler] = {
    Told: _on_told,
    RunnerReady: _on_runner_ready,
    RunnerEnded: _on_runner_ended,
    NoEnvironment: _on_no_environment,
    SlotRan: _on_slot_ran,
    SlotRanNodes: nodes.on_slot_ran_nodes,
    SlotFailed: _on_slot_failed,
    SlotReturned: _on_slot_returned,
    SlotBlocked: _on_slot_blocked,
    SlotResumed: _on_slot_resumed,
    RetractDone: _on_retract_done,
    Fetched: fetching.on_fetched,
    FetchFailed: fetching.on_fetch_failed,
    Garbled: fetching.on_garbled,
    MemoryShort: _on_memory_short,
    RunnerGrown: _on_runner_grown,
    Looked: looking.on_looked,
    Tick: _on_tick,
}

# Every arm of both unions has exactly one handler; checked once, at import.
assert set(_MESSAGES) == set(get_args(ToWorker))
assert set(_EVENTS) == set(get_args(AnyEvent))
