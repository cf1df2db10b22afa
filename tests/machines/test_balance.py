"""Work behind what takes longer than it was thought to goes to who idles."""

from __future__ import annotations

import pytest

from covey.scheduler.core import balance
from covey.scheduler.core.spans import find
from covey.scheduler.core.state import State
from covey.wire.base import Options
from covey.wire.worker_link import Engaged, Return, ReturnDone


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


def work(worker, n, straggler):
    """Let a worker of one slot run *n* tasks; say whether it hangs in one that does."""
    worker.read(len(worker.inbox))
    while n and worker.runs:
        number = min(worker.runs, key=lambda number: worker.runs[number].todo)
        if worker.runs[number].todo[0] == straggler:
            return
        some = worker.runs[number].todo[:n]
        if straggler in some:
            some = some[: some.index(straggler)]
        n -= len(some)
        worker.finish(number, 0, len(some))


@pytest.mark.parametrize("at", [0, 240, 360])
def test_neighbours_of_a_straggler_wait_no_longer_than_its_silence(world, client, at):
    """One slot hangs; the other runs what it can, five tasks of a millisecond in each turn."""
    workers = [world.new_worker(1, name=str(i)) for i in range(2)]
    client.submit(20)
    world.settle()
    begun, n = world.now, 400
    base = client.submit(n)
    neighbours = {*range(base, base + n)} - {base + at}
    while any(client.status.get(task) != "finished" for task in neighbours):
        for worker in workers:
            work(worker, 5, base + at)
        world.pass_time(0.005)
    alone = n * 0.001
    assert world.now - begun < alone + balance.SILENT_SECONDS + 0.1


def test_who_has_handed_back_all_is_asked_again(world, client):
    """Its answer is no refusal, though the list of what it has handed back is empty."""
    one, two = behind_a_long_one(world, client)
    world.pass_time(balance.SILENT_SECONDS + 0.1)
    one.read(len(one.inbox))
    assert world.state.workers[one.peer].count == 1
    assert world.state.workers[one.peer].reluctant <= world.now
    assert [run.message.n for run in two.coming_runs()] == [1]


def test_who_is_late_is_asked_for_all_though_it_was_reluctant_before(world, client):
    one, _ = behind_a_long_one(world, client, 4)
    record = world.state.workers[one.peer]
    record.reluctant = world.now + balance.RELUCTANT_SECONDS
    world.pass_time(balance.SILENT_SECONDS + 0.1)
    assert [message.count for message in returns(one)] == [3]


def test_who_is_late_and_has_nothing_to_hand_back_is_not_asked_over_and_over(
    world, client
):
    one, _ = behind_a_long_one(world, client, 5)
    world.pass_time(balance.SILENT_SECONDS + 0.1)
    one.inbox.clear()
    for _ in range(5):
        one.say(ReturnDone())
        assert not returns(one)
    world.pass_time(balance.RELUCTANT_SECONDS + 0.1)
    assert len(returns(one)) == 1


def test_who_is_late_is_given_nothing_more_before_it_has_told_of_an_end(world, client):
    one = world.new_worker(1, name="one")
    two = world.new_worker(1, name="two")
    client.submit(8)
    world.settle()
    client.submit(2)
    for worker in (one, two):
        worker.read(len(worker.inbox))
        assert len(worker.runs) == 1
    world.pass_time(balance.SILENT_SECONDS + 0.1)
    client.submit(8)
    assert not one.coming_runs()[1:]
    assert not two.coming_runs()[1:]
    one.finish(min(one.runs))
    assert one.coming_runs()
    world.settle()


def of_seconds(world, task, seconds):
    """Let it be known how long the function of *task* takes."""
    function = find(world.state, task).function
    function.seconds, function.done = seconds, 1000


def lines_of(worker, tasks):
    """Return which of *tasks* lie at a worker."""
    runs = [run.message for run in worker.coming_runs()]
    given = {task for run in runs for task in range(run.base, run.base + run.n)}
    return given.intersection(tasks)


@pytest.mark.parametrize("seconds", [0.005, 0.03, 3600.0])
def test_a_higher_priority_waits_for_one_end_and_not_until_a_line_is_short(
    world, client, seconds
):
    low = client.submit(500)
    of_seconds(world, low, seconds)
    worker = world.new_worker(8)
    worker.read(len(worker.inbox))
    lined_up = sum(run.message.n for run in worker.runs.values())
    assert lined_up > 16
    urgent = client.submit(40, options=Options(priority=1))
    assert not lines_of(worker, range(urgent, urgent + 40))
    worker.finish(min(worker.runs), 0, 1)
    worker.read(len(worker.inbox))
    given = len(lines_of(worker, range(urgent, urgent + 40)))
    assert given >= 8, "for all slots, whatever lies in line"
    assert given <= max(20, 0.1 * 8 / (0.9 * seconds))
    assert len(worker.coming_runs()) <= 3, "in a slice"
    # And nothing more that would lie behind all that.
    assert len(lines_of(worker, range(low, low + 500))) <= lined_up


def test_a_priority_that_may_not_begin_for_its_memory_draws_in_nothing_else(
    world, client
):
    world.memory_limit = 1000
    worker = world.new_worker(2)
    sources = client.submit(100)
    world.settle()
    low = client.submit(100, fn=2, aligned=(sources,))
    of_seconds(world, low, 3600.0)
    find(world.state, low).function.nbytes = 400
    worker.read(len(worker.inbox))
    client.submit(10, fn=3, options=Options(priority=1))
    worker.finish(min(worker.runs), 0, 1)
    worker.read(len(worker.inbox))
    assert len(lines_of(worker, range(low, low + 100))) <= 5
