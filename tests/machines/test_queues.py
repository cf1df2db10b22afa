"""What lies ready: nothing that was released stays, and nobody looks in vain."""

from __future__ import annotations

import pytest

from covey.scheduler.core import invariants
from covey.scheduler.core.demand import DEMANDS_MAX
from covey.scheduler.core.spans import find
from covey.scheduler.core.state import State, Worker
from covey.wire.base import Options
from covey.wire.worker_link import Run


@pytest.mark.parametrize("first", [None, "waits"])
def test_a_queue_keeps_little_of_what_was_released(world, client, first):
    if first is not None:
        client.submit(1, options=Options(priority=1))
    for _ in range(250):
        task = client.submit(1)
        client.release((task, 1))
    assert len(world.state.default_demand.heap) < 150
    tasks = [client.submit(1) for _ in range(300)]
    client.release(*((task, 1) for task in tasks[:250]))
    assert len(world.state.default_demand.heap) < 250
    world.new_worker()
    world.settle()
    world.check_ends()
    assert {client.status[task] for task in tasks[250:]} == {"finished"}


def test_pauses_and_queues_of_workers_keep_little_as_well(world, client):
    source = client.submit(1)
    holder = world.new_worker(1, name="holder")
    world.settle()
    for _ in range(150):
        task = client.submit(1, aligned=(source,))
        client.release((task, 1))
    assert len(world.state.workers[holder.peer].queue) < 100
    assert not world.state.pauses


def test_different_demands_are_not_remembered_for_ever(world, client):
    worker = world.new_worker(1, resources={"memory": 1000.0})
    for number in range(1, 120):
        client.submit(1, options=Options(resources={"memory": number}))
        worker.do_everything()
        client.release_all()
    state = world.state
    assert len(state.demands) <= DEMANDS_MAX
    assert len(state.workers[worker.peer].demands) <= DEMANDS_MAX
    waiting = [
        client.submit(1, options=Options(resources={"memory": 1000 + number}))
        for number in range(1, 100)
    ]
    assert len(state.demands) >= len(waiting)
    bigger = world.new_worker(1, resources={"memory": 2000.0}, name="bigger")
    world.settle()
    assert {client.status[task] for task in waiting} == {"finished"}
    assert not bigger.runs


def test_what_nobody_can_run_makes_nobody_look(world, client, calls_of):
    for number in range(20):
        world.new_worker(1, name=f"worker{number}")
    gpu = world.new_worker(4, resources={"GPU": 1}, name="gpu")
    options = Options(resources={"GPU": 1})
    running, waiting = (client.submit(1, options=options) for _ in range(2))
    never = client.submit(1, options=Options(resources={"TPU": 1}))
    assert find(world.state, running).state is State.ASSIGNED
    calls = calls_of("_choose")
    for _ in range(10):
        client.submit(1)
    # Whoever takes it looks, and perhaps one who finds no more.
    assert len(calls) <= 30
    # As soon as there is room, it is taken.
    gpu.do_everything()
    assert find(world.state, waiting).state is not State.READY
    other = world.new_worker(1, resources={"TPU": 1}, name="tpu")
    assert [m.base for m in other.inbox if isinstance(m, Run)] == [never]


def test_what_is_asked_for_by_name_is_found_among_many_idle_workers(world, client):
    workers = [world.new_worker(1, name=f"worker{number}") for number in range(20)]
    for worker in reversed(workers):
        task = client.submit(1, options=Options(workers=(worker.name,)))
        assert find(world.state, task).worker.peer == worker.peer
    invariants.check(world.state)


def test_a_worker_goes_by_the_names_of_its_host_as_well():
    def names(address):
        return Worker(1, "w", 1, {}, (address,), "node7/1000/x", 0).names

    far = {"w", "node7", "10.0.0.7", "tcp://10.0.0.7:1234"}
    assert names("tcp://10.0.0.7:1234") == far
    near = {"w", "node7", "127.0.0.1", "localhost", "unix:/run/x/data-0"}
    assert names("unix:/run/x/data-0") == near


def test_values_that_find_no_worker_are_looked_at_once(world, client, calls_of):
    calls = calls_of("demand_of")
    tasks = [client.scatter(1) for _ in range(50)]
    tasks.append(client.scatter(1, workers=("named",)))
    assert len(calls) <= 60
    one = world.new_worker(1, name="one")
    world.settle()
    assert {client.status[task] for task in tasks[:-1]} == {"stored"}
    # The last one waits for its worker, and others' news costs it no look.
    del calls[:]
    for _ in range(10):
        client.submit(1)
    one.do_everything()
    named = [c for c in calls if c[1].base == tasks[-1]]
    assert not named
    world.new_worker(1, name="named")
    assert client.status[tasks[-1]] == "stored"
