"""Workers that a task names and could do without: first they, and others after a while."""

from __future__ import annotations

import pytest

from covey.scheduler.core.spans import find
from covey.scheduler.core.state import State
from covey.scheduler.core.wishes import WISH_SECONDS
from covey.wire.base import Options

WISH = Options(workers=("one",), allow_other_workers=True)


@pytest.fixture(params=["before", "behind"])
def pair(world, request):
    """A worker that will be named, and one that came before it, or after it."""
    names = ["two", "one"] if request.param == "behind" else ["one", "two"]
    workers = {name: world.new_worker(1, name=name) for name in names}
    return workers["one"], workers["two"]


def place(world, task):
    """Return the name of the worker that has *task*, if one has."""
    worker = find(world.state, task).worker
    return worker.name if worker is not None else None


def test_tasks_go_to_the_worker_that_they_name(world, client, pair):
    one, _ = pair
    for _ in range(4):
        task = client.submit(1, options=WISH)
        assert place(world, task) == "one"
        one.do_everything()
    assert client.status[task] == "finished"


def test_so_does_all_of_a_range_while_its_worker_takes_it_in(world, client, pair):
    one, two = pair
    base = client.submit(8, options=WISH)
    while find(world.state, base + 7).state is not State.DONE:
        assert one.inbox or one.runs
        one.do_everything()
    assert not two.inbox and not two.runs


def test_others_take_what_has_waited_for_long(world, client, pair):
    one, two = pair
    client.submit(8, options=WISH)
    world.pass_time(WISH_SECONDS - 0.1)
    assert not two.coming_runs()
    assert 0 < world.core.wake_at - world.now <= 0.2
    while not two.coming_runs():
        assert world.now < 2 * WISH_SECONDS
        world.pass_time(world.core.wake_at - world.now)
    # It has no more than it can run, and what it ran makes it look again at once.
    two.do_everything()
    assert two.store
    assert one.coming_runs()


def test_what_is_handed_back_has_waited_where_it_lay(world, client):
    """Else it would go back and forth, beside a worker that idles, for ever."""
    one = world.new_worker(1, name="one")
    client.submit(8, options=WISH)
    world.settle()
    tasks = [client.submit(1, options=WISH) for _ in range(3)]
    one.read(len(one.inbox))
    two = world.new_worker(1, name="two")
    while not two.coming_runs():
        assert world.now < WISH_SECONDS + 0.1
        world.pass_time(world.core.wake_at - world.now)
        one.read(len(one.inbox))
    assert {run.message.base for run in two.coming_runs()} <= {*tasks[1:]}


def test_a_task_is_sent_ahead_only_to_a_worker_that_it_names(world, client):
    two = world.new_worker(1, name="two")
    first = client.submit(1, options=Options(workers=("two",)))
    world.new_worker(1, name="one")
    second = client.submit(1, aligned=(first,), options=WISH)
    assert find(world.state, second).worker is None
    two.do_everything()
    assert place(world, second) == "one"


def test_nor_do_its_inputs_draw_it_elsewhere(world, client):
    two = world.new_worker(1, name="two")
    first = client.submit(1)
    two.do_everything()
    world.new_worker(1, name="one")
    second = client.submit(1, aligned=(first,), options=WISH)
    assert place(world, second) == "one"


def test_what_lies_in_a_named_worker_s_queue_goes_elsewhere_later(world, client, pair):
    one, two = pair
    first = client.submit(1, options=WISH)
    one.do_everything()
    client.submit(500, options=Options(workers=("one",), priority=1))
    waits = client.submit(1, aligned=(first,), options=WISH)
    assert place(world, waits) is None
    world.pass_time(WISH_SECONDS - 0.1)
    assert place(world, waits) is None
    while place(world, waits) is None:
        assert world.now < 2 * WISH_SECONDS
        world.pass_time(world.core.wake_at - world.now)
    assert place(world, waits) == "two"
    assert two.coming_runs()


def test_what_waits_there_for_amounts_goes_elsewhere_later(world, client):
    """Those for whom nothing lay ready have looked before, and are not asked for yet."""
    gpu = {"gpu": 1.0}
    one = world.new_worker(2, gpu, name="one")
    first = client.submit(1, options=WISH)
    one.do_everything()
    client.submit(1, options=Options(resources=gpu, workers=("one",)))
    world.new_worker(1, name="without")
    two = world.new_worker(1, gpu, name="two")
    wish = Options(workers=("one",), resources=gpu, allow_other_workers=True)
    waits = client.submit(1, aligned=(first,), options=wish)
    assert place(world, waits) is None
    while place(world, waits) is None:
        assert world.core.wake_at, "nobody will look"
        assert world.now < 3 * WISH_SECONDS
        world.pass_time(world.core.wake_at - world.now)
    assert place(world, waits) == "two"
    assert two.coming_runs()


def test_where_nobody_is_there_that_was_named_anybody_takes_it_at_once(world, client):
    world.new_worker(1, name="two")
    assert place(world, client.submit(1, options=WISH)) == "two"


@pytest.mark.parametrize("how", ["lost", "away"])
def test_who_is_gone_or_away_is_not_waited_for(world, client, pair, how):
    one, _ = pair
    if how == "lost":
        world.lose(one.peer)
    else:
        world.state.workers[one.peer].away_since = world.now
    assert place(world, client.submit(1, options=WISH)) == "two"


def test_named_workers_that_many_others_stand_before_are_found(world, client, calls_of):
    for number in range(40):
        world.new_worker(1, name=f"other{number}")
    world.new_worker(1, name="one")
    assert place(world, client.submit(1, options=WISH)) == "one"
    # Nobody else looks with each message.
    calls = calls_of("_choose")
    for _ in range(10):
        client.submit(1, options=WISH)
    assert len(calls) <= 30
