"""What a scheduler makes of what peers of an earlier life report."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from scheduler_world import World

from covey.ids import ClientId, first_task_id
from covey.scheduler.core import invariants, orphans
from covey.scheduler.core.spans import find
from covey.scheduler.core.state import State, Worker
from covey.wire.base import Options
from covey.wire.worker_link import Stop

sys.path.pop(0)

FIRST = first_task_id(ClientId(3))


@pytest.fixture
def world():
    return World()


@pytest.fixture
def client(world):
    return world.new_client()


@pytest.mark.parametrize("offered", [{}, {"GPU": 1}])
def test_a_worker_takes_no_more_on_than_it_offers(world, client, offered):
    worker = world.new_worker(2, resources={"GPU": 2})
    options = Options(resources={"GPU": 1})
    tasks = [client.submit(1, options=options) for _ in range(2)]
    worker.read(10)
    assert len(worker.runs) == 2
    worker.resources = offered
    world.restart()
    world.close_window()
    spans = [find(world.state, task) for task in tasks]
    running = [span for span in spans if span.state is State.ASSIGNED]
    assert len(running) == offered.get("GPU", 0)
    stopped = [m for m in worker.inbox if isinstance(m, Stop)]
    assert len(stopped) == 2 - len(running)


# Values that nobody has asked for yet.


def lines_of(work):
    """Return how many lines of Python ran in *work*."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("there", [True, False])
def test_a_foreign_input_is_no_look_at_all_values_of_nobody(there):
    def lines(held):
        world = World()
        world.restart()
        worker = Worker(1, "worker", 0, {}, (), "here", 0)
        world.state.workers[1] = worker
        for number in range(held):
            orphans.enter(world.state, worker, (FIRST + 10 * number, 5, 50, b""))
        task = FIRST + 10 * (held // 2) + (3 if there else 7)

        def work():
            orphans.claim(world.state, task, 1)
            list(orphans.gaps(world.state, worker, task, 20))
            orphans.strike(world.state, worker, ((task + 5, 30),))

        counted = lines_of(work)
        assert (find(world.state, task) is not None) == there
        invariants.check(world.state)
        return counted

    assert lines(4000) <= lines(40) + 10


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(1, 12))))
@settings(derandomize=True, deadline=None, max_examples=100)
def test_values_of_nobody_are_those_that_were_told_of_and_not_struck(steps):
    world = World()
    world.restart()
    worker = Worker(1, "worker", 0, {}, (), "here", 0)
    world.state.workers[1] = worker
    expected = {}
    for told, base, n in steps:
        digests = b"".join(i.to_bytes(4) for i in range(base, base + n))
        tasks = range(base, base + n)
        if told:
            orphans.enter(world.state, worker, (base, n, 8 * n, digests))
            expected |= {task: task.to_bytes(4) for task in tasks}
        else:
            orphans.strike(world.state, worker, ((base, n),))
            expected = {t: d for t, d in expected.items() if t not in tasks}
        held = world.state.orphans.get(worker, [])
        found = {
            base + i: digests[4 * i : 4 * i + 4]
            for base, n, _, digests in held
            for i in range(n)
        }
        assert found == expected
        invariants.check(world.state)
        gaps = orphans.gaps(world.state, worker, base, n)
        missing = {task for lo, count in gaps for task in range(lo, lo + count)}
        assert missing == set(tasks) - set(expected)
