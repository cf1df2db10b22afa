"""The worker's shell: carries out what the core orders, and tells it what happened.

::

    scheduler ◄── link ──► agent ◄── socketpairs ──► runners
                             │
              storage (bytes) ─┴─ data server ◄──► clients, other workers

The agent moves bytes and never looks into them.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from covey import clock
from covey.errors import ClusterError, RemoteProtocolError
from covey.net.addresses import Address
from covey.net.asking import Asker
from covey.net.inproc import InprocLink
from covey.net.tls import Certificate
from covey.payload import Buffer, Pack
from covey.wire.base import Message
from covey.wire.keys import Keys
from covey.wire.worker_link import Holds, Leaving
from covey.worker import reporting
from covey.worker.core import orders
from covey.worker.core.in_hand import has_in_hand, inputs_in_hand
from covey.worker.core.machine import WorkerCore
from covey.worker.doubts import Doubts
from covey.worker.environments import Environments
from covey.worker.functions import Functions
from covey.worker.inputs import Inputs
from covey.worker.interpreters import Interpreter
from covey.worker.memory import MemoryPlan
from covey.worker.pressure import Pressure
from covey.worker.printing import Printing
from covey.worker.processes import RunnerProcess
from covey.worker.profiling import Profiling
from covey.worker.results import Results
from covey.worker.runner_link import (
    RunnerLink,
    SaysBig,
    SaysBlocked,
    SaysFailed,
    SaysPrinted,
    SaysProfiled,
    SaysRan,
    SaysRanNodes,
    SaysReady,
    SaysResumed,
    SaysReturned,
    read_pack,
)
from covey.worker.serving import DataServer
from covey.worker.starting import Starting
from covey.worker.storage import Storage
from covey.worker.transfers import Transfers
from covey.worker.upstream import Upstream
from covey.worker.vitals import Vitals

#: Results up to about this size ride along to whoever waits for them; so many bytes
#: at once, or a runner could say more than a message holds.
INLINE_BYTES: Final = 2048
INLINE_BYTES_MAX: Final = 4 << 20


class WorkerAgent:
    """One worker: its slots, its store, its data port.

    Args:
        name: how it is called.
        runners: how many processes execute tasks.
        threads: how many slots each of them has.
        keys: what links to it prove that they know.
        version: of covey.
        setup: what runners are told when they start.
        memory: how much it may use.
        environments: finds the Python of the runners, and others if tasks ask.
        on_quit: called with the reason when the worker is to end.
        make_runner: what makes its runners.
    """

    def __init__(
        self,
        *,
        name: str,
        runners: int,
        threads: int,
        keys: Keys,
        version: str,
        setup: dict[str, Any],
        memory: MemoryPlan,
        environments: Environments | None = None,
        on_quit: Callable[[str], None] = lambda _: None,
        make_runner: Callable[..., RunnerProcess] = RunnerProcess,
    ) -> None:
        self.name = name
        self.core = WorkerCore(runners, threads)
        self.storage = Storage(memory.limit_bytes, memory.spill_directory)
        self._results = Results(self.storage, name)
        self._asker = Asker(keys, version, name, memory=self.storage)
        #: Slots that were given something in this step.
        self._told: list[RunnerLink] = []
        #: Whether the event at hand is one of several that came together.
        self._more_follows = False
        self._threads = threads
        self._setup = {**setup, "worker": name, "threads": threads}
        self._on_quit = on_quit
        self._make_runner = make_runner
        self._upstream: Upstream | None = None
        self._processes: list[RunnerProcess | None] = [None] * runners
        self._tell_people = memory.tell
        self._starting = self._starts(environments or Environments())
        self._functions = Functions()
        self._inputs = Inputs(self.storage, self._processes, self._functions)
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._profiling = Profiling(self._processes, self._functions.label, self._say)
        self._printing = Printing(self._say)
        self._loop = asyncio.get_running_loop()
        self._closing = self._leaving = self._broken = False
        self._pressure = Pressure(
            name,
            memory,
            self.core.state,
            self.storage,
            self._results,
            self._processes,
            self._step,
            self._forget_mapped,
            self._functions.label,
        )
        self._results.full = self._pressure.full
        self._doubts = Doubts(self.storage, self._inputs, self._step, self._run)
        room_for = self._pressure.room_for
        self.data = DataServer(
            self.storage,
            keys,
            version,
            partial(room_for, brings=True),
            self._ask_about_orphans,
            self._doubts.lost,
        )
        self._transfers = Transfers(
            self.storage, self._asker, self._step, self._run, room_for, self.core.state
        )
        self._vitals = Vitals(
            self.core.state,
            self._processes,
            self._functions.label,
            self._pressure,
            self.data,
            self._asker,
            self._inputs,
            self._printing,
            self._say,
        )
        self._first_ready: asyncio.Future[None] = self._loop.create_future()
        self._execute = self._carried_out_by()

    # Life.

    async def listen(
        self, addresses: list[Address], certificate: Certificate | None = None
    ) -> tuple[str, ...]:
        """Serve data at *addresses*; return them as others should know them.

        What is on a network takes a *certificate*; a socket file needs none.
        """
        listen, tls = self.data.listen, certificate
        found = [await listen(a, None if a.path else tls) for a in addresses]
        return tuple(map(str, found))

    def attach(
        self, upstream: Upstream, where: Callable[[], Address | None] = lambda: None
    ) -> None:
        """Take *upstream* as the link to the scheduler, which can be called at *where*."""
        self._upstream = upstream
        self._asker.call_scheduler_at(where)
        self.data.call_scheduler_at(where)
        self._vitals.start()

    def report(self, upstream: Upstream, unheard: list[Message]) -> None:
        """Tell a scheduler that does not know us what we hold and have in hand.

        Args:
            upstream: the link to it, from now on.
            unheard: what was said before and may not have come there.
        """
        self._upstream = upstream
        for message in reporting.all_there_is(self.core.state, self.storage, unheard):
            upstream.send(message)
        if self._leaving:
            upstream.send(Leaving())

    async def start_runners(self) -> None:
        """Start all runners, side by side."""
        await asyncio.gather(
            *(self._starting.spawn(number) for number in range(len(self._processes)))
        )

    def tell_runners(self, login: dict[str, Any]) -> None:
        """Tell all runners, present and to come, how tasks can be clients now."""
        self._setup.update(login)
        for process in self._processes:
            if process is not None and process.control is not None:
                process.control.tell(["login", login])

    async def first_runner(self) -> None:
        """Wait until one runner is ready.

        Raises:
            ClusterError: none came up.
        """
        await asyncio.shield(self._first_ready)

    def on_messages(self, link: Any, batch: list[Any]) -> None:
        """Take in news from the scheduler."""
        del link
        self._step(orders.Told(batch))

    def leave(self) -> None:
        """Tell the scheduler that this worker wants to go in good order."""
        self._leaving = True
        self._say(Leaving())

    async def close(self) -> None:
        """End the runners, the data server and all links."""
        if self._closing:
            return
        self._closing = True
        self._starting.close()
        self._vitals.stop()
        self._profiling.stop()
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        for process in self._processes:
            if process is not None:
                process.kill("the worker is closing")
        if self._upstream is not None:
            self._upstream.close()
        self._asker.close()
        self._pressure.close()
        await self.data.close()
        await self.storage.close()

    # The core.

    def _step(self, event: orders.AnyEvent) -> None:
        if self._closing or self._broken:
            return
        try:
            more = self._more_follows
            for order in self.core.step(event, clock.monotonic(), more=more):
                self._execute[type(order)](order)
            while self._told:
                self._told.pop().hasten()
        except RemoteProtocolError:
            raise  # A runner said what makes no sense: it goes, and nothing was changed.
        except Exception as error:
            self._break(error)

    def _break(self, error: BaseException) -> None:
        """Better a worker that leaves, and says why, than one that hangs."""
        if not self._broken:
            self._broken = True
            traceback.print_exception(error)
            text = f"worker {self.name} broke: {error!r}; please report this"
            self._on_quit(text)

    def _say(self, message: Message) -> None:
        if self._upstream is not None:
            self._upstream.send(message)

    def _tell(self, order: orders.Tell) -> None:
        self._say(order.message)

    def _report(self, order: orders.Telling) -> None:
        if self._upstream is not None:
            send = self._upstream.send
            for message in self._results.messages(order):
                send(message)

    # Slots.

    def _link_of(self, slot: int) -> RunnerLink | None:
        process = self._processes[slot // self._threads]
        if process is None or not process.links:
            return None
        return process.links[slot % self._threads]

    def _dispatch(self, order: orders.Dispatch | orders.DispatchNodes) -> None:
        slot = order.slot
        link = self._link_of(slot)
        if self._pressure.rests:
            self._pressure.wake()
        if link is not None:  # Else it has just ended; the core will hear of it.
            if self.storage.unsettled.any:
                self._doubts.dispatched(order)
            self._inputs.dispatch(order, slot // self._threads, link)
            self._told.append(link)

    def _slot_says(self, slot: int, says: list[tuple[Any, Buffer]]) -> None:
        if len(says) == 1:
            self._slot_reports(slot, *says[0])
        else:
            self._slot_reports_all(slot, says)
        if self._upstream is not None and not self.core.state.slots[slot].flights:
            self._upstream.hasten()  # The slot has nothing left to do.

    def _slot_reports_all(self, slot: int, says: list[tuple[Any, Buffer]]) -> None:
        left = len(says)
        try:
            for operation, body in says:
                left -= 1
                self._more_follows = left > 0
                self._slot_reports(slot, operation, body)
        finally:
            # What is senseless ends the frame in its middle: nothing follows then.
            self._more_follows = False

    def _slot_reports(self, slot: int, operation: Any, body: Buffer) -> None:
        if self._doubts.given:
            self._doubts.check(self._processes[slot // self._threads], operation)
        if type(operation) is SaysRanNodes:
            self._nodes_ran(slot, operation, body)
        elif type(operation) is SaysRan:
            self._stretch_ran(slot, operation, body)
        elif type(operation) is SaysBig:
            self._take_big(slot, operation)
        elif type(operation) is SaysFailed:
            last = self._printing.last_lines(operation.task)
            failure = operation.failure(body, {"worker": self.name, **last})
            self._step(
                orders.SlotFailed(
                    slot,
                    operation.run,
                    operation.task,
                    operation.seconds,
                    failure,
                )
            )
        elif type(operation) is SaysPrinted:
            # Nobody prints in the name of another one's task.
            at = self.core.state.slots[slot]
            if has_in_hand(at, operation.run, operation.task):
                self._printing.take(operation, clock.monotonic())
        elif type(operation) is SaysReturned:
            run, base, n = operation.run, operation.base, operation.n
            self._step(orders.SlotReturned(slot, run, base, n))
        elif type(operation) is SaysBlocked:
            self._step(orders.SlotBlocked(slot, operation.run, operation.task))
        elif type(operation) is SaysResumed:
            self._step(orders.SlotResumed(slot, operation.run, operation.task))

    def _stretch_ran(self, slot: int, says: SaysRan, body: Buffer) -> None:
        """Take in the results of a stretch."""
        pack = read_pack(says, body)
        run, base, n, seconds = says.run, says.base, says.n, says.seconds
        if not 0 < n == len(pack):
            raise RemoteProtocolError("a runner reported an empty stretch")
        full = self._results.full(pack.nbytes) if self.storage.disk_problem else None
        if full is not None:
            for task in range(base, base + n):
                self._step(orders.SlotFailed(slot, run, task, seconds / n, full))
            return
        self._results.bring_pack(base, pack)
        inline = pack.nbytes <= min(INLINE_BYTES * n, INLINE_BYTES_MAX)
        self._step(orders.SlotRan(slot, run, base, n, seconds, pack.nbytes, inline))

    def _nodes_ran(self, slot: int, says: SaysRanNodes, body: Buffer) -> None:
        """Take in the results of single tasks."""
        pack = read_pack(says, body)
        if not 0 < len(says.tasks) == len(says.nanoseconds) == len(pack.sizes):
            raise RemoteProtocolError("a runner reported single tasks without measure")
        runs, tasks, sizes = says.runs, says.tasks, pack.sizes
        seconds = [1e-9 * took for took in says.nanoseconds]
        full = self._results.full(pack.nbytes) if self.storage.disk_problem else None
        if full is not None:
            for run, task, took in zip(runs, tasks, seconds, strict=True):
                self._step(orders.SlotFailed(slot, run, task, took, full))
            return
        self._results.bring_nodes(tasks, pack)
        event = orders.SlotRanNodes(slot, runs, tasks, seconds, sizes, INLINE_BYTES)
        self._step(event)

    def _take_big(self, slot: int, says: SaysBig) -> None:
        """Take a result over that a runner laid out in a segment."""
        process = self._processes[slot // self._threads]
        try:
            event = self._results.take_big(slot, says, process, self._link_of(slot))
            if event is not None:
                self._step(event)
        finally:
            # What nobody wanted, what there is no room for, or what was no result.
            self._results.settle()

    def _stow(self, order: orders.Stow) -> None:
        self._results.stow(order.base, order.n)

    def _tell_aside(self, slot: int, operation: str, *rest: int) -> None:
        """Tell the runner of *slot* something that does not wait for its task."""
        process = self._processes[slot // self._threads]
        if process is not None and process.control is not None:
            process.control.tell([operation, slot % self._threads, *rest])

    # Runner processes.

    def _spawn(self, order: orders.Spawn) -> None:
        if order.runner == len(self._processes):
            self._processes.append(None)
            self._starting.lives_in.append("")
        self._run(self._starting.spawn(order.runner, order.environment))

    def _starts(self, environments: Environments) -> Starting:
        return Starting(
            self.name,
            self._processes,
            environments,
            self._make,
            self._has_trouble,
            lambda *what: self._step(orders.NoEnvironment(*what)),
            self._give_up,
            lambda: any(self.storage.held()),
        )

    def _make(
        self, number: int, environment: str, python: Interpreter
    ) -> RunnerProcess:
        self._inputs.runner_started(number)
        return self._make_runner(
            number,
            range(number * self._threads, (number + 1) * self._threads),
            {**self._setup, "environment": environment},
            python=python,
            on_says=self._slot_says,
            on_control=self._control_says,
            on_end=self._runner_ended,
        )

    def _has_trouble(self, text: str) -> None:
        if text:
            self._tell_people(text)
        self._vitals.has_trouble(text)

    def _control_says(self, runner: int, says: list[tuple[Any, Buffer]]) -> None:
        retracted = set()
        for operation, _ in says:
            if type(operation) is SaysReady:
                process = self._processes[runner]
                if process is not None:
                    if process.ready:
                        raise RemoteProtocolError("it is ready, for the second time")
                    process.ready = True
                    self._pressure.is_ready(process)
                self._starting.came_up(runner)
                if not self._first_ready.done():
                    self._first_ready.set_result(None)
                self._step(orders.RunnerReady(runner))
            elif type(operation) is SaysReturned:
                slot = self._slot(runner, operation.slot)
                run, base, n = operation.run, operation.base, operation.n
                if n > 0:
                    self._step(orders.SlotReturned(slot, run, base, n))
                retracted.add(slot)
            elif type(operation) is SaysProfiled:
                self._profiling.take(operation.seen)
        # All that a slot hands back comes in one frame.
        for slot in retracted:
            self._step(orders.RetractDone(slot))

    def _slot(self, runner: int, slot: int) -> int:
        return runner * self._threads + slot % self._threads

    def _runner_ended(self, process: RunnerProcess) -> None:
        self._functions.slots_ended(process.links)
        if self._closing:
            return
        self._pressure.explain_end(process)
        failure = process.failure(self.name)
        self._results.runner_ended(process.number)
        if self._starting.ended(process, failure):
            self._doubts.tell_end(process, failure)

    def _give_up(self, reason: str) -> None:
        text = f"worker {self.name}: its runners do not come up; {reason}"
        if not self._first_ready.done():
            self._first_ready.set_exception(ClusterError(text))
        self._on_quit(text)

    def _look(self, order: orders.Look) -> None:
        # What follows from it is ordered when all has gone out that was before.
        self._loop.call_soon(self._looked, order.runner)

    def _looked(self, runner: int) -> None:
        process = self._processes[runner]
        if process is not None:
            self._step(orders.Looked(runner, process.named()))

    def _interrupt(self, order: orders.Interrupt) -> None:
        self._tell_aside(order.slot, "cancel", order.run, order.task)

    def _kill(self, order: orders.Kill) -> None:
        process = self._processes[order.runner]
        if process is not None:
            process.kill(order.because)

    # Data.

    def _keep_function(self, order: orders.KeepFunction) -> None:
        self._functions.keep(order.fn, order.label, order.payload)

    def _end_run(self, order: orders.EndRun) -> None:
        self._inputs.end_run(order.run)
        if self._doubts.given:
            self._doubts.ended(order.run)

    def _keep_values(self, order: orders.KeepValues) -> None:
        self.storage.put(order.base, Pack.from_wire(order.sizes, order.data))

    def _drop_values(self, order: orders.DropValues) -> None:
        self.storage.drop_all(order.extents)
        self._inputs.forget(order.extents)

    def _forget_mapped(self) -> None:
        in_hand = inputs_in_hand(self.core.state)
        self._inputs.forget_all_but(lambda task: in_hand.covers(task, 1))

    def _ask_about_orphans(self, tasks: set[int]) -> None:
        """Tell the scheduler what we hold: it has us drop what it does not know."""
        for task in tasks:
            stretch = self.storage.shelf.at(task)
            if stretch is not None:
                self._say(Holds(task, 1, stretch.nbytes))

    def _wake_at(self, order: orders.WakeAt) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, order.time - clock.monotonic())
        self._timer = self._loop.call_later(delay, self._step, orders.Tick())

    def _run(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ran)

    def _ran(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._closing:
            self._break(error)

    def _say_how(self, order: orders.SayHow) -> None:
        if self._closing:
            return
        self._vitals.at_pace(order.seconds)
        if order.profile_seconds:
            alone = not isinstance(self._upstream, InprocLink)
            self._profiling.look(order.profile_seconds, order.seconds, alone=alone)

    def _carried_out_by(self) -> dict[type, Callable[[Any], None]]:
        """Return what carries out each kind of order."""
        return {
            orders.Tell: self._tell,
            orders.Report: self._report,
            orders.ReportStored: self._report,
            orders.ReportNodes: self._report,
            orders.Vouch: self._report,
            orders.Stow: self._stow,
            orders.StowNodes: self._results.stow_nodes,
            orders.Flush: lambda order: self._tell_aside(order.slot, "flush"),
            orders.Look: self._look,
            orders.Dispatch: self._dispatch,
            orders.DispatchNodes: self._dispatch,
            orders.EndRun: self._end_run,
            orders.Retract: lambda order: self._tell_aside(order.slot, "retract", -1),
            orders.Interrupt: self._interrupt,
            orders.Kill: self._kill,
            orders.Spawn: self._spawn,
            orders.FetchFrom: self._transfers.fetch,
            orders.KeepFunction: self._keep_function,
            orders.ForgetFunction: lambda order: self._functions.forget(order.fn),
            orders.KeepArguments: self._inputs.keep_arguments,
            orders.KeepValues: self._keep_values,
            orders.DropValues: self._drop_values,
            orders.KnowPeer: self._transfers.know_peer,
            orders.CallIn: self.data.call_in,
            orders.SayHow: self._say_how,
            orders.Quit: lambda _: self._on_quit(""),
            orders.WakeAt: self._wake_at,
        }
