"""A world around the worker's core: a scheduler that asks, and slots that answer.

A slot behaves as a runner does: it takes batches in order, begins one task
after the other, and reports what has ended in stretches, late if it likes.  Its
own socket and the control socket of its process are two queues, so that news
from the two may overtake each other.  ``World`` follows every task of every run
and holds what the core orders against it:

* a task ends once: it ran, failed or was handed back, unless it was stopped;
  of a stopped one nothing is heard, and nothing of it is kept;
* a slot gets a task only while no other has it in hand, and with its inputs.
"""

from __future__ import annotations

from collections import deque
from itertools import groupby

from covey.payload import Pack
from covey.wire import worker_link
from covey.wire.base import Failure
from covey.worker.core import invariants, orders
from covey.worker.core.machine import WorkerCore

DIED = Failure("died", "RunnerDied", "the runner was ended by SIGSEGV")
RAISED = Failure("raised", "ValueError", "as it was told to")


class Slot:
    """A thread of a runner."""

    def __init__(self, world, number):
        self.world = world
        self.number = number
        self.inbox = deque()
        #: Batches: [run, first task not begun, end].
        self.batches = []
        #: Stretches that ended and were not reported: [run, base, n].
        self.settled = []
        self.executing = None
        #: Tasks that ended here and were to be kept for what follows.
        self.kept = set()
        #: The batch begun last, and whether the task before was of it, too.
        self.begun = None
        self.same_batch = False
        #: Tasks that wait for others, or go on after that: (run, task) -> resumed.
        self.parked = {}
        self.out = deque()

    def tasks(self):
        """Return everything that is in its hands: (run, task)."""
        found = set(self.parked)
        if self.executing:
            found.add(self.executing)
        for dispatch in self.inbox:
            found |= {(dispatch.run, dispatch.base + i) for i in range(dispatch.n)}
        for run, base, end, *_ in self.batches:
            found |= {(run, task) for task in range(base, end)}
        for run, base, n in self.settled:
            found |= {(run, task) for task in range(base, base + n)}
        for event in self.out:
            match event:
                case orders.SlotRan(_, run, base, n):
                    found |= {(run, base + i) for i in range(n)}
                case orders.SlotRanNodes(_, runs, tasks):
                    found |= {*zip(runs, tasks, strict=True)}
                case orders.SlotFailed(_, run, task) | orders.SlotReturned(
                    _, run, task
                ):
                    found.add((run, task))
        return found

    def promised(self):
        """Return what it was told to keep, and is to have when it comes to that."""
        coming = [*self.inbox, *(batch[3] for batch in self.batches)]
        if self.begun:
            coming.append(self.begun[3])
        return {m.base for m in coming if m.keep} | self.kept

    def read(self):
        while self.inbox:
            message = self.inbox.popleft()
            base, n = message.base, message.n
            self.batches.append([message.run, base, base + n, message])
        self._begin()

    def _begin(self):
        while self.executing is None and self.batches:
            batch = self.batches[0]
            run, base = batch[:2]
            if not set(batch[3].owns) <= self.kept:
                # What was to be made here before it is not here.
                self.batches.pop(0)
                self.report()
                self.out.append(orders.SlotReturned(self.number, run, base, 1))
                continue
            batch = self.batches[0]
            self.same_batch = batch is self.begun
            self.begun = batch
            self.executing = (batch[0], batch[1])
            batch[1] += 1
            if batch[1] >= batch[2]:
                self.batches.pop(0)

    def run(self, count):
        """End up to *count* tasks well."""
        self.read()
        while count > 0 and self.executing:
            run, task = self.executing
            last = self.settled[-1] if self.settled else None
            # A report never reaches over the end of a batch.
            if last and self.same_batch and last[0] == run:
                last[2] += 1
            else:
                self.settled.append([run, task, 1])
            self.executing = None
            if self.begun[3].keep:
                self.kept.add(task)
            self._begin()
            count -= 1

    def report(self, *, inline=True):
        runs = self.world.runs
        for single, some in groupby(self.settled, key=lambda it: runs[it[0]].n == 1):
            if single:
                ran, tasks, _ = zip(*some, strict=True)
                how = ((0.001,) * len(ran), (8,) * len(ran), 8 if inline else 7)
                self.out.append(orders.SlotRanNodes(self.number, ran, tasks, *how))
                continue
            for run, base, n in some:
                how = (0.001 * n, 8 * n, inline)
                self.out.append(orders.SlotRan(self.number, run, base, n, *how))
        self.settled = []

    def fail(self, failure=RAISED):
        self.read()
        if self.executing:
            self.report()
            run, task = self.executing
            self.out.append(orders.SlotFailed(self.number, run, task, 0.001, failure))
            self.executing = None
            self._begin()

    def block(self):
        self.read()
        if self.executing:
            self.report()
            run, task = self.executing
            self.out.append(orders.SlotBlocked(self.number, run, task))
            self.parked[self.executing] = False
            self.executing = None
            self._begin()

    def resume(self, *, block_again=False, fail=False):
        """The first parked task goes on; or one that went on comes to its end."""
        if not self.parked:
            return
        key = next(iter(self.parked))
        run, task = key
        if not self.parked[key]:
            self.parked[key] = True
            self.out.append(orders.SlotResumed(self.number, run, task))
        elif block_again:
            self.parked[key] = False
            self.out.append(orders.SlotBlocked(self.number, run, task))
        else:
            del self.parked[key]
            if fail:
                event = orders.SlotFailed(self.number, run, task, 0.1, RAISED)
            else:
                event = orders.SlotRan(self.number, run, task, 1, 0.1, 8, inline=True)
            self.out.append(event)

    def retract(self):
        """Give back what has not begun, the last first."""
        self.read()
        back = []
        for run, base, end, _ in reversed(self.batches):
            if base < end:
                back.append(orders.SlotReturned(self.number, run, base, end - base))
        self.batches = []
        return [*back, orders.RetractDone(self.number)]


class Runner:
    """A process with its slots."""

    def __init__(self, world, number, slots):
        self.world = world
        self.number = number
        self.slots = slots
        self.ready = False
        #: What the agent has written to its control socket, and what it answers.
        self.inbox = deque()
        self.out = deque()

    def read(self):
        while self.inbox:
            order = self.inbox.popleft()
            slot = self.world.slots[order.slot]
            match order:
                case orders.Retract():
                    self.out.append(slot.retract())
                case orders.Flush():
                    slot.report()
                case orders.Interrupt(_, run, task):
                    if slot.executing == (run, task) and self.world.polite:
                        slot.fail()


class World:
    """A worker's core with simulated slots."""

    def __init__(self, runners=2, threads=1):
        self.core = WorkerCore(runners, threads)
        self.state = self.core.state
        self.now = 0.0
        self.polite = True
        self.slots = [Slot(self, number) for number in range(runners * threads)]
        self.runners = [
            Runner(self, r, self.slots[r * threads : (r + 1) * threads])
            for r in range(runners)
        ]
        self.last_run = 0
        #: Per run its message, and what its tasks came to.
        self.runs = {}
        self.ends = {}
        self.store = set()
        self.fetching = {}
        #: Runs whose arguments were to be kept, and not to be kept any more.
        self.kept = set()
        self.ended_runs = set()
        self.arrived = set()
        self.wake_at = None
        self.functions = set()
        self.quit = False
        self.return_asked = 0
        #: Runners that are to be killed, and what a ``Fetch`` asked for.
        self.kills = []
        self.asked = []
        #: Runners whose marks are to be read.
        self.looks = []
        self.failures = {}
        self.parcels_sent = 0
        #: Whether what comes back is just being dispatched again.
        self.comes_back = False
        self.watch = lambda order: None
        #: Runs that were sent ahead of a task, by the task.
        self.followers = {}

    # Steps.

    def step(self, event):
        self.arrived = set()
        if isinstance(event, orders.SlotRan):
            self.arrived = set(range(event.base, event.base + event.n))
        elif isinstance(event, orders.SlotRanNodes):
            self.arrived = set(event.tasks)
            self.told_of = event
        elif isinstance(event, orders.Fetched):
            base, n = event.extent
            self.store |= set(range(base, base + n))
        before = set().union(*(slot.tasks() for slot in self.slots))
        short = self.state.memory_short
        found = self.core.step(event, self.now)
        begun = [order.n for order in found if isinstance(order, orders.Dispatch)]
        begun += [len(o.nodes) for o in found if isinstance(o, orders.DispatchNodes)]
        assert not (short and self.state.memory_short) or begun in ([], [1]), begun
        assert not self.state.memory_hold or not begun
        for order in found:
            self.watch(order)
            self._obey(order, before)
        invariants.check(self.state)
        self._recall()

    def _recall(self):
        """What was sent ahead is stopped when an input does not come after all."""
        for task, followers in list(self.followers.items()):
            known = [end for (_, t), end in self.ends.items() if t == task]
            if known and known[-1] in {None, "ran"}:
                continue
            self.followers.pop(task, None)
            for run in followers:
                base = self.runs[run].base
                if self.ends[run, base] is None:
                    self.stop(run, base, 1)

    def tell(self, *messages):
        self.step(orders.Told(messages))

    def _obey(self, order, in_hand):
        if isinstance(order, orders.DispatchNodes):
            for single in self._singles(order):
                self._obey(single, in_hand)
            return
        match order:
            case orders.Dispatch():
                self._dispatched(order, in_hand)
                self.slots[order.slot].inbox.append(order)
            case orders.Tell(message):
                self._told(message)
            case orders.Report(run, base, n) | orders.ReportStored(run, base, n):
                for task in range(base, base + n):
                    assert task in self.store
                    self._end(run, task, "ran")
            case orders.Stow(base, n):
                tasks = set(range(base, base + n))
                assert tasks <= self.arrived, (tasks, self.arrived)
                self.store |= tasks
            case orders.EndRun(run):
                assert run in self.kept - self.ended_runs
                self.ended_runs.add(run)
            case _:
                self._obey_about_data(order)
                self._obey_about_runners(order)

    def _obey_about_runners(self, order):
        match order:
            case orders.Retract(slot) | orders.Flush(slot) | orders.Interrupt(slot):
                runner = self._runner_of(slot)
                if runner.ready:
                    runner.inbox.append(order)
            case orders.Kill(runner):
                assert self.runners[runner].ready
                self.kills.append(runner)
            case orders.Look(runner):
                self.looks.append(runner)
            case orders.WakeAt(time):
                self.wake_at = time
            case orders.Quit():
                self.quit = True

    def _singles(self, order):
        """Yield what would be sent if each of some nodes were sent by itself."""
        self.parcels_sent += 1
        for m in order.nodes:
            owns = tuple(task for task in m.aligned if task in order.owns)
            how = (1, m.aligned, (), (), m.base in order.keeps, owns)
            yield orders.Dispatch(order.slot, m.run, m.fn, m.base, *how)

    def _obey_about_data(self, order):
        match order:
            case orders.ReportNodes(runs, tasks):
                assert self.store.issuperset(tasks)
                for run, task in zip(runs, tasks, strict=True):
                    self._end(run, task, "ran")
            case orders.StowNodes(places):
                self.store |= {self.told_of.tasks[at] for at in places}
            case orders.KeepArguments(run):
                self.kept.add(run)
            case orders.FetchFrom(worker, extent):
                assert extent not in self.fetching
                self.fetching[extent] = worker
            case orders.DropValues(extents):
                for base, n in extents:
                    self.store -= set(range(base, base + n))
            case orders.KeepValues(base, n):
                self.store |= set(range(base, base + n))

    def _runner_of(self, slot):
        return self.runners[slot // len(self.runners[0].slots)]

    def _dispatched(self, order, in_hand):
        assert self._runner_of(order.slot).ready
        message = self.runs[order.run]
        for task in range(order.base, order.base + order.n):
            assert (order.run, task) in self.ends
            assert self.ends[order.run, task] is None, self.ends[order.run, task]
            if not self.comes_back:
                assert (order.run, task) not in in_hand, (order.run, task)
        assert order.run not in self.ended_runs
        ahead = self.slots[order.slot].promised()
        assert set(order.owns) <= ahead, (order, ahead)
        for first, mine in zip(order.aligned, message.aligned, strict=True):
            assert first - order.base == mine - message.base
            assert set(range(first, first + order.n)) <= self.store | set(order.owns)
        at = order.base - message.base
        grouped = [(first + g * at, g * order.n) for first, g in message.groups]
        assert order.whole == (*grouped, *message.whole)
        for base, n in order.whole:
            assert set(range(base, base + n)) <= self.store

    def _told(self, message):
        match message:
            case worker_link.RanStored(run, base, n):
                for task in range(base, base + n):
                    assert task in self.store
                    self._end(run, task, "ran")
            case worker_link.RanNodes(runs, tasks):
                assert self.store.issuperset(tasks)
                for run, task in zip(runs, tasks, strict=True):
                    self._end(run, task, "ran")
            case worker_link.RunFailed(run, task):
                self._end(run, task, "failed")
                self.failures[run, task] = message.failure
            case worker_link.Returned(run, base, n):
                for task in range(base, base + n):
                    self._end(run, task, "returned")
            case worker_link.ReturnDone():
                assert self.return_asked
                self.return_asked = 0
            case worker_link.Holds(base, n):
                assert set(range(base, base + n)) <= self.store
            case worker_link.Unfetched(extents, worker):
                for extent in extents:
                    self.asked.remove((extent, worker))

    def _end(self, run, task, how):
        assert self.ends[run, task] is None, (run, task, self.ends[run, task], how)
        self.ends[run, task] = how

    # What may happen.

    def start(self, runner):
        self.runners[runner].ready = True
        self.step(orders.RunnerReady(runner))

    def run(self, n, **how):
        """Ask for a run; return its number."""
        message = self.message_of(n, **how)
        self.tell(message)
        return message.run

    def message_of(
        self, n, *, base=None, aligned=(), whole=(), sources=(), timeout=0.0, **more
    ):
        """Return the message that asks for a run."""
        self.last_run += 1
        base = 1000 * self.last_run if base is None else base
        pack = Pack.of([b"x"] * n)
        message = worker_link.Run(
            self.last_run,
            1,
            base,
            n,
            pack.sizes_bytes(),
            bytes(pack.data),
            more.pop("rank", (0, self.last_run, 0)),
            tuple(aligned),
            tuple(whole),
            tuple(sources),
            timeout,
            **more,
        )
        self.runs[self.last_run] = message
        for task in range(base, base + n):
            self.ends[self.last_run, task] = None
        for task in message.awaits:
            self.followers.setdefault(task, []).append(self.last_run)
        return message

    def stop(self, run, base, n, *, kill=False):
        """Stop tasks, and what was sent ahead of them: all at once, as one does."""
        messages = []
        todo = [(run, base, n, kill)]
        for number, first, count, hard in todo:
            messages.append(worker_link.Stop(number, first, count, hard))
            for task in range(first, first + count):
                if self.ends.get((number, task), "") is None:
                    self.ends[number, task] = "stopped"
                for follower in self.followers.pop(task, ()):
                    start = self.runs[follower].base
                    if self.ends[follower, start] is None:
                        todo.append((follower, start, 1, False))
        self.tell(*messages)
        for message in messages:
            end = message.base + message.n
            assert not self.store & set(range(message.base, end))

    def ask_back(self, count):
        if not self.return_asked:
            self.return_asked = count
            self.tell(worker_link.Return(count))

    def fetch(self, extent, worker):
        self.asked.append((extent, worker))
        self.tell(worker_link.Fetch((extent,), worker))

    def fetched(self, extent, *, ok=True):
        worker = self.fetching.pop(extent)
        if ok:
            self.asked = [entry for entry in self.asked if entry[0] != extent]
            self.step(orders.Fetched(extent, 8 * extent[1]))
        else:
            self.step(orders.FetchFailed(extent, worker))

    def hear(self, slot):
        """Deliver the next news from a slot's socket."""
        if slot.out:
            self.step(slot.out.popleft())

    def hear_control(self, runner):
        """Deliver the next news from a control socket: one frame."""
        runner.read()
        if runner.out:
            for event in runner.out.popleft():
                self.comes_back = isinstance(event, orders.SlotReturned)
                self.step(event)
                self.comes_back = False

    def die(self, runner, *, marks=True, lose_news=False):
        """The process of a runner ends."""
        for slot in runner.slots:
            if lose_news:
                slot.out.clear()
            while slot.out:
                self.hear(slot)
        executing = tuple(
            slot.executing for slot in runner.slots if slot.executing and marks
        )
        for slot in runner.slots:
            slot.__init__(self, slot.number)
        runner.ready = False
        runner.inbox.clear()
        runner.out.clear()
        if runner.number in self.kills:
            self.kills.remove(runner.number)
        self.step(orders.RunnerEnded(runner.number, executing, DIED))

    def grow(self, runner):
        """A runner has come to use much memory, and executes nothing, perhaps."""
        kills = len(self.kills)
        busy = set().union(*(slot.tasks() for slot in runner.slots))
        self.step(orders.RunnerGrown(runner.number))
        assert len(self.kills) == kills or not busy

    def tick(self, seconds=0.0):
        self.now += seconds
        if self.wake_at is not None and self.wake_at <= self.now:
            self.wake_at = None
            self.step(orders.Tick())
        while self.looks:
            self.look(self.runners[self.looks.pop(0)])
        for runner in list(self.kills):
            self.die(self.runners[runner])

    def look(self, runner):
        """The marks of a runner are read."""
        named = tuple(slot.executing for slot in runner.slots if slot.executing)
        self.step(orders.Looked(runner.number, named))

    def settle(self):
        """Let everything come to its end."""
        for _ in range(1000):
            for runner in self.runners:
                if not runner.ready:
                    self.start(runner.number)
                self.hear_control(runner)
            for extent in list(self.fetching):
                self.fetched(extent)
            for slot in self.slots:
                slot.run(1000)
                slot.report()
                while slot.parked:
                    slot.resume()
                while slot.out:
                    self.hear(slot)
            self.tick(0.02)
            if not self.state.runs and not self.fetching and not self.return_asked:
                return
        raise AssertionError("the world does not come to rest")

    def check_ends(self):
        assert all(end is not None for end in self.ends.values())
        assert self.ended_runs == self.kept
        assert not self.state.queued
        assert not self.state.suspects
        ran = {task for (_, task), end in self.ends.items() if end == "ran"}
        fetched = {task for task in self.store if task < 1000}
        assert self.store - fetched <= ran
        assert not self.asked


def world_of(runners=1, threads=1):
    world = World(runners, threads)
    for number in range(runners):
        world.start(number)
    return world
