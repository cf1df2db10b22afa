"""Single tasks: how they come in, alone or in parcels, and how slots tell of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from covey.ids import RunId, TaskId
from covey.wire import worker_link
from covey.wire.worker_link import RanNodes
from covey.worker.core import (
    dispatch,
    fetching,
    learning,
    overdue,
    overtaken,
    parcels,
    vouching,
)
from covey.worker.core.landing import demand, flight_of, land
from covey.worker.core.orders import (
    KeepArguments,
    Report,
    ReportNodes,
    SlotRanNodes,
    StowNodes,
    Tell,
)
from covey.worker.core.state import Flight, Parcel, Piece, Run, Slot, WorkerState
from covey.worker.core.waiting import enqueue

_Row: TypeAlias = tuple[RunId, TaskId, float, int]
"""Of a task that has returned: run, task, seconds, bytes."""

_Told: TypeAlias = tuple[int, int, Parcel | None]
"""A part of what a slot tells: from where on, how many, and of which parcel."""

_RUN: Final = worker_link.Run


# How they come in.


def take_in(state: WorkerState, messages: Sequence[Any]) -> Iterable[Any]:
    """Return what the scheduler has said, but for runs that have become parcels.

    Runs that come one after the other may; what came before or after them is taken in
    before or after them.
    """
    if state.turned_short:
        parcels.look_again(state)
    if len(messages) != 1:
        return _take_in(state, messages)
    message = messages[0]
    if type(message) is not _RUN:
        return messages
    # By itself it makes no parcel; others may come that take its value.
    if message.awaits:
        parcels.fits(state, message)
    on_run(state, message, alone=True)
    return ()


def _take_in(state: WorkerState, messages: Sequence[Any]) -> Iterator[Any]:
    nodes: list[worker_link.Run] = []
    for message in messages:
        if type(message) is _RUN and parcels.fits(state, message):
            nodes.append(message)
            continue
        if nodes:
            yield from parcels.gather(state, nodes)
            nodes = []
        yield message
    yield from parcels.gather(state, nodes) if len(nodes) > 1 else nodes


def on_run(
    state: WorkerState, message: worker_link.Run, *, alone: bool = False
) -> None:
    """Take in a run: it waits for values that come from elsewhere, or for a slot.

    With *alone*, nothing else has come that could go before it.
    """
    run = Run(message)
    if state.environments:
        run.environment = state.environments.get(message.fn, "")
    state.runs[run.run] = run
    if message.timeout_seconds:
        overdue.limit(state)
    if message.n == 1 and not message.awaits:
        state.alone[message.base] = run
    if message.seconds and message.fn not in state.seconds:
        state.seconds[message.fn] = message.seconds
    state.order(KeepArguments(run.run, message.base, message.sizes, message.data))
    for base, n, worker in message.sources:
        fetching.want(state, (base, n), worker, run)
    for base, n, worker in message.spares:
        fetching.know_spare(state, (base, n), worker)
    for task in message.awaits:
        if not parcels.is_here(state, task):
            run.missing.add((task, 1))
            state.awaited.setdefault(task, []).append(run)
    if run.missing or (
        state.lacked and dispatch.give_back_lacking(state, run, run.base, run.n)
    ):
        return
    if not (alone and run.n == 1 and dispatch.begin_at_once(state, run)):
        enqueue(state, Piece(run, message.base, message.n))


# How they end.


#: Seconds, calls.
_NO_CALLS: Final = (0.0, 0)


class _Outcome:
    """What follows from the ends of single tasks, gathered as they are gone through."""

    def __init__(self, event: SlotRanNodes) -> None:
        self.event = event
        self.stow = StowNodes([])
        self.told: list[_Row] = []
        #: Those that the scheduler knows by their digests.
        self.known: list[_Row] = []

    def keep(
        self, state: WorkerState, at: int, row: _Row, *, reply: bool, digests: bool
    ) -> None:
        """Keep a value, and tell of it: with all others, or, if one waits for it, alone."""
        task = row[1]
        self.stow.places.append(at)
        state.made.add(task, 1)
        self.tell(
            state,
            row,
            reply=reply,
            digests=digests or vouching.at_once(state, task, 1),
        )

    def tell(
        self, state: WorkerState, row: _Row, *, reply: bool, digests: bool
    ) -> None:
        """A value is there: see who waits for it, here and elsewhere."""
        run, task, seconds, nbytes = row
        if state.lacked:
            fetching.came(state, task, 1)
        if task in state.awaited:
            dispatch.arrived(state, task, 1)
        if reply and nbytes <= self.event.inline_bytes:
            state.order(Report(run, task, 1, seconds, self.event.slot, digests))
        else:
            (self.known if digests else self.told).append(row)


def on_slot_ran_nodes(state: WorkerState, event: SlotRanNodes) -> None:
    """Single tasks returned: keep what is wanted, and tell of all in one message."""
    slot = state.slots[event.slot]
    if len(event.runs) == 1 and slot.flights and event.runs[0] not in state.parcels:
        first = slot.flights[0]
        mine = first.n == 1 and first.base == event.tasks[0]
        if mine and first.run.run == event.runs[0]:
            _end_first(state, event, slot, first)
            return
    parts = _parts(state, event, slot)
    flights = _singles(state, event, slot, parts)
    outcome = _Outcome(event)
    state.order(outcome.stow)
    columns = zip(event.runs, event.tasks, event.seconds, event.sizes, strict=True)
    rows = [*columns]
    for at, n, parcel in parts:
        if parcel is not None:
            _end_some(state, slot, parcel, outcome, rows, at, n)
        else:
            flight = flights.get(rows[at][:2])
            _end_single(state, slot, flight, outcome, rows[at], at)
    overdue.heard(state, slot)
    if outcome.told:
        runs, tasks, took, sizes = zip(*outcome.told, strict=True)
        state.order(Tell(RanNodes(runs, tasks, took, sizes, event.slot)))
    if outcome.known:
        runs, tasks, took, sizes = zip(*outcome.known, strict=True)
        state.order(ReportNodes(runs, tasks, took, sizes, event.slot))


def _end_first(
    state: WorkerState, event: SlotRanNodes, slot: Slot, flight: Flight
) -> None:
    """The first flight of a slot has ended, of one task, and of nothing else is told.

    What follows is what follows from one among several.
    """
    run, task = flight.run, flight.base
    slot.land(flight)
    dispatch.forget_flight(state, flight)
    learning.learn(state, run.fn, event.seconds[0], 1)
    if slot.overtaken and overtaken.runs_again(state, slot, run.run, task, run):
        state.order(StowNodes([]))
        return
    if run.stopped and not run.live(task, 1):
        state.order(StowNodes([]))
    else:
        state.order(StowNodes([0]))
        _tell_first(state, event, run, task)
    overdue.heard(state, slot)
    dispatch.finish_tasks(state, run, 1)


def _tell_first(
    state: WorkerState, event: SlotRanNodes, run: Run, task: TaskId
) -> None:
    """The value of a single task is kept: say so to who waits for it."""
    state.made.add(task, 1)
    digests = run.digests or vouching.at_once(state, task, 1)
    if state.lacked:
        fetching.came(state, task, 1)
    if task in state.awaited:
        dispatch.arrived(state, task, 1)
    seconds, nbytes, slot = event.seconds[0], event.sizes[0], event.slot
    if run.reply and nbytes <= event.inline_bytes:
        state.order(Report(run.run, task, 1, seconds, slot, digests))
        return
    row = (run.run,), (task,), (seconds,), (nbytes,), slot
    state.order(ReportNodes(*row) if digests else Tell(RanNodes(*row)))


def _parts(state: WorkerState, event: SlotRanNodes, slot: Slot) -> list[_Told]:
    """Cut what is told into what is of one parcel, in its order, and the rest.

    A parcel that is told of in another way is taken apart.
    """
    parts: list[_Told] = []
    at, end = 0, len(event.runs)
    while at < end:
        parcel = state.parcels.get(event.runs[at])
        n = 1
        if parcel is not None:
            n = _agreeing(parcel, slot, event, at)
            if not n or any(known is parcel for _, _, known in parts):
                parcels.separate(state, event.runs[at])
                return _parts(state, event, slot)
        parts.append((at, n, parcel))
        at += n
    return parts


def _agreeing(parcel: Parcel, slot: Slot, event: SlotRanNodes, at: int) -> int:
    """Return how many of a parcel's nodes are told of in their order from *at* on."""
    flight = parcel.flight
    if flight is None or flight.slot is not slot:
        return 0
    done = flight.done
    n = min(parcel.n - done, len(event.runs) - at)
    runs, tasks = parcel.runs[done : done + n], parcel.tasks[done : done + n]
    if (*event.runs[at : at + n],) == runs and (*event.tasks[at : at + n],) == tasks:
        return n
    told = zip(event.runs[at:], event.tasks[at:], strict=True)
    agree = 0
    for pair, known in zip(told, zip(runs, tasks, strict=True), strict=False):
        if pair != known:
            break
        agree += 1
    return agree


def _singles(
    state: WorkerState, event: SlotRanNodes, slot: Slot, parts: list[_Told]
) -> dict[tuple[RunId, TaskId], Flight]:
    """Return the flights of single tasks that a slot has in hand.

    Raises:
        RemoteProtocolError: something is told twice, or is part of a longer flight.
    """
    told = {*zip(event.runs, event.tasks, strict=True)}
    demand(len(told) == len(event.runs))
    alone = {
        (event.runs[at], event.tasks[at]) for at, _, parcel in parts if parcel is None
    }
    if not alone:
        return {}
    singles = {(f.run.run, f.base): f for f in slot.flights if f.n == 1}
    for run, task in alone - singles.keys() - slot.parked.keys():
        demand(flight_of(state, event.slot, run, task)[1] is None)
    return singles


def _end_single(
    state: WorkerState,
    slot: Slot,
    flight: Flight | None,
    outcome: _Outcome,
    row: _Row,
    at: int,
) -> None:
    """One task returned that is no part of a parcel, and most often is its *flight*."""
    run_id, task, seconds, _ = row
    if flight is not None:
        run = flight.run
        slot.less(flight, 1)
        dispatch.end_flight(state, slot, flight)
    else:
        landed = land(state, outcome.event.slot, run_id, task, 1)
        if landed is None:
            return
        run = landed
    learning.learn(state, run.fn, seconds, 1)
    if slot.overtaken and overtaken.runs_again(state, slot, run_id, task, run):
        return
    if not run.stopped or run.live(task, 1):
        outcome.keep(state, at, row, reply=run.reply, digests=run.digests)
    dispatch.finish_tasks(state, run, 1)


def _end_some(
    state: WorkerState,
    slot: Slot,
    parcel: Parcel,
    outcome: _Outcome,
    rows: list[_Row],
    at: int,
    n: int,
) -> None:
    """The next *n* nodes of a parcel returned."""
    flight = parcel.flight
    assert flight is not None
    done = flight.done
    nodes, tasks = parcel.nodes[done : done + n], parcel.tasks[done : done + n]
    took: dict[int, tuple[float, int]] = {}
    seen, makers, awaited = state.parcels, state.makers, state.awaited
    for node, row in zip(nodes, rows[at : at + n], strict=True):
        seconds, calls = took.get(node.fn, _NO_CALLS)
        took[node.fn] = (seconds + row[2], calls + 1)
        del seen[node.run]
        if node.base in makers:
            del makers[node.base]
    state.soon.difference_update(tasks)
    state.made.add_singles(tasks)
    outcome.stow.places.extend(range(at, at + n))
    for node, row in zip(nodes, rows[at : at + n], strict=True):
        if node.reply or node.base in awaited or state.lacked:
            outcome.tell(state, row, reply=node.reply, digests=True)
        else:
            outcome.known.append(row)
    for fn, (seconds, calls) in took.items():
        learning.learn(state, fn, seconds, calls)
    if parcel.rides is not None:
        slot.riders -= n
    flight.done += n
    flight.since = state.now
    parcel.left -= n
    slot.less(flight, n)
    if parcel.left:
        parcels.go_on(state, parcel)
        return
    slot.drop(flight)
    parcels.forget(state, parcel)
    for fn in state.undefined & took.keys():
        dispatch.forget_function(state, fn)
