"""The scheduler's core under anything that clients and workers may do.

Hypothesis chooses who does what; ``scheduler_world`` checks every step.
"""

from __future__ import annotations

import os
import sys

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from scheduler_world import World

from covey.ids import client_of
from covey.wire.base import Again, Options
from covey.wire.client_link import Cancel, Detach, Placed, Retry
from covey.wire.worker_link import (
    Lacks,
    Leaving,
    Ran,
    RanNodes,
    RanStored,
    Returned,
    RunFailed,
)

sys.path.pop(0)

CLIENTS_MAX = 3
WORKERS_MAX = 4
LIVES_MAX = 4

sizes = st.integers(1, 50)
small = st.integers(0, 60)
options = st.builds(
    Options,
    priority=st.integers(-1, 1),
    retries=st.integers(0, 2),
    resources=st.sampled_from([{}, {}, {}, {"gpu": 1.0}, {"gpu": 0.3}, {"tpu": 1.0}]),
    workers=st.sampled_from([(), (), (), ("worker",), ("nobody",)]),
    allow_other_workers=st.booleans(),
    again=st.sampled_from(
        [None, Again(("builtins.OSError",)), Again((), 3.0, 2.0), Again(elsewhere=True)]
    ),
)


def runs_of(message):
    """Return the runs that a message of a worker tells of."""
    return message.runs if isinstance(message, RanNodes) else (message.run,)


class SchedulerMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        # So few that much of it is left for later steps.
        # And so little memory that workers are short of it now and then.
        self.world = World(at_once=2, memory_limit=60)
        #: Every range ever made: (base, n).
        self.ranges = []
        self.named = {}

    # Choosing.

    def _client(self, index):
        clients = list(self.world.clients.values())
        return clients[index % len(clients)]

    def _worker(self, index):
        workers = list(self.world.workers.values())
        return workers[index % len(workers)]

    def _extent(self, data, n_max=60):
        base, n = data.draw(st.sampled_from(self.ranges[-12:]))
        lo = data.draw(st.integers(0, n - 1))
        return base + lo, data.draw(st.integers(1, min(n_max, n - lo + 1)))

    def _run(self, data, worker):
        ready = worker.ready_runs()
        return data.draw(st.sampled_from(ready)) if ready else None

    # Clients.

    @precondition(lambda self: len(self.world.clients) < CLIENTS_MAX)
    @rule()
    def client_joins(self):
        self.world.new_client()

    @precondition(lambda self: len(self.world.clients) > 1)
    @rule(index=small)
    def client_leaves(self, index):
        self.world.lose(self._client(index).peer)

    @precondition(lambda self: self.world.clients)
    @rule(index=small, n=sizes, fn=st.integers(1, 2), options=options)
    def submits(self, index, n, fn, options):
        base = self._client(index).submit(n, fn=fn, options=options)
        self.ranges.append((base, n))

    @precondition(lambda self: self.world.clients)
    @rule(index=small, fn=st.integers(1, 2))
    def forgets_function(self, index, fn):
        self._client(index).forget(fn)

    @precondition(lambda self: self.world.clients and self.ranges)
    @rule(data=st.data(), index=small, fn=st.integers(1, 2))
    def submits_on_top(self, data, index, fn):
        aligned = []
        n = None
        whole = [self._extent(data) for _ in range(data.draw(st.integers(0, 2)))]
        for _ in range(data.draw(st.integers(0 if whole else 1, 2))):
            base, m = self._extent(data)
            n = m if n is None else n
            aligned.append(base)
        n = n or data.draw(st.integers(1, 8))
        client = self._client(index)
        inputs = [*((task, n) for task in aligned), *whole]
        if any(
            b < client.next_task + n and client.next_task < b + m for b, m in inputs
        ):
            return  # It would take itself.
        base = client.submit(n, fn=fn, aligned=aligned, whole=whole)
        self.ranges.append((base, n))

    @precondition(lambda self: self.world.clients and self.ranges)
    @rule(data=st.data(), index=small, g=st.sampled_from([2, 2, 2, 3]))
    def submits_groups(self, data, index, g):
        """A level of a tree, now and then with more inputs."""
        base, m = self._extent(data)
        if m < g:
            return
        n = m // g
        aligned, groups = [], [(base, g)]
        if data.draw(st.integers(0, 4)) == 0:
            aligned.append(self._extent(data)[0])
        if data.draw(st.integers(0, 4)) == 0:
            groups.append((self._extent(data)[0], data.draw(st.integers(2, 3))))
        client = self._client(index)
        inputs = [(b, n) for b in aligned] + [(b, k * n) for b, k in groups]
        if any(
            b < client.next_task + n and client.next_task < b + k for b, k in inputs
        ):
            return  # It would take itself.
        made = client.submit(n, aligned=aligned, groups=groups)
        self.ranges.append((made, n))
        while data.draw(st.booleans()) and n >= g:
            n //= g
            made = client.submit(n, groups=[(made, g)])
            self.ranges.append((made, n))

    @precondition(lambda self: self.world.clients)
    @rule(data=st.data(), index=small, n=st.integers(1, 8))
    def submits_graph(self, data, index, n):
        needs = [
            data.draw(st.lists(st.integers(0, i - 1), max_size=3, unique=True))
            if i
            else []
            for i in range(n)
        ]
        external = [()] * n
        if self.ranges and data.draw(st.booleans()):
            external[data.draw(st.integers(0, n - 1))] = (self._extent(data, 1)[0],)
        wanted = data.draw(st.sets(st.integers(0, n - 1)))
        coming = data.draw(st.sets(st.integers(0, n - 1))) - wanted
        base = self._client(index).submit_graph(
            needs, wanted=wanted, coming=coming, external=tuple(external)
        )
        self.ranges.append((base, n))

    @precondition(lambda self: self.world.clients)
    @rule(index=small, name=st.sampled_from("abc"))
    def submits_named(self, index, name):
        client = self._client(index)
        base = client.submit(1, name=name, fn=3)
        self.ranges.append((base, 1))

    @precondition(lambda self: self.world.clients)
    @rule(index=small, n=st.integers(1, 20), broadcast=st.booleans())
    def scatters(self, index, n, broadcast):
        base = self._client(index).scatter(n, broadcast=broadcast)
        self.ranges.append((base, n))

    @precondition(lambda self: self.world.clients and self.world.workers)
    @rule(
        index=small,
        others=st.integers(0, 2),
        gone=st.booleans(),
        copies=st.integers(1, 4),
        broadcast=st.booleans(),
        kept=st.booleans(),
    )
    def places(self, index, others, gone, copies, broadcast, kept):
        """A large value goes to a worker, or to several, behind our back."""
        client = self._client(index)
        if client.peer in self.world.state.returning:
            return  # Nobody would hear of it for long, nor ever, should it leave.
        workers = list(self.world.workers.values())[: others + 1]
        task = client.new_ids(1)
        self.ranges.append((task, 1))
        client.hold(task, b"large")
        self.world.arguments[task] = b"large"
        if kept:
            client.kept.add(task)
        for worker in workers:
            if gone:
                client.say(Placed(task, 999, 100, (), broadcast, copies, kept))
            else:
                worker.store[task] = b"large"
                message = Placed(task, worker.peer, 100, (), broadcast, copies, kept)
                client.say(message)

    @precondition(lambda self: self.world.clients)
    @rule(index=small, able=st.booleans())
    def brings_again(self, index, able):
        client = self._client(index)
        if client.peer not in self.world.state.returning:
            client.bring_asked(able)

    @precondition(lambda self: self.world.clients and self.ranges)
    @rule(data=st.data(), index=small)
    def releases(self, data, index):
        self._client(index).release(self._extent(data))

    @precondition(lambda self: self.world.clients)
    @rule(index=small)
    def releases_all(self, index):
        self._client(index).release_all()

    @precondition(lambda self: self.world.clients and self.ranges)
    @rule(data=st.data(), index=small)
    def cancels(self, data, index):
        self._client(index).say(Cancel((self._extent(data),)))

    @precondition(lambda self: self.world.clients and self.ranges)
    @rule(data=st.data(), index=small)
    def retries(self, data, index):
        self._client(index).say(Retry((self._extent(data),)))

    @precondition(lambda self: self.world.clients and self.ranges)
    @rule(data=st.data(), index=small)
    def detaches(self, data, index):
        self._client(index).say(Detach((self._extent(data),)))

    @precondition(lambda self: self.world.clients and self.ranges)
    @rule(data=st.data(), index=small)
    def wants(self, data, index):
        task, _ = self._extent(data, 1)
        client = self._client(index)
        value = self.world.arguments.get(task)
        if value is not None and client_of(task) != client.number:
            client.want(task, value)

    # Workers.

    @precondition(lambda self: len(self.world.workers) < WORKERS_MAX)
    @rule(
        slots=st.integers(1, 4),
        resources=st.sampled_from([{}, {"gpu": 1.0}, {"gpu": 2.0, "tpu": 1.0}]),
    )
    def worker_joins(self, slots, resources):
        self.world.new_worker(slots, resources)

    @precondition(lambda self: self.world.workers)
    @rule(index=small)
    def worker_dies(self, index):
        self.world.lose(self._worker(index).peer)

    @precondition(lambda self: self.world.workers)
    @rule(index=small)
    def worker_wants_to_leave(self, index):
        self._worker(index).say(Leaving())

    @precondition(lambda self: self.world.workers)
    @rule(index=small, count=st.integers(1, 10))
    def worker_reads(self, index, count):
        self._worker(index).read(count)

    @precondition(lambda self: self.world.workers)
    @rule(
        data=st.data(),
        index=small,
        start=small,
        length=sizes,
        how=st.sampled_from(["ran", "ran", "ran", "stored", "failed", "back", "block"]),
        gave=st.sampled_from([0, 0, 0, 1]),
    )
    def worker_answers(self, data, index, start, length, how, gave):
        worker = self._worker(index)
        worker.read(10)
        run = None
        if worker.peer in self.world.workers:
            run = self._run(data, worker)
        if run is None:
            return
        match how:
            case "ran" | "stored":
                worker.finish(run, start, length, stored=how == "stored", gave=gave)
            case "failed":
                worker.fail(run, start)
            case "back":
                worker.give_back(run, start, length)
            case "block":
                worker.block(run, start)

    @precondition(lambda self: self.world.workers)
    @rule(
        index=small,
        gave=st.lists(st.sampled_from([0, 0, 1]), min_size=2, max_size=6),
    )
    def worker_has_run_ahead(self, index, gave):
        """Single tasks that a slot has ended one right after the other are told together."""
        worker = self._worker(index)
        worker.read(10)
        if worker.peer in self.world.workers and worker.singles():
            worker.finish_together(gave)

    @precondition(lambda self: self.world.workers)
    @rule(data=st.data(), index=small, start=small, length=sizes)
    def worker_answers_late(self, data, index, start, length):
        worker = self._worker(index)
        run = self._run(data, worker)
        if run is not None:
            worker.finish(run, start, length)

    @precondition(lambda self: self.world.workers)
    @rule(index=small, ok=st.sampled_from([True, True, False]))
    def worker_fetches(self, index, ok):
        worker = self._worker(index)
        lacking = [number for number, run in worker.runs.items() if run.missing]
        if lacking:
            worker.fetch(lacking[0], ok=ok)
        elif worker.fetches:
            worker.fetch_asked(ok=ok)

    @precondition(lambda self: self.world.workers)
    @rule(data=st.data(), index=small)
    def worker_loses_values(self, data, index):
        worker = self._worker(index)
        worker.read(len(worker.inbox))
        if worker.peer not in self.world.workers:
            return
        idle = sorted(worker.store.keys() - worker.inputs())
        if not idle:
            return
        task = data.draw(st.sampled_from(idle))
        del worker.store[task]
        worker.say(Lacks(((task, 1),)))

    @precondition(lambda self: self.world.workers)
    @rule(data=st.data(), index=small)
    def worker_repeats_itself(self, data, index):
        worker = self._worker(index)
        old = [
            message
            for message in worker.said
            if isinstance(message, Ran | RanStored | RanNodes | RunFailed | Returned)
            and worker.runs.keys().isdisjoint(runs_of(message))
        ]
        if old:
            worker.say(data.draw(st.sampled_from(old[-8:])))

    # Another life.

    @precondition(lambda self: self.world.epoch < LIVES_MAX)
    @rule(data=st.data())
    def scheduler_dies_and_comes_back(self, data):
        world = self.world
        peers = [*world.clients, *world.workers]
        late = data.draw(st.sets(st.sampled_from(peers))) if peers else set()
        world.restart(late)

    @precondition(lambda self: self.world.away)
    @rule(index=small)
    def late_one_comes_back(self, index):
        self.world.come_back(self.world.away[index % len(self.world.away)])

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 70.0]))
    def time_passes(self, seconds):
        self.world.pass_time(seconds)

    @rule()
    def all_settles(self):
        self.world.settle()
        self.world.check_ends()

    def teardown(self):
        world = self.world
        for side in list(world.away):
            world.come_back(side)
        world.settle()
        world.check_ends()
        # Others take over, and they can run whatever nobody could.
        for peer in list(world.workers):
            world.lose(peer)
        world.new_worker(2, {"gpu": 4.0, "tpu": 4.0}, name="nobody")
        world.new_worker(2, {"gpu": 4.0, "tpu": 4.0}, name="worker")
        world.settle()
        for client in world.clients.values():
            for task in client.held:
                assert client.status[task] != "pending", f"{task:x}"
        for client in world.clients.values():
            client.release_all()
        world.settle()
        world.check_empty()


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(
    derandomize=True,
    max_examples=int(os.environ.get("COVEY_TEST_EXAMPLES", "60")),
    stateful_step_count=int(os.environ.get("COVEY_TEST_STEPS", "30")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
