"""Workers in fair weather: the real core in a shell to which nothing ever happens.

A trial has a thousand machines and a million tasks, and none of them fails.  So what
becomes of a task is known when it begins, and where the simulator of faults makes ten
calls on its timeline, of which any might come too late or never, one is enough here: when
the worker hears of the end.  The cores are told and asked the same as there
(``covey.sim.runners``, ``covey.sim.worker``), a pipe being always equally late::

    worker    Dispatch ┐                 ┌ hears of it: the only call on the timeline
    slot               └► begins ─ ends ─┘
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, ClassVar, Final, Protocol

from covey.ids import RunId, TaskId
from covey.scheduler.core.machine import Said
from covey.sim import runners
from covey.sim.runners import FLUSH_MOST_SECONDS, FLUSH_SECONDS
from covey.sim.timeline import Timeline
from covey.sim.worker import INLINE_BYTES
from covey.store.digests import of_one
from covey.wire.introductions import WorkerIntroduction
from covey.wire.worker_link import Ran, RanNodes, RanStored, Vouches
from covey.worker.core import orders
from covey.worker.core.machine import WorkerCore

#: As late a pipe is on average where nobody knows how late it will be.
PIPE_SECONDS: Final = 1.5 * runners.PIPE_SECONDS

#: How long the question for a value is.
_QUESTION_BYTES: Final = 64

#: Of every value: all small ones are empty, and nobody looks into large ones.
_DIGEST: Final = of_one(b"")


class World(Protocol):
    """What a worker knows of the world."""

    timeline: Timeline
    rng: Random
    #: Of a message, in seconds, and between two workers in bytes a second.
    latency: float
    bandwidth: float

    def seconds(self, task: TaskId) -> float:
        """Return how long a task runs."""

    def nbytes(self, task: TaskId) -> int:
        """Return how large a value is."""

    def worker_at(self, address: str) -> FairWorker:
        """Return the worker that serves its data at an address."""

    def step(self, event: Said) -> None:
        """Let the scheduler hear something."""


class _Batch:
    """Consecutive tasks of one run, as they were sent to a slot.

    ``owns`` are inputs that were to be made on the slot before; with ``keep``, the value
    is one for others.
    """

    __slots__ = ("arrives", "at", "end", "keep", "owns", "run", "single")

    def __init__(
        self,
        run: RunId,
        base: TaskId,
        n: int,
        arrives: float,
        *,
        keep: bool,
        owns: tuple[TaskId, ...],
    ) -> None:
        self.run = run
        self.at = base
        self.end = base + n
        self.arrives = arrives
        self.single = n == 1
        self.keep = keep
        self.owns = owns


class _Slot:
    """A thread that runs one task after the other, and keeps news back for a while.

    All that it does is worked out when its worker would hear of it.
    """

    __slots__ = (
        "_batches",
        "_deadline",
        "_doing",
        "_ends",
        "_kept",
        "_number",
        "_patience",
        "_says",
        "_seconds",
        "_settled",
        "_worker",
    )

    def __init__(self, worker: FairWorker, number: int) -> None:
        self._worker = worker
        self._number = number
        self._batches: deque[_Batch] = deque()
        #: What it runs a task of, how long that takes, and when it ends.
        self._doing: _Batch | None = None
        self._seconds = self._ends = 0.0
        #: Small values that what follows may take.
        self._kept: set[TaskId] = set()
        #: Settled and not told yet: run, first task, how many, seconds.
        self._settled: tuple[RunId, TaskId, int, float] | None = None
        #: What is told next: events, and for single tasks run, task and seconds.
        self._says: list[orders.SlotRan | orders.SlotReturned | _Single] = []
        self._deadline = 0.0
        self._patience = FLUSH_SECONDS

    def take(self, batch: _Batch) -> None:
        """A batch is on its way."""
        self._batches.append(batch)
        if self._doing is None:
            self._begin(-math.inf)
            if self._says:
                self._worker.timeline.at(batch.arrives + PIPE_SECONDS, self._tell)

    def _next(self) -> _Batch | None:
        """Return what is next; what lacks its inputs goes back."""
        batches = self._batches
        while batches:
            batch = batches[0]
            if batch.at < batch.end:
                if not batch.owns or self._kept.issuperset(batch.owns):
                    return batch
                self._close()
                returned = orders.SlotReturned(self._number, batch.run, batch.at, 1)
                self._says.append(returned)
            batches.popleft()
            if self._settled is not None:
                self._close()
        return None

    def _begin(self, free: float) -> bool:
        """Begin what is next after this time; say whether there was anything then."""
        batch = self._doing = self._next()
        if batch is None:
            return False
        idle = batch.arrives > free
        start = batch.arrives if idle else free
        if idle:
            self._patience = FLUSH_SECONDS
            self._deadline = start + FLUSH_SECONDS
        worker = self._worker
        self._seconds = worker.world.seconds(batch.at)
        self._ends = start + self._seconds
        worker.timeline.at(self._ends + PIPE_SECONDS, self._ended)
        return not idle

    def _ended(self) -> None:
        """The worker would hear of an end now, if it is told of it at once."""
        batch, ended = self._doing, self._ends
        assert batch is not None
        self._settle(batch)
        due = ended >= self._deadline
        if due:
            self._deadline = ended + self._patience
            self._patience = min(FLUSH_MOST_SECONDS, 2 * self._patience)
        if not self._begin(ended) or due:
            self._tell()

    def _settle(self, batch: _Batch) -> None:
        task, seconds = batch.at, self._seconds
        batch.at += 1
        nbytes = self._worker.world.nbytes(task)
        if nbytes > INLINE_BYTES:
            self._close()
            ran = (self._number, batch.run, task, 1, seconds, nbytes, False)
            self._says.append(orders.SlotRan(*ran))
            return
        if batch.keep:
            self._kept.add(task)
        if batch.single:
            self._close()
            self._says.append((batch.run, task, seconds))
            return
        settled = self._settled
        if settled and settled[0] == batch.run and settled[1] + settled[2] == task:
            run, base, n, before = settled
            self._settled = (run, base, n + 1, before + seconds)
            return
        self._close()
        self._settled = (batch.run, task, 1, seconds)

    def _close(self) -> None:
        """A report never reaches over the end of a stretch."""
        if self._settled is not None:
            self._says.append(orders.SlotRan(self._number, *self._settled, 0, True))
            self._settled = None

    def _tell(self) -> None:
        self._close()
        if self._says:
            says, self._says = self._says, []
            self._worker.hear(self._number, says)

    # What the control socket asks for.

    def flush(self) -> None:
        """The worker would hear now what is settled."""
        self._tell()

    def retract(self) -> None:
        """The worker would hear now what had not begun when it asked for that."""
        self._tell()
        step, number = self._worker.step, self._number
        for batch in reversed(self._batches):
            begun = batch.at + (batch is self._doing)
            if begun < batch.end:
                n, batch.end = batch.end - begun, begun
                step(orders.SlotReturned(number, batch.run, begun, n), more=True)
        step(orders.RetractDone(number))


_Single = tuple[RunId, TaskId, float]


class FairWorker:
    """One worker, with its slots and what it holds."""

    def __init__(self, world: World, peer: int, slots: int, address: str) -> None:
        self.world = world
        self.timeline = world.timeline
        self.core = WorkerCore(slots, 1)
        self._peer = peer
        self._address = address
        self._slots = [_Slot(self, number) for number in range(slots)]
        self._holds: set[TaskId] = set()
        self._peers: dict[int, FairWorker] = {}
        #: What the slot that is heard tells: the first of several, or single tasks.
        self._base = 0
        self._tasks: tuple[TaskId, ...] = ()
        self._outbox: list[Any] = []
        self._wake = 0
        for number in range(slots):
            self.step(orders.RunnerReady(number))

    def introduce(self, name: str) -> WorkerIntroduction:
        """Return what this worker offers."""
        place = ((self._address,), name)
        return WorkerIntroduction(
            name, len(self._slots), {}, *place, 0, "0", "3", 1, epoch=0, number=0
        )

    def hear_scheduler(self, messages: list[Any]) -> None:
        """Messages have come from the scheduler."""
        self.step(orders.Told(messages))

    def hear(self, slot: int, says: list[Any]) -> None:
        """A slot tells what has ended: of single tasks that follow each other together."""
        singles: list[_Single] = []
        for said in says:
            if type(said) is tuple:
                singles.append(said)
                continue
            if singles:
                self._hear_singles(slot, singles)
                singles = []
            self.step(said)
        if singles:
            self._hear_singles(slot, singles)

    def _hear_singles(self, slot: int, singles: list[_Single]) -> None:
        if len(singles) == 1:  # As mostly.
            run, task, took = singles[0]
            runs, self._tasks, seconds = (run,), (task,), (took,)
        else:
            runs, self._tasks, seconds = zip(*singles, strict=True)
        sizes = (0,) * len(runs)
        ran = (slot, runs, self._tasks, seconds, sizes, INLINE_BYTES)
        self.step(orders.SlotRanNodes(*ran))

    def step(self, event: orders.AnyEvent, *, more: bool = False) -> None:
        """Let the core take an event in, and do what it orders."""
        for order in self.core.step(event, self.timeline.now, more=more):
            execute = self._EXECUTE[type(order)]
            if execute is not None:
                execute(self, order)
        if self._outbox:
            outbox, self._outbox = self._outbox, []
            world, timeline = self.world, self.timeline
            said = Said(self._peer, outbox)
            timeline.at(timeline.now + world.latency, world.step, said)

    # What goes to the scheduler.

    def _tell(self, order: orders.Tell) -> None:
        self._outbox.append(order.message)

    def _report(self, order: orders.Report) -> None:
        n = order.n
        digests = n * _DIGEST if order.digests else b""
        ran = (order.run, order.base, n, order.seconds)
        self._outbox.append(Ran(*ran, bytes(4 * n), b"", order.slot, digests))

    def _report_stored(self, order: orders.ReportStored) -> None:
        ran = (order.run, order.base, order.n, order.seconds, order.nbytes, order.slot)
        self._outbox.append(RanStored(*ran, order.n * _DIGEST))

    def _report_nodes(self, order: orders.ReportNodes) -> None:
        ran = (tuple(order.runs), tuple(order.tasks), tuple(order.seconds))
        how = (tuple(order.nbytes), order.slot, len(order.runs) * _DIGEST)
        self._outbox.append(RanNodes(*ran, *how))

    def _vouch(self, order: orders.Vouch) -> None:
        self._outbox.append(Vouches(order.base, order.n, order.n * _DIGEST))

    # Slots.

    def _arrival(self) -> float:
        """Return when what is written to a slot now will be read.

        Sooner or later, or machines that were given the same would keep step for ever.
        """
        late = runners.PIPE_SECONDS * (1.0 + self.world.rng.random())
        return self.timeline.now + late

    def _dispatch(self, order: orders.Dispatch) -> None:
        for first, n in (*((task, order.n) for task in order.aligned), *order.whole):
            # A task that starts without its inputs is what must not be.
            assert {*range(first, first + n)} - {*order.owns} <= self._holds
        arrives = self._arrival()
        run = (order.run, order.base, order.n, arrives)
        batch = _Batch(*run, keep=order.keep, owns=order.owns)
        self._slots[order.slot].take(batch)

    def _dispatch_nodes(self, order: orders.DispatchNodes) -> None:
        arrives = self._arrival()
        for node in order.nodes:
            owns = tuple([task for task in node.aligned if task in order.owns])
            run = (node.run, node.base, 1, arrives)
            batch = _Batch(*run, keep=node.base in order.keeps, owns=owns)
            self._slots[order.slot].take(batch)

    def _flush(self, order: orders.Flush) -> None:
        self.timeline.after(2 * PIPE_SECONDS, self._slots[order.slot].flush)

    def _retract(self, order: orders.Retract) -> None:
        self.timeline.after(2 * PIPE_SECONDS, self._slots[order.slot].retract)

    # Values.

    def _stow(self, order: orders.Stow) -> None:
        self._holds.update(range(order.base, order.base + order.n))

    def _stow_nodes(self, order: orders.StowNodes) -> None:
        for at in order.places:
            self._holds.add(self._tasks[at])

    def _drop_values(self, order: orders.DropValues) -> None:
        for base, n in order.extents:
            self._holds.difference_update(range(base, base + n))

    def _know_peer(self, order: orders.KnowPeer) -> None:
        self._peers[order.worker] = self.world.worker_at(order.addresses[0])

    def _fetch_from(self, order: orders.FetchFrom) -> None:
        world = self.world
        seconds = world.latency + _QUESTION_BYTES / world.bandwidth
        holder = self._peers[order.worker]
        self.timeline.after(seconds, holder.lend, order, self)

    def lend(self, order: orders.FetchFrom, asker: FairWorker) -> None:
        """Another worker asks for values: send it those that there are."""
        base, n = order.extent
        tasks = [task for task in range(base, base + n) if task in self._holds]
        nbytes = sum(map(self._size, tasks))
        seconds = self.world.latency + nbytes / self.world.bandwidth
        there = len(tasks) == n
        self.timeline.after(seconds, asker.take_in, order, nbytes, there)

    def take_in(self, order: orders.FetchFrom, nbytes: int, there: bool) -> None:
        """What was asked for has come, or not all of it was there."""
        base, n = order.extent
        if not there:
            self.step(orders.FetchFailed(order.extent, order.worker))
            return
        self._holds.update(range(base, base + n))
        how = (nbytes, order.worker, 0.0, n * _DIGEST)
        self.step(orders.Fetched(order.extent, *how))

    def _size(self, task: TaskId) -> int:
        """Return how large a value is taken to be: what rides along is empty."""
        nbytes = self.world.nbytes(task)
        return nbytes if nbytes > INLINE_BYTES else 0

    # Time.

    def _wake_at(self, order: orders.WakeAt) -> None:
        self._wake += 1
        self.timeline.at(order.time, self._tick, self._wake)

    def _tick(self, wake: int) -> None:
        if wake == self._wake:
            self.step(orders.Tick())

    #: What carries out each kind of order; those that only faults bring are missing.
    _EXECUTE: ClassVar[dict[type, Callable[[FairWorker, Any], None] | None]] = {
        orders.Tell: _tell,
        orders.Report: _report,
        orders.ReportStored: _report_stored,
        orders.ReportNodes: _report_nodes,
        orders.Vouch: _vouch,
        orders.Stow: _stow,
        orders.StowNodes: _stow_nodes,
        orders.Flush: _flush,
        orders.Dispatch: _dispatch,
        orders.DispatchNodes: _dispatch_nodes,
        orders.Retract: _retract,
        orders.FetchFrom: _fetch_from,
        orders.DropValues: _drop_values,
        orders.KnowPeer: _know_peer,
        orders.WakeAt: _wake_at,
        # Functions, arguments and values are nothing here.
        orders.KeepFunction: None,
        orders.ForgetFunction: None,
        orders.KeepArguments: None,
        orders.EndRun: None,
        orders.SayHow: None,
    }
