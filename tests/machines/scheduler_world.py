"""A world around the scheduler's core: clients and workers that keep books.

Nothing here decides what happens; the tests do.  Whatever the core orders is
encoded and decoded as on a real link, and held against what each side knows:

* the value of a task is its own arguments, so that a mix-up shows;
* a worker reads its messages late, when a test says so, which is how stale
  news comes about; when it has read all, what it stores must be exactly what
  the scheduler believes that it holds;
* a client counts the ends that it is told: at most one without a reversal.
"""

from __future__ import annotations

import zlib
from collections import deque

from covey.client.core.ledger import Ledger
from covey.client.core.ranges import Range, Wishes
from covey.ids import ClientId, client_of, first_task_id
from covey.payload import Pack
from covey.scheduler.core import invariants
from covey.scheduler.core.leftovers import AT_ONCE
from covey.scheduler.core.machine import Joined, Left, Said, SchedulerCore, Tick
from covey.scheduler.core.queues import demand_of
from covey.scheduler.core.spans import find, inputs_of
from covey.scheduler.core.state import State
from covey.wire import client_link, worker_link
from covey.wire.base import DEFAULT_OPTIONS, Failure
from covey.wire.client_link import (
    Answer,
    BringAgain,
    DefineFunction,
    Failed,
    Finished,
    ForgetFunction,
    FromClient,
    NotBrought,
    Notice,
    Over,
    Placed,
    Release,
    Reverted,
    Scatter,
    Stored,
    Submit,
    SubmitGraph,
    ToClient,
    Tried,
    WorkerGone,
    WorkerSeen,
)
from covey.wire.framing import FrameReader, encode_frame
from covey.wire.introductions import ClientIntroduction, WorkerIntroduction
from covey.wire.worker_link import (
    Blocked,
    FromWorker,
    Holds,
    Leave,
    Ran,
    RanNodes,
    RanStored,
    ReturnDone,
    Returned,
    RunFailed,
    ToWorker,
    Undelivered,
    Unfetched,
)

#: The arguments of every named task, so that it may be shared.
SHARED = b"of it"

RAISED = Failure("raised", "ValueError", "as it was told to")


def over_the_wire(messages, union):
    """Return *messages* as the other side would read them."""
    reader = FrameReader(union)
    reader.feed(encode_frame(messages))
    return reader.next_batch()


def pack_of(payloads):
    pack = Pack.of(payloads)
    return {"sizes": pack.sizes_bytes(), "data": bytes(pack.data)}


class World:
    """A scheduler's core with simulated clients and workers."""

    def __init__(self, at_once=AT_ONCE, memory_limit=0):
        self.epoch = 1
        #: How many bytes each worker may use.
        self.memory_limit = memory_limit
        #: How much the core may let go of in one step.
        self.at_once = at_once
        self.core = SchedulerCore(cluster="test")
        self.state = self.core.state
        self.state.leftovers.at_once = at_once
        self.now = 0.0
        #: Peers that have lost the scheduler and not found it again.
        self.away = []
        self.clients = {}
        self.workers = {}
        #: The arguments of every task, by its real id.
        self.arguments = {}
        #: What tasks take, by the ids that their client gave.
        self.takes = {}
        self.messages = 0
        self.watch = lambda peer, message: None

    def step(self, event):
        orders = self.core.step(event, self.now)
        invariants.check(self.state)
        for peer, messages in orders.items():
            self.messages += len(messages)
            if peer in self.workers:
                worker = self.workers[peer]
                for message in over_the_wire(messages, ToWorker):
                    self.watch(worker, message)
                    worker.expect(message)
                    worker.inbox.append(message)
            elif peer in self.clients:
                client = self.clients[peer]
                for message in over_the_wire(messages, ToClient):
                    self.watch(client, message)
                    client.hear(message)
        for client in self.clients.values():
            if client.peer not in self.state.returning:
                client.unheld &= client.coming
            assert client.known_workers == {*self.state.workers}
        for worker in self.workers.values():
            worker.check_store()

    # Coming and going.

    def new_client(self, number=None):
        peer = self.core.next_peer()
        # Peers of another life of the scheduler have other numbers.
        known = (peer & 0xFFFF) + 1000 * self.epoch - 1000
        client = SimClient(self, peer, number or 2 * known + 1)
        self.clients[peer] = client
        self.step(Joined(peer, client.introduction(0)))
        return client

    def new_worker(self, slots=1, resources=None, name="worker", pythons=()):
        peer = self.core.next_peer()
        worker = SimWorker(self, peer, slots, resources or {}, name)
        worker.pythons = pythons
        self.workers[peer] = worker
        self.step(Joined(peer, worker.introduction(0)))
        return worker

    # Another life.

    def restart(self, late=()):
        """The scheduler dies and another one takes over; *late* peers stay away."""
        self.epoch += 1
        self.core = SchedulerCore(cluster="test", epoch=self.epoch, now=self.now)
        self.state = self.core.state
        self.state.leftovers.at_once = self.at_once
        sides = [*self.clients.values(), *self.workers.values(), *self.away]
        self.clients, self.workers, self.away = {}, {}, []
        for side in sides:
            # What was on its way went down with the old one.
            side.inbox.clear()
            self.away.append(side)
        for side in [side for side in sides if side.peer not in late]:
            self.come_back(side)

    def come_back(self, side):
        """A peer that is away finds the scheduler, and tells all."""
        self.away.remove(side)
        # Who was given up by this life of the scheduler has seen it.
        hello = side.introduction(max(1, self.epoch - 1))
        side.peer = self.core.peer_for(hello)
        if isinstance(side, SimWorker):
            self.workers[side.peer] = side
            # It is told of these anew.
            side.functions.clear()
            side.peers.clear()
        else:
            self.clients[side.peer] = side
            side.known_workers.clear()
        self.step(Joined(side.peer, hello))
        side.report()

    def pass_time(self, seconds):
        self.now += seconds
        self.step(Tick())

    def close_window(self):
        """Let the core come to a decision about who is back and who is not."""
        while self.state.window is not None:
            self.pass_time(self.core.wake_at - self.now)

    def work_off(self):
        """Let the core do what it had left for later."""
        while self.state.leftovers:
            self.pass_time(self.core.wake_at - self.now)

    def give_up(self, worker):
        """The scheduler has not heard of *worker* for too long; it does not know that."""
        worker.inbox.clear()
        self.away.append(worker)
        self.lose(worker.peer)

    def lose(self, peer):
        if self.clients.pop(peer, None) is None:
            del self.workers[peer]
        self.step(Left(peer))

    # The end of it.

    def settle(self):
        """Let all workers read and answer everything."""
        self.close_window()
        for _ in range(300):
            busy = [w for w in self.workers.values() if w.inbox or w.runs or w.fetches]
            busy_clients = [c for c in self.clients.values() if c.asked]
            if (
                not busy
                and not busy_clients
                and not self.state.pauses
                and not self.state.leftovers
            ):
                return
            for worker in busy:
                worker.do_everything()
            for client in self.clients.values():
                client.bring_asked()
            if not busy:
                # Whoever is tried again after a pause gets its turn.
                self.pass_time(max(0.0, self.core.wake_at - self.now))
        raise AssertionError("the world does not come to rest")

    def check_ends(self):
        """Whatever a client waits for has ended, or has a reason to wait."""
        todo = []
        for client in self.clients.values():
            for task, status in client.status.items():
                if status == "pending" and task in client.held:
                    span = find(self.state, task)
                    assert span is not None, f"{task:x} was forgotten"
                    todo.append(span)
        seen = set(todo)
        for span in todo:
            assert span.state in {State.WAITING, State.READY}, span
            if span.state is State.READY:
                demand = demand_of(self.state, span)
                able = [w for w in self.state.workers.values() if demand.admits(w)]
                assert not [w for w in able if not w.leaving], span
            for source in inputs_of(self.state, span):
                if source.state is not State.DONE and source not in seen:
                    seen.add(source)
                    todo.append(source)

    def check_empty(self):
        """Nobody wants anything, so nothing is kept."""
        state = self.state
        self.work_off()
        while state.orphans:
            self.pass_time(self.core.wake_at - self.now)
        self.work_off()
        for worker in self.workers.values():
            worker.read(len(worker.inbox))
        assert not state.spans, state.spans
        assert not state.starts
        assert not state.names
        assert not state.name_of
        assert not state.aliases
        assert not state.ids_of
        for worker in self.workers.values():
            assert not worker.store, worker.store
            assert not worker.runs
            assert not state.workers[worker.peer].assigned


class SimClient:
    """A client: what it was told about what it wished for."""

    def __init__(self, world, peer, number):
        self.world = world
        self.peer = peer
        self.name = f"client-{peer}"
        self.number = ClientId(number)
        self.next_task = first_task_id(self.number)
        self.held = set()
        #: What later messages of a graph may take.
        self.coming = set()
        self.status = {}
        #: What is not held, of which a new life of the scheduler may have news: it
        #: takes what is coming for held, and hears late of what is let go meanwhile.
        self.unheld = set()
        #: The value that each id must have.
        self.values = {}
        self.failures = {}
        self.known_workers = set()
        self.notices = []
        #: Large values that could be brought again, and those that are asked for.
        self.kept = set()
        self.asked = []
        self.functions = set()
        self.inbox = deque()
        self.ledger = Ledger()
        #: What may be told once more, since another life of the scheduler tells it.
        self.told_before = set()

    def introduction(self, epoch):
        return ClientIntroduction(self.number, self.name, "0", "3", "here", epoch)

    def report(self):
        """Tell all that is held, and how it is made."""
        self.unheld = set(self.coming)
        self.told_before = {t for t, s in self.status.items() if s == "stored"}
        foreign = [(t, 1) for t in sorted(self.held) if client_of(t) != self.number]
        messages = self.ledger.recall(self._wishes(), foreign)
        self.world.step(Said(self.peer, over_the_wire(messages, FromClient)))

    def _wishes(self):
        wishes = Wishes()
        for task in self.held:
            wish = Range(task, 1, "f", None)
            wishes.add(wish)
            match self.status[task]:
                case "finished":
                    wish.finish(0, Pack.of([b""]))
                case "stored":
                    wish.store(0, 1, 1, 1)
                case "failed":
                    wish.fail(0, 1, self.failures[task])
        return wishes

    def say(self, *messages):
        for message in messages:
            self.ledger.note(message)
        self.world.step(Said(self.peer, over_the_wire(messages, FromClient)))

    def new_ids(self, n):
        base = self.next_task
        self.next_task += n
        return base

    def define(self, fn):
        if fn not in self.functions:
            self.functions.add(fn)
            self.say(DefineFunction(fn, b"digest %d" % fn, f"f{fn}", b"payload"))

    def forget(self, fn):
        if fn in self.functions:
            self.functions.discard(fn)
            self.say(ForgetFunction(fn))

    def hold(self, task, value):
        self.held.add(task)
        self.status[task] = "pending"
        self.values[task] = value

    def submit(
        self, n=1, *, fn=1, aligned=(), groups=(), whole=(), options=None, name=None
    ):
        """Wish for a range of tasks; return its first id."""
        self.define(fn)
        base = self.new_ids(n)
        values = [b"%x" % (base + i) if name is None else SHARED for i in range(n)]
        for task, value in enumerate(values, base):
            self.hold(task, value)
            self.world.arguments[task] = value
            at = task - base
            self.world.takes[task] = {
                *(first + at for first in aligned),
                *(
                    t
                    for first, g in groups
                    for t in range(first + at * g, first + at * g + g)
                ),
                *(t for first, m in whole for t in range(first, first + m)),
            }
        self.say(
            Submit(
                base,
                n,
                fn,
                **pack_of(values),
                options=options or DEFAULT_OPTIONS,
                aligned=tuple(aligned),
                whole=tuple(whole),
                name=name,
                groups=tuple(groups),
                identity=b"" if name is None else SHARED,
            )
        )
        return base

    def submit_graph(
        self, needs, *, fn=1, wanted=None, coming=(), external=(), options=None
    ):
        """Wish for a graph: *needs* are indices, *external* more ids for each."""
        self.define(fn)
        n = len(needs)
        base = self.new_ids(n)
        values = [b"%x" % (base + i) for i in range(n)]
        wanted = range(n) if wanted is None else wanted
        for index in range(n):
            self.world.arguments[base + index] = values[index]
            if index in wanted:
                self.hold(base + index, values[index])
        more = external or ((),) * n
        self.say(
            SubmitGraph(
                base,
                (fn,) * n,
                **pack_of(values),
                needs=tuple(
                    (*(base + need for need in these), *others)
                    for these, others in zip(needs, more, strict=True)
                ),
                order=tuple(range(n)),
                wanted=tuple((base + index, 1) for index in wanted),
                options=(options or DEFAULT_OPTIONS,),
                coming=tuple((base + index, 1) for index in coming),
            )
        )
        self.coming.update(base + index for index in coming)
        self.values.update({base + index: values[index] for index in coming})
        return base

    def scatter(self, n, *, workers=(), broadcast=False):
        base = self.new_ids(n)
        values = [b"%x" % (base + i) for i in range(n)]
        for task, value in enumerate(values, base):
            self.hold(task, value)
            self.world.arguments[task] = value
        self.say(
            Scatter(base, n, **pack_of(values), workers=workers, broadcast=broadcast)
        )
        return base

    def place(self, worker, value=b"large", **how):
        """Bring a large value to a worker, and keep it."""
        task = self.new_ids(1)
        self.hold(task, value)
        self.kept.add(task)
        self.world.arguments[task] = worker.store[task] = value
        self.say(Placed(task, worker.peer, 1000, kept=True, **how))
        return task

    def bring_asked(self, able=True):
        """Bring again what was asked for, or say that it is gone."""
        while self.asked:
            task = self.asked.pop(0)
            worker = next(iter(self.world.workers.values()), None)
            if not able or worker is None or task not in self.held:
                self.kept.discard(task)
                self.say(NotBrought(task))
                continue
            worker.store[task] = self.world.arguments[task]
            self.say(Placed(task, worker.peer, 1000, kept=True))

    def want(self, task, value):
        self.hold(task, value)
        self.say(client_link.Want(((task, 1),)))

    def release(self, *extents):
        for base, n in extents:
            tasks = range(base, base + n)
            if self.peer in self.world.state.returning:
                self.unheld.update(self.held.intersection(tasks))
            else:
                self.unheld.difference_update(tasks)
            self.held.difference_update(tasks)
            self.coming.difference_update(tasks)
        self.say(Release(tuple(extents)))

    def release_all(self):
        if self.held or self.coming:
            self.release(*((task, 1) for task in sorted(self.held | self.coming)))

    # Hearing.

    def hear(self, message):
        match message:
            case Finished(base, n, sizes, data):
                pack = Pack.from_wire(sizes, data)
                assert len(pack) == n
                for task, value in enumerate(pack, base):
                    self._end(task, "finished")
                    assert bytes(value) == self.values[task]
            case Stored(base, n, worker, _, source):
                assert worker in self.known_workers
                for offset in range(n):
                    self._end(base + offset, "stored")
                    value = self.world.arguments[source + offset]
                    assert value == self.values[base + offset]
            case Failed(base, n, failure):
                if failure.type_name == "KeyConflict":
                    self.ledger.refuse(base)
                for task in range(base, base + n):
                    self._end(task, "failed")
                    self.failures[task] = failure
            case Reverted(base, n):
                for task in range(base, base + n):
                    self._revert(task)
            case WorkerSeen():
                self.known_workers.add(message.worker)
            case WorkerGone(worker):
                self.known_workers.remove(worker)
            case _:
                self._hear_more(message)

    def _hear_more(self, message):
        match message:
            case Notice(text):
                self.notices.append(text)
            case Tried() | Over():
                self.ledger.hear(message)
            case Answer():
                pass  # Tests that ask look for it themselves.
            case BringAgain(task):
                assert task in self.kept
                self.asked.append(task)
            case _:
                raise AssertionError(message)

    def _shared(self, task):
        """Who knows a task by two ids may be told of both when it asks for one."""
        return (
            self.values[task] == SHARED
            and sum(self.values[other] == SHARED for other in self.values) > 1
        )

    def _revert(self, task):
        if task in self.unheld and task not in self.held:
            return
        assert self.status[task] != "finished" or self._shared(task)
        self.status[task] = "pending"

    def _end(self, task, status):
        if task in self.unheld and task not in self.held:
            return
        assert task in self.held, f"news of {task:x}, which was let go"
        before = self.status[task]
        again = before == status == "stored" and task in self.told_before
        assert before == "pending" or self._shared(task) or again, (before, status)
        self.status[task] = status


class SimRun:
    """A run as its worker knows it."""

    def __init__(self, message):
        self.message = message
        self.todo = list(range(message.base, message.base + message.n))
        self.missing = list(message.sources)
        self.blocked = set()

    def stretch(self, start, length):
        """Return a stretch of what is to do: consecutive tasks, from *start* on."""
        first = self.todo[start % len(self.todo)]
        n = 1
        while n < length and first + n in self.todo:
            n += 1
        return first, n

    def inputs(self, first, n):
        """Return what the tasks from *first* on take."""
        offset = first - self.message.base
        aligned = [(task + offset, n) for task in self.message.aligned]
        groups = [(task + g * offset, g * n) for task, g in self.message.groups]
        return {
            task
            for base, m in [*aligned, *groups, *self.message.whole]
            for task in range(base, base + m)
        }


class SimWorker:
    """A worker: what it was told, in its inbox, and what it has done."""

    def __init__(self, world, peer, slots, resources, name):
        self.world = world
        self.peer = peer
        self.slots = slots
        self.resources = resources
        self.name = name
        self.pythons = ()
        self.inbox = deque()
        self.store = {}
        #: What of it came from elsewhere.
        self.copies = set()
        #: Of values that were made by a run: the versions of all that they come from.
        self.made_of = {}
        self.mixed = {}
        #: Those whose digests the scheduler was not told, as long as nothing takes them.
        self.unvouched = set()
        self.runs = {}
        self.functions = set()
        self.peers = set()
        self.fetches = []
        self.said = []
        #: What the message that it says right now tells of, together.
        self.telling = set()
        #: Failures that it has told of, and that it tells another life again.
        self.unheard = []

    def say(self, *messages):
        if self in self.world.away:
            return  # Nobody hears it.
        self.said += messages
        self.world.step(Said(self.peer, over_the_wire(messages, FromWorker)))

    def introduction(self, epoch):
        addresses = (f"tcp://h{self.peer}:1",)
        host = f"h{self.peer}/b"
        return WorkerIntroduction(
            self.name,
            self.slots,
            self.resources,
            addresses,
            host,
            self.world.memory_limit,
            "0",
            "3",
            1,
            epoch=epoch,
            number=self.peer if epoch else 0,
            pythons=self.pythons,
        )

    def report(self):
        """Tell all that is here and in hand."""
        report = [
            Holds(base, n, 8 * n, digests=self.digests(base, n))
            for base, n in self._stretches()
        ]
        self.unvouched.clear()
        for number, run in self.runs.items():
            awaits = tuple(t for t in run.message.awaits if t not in self.store)
            report += [
                worker_link.Running(number, task, 1, awaits) for task in run.todo
            ]
        report += [worker_link.Running(f.run, f.task, 1) for f in self.unheard]
        report.append(worker_link.Reported())
        report += self.unheard
        self.unheard = []
        for number, run in self.runs.items():
            report += [Blocked(number, task) for task in sorted(run.blocked)]
        self.world.step(Said(self.peer, over_the_wire(report, FromWorker)))

    def _stretches(self):
        """Return what is here: consecutive values together, if all have digests."""
        stretches = []
        for task in sorted(self.store):
            base, n = stretches[-1] if stretches else (task, 0)
            if (
                n
                and base + n == task
                and self.digests(base, n)
                and task in self.made_of
            ):
                stretches[-1] = (base, n + 1)
            else:
                stretches.append((task, 1))
        return stretches

    def expect(self, message):
        """Check an order at the moment it is given."""
        if not isinstance(message, worker_link.Run):
            return
        state = self.world.state
        me = state.workers[self.peer]
        assert not me.leaving
        pack = Pack.from_wire(message.sizes, message.data)
        for task, arguments in enumerate(pack, message.base):
            assert bytes(arguments) == self.world.arguments[task]
        for task in message.awaits:
            source = find(state, task)
            if task in self.telling and me in source.replicas:
                continue  # That was entered behind what has led to this run.
            assert source.state is State.ASSIGNED and source.worker is me, message
            assert any(
                run.message.base <= task < run.message.base + run.message.n
                for run in self.coming_runs()
            ), (message, task)
        extents = [*((task, message.n) for task in message.aligned), *message.whole]
        for base, n in extents:
            for task in range(base, base + n):
                if task in message.awaits:
                    continue
                source = find(state, task)
                assert source is not None and source.replicas, (message, task)
                if me not in source.replicas:
                    assert any(
                        b <= task < b + m and state.workers[w] in source.replicas
                        for b, m, w in message.sources
                    ), (message, task)

    def coming_runs(self):
        """Return the runs that it has, and those in its inbox."""
        coming = [SimRun(m) for m in self.inbox if isinstance(m, worker_link.Run)]
        return [*self.runs.values(), *coming]

    def check_store(self):
        if self.inbox or self.peer not in self.world.state.workers:
            return
        state = self.world.state
        if state.window is not None or self.peer in state.returning:
            return  # It has not been taken in.
        me = state.workers[self.peer]
        known = [span.extent for span in me.holds]
        known += [orphan[:2] for orphan in state.orphans.get(me, ())]
        believed = {task for base, n in known for task in range(base, base + n)}
        assert believed == set(self.store), (self.peer, believed ^ set(self.store))

    # Doing.

    def read(self, count=1):
        """Take in messages from the inbox."""
        for _ in range(min(count, len(self.inbox))):
            message = self.inbox.popleft()
            self._obey(message)
            if self.peer not in self.world.workers:
                return
        self.check_store()

    def _learn(self, message):
        known = message.fn in self.functions
        assert known == isinstance(message, worker_link.Undefine)
        self.functions ^= {message.fn}

    def _obey(self, message):
        match message:
            case worker_link.Define() | worker_link.Undefine():
                self._learn(message)
            case worker_link.Run():
                assert message.fn in self.functions
                assert all(
                    w in self.peers for _, _, w in message.sources + message.spares
                )
                self.runs[message.run] = SimRun(message)
            case worker_link.Put(base, _, sizes, data):
                for task, value in enumerate(Pack.from_wire(sizes, data), base):
                    self.store[task] = bytes(value)
            case worker_link.Drop() | worker_link.Forget():
                self._drop_all(message)
            case worker_link.Return(count):
                self._hand_back(count)
            case worker_link.Stop(run, base, n):
                self._drop_made(base, n)
                self._done(run, base, n)
            case worker_link.Peer(worker):
                self.peers.add(worker)
            case worker_link.Fetch(extents, worker):
                assert worker in self.peers
                self.fetches += [(extent, worker) for extent in extents]
            case Leave():
                assert not self.runs
                self.world.lose(self.peer)

    def _drop_all(self, message):
        for base, n in message.extents:
            self._drop(base, n)
        if isinstance(message, worker_link.Forget):
            self.say(worker_link.Forgot(message.extents))

    def _drop_made(self, base, n):
        for task in set(range(base, base + n)) - self.copies:
            self._drop(task, 1)

    def _drop(self, base, n):
        for task in range(base, base + n):
            self.store.pop(task, None)
            self.made_of.pop(task, None)
            self.copies.discard(task)
            self.unvouched.discard(task)

    def _done(self, run, base, n):
        record = self.runs.get(run)
        if record is not None:
            record.todo = [t for t in record.todo if not base <= t < base + n]
            if not record.todo:
                del self.runs[run]

    def _hand_back(self, count):
        for number in sorted(self.runs, reverse=True):
            run = self.runs[number]
            n = min(count, self._unbegun() - self.slots)
            tail = [task for task in run.todo if task not in run.blocked]
            first = end = tail[-1] + 1 if tail else 0
            while end - first < n and first - 1 in tail:
                first -= 1
            if first < end:
                count -= end - first
                self._done(number, first, end - first)
                self.say(Returned(number, first, end - first))
        self.say(ReturnDone())

    def _unbegun(self):
        return sum(len(run.todo) - len(run.blocked) for run in self.runs.values())

    def inputs(self):
        """Return what its runs count on finding here."""
        return {
            task
            for run in self.runs.values()
            for first in run.todo
            for task in run.inputs(first, 1)
        }

    def ready_runs(self):
        return [number for number in self.runs if self.is_ready(number)]

    def is_ready(self, number):
        """Whether the inputs of a run are here, those that were awaited as well."""
        run = self.runs[number]
        return not run.missing and all(t in self.store for t in run.message.awaits)

    def fetch(self, run_number, *, ok):
        """Bring, or fail to bring, one missing input of a run."""
        run = self.runs[run_number]
        base, n, holder = run.missing.pop()
        spares = [w for b, m, w in run.message.spares if (b, m) == (base, n)]
        for at, place in enumerate([holder, *spares]):
            if (ok or at) and self._copy((base, n), place):
                known = self.digests(base, n)
                self.say(Holds(base, n, 8 * n, place, 0.1, known))
                for failed in [holder, *spares][:at]:
                    self.say(Undelivered((base, n), failed))
                return
        lacking = tuple((base, n, place) for place in [holder, *spares])
        first, count = run.todo[0], len(run.todo)
        if run.todo == list(range(first, first + count)):
            self._done(run_number, first, count)
            self.say(Returned(run_number, first, count, lacking))
            return
        for task in run.todo[:]:
            self._done(run_number, task, 1)
            self.say(Returned(run_number, task, 1, lacking))

    def _copy(self, extent, holder):
        base, n = extent
        other = self.world.workers.get(holder)
        tasks = range(base, base + n)
        if other is None or any(task not in other.store for task in tasks):
            return False
        self.copies |= set(tasks)
        # What was made here meanwhile stays as it is.
        for task in [task for task in tasks if task not in self.store]:
            self.store[task] = other.store[task]
            if task in other.made_of:
                self.made_of[task] = other.made_of[task]
        return True

    def digests(self, base, n):
        """Return the digests of values that are here, if they are known."""
        made_of = [
            self.made_of.get(task, {}).get(task) for task in range(base, base + n)
        ]
        return b"" if None in made_of else b"".join(made_of)

    def fetch_asked(self, *, ok):
        """Do, or fail to do, what a ``Fetch`` asked for."""
        extent, holder = self.fetches.pop(0)
        if ok and self._copy(extent, holder):
            self.say(Holds(*extent, 8 * extent[1], digests=self.digests(*extent)))
        else:
            self.say(Unfetched((extent,), holder))

    def finish(self, run_number, start=0, length=1 << 30, *, stored=False, gave=0):
        """Return from a stretch of a run; *gave* tells apart what it gave each time."""
        run = self.runs[run_number]
        first, n = run.stretch(start, length)
        self._vouch(run.inputs(first, n))
        known = self._make(run, first, n, gave)
        self._done(run_number, first, n)
        values = [self.world.arguments[task] for task in range(first, first + n)]
        took = 0.001 * n
        if stored:
            self.say(RanStored(run_number, first, n, took, 100 * n, digests=known))
        else:
            pack = pack_of(values)
            self.say(Ran(run_number, first, n, took, **pack, digests=known))
        self._check_versions(first, n)

    def _make(self, run, first, n, gave):
        """Make values; return their digests, if the scheduler is to know them."""
        for task in run.inputs(first, n):
            assert self.store[task] == self.world.arguments[task], f"{task:x}"
        if not run.message.renamed:
            for task in range(first, first + n):
                takes = self.world.takes.get(task)
                assert takes is None or run.inputs(task, 1) == takes, f"{task:x}"
        made = range(first, first + n)
        for task in made:
            # What is there already stays as it is.
            if task not in self.store:
                self.store[task] = self.world.arguments[task]
                self._give(task, run.inputs(task, 1), gave)
        awaited = {task for r in self.runs.values() for task in r.message.awaits}
        if run.message.digests or not awaited.isdisjoint(made):
            return self.digests(first, n)
        self.unvouched.update(made)
        return b""

    def singles(self):
        """Return the runs of single tasks that a slot may end one right after the other.

        Those count that wait for nothing but what one before them makes.
        """
        found, made = [], set(self.store)
        for number, run in self.runs.items():
            alone = run.message.n == 1 and not run.missing and not run.blocked
            if alone and made.issuperset(run.message.awaits):
                found.append(number)
                made.add(run.message.base)
        return found

    def finish_together(self, gave):
        """Return from single tasks in one message, as a slot does that ran ahead.

        Args:
            gave: as in ``finish``, for each of them; so many end at most.
        """
        runs = [self.runs[number] for number in self.singles()[: len(gave)]]
        inputs = [run.inputs(run.message.base, 1) for run in runs]
        self._vouch(set().union(*inputs) & set(self.store))
        told, vouched = [], []
        for run, each in zip(runs, gave, strict=False):
            digests = self._make(run, run.message.base, 1, each)
            (vouched if digests else told).append((run, digests))
        for run in runs:
            self._done(run.message.run, run.message.base, 1)
        messages = []
        for together in filter(None, (told, vouched)):
            n = len(together)
            numbers = tuple(run.message.run for run, _ in together)
            tasks = tuple(run.message.base for run, _ in together)
            digests = b"".join(digests for _, digests in together)
            columns = (numbers, tasks, (0.001,) * n, (8,) * n)
            messages.append(RanNodes(*columns, 0, digests))
        self.telling = {run.message.base for run in runs}
        self.say(*messages)
        self.telling = set()
        for run in runs:
            self._check_versions(run.message.base, 1)

    def _vouch(self, inputs):
        """Something takes these: the scheduler learns what they are before it ends."""
        for task in sorted(self.unvouched & inputs):
            self.unvouched.discard(task)
            self.say(worker_link.Vouches(task, 1, self.digests(task, 1)))

    def _give(self, task, inputs, gave):
        """Note what a value was made of, and its digest."""
        made_of, mixed = {}, ""
        for taken in sorted(inputs):
            for origin, version in self.made_of.get(taken, {}).items():
                if made_of.setdefault(origin, version) != version:
                    mixed = f"{task:x} mixes two versions of {origin:x}"
        content = (self.world.arguments[task], gave, sorted(made_of.items()))
        digest = zlib.crc32(repr(content).encode()).to_bytes(4)
        self.made_of[task] = {**made_of, task: digest}
        self.mixed[task] = mixed

    def _check_versions(self, first, n):
        """Nothing is accepted that comes from two versions of one value.

        A run that was stopped may do that, if it has not read of it yet.
        """
        me = self.world.state.workers.get(self.peer)
        if self.world.epoch > 1:
            return  # What was lost with the scheduler before, nobody can compare.
        for task in range(first, first + n):
            span = find(self.world.state, task)
            if span is not None and me in span.replicas:
                assert not self.mixed.get(task), self.mixed[task]

    def fail(self, run_number, start=0, failure=RAISED):
        """Fail in one task of a run."""
        run = self.runs[run_number]
        task, _ = run.stretch(start, 1)
        self._done(run_number, task, 1)
        news = RunFailed(run_number, task, 0.001, failure)
        self.say(news)
        return news

    def give_back(self, run_number, start, length):
        run = self.runs[run_number]
        first, n = run.stretch(start, length)
        self._done(run_number, first, n)
        self.say(Returned(run_number, first, n))

    def block(self, run_number, start):
        run = self.runs[run_number]
        task, _ = run.stretch(start, 1)
        if task in run.blocked:
            run.blocked.remove(task)
            self.say(worker_link.Resumed(run_number, task))
        else:
            run.blocked.add(task)
            self.say(Blocked(run_number, task))

    def do_everything(self):
        """Read all, bring all, run all."""
        self.read(len(self.inbox))
        while self.fetches and self.peer in self.world.workers:
            self.fetch_asked(ok=True)
        for number in list(self.runs):
            while number in self.runs and self.runs[number].missing:
                self.fetch(number, ok=True)
            while number in self.runs and self.is_ready(number):
                self.finish(number)
