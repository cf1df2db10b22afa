"""The worker's core under anything that scheduler and runners may do.

Hypothesis chooses who does what; ``worker_world`` checks every step.
"""

from __future__ import annotations

import os
import sys

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from worker_world import World

from covey.wire.worker_link import Drop, Put
from covey.worker.core import orders

sys.path.pop(0)

small = st.integers(0, 60)


class WorkerMachine(RuleBasedStateMachine):
    @initialize(runners=st.integers(1, 3), threads=st.integers(1, 2))
    def opens(self, runners, threads):
        self.world = World(runners, threads)
        for number in range(runners):
            self.world.start(number)

    def _slot(self, index):
        return self.world.slots[index % len(self.world.slots)]

    def _runner(self, index):
        return self.world.runners[index % len(self.world.runners)]

    # The scheduler.

    @rule(
        n=st.integers(1, 60),
        timeout=st.sampled_from([0.0, 0.0, 0.0, 1.0]),
        reply=st.booleans(),
        seconds=st.sampled_from([0.0, 0.00001, 0.001, 1.0]),
        priority=st.integers(-1, 1),
    )
    def runs(self, n, timeout, reply, seconds, priority):
        rank = (priority, self.world.last_run, 0)
        self.world.run(n, timeout=timeout, reply=reply, seconds=seconds, rank=rank)

    @rule(n=st.integers(1, 20), lo=st.integers(0, 80), m=st.integers(1, 10))
    def runs_with_inputs(self, n, lo, m):
        # Inputs have ids below 1,000 and come from elsewhere.
        whole = (900 + lo % 10, m)
        self.world.run(
            n, aligned=(lo,), whole=(whole,), sources=((lo, n, 7), (*whole, 8))
        )

    @rule(n=st.integers(2, 10), lo=st.integers(0, 60), g=st.integers(2, 3))
    def runs_with_groups(self, n, lo, g):
        self.world.run(n, groups=((lo, g),), sources=((lo, g * n, 7),))

    @rule(
        data=st.data(),
        length=st.integers(1, 4),
        seconds=st.sampled_from([0.0, 0.00001, 1.0]),
        inputs=st.integers(1, 2),
        reply=st.booleans(),
    )
    def runs_ahead(self, data, length, seconds, inputs, reply):
        """Tasks that take each other's results are sent before there are any."""
        world = self.world
        single = [r for r, m in world.runs.items() if m.n == 1]
        coming = [world.runs[r].base for r in single if self._is_coming(r)]
        if not coming:
            coming = [world.runs[world.run(1, seconds=seconds)].base]
        for _ in range(length):
            awaits = {data.draw(st.sampled_from(coming)) for _ in range(inputs)}
            number = world.run(
                1,
                aligned=tuple(awaits),
                awaits=tuple(awaits),
                reply=reply,
                seconds=seconds,
            )
            coming.append(world.runs[number].base)

    @rule(
        data=st.data(),
        n=st.integers(2, 12),
        seconds=st.sampled_from([0.00001, 0.0001]),
        replies=st.booleans(),
    )
    def runs_nodes(self, data, n, seconds, replies):
        """Short nodes of a graph come together: they may be a parcel."""
        world = self.world
        single = [r for r, m in world.runs.items() if m.n == 1]
        coming = [world.runs[r].base for r in single[-12:] if self._is_coming(r)]
        nodes = []
        for index in range(n):
            some = (
                data.draw(st.sets(st.sampled_from(coming), max_size=2))
                if coming
                else ()
            )
            awaits = tuple(sorted(some))
            reply = replies and index % 3 == 0
            how = {"aligned": awaits, "awaits": awaits, "digests": True}
            nodes.append(world.message_of(1, reply=reply, seconds=seconds, **how))
            coming.append(nodes[-1].base)
        world.tell(*nodes)

    def _is_coming(self, run):
        """Whether the result of a run is here, or still to be made."""
        task = self.world.runs[run].base
        end = self.world.ends[run, task]
        return end is None or (end == "ran" and task in self.world.store)

    @precondition(lambda self: self.world.runs)
    @rule(data=st.data(), kill=st.booleans())
    def stops(self, data, kill):
        world = self.world
        number = data.draw(st.sampled_from(sorted(world.runs)[-6:]))
        message = world.runs[number]
        lo = data.draw(st.integers(0, message.n - 1))
        n = data.draw(st.integers(1, message.n - lo))
        # The scheduler stops what it takes to be under way: once each.
        tasks = range(message.base + lo, message.base + lo + n)
        if all(world.ends[number, t] in {None, "ran"} for t in tasks):
            world.stop(number, message.base + lo, n, kill=kill)

    @precondition(lambda self: self.world.runs)
    @rule(data=st.data())
    def runs_again(self, data):
        world = self.world
        number = data.draw(st.sampled_from(sorted(world.runs)[-6:]))
        message = world.runs[number]
        ends = {world.ends[number, message.base + i] for i in range(message.n)}
        later = [
            r for r, m in world.runs.items() if m.base == message.base and r > number
        ]
        if ends <= {"stopped", "failed", "returned"} and not later:
            world.run(message.n, base=message.base)

    @rule(count=st.integers(1, 30))
    def asks_back(self, count):
        self.world.ask_back(count)

    @rule(lo=st.integers(0, 80), n=st.integers(1, 20))
    def drops(self, lo, n):
        # Only what no run waits for may be dropped.
        used = any(
            end is None and (run.aligned or run.whole or run.groups)
            for (number, _), end in self.world.ends.items()
            for run in [self.world.runs[number]]
        )
        if not used:
            self.world.tell(Drop(((lo, n), (900, 30))))

    @rule(lo=st.integers(0, 80), n=st.integers(1, 20), worker=st.integers(7, 8))
    def asks_to_fetch(self, lo, n, worker):
        if not self.world.state.copies.covers(lo, n):
            self.world.fetch((lo, n), worker)

    @rule(base=st.integers(200, 300))
    def puts(self, base):
        self.world.tell(Put(base, 2, b"\1\0\0\0\1\0\0\0", b"ab"))

    # Runners.

    @rule(index=small, count=st.integers(1, 40), report=st.booleans())
    def slot_runs(self, index, count, report):
        slot = self._slot(index)
        slot.run(count)
        if report:
            slot.report()

    @rule(index=small, inline=st.booleans())
    def slot_reports(self, index, inline):
        self._slot(index).report(inline=inline)

    @rule(index=small)
    def slot_fails(self, index):
        self._slot(index).fail()

    @rule(index=small)
    def slot_blocks(self, index):
        self._slot(index).block()

    @rule(index=small, again=st.booleans(), fail=st.booleans())
    def slot_resumes(self, index, again, fail):
        self._slot(index).resume(block_again=again, fail=fail)

    @rule(index=small, count=st.integers(1, 3))
    def slot_is_heard(self, index, count):
        for _ in range(count):
            self.world.hear(self._slot(index))

    @rule(index=small)
    def control_is_heard(self, index):
        self.world.hear_control(self._runner(index))

    @rule(index=small, marks=st.sampled_from([True, True, False]), lose=st.booleans())
    def runner_dies(self, index, marks, lose):
        runner = self._runner(index)
        if runner.ready:
            self.world.die(runner, marks=marks, lose_news=lose)

    @rule(index=small)
    def runner_grows(self, index):
        self.world.grow(self._runner(index))

    @rule(index=small)
    def marks_are_read(self, index):
        self.world.look(self._runner(index))

    @rule(index=small, data=st.data())
    def marks_lie(self, index, data):
        """A process may write into its marks what it likes."""
        runner = self._runner(index)
        tasks = sorted(set().union(*(slot.tasks() for slot in runner.slots)))
        if tasks:
            marks = tuple(data.draw(st.lists(st.sampled_from(tasks), max_size=2)))
            self.world.step(orders.Looked(runner.number, marks))

    @rule(short=st.booleans(), hold=st.booleans())
    def memory_is_short_or_not(self, short, hold):
        self.world.step(orders.MemoryShort(short, hold))

    @rule(index=small)
    def runner_comes_up(self, index):
        runner = self._runner(index)
        if not runner.ready:
            self.world.start(runner.number)

    @precondition(lambda self: self.world.fetching)
    @rule(data=st.data(), ok=st.sampled_from([True, True, False]))
    def fetch_ends(self, data, ok):
        extent = data.draw(st.sampled_from(sorted(self.world.fetching)))
        self.world.fetched(extent, ok=ok)

    @rule(seconds=st.sampled_from([0.005, 0.02, 0.6, 2.0]), polite=st.booleans())
    def time_passes(self, seconds, polite):
        self.world.polite = polite
        self.world.tick(seconds)

    def teardown(self):
        # Memory that is becoming free is free in the end; it may still be short.
        self.world.step(orders.MemoryShort(self.world.state.memory_short))
        self.world.settle()
        self.world.check_ends()


TestWorker = WorkerMachine.TestCase
TestWorker.settings = settings(
    derandomize=True,
    max_examples=int(os.environ.get("COVEY_TEST_EXAMPLES", "60")),
    stateful_step_count=int(os.environ.get("COVEY_TEST_STEPS", "30")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
