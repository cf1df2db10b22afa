"""Work behind what takes longer than it was thought to goes to who idles."""

from __future__ import annotations

from covey.scheduler.core import balance
from covey.scheduler.core.spans import find
from covey.scheduler.core.state import State
from covey.wire.base import Options
from covey.wire.worker_link import Engaged, Return


def returns(worker):
    return [message for message in worker.inbox if isinstance(message, Return)]


def behind_a_long_one(world, client, n=2):
    """Return two workers, one of which has a long task and short ones behind it."""
    one = world.new_worker(1, name="one")
    # The function is known to be short.
    client.submit(8)
    world.settle()
    client.submit(n)
    one.read(len(one.inbox))
    two = world.new_worker(1, name="two")
    return one, two


def test_what_lies_behind_a_long_task_goes_to_who_idles(world, client):
    one, two = behind_a_long_one(world, client)
    assert not returns(one)
    assert world.core.wake_at > 0
    world.pass_time(balance.SILENT_SECONDS + 0.1)
    assert len(returns(one)) == 1
    one.read(len(one.inbox))
    assert [run.message.n for run in two.coming_runs()] == [1]


def test_who_tells_of_ends_is_not_silent(world, client):
    one, _ = behind_a_long_one(world, client, 4)
    for _ in range(2):
        world.pass_time(balance.SILENT_SECONDS - 0.05)
        one.finish(min(one.runs), 0, 1)
    assert not returns(one)


def test_what_came_back_to_the_same_worker_is_asked_for_again_later(world, client):
    one, _ = behind_a_long_one(world, client)
    record = world.state.workers[one.peer]
    record.reluctant = world.now + 2 * balance.RELUCTANT_SECONDS
    world.pass_time(balance.RELUCTANT_SECONDS)
    assert not returns(one)
    assert world.core.wake_at > 0
    world.pass_time(balance.RELUCTANT_SECONDS + 0.1)
    assert len(returns(one)) == 1


def test_inputs_are_moved_when_their_holder_turns_out_to_be_busy(world, client):
    holder = world.new_worker(1, {"gpu": 1.0}, name="holder")
    data = client.submit(1)
    world.settle()
    gpu = Options(resources={"gpu": 1.0})
    long, other = (client.submit(1, aligned=(data,), options=gpu) for _ in range(2))
    idle = world.new_worker(1, {"gpu": 1.0}, name="idle")
    holder.read(len(holder.inbox))
    assert find(world.state, long).state is State.ASSIGNED
    assert find(world.state, other).state is State.READY
    world.pass_time(balance.SILENT_SECONDS + 0.1)
    assert find(world.state, other).worker.peer == idle.peer


def test_who_waits_for_amounts_holds_up_nobody_behind(world, client):
    """All take what the only worker has; one slot of it is free, and no gpu."""
    world.new_worker(2, {"gpu": 1.0}, name="one")
    data = client.submit(1)
    world.settle()
    gpu = Options(resources={"gpu": 1.0})
    first, second = (client.submit(1, aligned=(data,), options=gpu) for _ in range(2))
    plain = client.submit(1, aligned=(data,))
    assert find(world.state, first).state is State.ASSIGNED
    assert find(world.state, second).state is State.READY
    assert find(world.state, plain).state is State.ASSIGNED
    world.settle()
    assert client.status[second] == "finished"


def test_slots_that_take_nothing_are_counted(world, client):
    one = world.new_worker(2, name="one")
    other = world.new_worker(2, name="two")
    one.say(Engaged(2))
    assert world.state.workers[one.peer].idle_slots == 0
    client.submit(2)
    assert not one.coming_runs()
    assert len(other.coming_runs()) >= 1
    # No more than it has.
    one.say(Engaged(7))
    one.say(Engaged(0))
    assert world.state.workers[one.peer].idle_slots == 2
    world.settle()


def test_what_was_sent_ahead_is_not_asked_back(world, client):
    """Else it would take along what it waits for, from worker to worker, for ever."""
    one = world.new_worker(1, name="one")
    base = client.submit_graph([(), (0,), (1,), (2,)])
    world.new_worker(1, name="two")
    record = world.state.workers[one.peer]
    assert record.count > 1
    for _ in range(5):
        world.pass_time(1.0)
    assert not returns(one)
    world.settle()
    assert {client.status[base + i] for i in range(4)} == {"finished"}


def test_what_was_sent_ahead_takes_no_slot_before_it_can_run(world, client):
    """Nobody knows how long they take: one slot makes what all of one part wait for."""
    one = world.new_worker(2, name="one")
    record = world.state.workers[one.peer]
    part = [(), *[(0,)] * 5]
    other = [(), *[(len(part),)] * 5]
    base = client.submit_graph([*part, *other])
    one.read(len(one.inbox))
    roots = {base, base + len(part)}
    assert {one.runs[run].message.base for run in one.ready_runs()} == roots
    assert record.ahead
    assert (record.busy, record.idle_slots) == (2, 0)
    followers = len(record.ahead)
    first = next(n for n, run in one.runs.items() if run.message.base == base)
    one.finish(first)
    # Those that took it take slots now.
    assert record.busy == record.count - len(record.ahead) >= 1 + followers
    assert record.idle_slots == 0
    world.settle()
    assert {client.status[base + i] for i in range(12)} == {"finished"}
    assert (record.busy, record.idle_slots, record.ahead) == (0, 2, {})


def test_what_was_sent_ahead_and_called_off_takes_no_slot_either(world, client):
    one = world.new_worker(2, name="one")
    record = world.state.workers[one.peer]
    base = client.submit_graph([(), (0,), (0,), (1, 2)])
    assert record.ahead
    assert record.idle_slots == 1
    one.read(len(one.inbox))
    client.release((base, 4))
    assert not record.ahead
    one.read(len(one.inbox))
    world.settle()
    assert record.idle_slots == 2


def test_what_nobody_else_can_take_does_not_hold_up_the_others(world, client):
    """The last in line came back at once: now all are asked for."""
    one, _ = behind_a_long_one(world, client, 4)
    record = world.state.workers[one.peer]
    surplus = record.count - record.slots
    record.handed_back.add(1)
    world.pass_time(balance.SILENT_SECONDS + 0.1)
    assert surplus > 1
    assert [message.count for message in returns(one)] == [surplus]


def test_a_gap_is_filled_when_it_is_worth_a_slice(world, client):
    """News of eight tasks at a time leave room for eight, over and over."""
    one = world.new_worker(1, name="one")
    client.submit(2000)
    slices = []
    while one.inbox or one.runs:
        one.read(len(one.inbox))
        slices += [run for run in one.runs.values() if run not in slices]
        one.finish(min(one.runs), 0, 8)
    world.settle()
    # Two seconds of work in slices of 50 ms, and as the end comes near they are halved.
    assert len(slices) < 60
