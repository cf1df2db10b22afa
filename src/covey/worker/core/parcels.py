"""Short single tasks that came together, and stay together as long as nothing happens.

A node of a graph is a run of its own to the scheduler.  Here a run is an object, a piece
in the queue, a flight, and half a dozen orders: more than many a call takes.  So short
nodes that came with each other are one *parcel*: it is queued, sent to a slot and told of
as one, and each of its nodes runs behind those whose values it takes::

    ready     [ a  b  c ]        all that these take is here, or among them
    waiting   [ d  e ]           these take c, or what another slot makes

What happens to one of them (it fails, is stopped, comes back, makes something large, its
process dies) happens to a single run: the parcel is taken apart first, and what is left of
it is as it would be if each of them had come alone.  So nothing else needs to know of
parcels, and to take one apart is right at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from covey.ids import RunId, TaskId
from covey.wire import worker_link
from covey.worker.core.orders import (
    AnyEvent,
    Garbled,
    KeepArguments,
    MemoryShort,
    NoEnvironment,
    RunnerEnded,
    SlotBlocked,
    SlotFailed,
    SlotRan,
    SlotResumed,
    SlotReturned,
)
from covey.worker.core.state import (
    SHORT_SECONDS,
    Flight,
    Parcel,
    ParcelFlight,
    Piece,
    Run,
    WorkerState,
)
from covey.worker.core.waiting import await_no_more, enqueue, wake

#: The nodes of a parcel should take so long together at most, and be no more than this.
#: What is over so soon is not worth to be shared by slots.
PARCEL_SECONDS: Final = 0.0005
NODES_MAX: Final = 64

#: Arguments of so many bytes are no burden in a frame with many others.
_SMALL_BYTES: Final = 4096

#: So long nodes wait for what others of their parcel lack, if that does not come as soon
#: as it should.
PATIENCE_SECONDS: Final = 0.5

#: News of one task, or of a part of a run.
_OF_ONE: Final = frozenset(
    {SlotRan, SlotFailed, SlotReturned, SlotBlocked, SlotResumed}
)
#: After these each task may have to go another way.
_OF_MANY: Final = frozenset({Garbled, MemoryShort, NoEnvironment})


def places(flight: Flight) -> Iterator[tuple[RunId, TaskId, int]]:
    """Yield what a flight has in hand: run, first task, and how many."""
    if isinstance(flight, ParcelFlight):
        for node in flight.parcel.rest:
            yield node.run, node.base, 1
    else:
        yield flight.run.run, flight.at, flight.left


# Putting together.


class _Draft:
    """Nodes that will be a parcel."""

    __slots__ = ("nodes", "seconds", "tasks")

    def __init__(self) -> None:
        self.nodes: list[worker_link.Run] = []
        self.tasks: set[TaskId] = set()
        self.seconds = 0.0

    def add(self, node: worker_link.Run, each: float) -> None:
        """One more node."""
        self.nodes.append(node)
        self.tasks.add(node.base)
        self.seconds += each

    def has_room(self, each: float) -> bool:
        """Whether one more that takes so long should still be part of it."""
        return len(self.nodes) < NODES_MAX and self.seconds + each <= PARCEL_SECONDS


def fits(state: WorkerState, run: worker_link.Run) -> bool:
    """Whether a run may be part of a parcel: it is short, and need not wait for long."""
    if run.n > 1 or not run.digests or run.timeout_seconds:
        return False
    if run.seconds and run.fn not in state.seconds:
        state.seconds[run.fn] = run.seconds
    if run.sources or run.whole or run.groups or run.renamed or run.spares:
        return False
    if len(run.data) > _SMALL_BYTES or run.fn in state.environments:
        return False
    if state.memory_short or state.lacked or not _comes_soon(state, run):
        return False
    if is_here(state, run.base):
        # A copy has come meanwhile: whoever takes the value takes that one.
        return False
    state.soon.add(run.base)
    return True


def _comes_soon(state: WorkerState, run: worker_link.Run | Run) -> bool:
    """Whether a task is short, and so is all that it waits for."""
    if not 0.0 < state.seconds.get(run.fn, 0.0) <= SHORT_SECONDS:
        return False
    soon = state.soon
    for task in run.awaits:
        if task in soon or is_here(state, task):
            continue
        other = state.alone.get(task)
        if other is None or not _ends_soon(state, other):
            return False
        soon.add(task)
    return True


def _ends_soon(state: WorkerState, run: Run) -> bool:
    """Whether a single task that waits for no other one is short, too."""
    if run.missing or run.timeout_seconds:
        return False
    return 0.0 < state.seconds.get(run.fn, 0.0) <= SHORT_SECONDS


def look_again(state: WorkerState) -> None:
    """A function turned out to be short: so are those that wait for nothing longer."""
    state.turned_short = False
    for run in state.runs.values():
        if run.n > 1 or run.timeout_seconds or not _comes_soon(state, run):
            continue
        if all(n == 1 and task in state.soon for task, n in run.missing):
            state.soon.add(run.base)


def gather(
    state: WorkerState, nodes: Sequence[worker_link.Run]
) -> list[worker_link.Run]:
    """Put nodes that fit into parcels; return those that stay alone.

    What can begin at once does not wait with those that cannot.
    """
    alone: list[worker_link.Run] = []
    ready, waiting = _Draft(), _Draft()
    drafts = [ready, waiting]
    soon = state.soon
    for node in nodes:
        each = state.seconds[node.fn]
        if not ready.has_room(each):
            ready = _Draft()
            drafts.append(ready)
        # As each of them fits, all that it takes is here, if it does not come soon.
        for task in node.awaits:
            if task in soon and task not in ready.tasks:
                break
        else:
            ready.add(node, each)
            continue
        if not waiting.has_room(each):
            waiting = _Draft()
            drafts.append(waiting)
        waiting.add(node, each)
    for draft in drafts:
        if len(draft.nodes) > 1:
            _enter(state, Parcel(draft.nodes, draft.seconds))
        else:
            alone += draft.nodes
    return alone


def is_here(state: WorkerState, task: TaskId) -> bool:
    """Whether the value of a task is on this worker."""
    return task in state.made or task in state.copies


def _enter(state: WorkerState, parcel: Parcel) -> None:
    """Enter a new parcel: it waits, or lies in the queue."""
    state.runs[parcel.run] = parcel
    state.parcels.update(dict.fromkeys(parcel.runs, parcel))
    awaited = {task for node in parcel.nodes for task in node.awaits}
    for task in (awaited - parcel.inside) & state.soon:
        parcel.missing.add((task, 1))
        state.awaited.setdefault(task, []).append(parcel)
    missing = parcel.missing
    if missing:
        parcel.since = state.now
        state.waiting[parcel] = None
        wake(state, state.now + PATIENCE_SECONDS)
    else:
        line_up(state, parcel)


def line_up(state: WorkerState, parcel: Parcel) -> None:
    """Nothing is missing: put it into the queue."""
    state.waiting.pop(parcel, None)
    parcel.piece = Piece(parcel, parcel.base, len(parcel.nodes))
    enqueue(state, parcel.piece)


# Taking apart.


def make_way(state: WorkerState, event: AnyEvent) -> None:
    """Take apart what an event may be about a part of."""
    kind = type(event)
    if kind in _OF_ONE:
        separate(state, event.run)  # type: ignore[union-attr]
    elif isinstance(event, RunnerEnded):
        for slot in state.runners[event.runner].slots:
            for flight in list(slot.flights):
                if isinstance(flight, ParcelFlight):
                    _take_apart(state, flight.parcel)
    elif kind in _OF_MANY:
        separate_all(state)


def separate_all(state: WorkerState) -> None:
    """Take all parcels apart."""
    for parcel in dict.fromkeys(state.parcels.values()):
        _take_apart(state, parcel)


def separate_queued(state: WorkerState) -> None:
    """Take those apart that lie in the queue."""
    for _, _, piece in list(state.entries()):
        if isinstance(piece.run, Parcel) and piece.n:
            _take_apart(state, piece.run)


def separate(state: WorkerState, run: RunId) -> None:
    """Take the parcel apart of which a run is part, if it is part of one."""
    parcel = state.parcels.get(run)
    if parcel is not None:
        _take_apart(state, parcel)


def lose_patience(state: WorkerState) -> None:
    """Let nodes go on by themselves that have waited for others of their parcel."""
    for parcel in list(state.waiting):
        due = parcel.since + PATIENCE_SECONDS
        if state.now < due:
            wake(state, due)
            break
        _take_apart(state, parcel)


def _take_apart(state: WorkerState, parcel: Parcel) -> None:
    """Leave of a parcel what there would be if each of its nodes had come alone."""
    flight, piece = parcel.flight, parcel.piece
    runs = [_single(state, node) for node in parcel.rest]
    forget(state, parcel)
    for run in runs:
        state.runs[run.run] = run
        for task in run.awaits:
            if not is_here(state, task):
                run.missing.add((task, 1))
                state.awaited.setdefault(task, []).append(run)
    if flight is not None:
        _hand_over(flight, runs)
        return
    if piece is not None:
        state.queued -= piece.n
        piece.n = 0
    for run in runs:
        if not run.missing:
            enqueue(state, Piece(run, run.base, 1))


def _single(state: WorkerState, node: worker_link.Run) -> Run:
    """Return the run that a node is by itself."""
    state.order(KeepArguments(node.run, node.base, node.sizes, node.data))
    return Run(node)


def _hand_over(flight: ParcelFlight, runs: list[Run]) -> None:
    """In a slot's hands, each node is a flight of its own."""
    slot = flight.slot
    singles = []
    for run in runs:
        single = Flight(run, run.base, 1, flight.since, flight.each)
        if run.missing:
            run.rides = slot
            slot.riders += 1
        singles.append(single)
    slot.part(flight, singles)


def go_on(state: WorkerState, parcel: Parcel) -> None:
    """The first nodes have ended: the parcel goes by the next one from now on."""
    del state.runs[parcel.run]
    first = parcel.nodes[parcel.done]
    parcel.run, parcel.fn = first.run, first.fn
    state.runs[parcel.run] = parcel


def forget(state: WorkerState, parcel: Parcel) -> None:
    """A parcel is over, or was taken apart."""
    state.runs.pop(parcel.run, None)
    state.waiting.pop(parcel, None)
    for node in parcel.rest:
        state.parcels.pop(node.run, None)
    await_no_more(state, parcel, [task for task, _ in parcel.missing])
    if parcel.rides is not None:
        parcel.rides.riders -= parcel.left
        parcel.rides = None
    # These refer to it: no circle is left to the collector, which seldom comes by.
    parcel.flight = parcel.piece = None
