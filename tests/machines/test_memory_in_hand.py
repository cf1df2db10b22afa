"""Which tasks go first when their results take memory: see ``scheduler.core.memory``."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from scheduler_world import World

from covey.scheduler.core.state import State
from covey.wire.base import Options
from covey.wire.worker_link import Status

sys.path.pop(0)

N = 40
VALUE = 100  # The world's large results have so many bytes.


def run_all(world, worker):
    """Run one task after the other; return the most bytes there were, and the order."""
    peak, order = 0, []
    while worker.inbox or worker.runs:
        worker.read(len(worker.inbox))
        ready = [number for number in worker.runs if worker.is_ready(number)]
        if not ready:
            continue
        first = min(
            ready, key=lambda number: (worker.runs[number].message.rank, number)
        )
        fn = worker.runs[first].message.fn
        order.append(fn)
        worker.finish(first, 0, 1, stored=fn == 1)
        peak = max(peak, world.state.stored_bytes)
    return peak, order


def loads_and_sums(world, *, keep=False, priority=0):
    """Two maps, the second over the results of the first: load all, sum up each."""
    client = world.new_client()
    worker = world.new_worker(slots=2)
    loads = client.submit(N, fn=1)
    options = Options(priority=priority)
    client.submit(N, fn=2, aligned=(loads,), options=options)
    if not keep:
        client.release((loads, N))
    return client, worker


def test_what_frees_its_input_goes_before_what_was_submitted_earlier():
    world = World()
    _, worker = loads_and_sums(world)
    peak, order = run_all(world, worker)
    assert sorted(order) == [1] * N + [2] * N
    # All of them at a time would be N.
    assert peak < 10 * VALUE


def test_what_somebody_holds_is_not_freed_and_the_first_map_goes_first():
    world = World()
    _, worker = loads_and_sums(world, keep=True)
    peak, order = run_all(world, worker)
    assert order[:30].count(2) == 0
    assert peak >= N * VALUE


def cut_and_join(world, *, keep=False):
    """Ten blocks, each cut into four pieces, one call a piece."""
    client = world.new_client()
    worker = world.new_worker(slots=1)
    blocks = [client.submit(fn=1) for _ in range(10)]
    for block in blocks:
        for _ in range(4):
            client.submit(fn=2, whole=((block, 1),))
    if not keep:
        for block in blocks:
            client.release((block, 1))
    return worker


def test_all_that_takes_a_value_goes_before_what_makes_the_next_one():
    world = World()
    peak, order = run_all(world, cut_and_join(world))
    assert sorted(order) == [1] * 10 + [2] * 40
    # One is cut, and some were given out before anything was known of them.
    assert peak < 6 * VALUE
    world = World()
    peak, order = run_all(world, cut_and_join(world, keep=True))
    assert peak >= 10 * VALUE


def test_what_makes_more_of_a_value_than_it_was_goes_in_order():
    world = World()
    client = world.new_client()
    worker = world.new_worker(slots=1)
    blocks = [client.submit(fn=1) for _ in range(8)]
    for _ in range(12):
        row = [client.submit(fn=1, whole=((block, 1),)) for block in blocks]
        client.submit(fn=3, whole=tuple((step, 1) for step in row))
        client.release(*((step, 1) for step in row))
    client.release(*((block, 1) for block in blocks))
    peak, _ = run_all(world, worker)
    # The blocks and one row of what is made of them; not all rows of the first block.
    assert peak < 20 * VALUE


def test_who_goes_on_and_on_does_not_stay_before_those_who_come_later():
    world = World()
    first, second = world.new_client(), world.new_client()
    worker = world.new_worker(slots=1)
    state = first.submit(fn=1)

    def go_on(state):
        parts = [first.submit(fn=2, whole=((state, 1),)) for _ in range(4)]
        after = first.submit(fn=3, whole=tuple((part, 1) for part in parts))
        first.release(*((part, 1) for part in parts), (state, 1))
        return after

    for _ in range(6):
        state = go_on(state)
    late = second.submit(3, fn=9)
    ran = 0
    while "pending" in [second.status[late + i] for i in range(3)]:
        worker.read(len(worker.inbox))
        ready = [number for number in worker.runs if worker.is_ready(number)]
        one = min(ready, key=lambda number: (worker.runs[number].message.rank, number))
        fn = worker.runs[one].message.fn
        worker.finish(one, 0, 1)
        ran += 1
        assert ran < 100
        if fn == 3:
            state = go_on(state)


def test_a_priority_is_the_users_word():
    world = World()
    _, worker = loads_and_sums(world, priority=-1)
    _, order = run_all(world, worker)
    assert order[:30].count(2) == 0


def test_where_memory_is_tight_values_are_used_before_new_ones_are_made():
    """Though all results are held, so that nothing is freed by it."""
    world = World(memory_limit=20 * VALUE)
    _, worker = loads_and_sums(world, keep=True)
    _, order = run_all(world, worker)
    assert sorted(order) == [1] * N + [2] * N
    # From 60 % on, sums come between the loads.
    assert order[:14].count(2) < 3
    assert order[: N + 5].count(2) > 10


def test_a_worker_short_of_memory_makes_nothing_new_while_it_uses_what_is_there():
    world = World(memory_limit=1000)
    client, worker = world.new_client(), world.new_worker(slots=2)
    source = client.submit(fn=1)
    worker.do_everything()
    user = client.submit(fn=2, aligned=(source,))
    worker.say(Status({"memory": {"total": 900}}))
    new = client.submit(fn=3)
    spans = world.state.spans
    assert spans[user].state is State.ASSIGNED
    # A slot is idle, and the task waits with the scheduler.
    assert spans[new].state is State.READY
    worker.do_everything()
    assert spans[user].state is State.DONE
    assert spans[new].state is State.ASSIGNED


def test_less_memory_in_use_lets_new_tasks_begin():
    world = World(memory_limit=1000)
    client, worker = world.new_client(), world.new_worker(slots=2)
    source = client.submit(fn=1)
    worker.do_everything()
    client.submit(fn=2, aligned=(source,))
    worker.say(Status({"memory": {"total": 900}}))
    new = client.submit(fn=3)
    assert world.state.spans[new].state is State.READY
    worker.say(Status({"memory": {"total": 300}}))
    assert world.state.spans[new].state is State.ASSIGNED


def test_who_waits_for_tasks_of_its_own_does_not_keep_them_from_beginning():
    world = World(memory_limit=1000)
    client, worker = world.new_client(), world.new_worker(slots=1)
    source = client.submit(fn=1)
    worker.do_everything()
    client.submit(fn=2, aligned=(source,))
    worker.say(Status({"memory": {"total": 990}}))
    worker.read(len(worker.inbox))
    inner = client.submit(fn=3)
    assert world.state.spans[inner].state is State.READY
    worker.block(next(iter(worker.runs)), 0)
    assert world.state.spans[inner].state is State.ASSIGNED


def test_a_worker_that_is_tight_does_not_keep_others_from_their_work():
    world = World(memory_limit=1000)
    client = world.new_client()
    tight = world.new_worker(slots=1)
    source = client.submit(fn=1)
    tight.do_everything()
    client.submit(fn=2, aligned=(source,))
    tight.say(Status({"memory": {"total": 990}}))
    new = client.submit(fn=3)
    other = world.new_worker(slots=1)
    assert world.state.spans[new].worker is world.state.workers[other.peer]


def test_results_beyond_the_limit_are_made_where_nothing_can_be_freed():
    """They go to disk; a cluster that waited for memory would wait for ever."""
    world = World(memory_limit=10 * VALUE)
    client, worker = world.new_client(), world.new_worker(slots=2)
    client.submit(N, fn=1)
    peak, order = run_all(world, worker)
    assert len(order) == N and peak == N * VALUE


def test_who_found_nothing_is_asked_again_when_there_is_something():
    world = World(memory_limit=1000)
    client, worker = world.new_client(), world.new_worker(slots=1)
    client.submit(fn=1, options=Options(workers=("nobody",)))
    worker.say(Status({"memory": {"total": 990}}))
    new = client.submit(fn=2)
    assert world.state.spans[new].state is State.ASSIGNED
