"""A worker: the real core in a played shell."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, ClassVar, Final, Protocol

from covey.errors import CoveyError
from covey.ids import TaskId
from covey.payload import Pack
from covey.sim.lines import Uplink
from covey.sim.network import Network, Node
from covey.sim.runners import Batch, Inputs, Runner, Work
from covey.sim.timeline import Timeline
from covey.store.digests import of_pack
from covey.wire.base import Extent, Failure, Message
from covey.wire.introductions import Welcome, WorkerIntroduction
from covey.wire.line import Line
from covey.wire.worker_link import (
    FromWorker,
    Holds,
    Leaving,
    Ran,
    RanNodes,
    RanStored,
    Reported,
    RunFailed,
    Vouches,
)
from covey.worker.core import invariants, orders, reporting
from covey.worker.core.machine import WorkerCore

#: How long a runner takes to come up.
START_SECONDS: Final = 0.1

#: What becomes of a task whose result has no room.
NO_ROOM: Final = Failure("memory", "TaskOutOfMemory", "its result cannot be kept")

#: Results up to about this size ride along to whoever waits for them.
INLINE_BYTES: Final = 2048


class World(Protocol):
    """What a worker knows of the world."""

    timeline: Timeline
    network: Network
    rng: Random
    work: Work

    def worker_at(self, address: str) -> Worker | None:
        """Return the worker that serves its data at an address, if it lives."""


class Upstream(Protocol):
    """The link to the scheduler."""

    def send_all(self, messages: list[Any]) -> None:
        """Send messages."""


class Worker(Node):
    """One worker, with its slots, its store and its data port."""

    def __init__(
        self,
        world: World,
        name: str,
        *,
        runners: int,
        threads: int,
        address: str,
        resources: dict[str, float] | None = None,
        check: bool = True,
    ) -> None:
        super().__init__(name)
        self.world = world
        self.timeline = world.timeline
        self.rng = world.rng
        self.rearm.append(self._rest)
        #: Whether there is no room for large values, neither in memory nor on disk.
        self.disk_full = False
        #: Values whose copy on disk cannot be read any more, or is not what was written.
        self.rotten: set[TaskId] = set()
        self.work = world.work
        self.slowness = 1.0
        self.address = address
        self.core = WorkerCore(runners, threads)
        self.threads = threads
        self._resources = resources or {}
        #: What the scheduler calls us.
        self.number = 0
        self.upstream: Upstream | None = None
        self.uplink: Uplink | None = None
        self._leaving = False
        self.on_quit: Callable[[Worker], None] = lambda _: None
        self.store: dict[TaskId, bytes] = {}
        #: How large the values that do not ride along are taken to be.
        self.sizes: dict[TaskId, int] = {}
        self._check = check
        self._arguments: dict[int, tuple[TaskId, Pack]] = {}
        self._functions: set[int] = set()
        self._peers: dict[int, str] = {}
        self._arrived: tuple[TaskId, list[bytes], int] | None = None
        self._arrived_nodes: list[tuple[TaskId, bytes]] = []
        self._outbox: list[Message] = []
        self._wake = 0
        self._due = 0.0
        self.runners: list[Runner] = []
        for number in range(runners):
            runner = Runner(self, number, threads)
            self.runners.append(runner)
            runner.start(0.0)

    @property
    def keeps_arguments(self) -> bool:
        """Whether arguments of any run are still kept."""
        return bool(self._arguments)

    def suspects_of(self, runner: Runner) -> list[bytes]:
        """Return the arguments of what a runner was sent to be tried alone."""
        found = []
        for slot in self.core.state.runners[runner.number].slots:
            for flight in slot.flights:
                if flight.alone and flight.run.run in self._arguments:
                    base, pack = self._arguments[flight.run.run]
                    found.append(bytes(pack[flight.at - base]))
        return found

    @property
    def node(self) -> Node:
        """The process itself."""
        return self

    # The way to the scheduler.

    def introduce(self, epoch: int) -> WorkerIntroduction:
        """Return what this worker offers."""
        slots = len(self.runners) * self.threads
        return WorkerIntroduction(
            self.name,
            slots,
            self._resources,
            (self.address,),
            self.name,
            0,
            "0",
            "3",
            1,
            epoch=epoch,
            number=self.number,
        )

    def on_welcome(self, line: Line, welcome: Welcome, old: Line | None) -> None:
        """The scheduler has taken us in; if it knows nothing of us, tell it all."""
        self.number = welcome.peer
        self.upstream = line
        if old is None:
            return
        failures = [m for m in old.unheard(FromWorker) if isinstance(m, RunFailed)]
        messages: list[Message] = [
            Holds(
                task,
                1,
                self.sizes.get(task, len(value)),
                digests=of_pack(Pack.of([value])),
            )
            for task, value in self.store.items()
        ]
        messages += reporting.in_hand(self.core.state, failures)
        messages.append(Reported())
        messages += reporting.afterwards(self.core.state, failures)
        if self._leaving:
            messages.append(Leaving())
        line.send_all(messages)

    def on_batch(self, batch: list[Any]) -> None:
        """The scheduler said something."""
        self.hear_scheduler(batch)

    def on_end(self, error: CoveyError) -> None:
        """The scheduler was not found again, or turns us away."""
        raise AssertionError(f"{self.name} gives up: {error}")

    # The core.

    def hear_scheduler(self, batch: list[Any]) -> None:
        """Messages have come from the scheduler."""
        self._step(orders.Told(batch))

    def hear_control(self, event: orders.AnyEvent) -> None:
        """A runner's control socket said something."""
        self._step(event)

    def hear(self, slot: int, says: list[Any]) -> None:
        """A slot said something."""
        for single, stretch in itertools.groupby(says, _is_node):
            if single:
                self._ran_nodes(slot, [*stretch])
            else:
                self._hear(slot, stretch)

    def _hear(self, slot: int, says: Iterable[Any]) -> None:
        for kind, run, task, *rest in says:
            if kind == "ran":
                self._ran(slot, run, task, *rest)
            elif kind == "failed":
                seconds, failure = rest
                self._step(orders.SlotFailed(slot, run, task, seconds, failure))
            elif kind == "returned":
                self._step(orders.SlotReturned(slot, run, task, *rest))
            elif kind == "blocked":
                self._step(orders.SlotBlocked(slot, run, task))
            else:
                self._step(orders.SlotResumed(slot, run, task))

    def _ran(
        self,
        slot: int,
        run: int,
        base: TaskId,
        values: list[bytes],
        seconds: float,
        large: bool,
    ) -> None:
        if large and self.disk_full:
            self._step(orders.SlotFailed(slot, run, base, seconds, NO_ROOM))
            return
        nbytes = 200_000 if large else sum(map(len, values))
        self._arrived = (base, values, nbytes if large else 0)
        inline = nbytes <= INLINE_BYTES * len(values)
        event = orders.SlotRan(slot, run, base, len(values), seconds, nbytes, inline)
        self._step(event)
        self._arrived = None

    def _ran_nodes(self, slot: int, says: list[Any]) -> None:
        """Single tasks that returned small values are told of together."""
        _, runs, tasks, values, seconds, _ = zip(*says, strict=True)
        small = [value for (value,) in values]
        self._arrived_nodes = [*zip(tasks, small, strict=True)]
        sizes = [*map(len, small)]
        event = orders.SlotRanNodes(slot, runs, tasks, seconds, sizes, INLINE_BYTES)
        self._step(event)
        self._arrived_nodes = []

    def leave(self) -> None:
        """Ask to leave in good order."""
        self._leaving = True
        self._outbox.append(Leaving())
        self._send()

    def _step(self, event: orders.AnyEvent) -> None:
        for order in self.core.step(event, self.timeline.now + self.ahead):
            self._EXECUTE[type(order)](self, order)
        if self._check:
            invariants.check(self.core.state)
        self._send()

    def _send(self) -> None:
        if self._outbox:
            outbox, self._outbox = self._outbox, []
            if self.upstream is not None:
                self.upstream.send_all(outbox)

    def _tell(self, order: orders.Tell) -> None:
        self._outbox.append(order.message)

    def _report(self, order: orders.Report) -> None:
        tasks = range(order.base, order.base + order.n)
        pack = Pack.of([self.store[task] for task in tasks])
        self._outbox.append(
            Ran(
                order.run,
                order.base,
                order.n,
                order.seconds,
                pack.sizes_bytes(),
                bytes(pack.data),
                order.slot,
                of_pack(pack) if order.digests else b"",
            )
        )

    def _report_stored(self, order: orders.ReportStored) -> None:
        digests = self._digests(order.base, order.n)
        how = (order.seconds, order.nbytes, order.slot, digests)
        self._outbox.append(RanStored(order.run, order.base, order.n, *how))

    def _vouch(self, order: orders.Vouch) -> None:
        digests = self._digests(order.base, order.n)
        self._outbox.append(Vouches(order.base, order.n, digests))

    def _report_nodes(self, order: orders.ReportNodes) -> None:
        self._outbox.append(
            RanNodes(
                tuple(order.runs),
                tuple(order.tasks),
                tuple(order.seconds),
                tuple(order.nbytes),
                order.slot,
                b"".join([self._digests(task, 1) for task in order.tasks]),
            )
        )

    def _digests(self, base: TaskId, n: int) -> bytes:
        return of_pack(Pack.of([self.store[task] for task in range(base, base + n)]))

    # Slots.

    def _dispatch(self, order: orders.Dispatch) -> None:
        runner = self.runners[order.slot // self.threads]
        if runner.dead:
            return  # Its end is about to be heard of.
        assert order.fn in self._functions
        base, pack = self._arguments[order.run]
        part = pack.cut(order.base - base, order.base - base + order.n)
        values: dict[TaskId, bytes] = {}
        if order.aligned or order.whole:
            extents = [*((task, order.n) for task in order.aligned), *order.whole]
            for first, n in extents:
                for task in range(first, first + n):
                    if task in order.owns:
                        continue
                    # A task that starts without its inputs is what must not be.
                    values[task] = self.store[task]
            for alias, real in order.renamed:
                if real not in order.owns:
                    values[alias] = self.store[real]
        slot = runner.slots[order.slot % self.threads]
        batch = Batch(order.run, order.base, part, Inputs(values))
        batch.keep = order.keep
        batch.owns = [(task, task) for task in order.owns]
        batch.owns += [(a, real) for a, real in order.renamed if real in order.owns]
        slot.send(batch)

    def _dispatch_nodes(self, order: orders.DispatchNodes) -> None:
        runner = self.runners[order.slot // self.threads]
        if runner.dead:
            return
        slot = runner.slots[order.slot % self.threads]
        for node in order.nodes:
            assert node.fn in self._functions
            values = {t: self.store[t] for t in node.aligned if t not in order.owns}
            part = Pack.from_wire(node.sizes, node.data)
            batch = Batch(node.run, node.base, part, Inputs(values))
            batch.keep = node.base in order.keeps
            batch.owns = [(task, task) for task in node.aligned if task in order.owns]
            slot.send(batch)

    def _stow(self, order: orders.Stow) -> None:
        assert self._arrived is not None
        base, values, size = self._arrived
        for task in range(order.base, order.base + order.n):
            # What is there already stays as it is.
            self.store.setdefault(task, values[task - base])
            if size:
                self.sizes[task] = size

    def _stow_nodes(self, order: orders.StowNodes) -> None:
        for at in order.places:
            task, value = self._arrived_nodes[at]
            self.store.setdefault(task, value)

    def _flush(self, order: orders.Flush) -> None:
        runner = self.runners[order.slot // self.threads]
        runner.control(runner.slots[order.slot % self.threads].flush)

    def _look(self, order: orders.Look) -> None:
        self.timeline.after(0.0, self.run, self._looked, order.runner)

    def _looked(self, runner: int) -> None:
        self._step(orders.Looked(runner, self.runners[runner].named()))

    def _retract(self, order: orders.Retract) -> None:
        runner = self.runners[order.slot // self.threads]
        runner.control(runner.retract, runner.slots[order.slot % self.threads])

    def _interrupt(self, order: orders.Interrupt) -> None:
        runner = self.runners[order.slot // self.threads]
        slot = runner.slots[order.slot % self.threads]
        runner.control(slot.interrupt, order.run, order.task)

    def _kill(self, order: orders.Kill) -> None:
        runner = self.runners[order.runner]
        self.timeline.after(0.001, self.run, runner.crash, "SIGKILL")

    def _spawn(self, order: orders.Spawn) -> None:
        runner = Runner(self, order.runner, self.threads)
        self.runners[order.runner] = runner
        runner.start(START_SECONDS * (0.5 + self.rng.random()))

    # Data.

    def _keep_function(self, order: orders.KeepFunction) -> None:
        self._functions.add(order.fn)

    def _forget_function(self, order: orders.ForgetFunction) -> None:
        self._functions.remove(order.fn)

    def _keep_arguments(self, order: orders.KeepArguments) -> None:
        pack = Pack.from_wire(order.sizes, order.data)
        self._arguments[order.run] = (order.base, pack)

    def _end_run(self, order: orders.EndRun) -> None:
        self._arguments.pop(order.run, None)

    def _keep_values(self, order: orders.KeepValues) -> None:
        pack = Pack.from_wire(order.sizes, order.data)
        for task, value in enumerate(pack, order.base):
            self.store.setdefault(task, bytes(value))

    def _drop_values(self, order: orders.DropValues) -> None:
        store = self.store
        for base, n in order.extents:
            for task in range(base, base + n) if n <= len(store) else list(store):
                if base <= task < base + n:
                    store.pop(task, None)
                    self.sizes.pop(task, None)
                    self.rotten.discard(task)

    def _know_peer(self, order: orders.KnowPeer) -> None:
        self._peers[order.worker] = order.addresses[0]

    def _fetch_from(self, order: orders.FetchFrom) -> None:
        address = self._peers[order.worker]

        def taken(found: dict[TaskId, tuple[bytes, int]] | None) -> None:
            base, n = order.extent
            if found is None or any(t not in found for t in range(base, base + n)):
                came = False
            else:
                sizes = [size for _, size in found.values()]
                came = not self.disk_full or max(sizes, default=0) <= INLINE_BYTES
            if not came or found is None:
                self._step(orders.FetchFailed(order.extent, order.worker))
                return
            self._take_in(found)
            nbytes = sum(size for _, size in found.values())
            digests = self._digests(*order.extent)
            how = (nbytes, order.worker, 0.0, digests)
            self._step(orders.Fetched(order.extent, *how))

        ask(self.world, self, address, (order.extent,), taken)

    def _take_in(self, found: dict[TaskId, tuple[bytes, int]]) -> None:
        for task, (value, size) in found.items():
            self.store.setdefault(task, value)
            if size > INLINE_BYTES:
                self.sizes[task] = size

    def lend(self, extents: tuple[Extent, ...]) -> dict[TaskId, tuple[bytes, int]]:
        """Return what there is of some tasks, and how large it is."""
        found = {}
        for base, n in extents:
            for task in range(base, base + n):
                if task in self.rotten:
                    self._step(orders.Garbled(task))
                elif task in self.store:
                    value = self.store[task]
                    found[task] = (value, self.sizes.get(task, len(value)))
        return found

    # The rest.

    def _quit(self, order: orders.Quit) -> None:
        del order
        self.on_quit(self)

    def _wake_at(self, order: orders.WakeAt) -> None:
        self._due = order.time
        self._rest()

    def _rest(self) -> None:
        self._wake += 1
        if self._due:
            at = self.when(self._due)
            self.timeline.at(at, self.run, self._tick, self._wake)

    def _tick(self, wake: int) -> None:
        if wake == self._wake:
            self._step(orders.Tick())

    def _say_how(self, order: orders.SayHow) -> None:
        """Nobody measures anything here: there is nothing to say."""

    def _call_in(self, order: orders.CallIn) -> None:
        """Here the scheduler passes nothing on, and asks nobody to call."""

    #: What carries out each kind of order.
    _EXECUTE: ClassVar[dict[type, Callable[[Worker, Any], None]]] = {
        orders.Tell: _tell,
        orders.Report: _report,
        orders.ReportStored: _report_stored,
        orders.ReportNodes: _report_nodes,
        orders.Vouch: _vouch,
        orders.Stow: _stow,
        orders.StowNodes: _stow_nodes,
        orders.Flush: _flush,
        orders.Look: _look,
        orders.Dispatch: _dispatch,
        orders.DispatchNodes: _dispatch_nodes,
        orders.EndRun: _end_run,
        orders.Retract: _retract,
        orders.Interrupt: _interrupt,
        orders.Kill: _kill,
        orders.Spawn: _spawn,
        orders.FetchFrom: _fetch_from,
        orders.KeepFunction: _keep_function,
        orders.ForgetFunction: _forget_function,
        orders.KeepArguments: _keep_arguments,
        orders.KeepValues: _keep_values,
        orders.DropValues: _drop_values,
        orders.KnowPeer: _know_peer,
        orders.Quit: _quit,
        orders.SayHow: _say_how,
        orders.CallIn: _call_in,
        orders.WakeAt: _wake_at,
    }


def _as_it_comes(
    network: Network, found: dict[TaskId, tuple[bytes, int]]
) -> dict[TaskId, tuple[bytes, int]]:
    """Return what has come of some values as it was sent."""
    whole = {}
    for task, (value, size) in found.items():
        came = network.bring(value) if size > INLINE_BYTES else value
        if came is not None:
            whole[task] = (came, size)
    return whole


def _is_node(says: Any) -> bool:
    """Whether a slot tells of a task that it was sent by itself."""
    return bool(says[0] == "node")


def ask(
    world: World,
    asker: Node,
    address: str,
    extents: tuple[Extent, ...],
    taken: Callable[[dict[TaskId, tuple[bytes, int]] | None], None],
) -> None:
    """Fetch values over the data plane; *taken* gets them, or ``None``.

    The values are as they are when the question arrives.  Whoever asks a
    process that is gone hears so; behind a blocked path it waits, and hears at
    last that nothing came.
    """
    network = world.network
    holder = world.worker_at(address)
    there = holder.name if holder is not None else address

    def answer(found: dict[TaskId, tuple[bytes, int]] | None) -> None:
        def arrived(came: bool) -> None:
            if found is None or not came:
                asker.run(taken, None)
                return
            asker.run(taken, _as_it_comes(network, found))

        nbytes = sum(size for _, size in found.values()) if found else 0
        network.pass_path(there, asker.name, nbytes, arrived)

    def asked(came: bool) -> None:
        if not came:
            asker.run(taken, None)
            return
        if holder is None or not holder.alive:
            answer(None)
            return
        holder.last_mourner += 1
        number = holder.last_mourner
        holder.mourners[number] = lambda: answer(None)

        def lend() -> None:
            del holder.mourners[number]
            answer(holder.lend(extents))

        holder.run(lend)

    network.pass_path(asker.name, there, 64, asked)
