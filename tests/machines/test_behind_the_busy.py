"""What lies ready for a worker that is busy for long goes to others, if not at once."""

from __future__ import annotations

import pytest

from covey.scheduler.core import tries
from covey.scheduler.core.machine import Away, Back
from covey.scheduler.core.queues import lying_ready
from covey.scheduler.core.spans import find
from covey.wire.base import Again, Options

HOLDER = Options(workers=("holder",))

#: In so many seconds everything has been tried.
LONG = 100.0


@pytest.fixture
def holder(world):
    return world.new_worker(1, name="holder")


@pytest.fixture
def data(client, holder):
    """Inputs that nobody can make again, on a worker."""
    return [client.place(holder) for _ in range(4)]


@pytest.fixture
def busy(client, holder, data):
    """What its holder runs and does not come to the end of, and one more that it has."""
    return keep_busy(client, holder)


def keep_busy(client, worker):
    options = Options(workers=(worker.name,))
    tasks = [client.submit(1, options=options) for _ in range(2)]
    assert len(worker.coming_runs()) == 2
    return tasks


def do_all(worker):
    """Let *worker* do what it has, and what it is given for that."""
    while worker.inbox or worker.runs:
        worker.do_everything()


def place(world, task):
    """Return the name of the worker that has *task*, if one has."""
    worker = find(world.state, task).worker
    return worker.name if worker is not None else None


def lies_with(world, worker, task):
    return find(world.state, task) in lying_ready(world.state.workers[worker.peer])


def fails_to_fetch(world, worker, task):
    """*worker* was given *task* and cannot have its inputs."""
    worker.read(len(worker.inbox))
    worker.fetch(find(world.state, task).run, ok=False)


def comes_back(world, worker, task):
    """*worker*, which has a slot free, is given *task* again: return after how long."""
    begun = world.now
    while place(world, task) != worker.name:
        assert world.core.wake_at, "nobody will look"
        assert world.now < begun + LONG
        world.pass_time(world.core.wake_at - world.now)
    return world.now - begun


def test_who_could_not_fetch_the_inputs_tries_again_later_and_later(
    world, client, data, busy
):
    idle = world.new_worker(1, name="idle")
    task = client.submit(1, aligned=(data[0],))
    waited = []
    for _ in range(6):
        fails_to_fetch(world, idle, task)
        waited.append(comes_back(world, idle, task))
    assert waited == sorted(waited)
    assert waited[-1] > 2 * waited[0]
    do_all(idle)
    assert client.status[task] == "finished"


def test_its_holder_has_it_first_if_it_has_room_by_then(
    world, client, holder, data, busy
):
    idle = world.new_worker(1, name="idle")
    task = client.submit(1, aligned=(data[0],))
    fails_to_fetch(world, idle, task)
    world.pass_time(tries.pause_seconds(find(world.state, task)))
    assert lies_with(world, holder, task)
    do_all(holder)
    assert client.status[task] == "finished"
    assert not idle.coming_runs()


def test_another_one_takes_it_that_has_not_tried(world, client, holder, data, busy):
    one = world.new_worker(1, name="one")
    two = world.new_worker(1, name="two")
    keep_busy(client, two)
    task = client.submit(1, aligned=(data[0],))
    fails_to_fetch(world, one, task)
    world.pass_time(tries.pause_seconds(find(world.state, task)))
    assert lies_with(world, holder, task)
    do_all(two)
    comes_back(world, two, task)
    do_all(two)
    assert client.status[task] == "finished"


def test_it_does_not_fail_where_all_its_inputs_lie_together(
    world, client, holder, data, busy
):
    """However often others try in vain: their holder will have room one day."""
    idle = [world.new_worker(1, name=f"idle{number}") for number in range(2)]
    task = client.submit(1, aligned=data[:2])
    span = find(world.state, task)
    for _ in range(2 * tries.UNREACHED_MAX):
        while span.worker is None:
            assert world.core.wake_at, "nobody will look"
            world.pass_time(world.core.wake_at - world.now)
        fails_to_fetch(world, next(w for w in idle if w.coming_runs()), task)
    assert (client.status[task], span.unreached) == ("pending", tries.UNREACHED_MAX)
    world.pass_time(tries.pause_seconds(span))
    assert lies_with(world, holder, task)
    do_all(holder)
    assert client.status[task] == "finished"


def test_it_fails_where_they_lie_apart_and_out_of_reach(world, client, holder, data):
    other = world.new_worker(1, name="other")
    apart = client.place(other)
    task = client.submit(1, aligned=(data[0], apart))
    span = find(world.state, task)
    begun = world.now
    while client.status[task] == "pending":
        assert world.now < begun + LONG
        if span.worker is None:
            world.pass_time(world.core.wake_at - world.now)
        else:
            fails_to_fetch(world, world.workers[span.worker.peer], task)
    assert "could not be brought to a worker" in client.failures[task].message
    assert span.unreached == tries.UNREACHED_MAX


def test_it_holds_up_nothing_that_lies_behind_it(world, client, holder, data, busy):
    idle = world.new_worker(1, name="idle")
    task = client.submit(1, aligned=(data[0],), options=Options(priority=1))
    fails_to_fetch(world, idle, task)
    world.pass_time(tries.pause_seconds(find(world.state, task)))
    assert lies_with(world, holder, task)
    behind = client.submit(1, aligned=(data[1],))
    assert place(world, behind) == "idle"
    assert lies_with(world, holder, task)


def test_nor_do_several_that_were_tried_in_vain(world, client, holder, data, busy):
    """The last of them fails first, and is the first whose time comes."""
    idle = world.new_worker(4, name="idle")
    tasks = [client.submit(1, aligned=(source,)) for source in data]
    for task in tasks[:-1]:
        fails_to_fetch(world, idle, task)
        comes_back(world, idle, task)
    for task in tasks:
        fails_to_fetch(world, idle, task)
    early = find(world.state, tasks[-1])
    assert early.unreached < min(find(world.state, t).unreached for t in tasks[:-1])
    comes_back(world, idle, tasks[-1])
    assert [place(world, task) for task in tasks[:-1]] == [None] * 3


def test_what_may_run_there_only_holds_up_nothing_either(
    world, client, holder, data, busy
):
    first = client.submit(1, aligned=(data[0],), options=HOLDER)
    while not lies_with(world, holder, first):
        first = client.submit(1, aligned=(data[0],), options=HOLDER)
    idle = world.new_worker(1, name="idle")
    behind = client.submit(1, aligned=(data[1],))
    assert place(world, behind) == "idle"
    assert not lies_with(world, idle, first)


def test_one_that_is_avoided_keeps_no_other_one_from_looking(
    world, client, holder, data, busy
):
    """It stands first among those that idle, and finds nothing."""
    avoided = world.new_worker(1, name="avoided")
    again = Options(retries=1, again=Again(elsewhere=True))
    task = client.submit(1, fn=2, aligned=(data[0],), options=again)
    avoided.read(len(avoided.inbox))
    run = find(world.state, task).run
    avoided.fetch(run, ok=True)
    avoided.fail(run)
    assert lies_with(world, holder, task)
    world.new_worker(1, name="other")
    assert place(world, task) == "other"


def test_who_is_away_is_no_reason_to_avoid_anybody(world, client, holder, data, busy):
    idle = world.new_worker(1, name="idle")
    task = client.submit(1, aligned=(data[0],))
    world.step(Away(holder.peer))
    fails_to_fetch(world, idle, task)
    world.step(Back(holder.peer))
    comes_back(world, idle, task)
    do_all(idle)
    assert client.status[task] == "finished"
