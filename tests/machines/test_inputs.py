"""What becomes of tasks in hand when their inputs are lost, cut, or out of reach."""

from __future__ import annotations

import pytest

from covey.scheduler.core import pauses, sending, tries, workers
from covey.scheduler.core.machine import Away
from covey.scheduler.core.retrying import LOSSES_MAX
from covey.scheduler.core.spans import find
from covey.scheduler.core.state import State
from covey.wire.base import Options
from covey.wire.framing import encode_frame
from covey.wire.worker_link import Fetch, Holds, Leaving, Return, Run


def test_who_was_dealt_all_its_inputs_runs_on_while_they_are_made_again(world, client):
    first = world.new_worker(2, name="first")
    client.submit(1)
    world.settle()  # So that its duration is known, and slices of many are dealt.
    inputs = client.submit(40)
    world.settle()
    second = world.new_worker(2, name="second")
    options = Options(workers=("second",))
    task = client.submit(1, fn=2, whole=((inputs, 40),), options=options)
    span = find(world.state, task)
    run = span.run
    others = [world.new_worker(2, name=f"other{number}") for number in range(2)]
    world.lose(first.peer)
    # It may have them all by now.
    assert (span.state, span.missing, span.ahead) == (State.ASSIGNED, 0, False)
    for worker in others:
        worker.do_everything()
    assert (span.run, span.worker.peer) == (run, second.peer)
    second.read(len(second.inbox))
    assert run in second.runs


def pinned_apart(world, client):
    """Return two workers, and a task that the second runs and whose input the first has."""
    holder = world.new_worker(name="holder")
    source = client.submit(1, options=Options(workers=("holder",)))
    world.settle()
    runner = world.new_worker(name="runner")
    pinned = Options(workers=("runner",))
    task = client.submit(1, aligned=(source,), options=pinned)
    return holder, runner, find(world.state, task)


def test_inputs_out_of_reach_are_no_workers_lost(world, client):
    holder, runner, span = pinned_apart(world, client)
    for count in range(1, LOSSES_MAX + 1):
        runner.read(len(runner.inbox))
        runner.fetch(span.run, ok=False)
        assert (span.unreached, span.losses) == (count, 0)
        holder.do_everything()  # What did not come from there is made anew.
        world.pass_time(tries.pause_seconds(span))
        assert span.worker.peer == runner.peer
    # The first worker that is really lost.
    world.lose(runner.peer)
    assert (span.unreached, span.losses) == (LOSSES_MAX, 1)
    assert client.status[span.base] == "pending"


def test_a_holder_that_is_away_uses_up_no_tries(world, client):
    holder, runner, span = pinned_apart(world, client)
    runner.read(len(runner.inbox))
    world.step(Away(holder.peer))
    # It may have many values, and each is found out of reach by itself.
    runner.fetch(span.run, ok=False)
    assert span.unreached == 0
    assert client.status[span.base] == "pending"


def test_many_inputs_that_one_dead_holder_had_are_not_a_try_each(world, client):
    holder = world.new_worker(name="holder")
    inputs = [client.submit(1) for _ in range(2 * tries.UNREACHED_MAX)]
    world.settle()
    runner = world.new_worker(name="runner")
    whole = tuple((source, 1) for source in inputs)
    task = client.submit(1, whole=whole, options=Options(workers=("runner",)))
    span = find(world.state, task)
    # The holder has died, and nobody knows it yet; what it had is made anew one by one.
    for _ in range(tries.UNREACHED_MAX + 2):
        begun = world.now
        runner.read(len(runner.inbox))
        runner.fetch(span.run, ok=False)
        runner.do_everything()
        assert client.status[task] == "pending"
        assert pauses.paused(world.state, span)
        world.pass_time(world.core.wake_at - world.now)
        assert world.now > begun
    assert 0 < span.unreached < tries.UNREACHED_MAX
    world.lose(holder.peer)
    world.settle()
    assert client.status[task] == "finished"


def test_workers_lost_leave_all_tries_for_inputs(world, client):
    world.new_worker(name="holder")
    source = client.submit(1)
    world.settle()
    pinned = Options(workers=("runner",))
    task = client.submit(1, aligned=(source,), options=pinned)
    span = find(world.state, task)
    for _ in range(LOSSES_MAX):
        world.lose(world.new_worker(name="runner").peer)
    runner = world.new_worker(name="runner")
    runner.read(len(runner.inbox))
    runner.fetch(span.run, ok=False)
    assert (span.unreached, span.losses) == (1, LOSSES_MAX)


@pytest.fixture
def crowded(world, client, monkeypatch):
    """Inputs that lie apart, and frames that hold where most of them are, but not all."""
    monkeypatch.setattr(sending, "MANY_SOURCES", 1)
    monkeypatch.setattr(sending, "fits", lambda run: len(encode_frame([run])) < 1500)
    world.new_worker(name="holder")
    inputs = [
        client.submit(1, options=Options(workers=("holder",))) for _ in range(150)
    ]
    world.settle()
    return inputs


def test_a_task_whose_inputs_cannot_be_named_at_once_fails(world, client, crowded):
    runner = world.new_worker(name="runner")
    whole = tuple((task, 1) for task in crowded)
    pinned = Options(workers=("runner",))
    task = client.submit(1, whole=((crowded[0], 150),), options=pinned)
    assert client.status[task] == "failed"
    assert "takes 150 inputs that lie apart" in client.failures[task].message
    assert not [m for m in runner.inbox if isinstance(m, Run)]
    assert not world.state.workers[runner.peer].assigned
    few = client.submit(1, whole=whole[:20], options=pinned)
    world.settle()
    assert client.status[few] == "finished"


def test_where_else_inputs_lie_is_left_out_if_it_is_too_much(world, client, crowded):
    runner = world.new_worker(name="runner")
    other = world.new_worker(name="other")
    taken = 80
    for task in crowded[:taken]:
        value = world.arguments[task]
        other.store[task] = value
        other.say(Holds(task, 1, 8))
    pinned = Options(workers=("runner",))
    task = client.submit(1, whole=((crowded[0], taken),), options=pinned)
    (run,) = (m for m in runner.inbox if isinstance(m, Run))
    assert (len(run.sources), run.spares) == (taken, ())
    world.settle()
    assert client.status[task] == "finished"


def test_the_values_of_a_leaving_worker_are_moved_by_messages_of_some_size(
    world, client, monkeypatch
):
    monkeypatch.setattr(workers, "FETCHED_AT_ONCE", 4)
    leaving = world.new_worker(name="leaving")
    tasks = [client.submit(1) for _ in range(10)]
    world.settle()
    other = world.new_worker(name="other")
    leaving.say(Leaving())
    asked = [len(m.extents) for m in other.inbox if isinstance(m, Fetch)]
    assert asked == [4, 4, 2]
    world.settle()
    assert leaving.peer not in world.workers
    assert set(tasks) <= set(other.store)


def test_a_worker_that_leaves_hands_all_back_though_it_was_asked_for_a_part(
    world, client
):
    leaving = world.new_worker(1, name="leaving")
    client.submit(1)
    world.settle()  # Tasks are short from now on: many are sent ahead.
    for _ in range(40):
        client.submit(1)
    assert world.state.workers[leaving.peer].count > 20
    world.new_worker(1, name="other")
    (asked,) = (m.count for m in leaving.inbox if isinstance(m, Return))
    leaving.say(Leaving())
    leaving.read(len(leaving.inbox))
    assert sum(len(run.todo) for run in leaving.runs.values()) > 1
    assert [m.count > asked // 2 for m in leaving.inbox if isinstance(m, Return)]
    leaving.read(len(leaving.inbox))
    assert sum(len(run.todo) for run in leaving.runs.values()) == 1
    assert not leaving.inbox
    world.settle()
    assert set(client.status.values()) == {"finished"}
