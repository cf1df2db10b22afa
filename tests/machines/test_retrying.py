"""Which failures are worth another attempt, when and where it is made."""

from __future__ import annotations

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from scheduler_world import RAISED

from covey.errors import RemoteProtocolError
from covey.payload import Pack
from covey.scheduler.core import explain, journaling
from covey.scheduler.core.machine import Said
from covey.scheduler.core.queues import lying_ready
from covey.scheduler.core.retrying import LOSSES_MAX, worth
from covey.scheduler.core.spans import find
from covey.scheduler.core.state import State
from covey.scheduler.core.unfit import RETRY_SECONDS
from covey.wire.base import DEFAULT_OPTIONS, Again, Failure, Options
from covey.wire.client_link import DefineFunction, Detach, Retry, Rewrite, Submit, Tried
from covey.wire.worker_link import RunFailed

sys.path.pop(0)

OS_ERROR = ("builtins.ConnectionResetError", "builtins.OSError", "builtins.Exception")


def raised(*classes):
    return Failure("raised", "SomeError", "as it was told to", b"", classes=classes)


def run_of(worker, task):
    worker.read(10)
    return next((n for n, run in worker.runs.items() if task in run.todo), None)


@pytest.mark.parametrize(
    ("on", "failure", "is_worth_it"),
    [
        ((), raised("builtins.ValueError"), True),
        (("builtins.OSError",), raised(*OS_ERROR), True),
        (("builtins.OSError",), raised("builtins.ValueError"), False),
        (("builtins.OSError",), raised(), False),
        # What is ours is known by its name, and is derived from what users know.
        (("builtins.TimeoutError",), Failure("timeout", "TaskTimedOut", ""), True),
        (("builtins.MemoryError",), Failure("memory", "TaskOutOfMemory", ""), True),
        (("covey.errors.RunnerDied",), Failure("died", "RunnerDied", ""), True),
        (("covey.errors.RunnerDied",), Failure("died", "WorkerDied", ""), True),
        (("covey.errors.RunnerDied",), Failure("raised", "RunnerDied", ""), False),
        (("covey.errors.DataLost",), Failure("died", "RunnerDied", ""), False),
        ((), Failure("cancelled", "TaskCancelled", ""), False),
    ],
)
def test_what_is_worth_another_attempt(on, failure, is_worth_it):
    assert worth(Again(on), failure) is is_worth_it


def test_only_the_failures_that_were_named_are_tried_again(world, client):
    worker = world.new_worker(name="alice")
    options = Options(retries=5, again=Again(("builtins.OSError",)))
    task = client.submit(1, options=options)
    worker.fail(run_of(worker, task), failure=raised(*OS_ERROR))
    assert client.status[task] == "pending"
    worker.fail(run_of(worker, task), failure=raised("builtins.ValueError"))
    assert client.status[task] == "failed"
    # What it came to is told with the places; classes were for the scheduler.
    failure = client.failures[task]
    assert [(a.worker, a.type_name) for a in failure.attempts] == [
        ("alice", "SomeError"),
        ("alice", "SomeError"),
    ]
    assert failure.classes == ()
    text = explain.task(world.state, task)["text"]
    assert "not tried again, since its retries are for OSError only" in text
    assert not world.state.attempts


def test_pauses_grow_and_nobody_runs_it_meanwhile(world, client):
    worker = world.new_worker()
    again = Again(delay_seconds=10.0, factor=3.0)
    task = client.submit(1, options=Options(retries=3, again=again))
    for pause in (10.0, 30.0, 90.0):
        worker.fail(run_of(worker, task))
        answer = explain.task(world.state, task)
        assert answer["pause_seconds"] == pytest.approx(pause)
        world.pass_time(pause - 0.5)
        assert run_of(worker, task) is None
        assert world.core.wake_at == pytest.approx(world.now + 0.5)
        world.pass_time(0.5)
    worker.fail(run_of(worker, task))
    assert client.status[task] == "failed"


def test_the_next_attempt_is_made_elsewhere(world, client):
    one = world.new_worker(1, name="one")
    task = client.submit(1, options=Options(retries=3, again=Again(elsewhere=True)))
    two = world.new_worker(1, name="two")
    one.fail(run_of(one, task))
    assert run_of(one, task) is None
    two.fail(run_of(two, task))
    # It has failed everywhere: then anywhere.
    somewhere = next(w for w in (one, two) if run_of(w, task))
    somewhere.fail(run_of(somewhere, task))
    world.settle()
    assert client.status[task] == "finished"


def test_who_idles_does_not_take_it_back_from_elsewhere(world, client):
    one = world.new_worker(1, name="one")
    task = client.submit(1, options=Options(retries=1, again=Again(elsewhere=True)))
    two = world.new_worker(1, name="two")
    busy = client.submit(1)
    assert run_of(two, busy)
    for _ in range(3):
        client.submit(1)
    two.read(10)
    one.fail(run_of(one, task))
    one.do_everything()
    assert run_of(one, task) is None
    world.settle()
    assert client.status[task] == "finished"


def test_what_waits_for_another_worker_goes_where_it_can_when_that_leaves(
    world, client
):
    one = world.new_worker(1, name="one")
    again = Again(elsewhere=True)
    task = client.submit(1, options=Options(retries=1, again=again))
    two = world.new_worker(1, name="two")
    for _ in range(4):
        client.submit(1)
    two.read(10)
    one.fail(run_of(one, task))
    world.lose(two.peer)
    world.settle()
    assert client.status[task] == "finished"


def test_the_counts_survive_the_scheduler(world, client):
    worker = world.new_worker(2, name="alice")
    again = Again(delay_seconds=5.0)
    base = client.submit(2, options=Options(retries=2, again=again))
    worker.fail(
        run_of(worker, base), worker.runs[run_of(worker, base)].todo.index(base)
    )
    world.restart()
    world.close_window()
    span = find(world.state, base)
    assert (span.attempts, span.state) == (1, State.READY)
    assert explain.task(world.state, base)["tried_on"] == ["alice"]
    # The pause goes on, too.
    assert explain.task(world.state, base)["pause_seconds"] == pytest.approx(5.0)
    assert find(world.state, base + 1).attempts == 0
    for _ in range(2):
        world.pass_time(5.0)
        run = run_of(worker, base)
        worker.fail(run, worker.runs[run].todo.index(base))
    assert client.status[base] == "failed"
    assert len(client.failures[base].attempts) == 3


def test_a_failure_that_both_sides_tell_another_life_counts_once(world, client):
    worker = world.new_worker()
    task = client.submit(1, options=Options(retries=2))
    worker.unheard.append(worker.fail(run_of(worker, task)))
    world.restart()
    world.close_window()
    assert find(world.state, task).attempts == 1
    world.settle()
    assert client.status[task] == "finished"
    client.release_all()
    world.check_empty()


def test_a_failure_that_the_client_has_not_heard_of_counts_then(world, client):
    worker = world.new_worker()
    task = client.submit(1, options=Options(retries=2))
    number = run_of(worker, task)
    worker._done(number, task, 1)
    worker.unheard.append(RunFailed(number, task, 0.001, RAISED))
    world.restart()
    world.close_window()
    assert find(world.state, task).attempts == 1
    world.settle()
    assert client.status[task] == "finished"


def test_losses_survive_the_scheduler(world, client):
    task = client.submit(1)
    for number in range(3):
        worker = world.new_worker(name=f"w{number}")
        assert run_of(worker, task)
        world.lose(worker.peer)
    world.restart()
    world.close_window()
    for number in range(3, 5):
        worker = world.new_worker(name=f"w{number}")
        assert run_of(worker, task)
        world.lose(worker.peer)
    failure = client.failures[task]
    assert failure.type_name == "WorkerDied"
    assert [a.worker for a in failure.attempts] == ["w0", "w1", "w2", "w3", "w4"]


@pytest.mark.parametrize(
    ("on", "more"), [((), 2), (("covey.errors.WorkerDied",), 2), (("x.Other",), 0)]
)
def test_who_asks_for_retries_is_lost_with_more_workers(world, client, on, more):
    task = client.submit(1, options=Options(retries=2, again=Again(on)))
    for _ in range(LOSSES_MAX + 1 + more):
        assert client.status[task] == "pending"
        worker = world.new_worker()
        assert run_of(worker, task)
        world.lose(worker.peer)
    assert client.failures[task].type_name == "WorkerDied"


def test_a_client_that_was_told_forgets_with_the_task(world, client):
    worker = world.new_worker()
    task = client.submit(1, options=Options(retries=1))
    worker.fail(run_of(worker, task))
    assert len(client.ledger) == 1
    client.release((task, 1))
    assert len(client.ledger) == 0
    assert not world.state.attempts


def test_a_new_client_may_not_tell_how_often_it_was_tried(world, client):
    with pytest.raises(Exception, match="recalls what it never told"):
        client.say(Tried(client.submit(1), 1, 3, 0))


# Environments that cannot be had.

REFUSED = Failure("environment", "EnvironmentFailed", "pip says: no such package")


def asks(client, environment='{"requirements": "numpy"}', options=DEFAULT_OPTIONS):
    """Submit a task whose function asks for an environment."""
    number = 900 + len(client.functions)
    client.functions.add(number)
    client.say(DefineFunction(number, environment.encode(), "f", b"p", environment))
    return client.submit(1, fn=number, options=options)


def refuse(world, task):
    """Let the worker that has *task* refuse its environment; return its name."""
    worker = next(w for w in world.workers.values() if run_of(w, task))
    worker.fail(run_of(worker, task), failure=REFUSED)
    return worker.name


@pytest.fixture
def three(world):
    return [world.new_worker(1, name=name) for name in ("one", "two", "three")]


def test_what_one_worker_cannot_have_is_tried_on_the_others(world, client, three):
    task = asks(client)
    refused = {refuse(world, task), refuse(world, task)}
    assert len(refused) == 2
    assert client.status[task] == "pending"
    # It was not even begun: that uses up no attempt.
    assert find(world.state, task).attempts == 0
    world.settle()
    assert client.status[task] == "finished"
    # Neither of the two is asked for it again; for all else they are as good as before.
    (left,) = {w.name for w in three} - refused
    for _ in range(3):
        asks(client)
    for worker in three:
        worker.read(10)
    assert {w.name for w in three if w.runs} == {left}
    client.submit(4)
    for worker in three:
        worker.read(10)
    assert all(w.runs for w in three)
    world.settle()


def test_it_fails_when_all_have_refused_and_tells_where(world, client, three):
    task = asks(client)
    refused = {refuse(world, task) for _ in three}
    assert len(refused) == 3
    assert client.status[task] == "failed"
    failure = client.failures[task]
    assert failure.message == REFUSED.message
    assert {attempt.worker for attempt in failure.attempts} == refused
    # Who comes later is not left waiting: the workers may think otherwise now.
    later = asks(client)
    refuse(world, later)
    world.settle()
    assert client.status[later] == "finished"


def test_a_worker_that_was_asked_for_by_name_has_the_last_word(world, client, three):
    task = asks(client, options=Options(workers=("two",)))
    assert refuse(world, task) == "two"
    assert client.status[task] == "failed"


def test_a_worker_that_refused_is_asked_again_after_a_while(world, client):
    one = world.new_worker(1, name="one")
    task = asks(client)
    two = world.new_worker(1, name="two")
    assert refuse(world, task) == "one"
    world.settle()
    world.pass_time(RETRY_SECONDS)
    tasks = [asks(client), asks(client)]
    assert {w.name for w in (one, two) for t in tasks if run_of(w, t)} == {"one", "two"}


def test_what_lay_ready_for_it_goes_elsewhere_too(world, client):
    one = world.new_worker(1, name="one")
    data = client.submit(1)
    world.settle()
    number = 900
    environment = '{"python": "3.13"}'
    client.functions.add(number)
    client.say(DefineFunction(number, b"d", "f", b"p", environment))
    tasks = [client.submit(1, fn=number, whole=((data, 1),)) for _ in range(6)]
    one.read(100)
    world.new_worker(1, name="two")
    spans = {find(world.state, task) for task in tasks}
    place = world.state.workers[one.peer]
    assert not spans.isdisjoint(lying_ready(place))
    before = set(one.runs)
    one.fail(min(before), failure=REFUSED)
    one.read(100)
    assert set(one.runs) < before
    assert spans.isdisjoint(lying_ready(place))
    while one.runs:
        one.fail(next(iter(one.runs)), failure=REFUSED)
    world.settle()
    assert {client.status[task] for task in tasks} == {"finished"}


def test_who_asked_for_nothing_cannot_be_refused_its_environment(world, client, three):
    """Only a worker gone mad says so, and it is believed no more than that."""
    task = client.submit(1)
    refuse(world, task)
    assert client.status[task] == "failed"
    assert not any(worker.unfit for worker in world.state.workers.values())


# Written in another way.


def rewritten(world, client, task, n=1, function=77):
    """Say again what *task* is, with other bytes."""
    pack = Pack.of([b"as text"] * n)
    for each in range(task, task + n):
        world.arguments[each] = client.values[each] = b"as text"
    if function not in client.functions:
        client.functions.add(function)
        client.say(DefineFunction(function, b"text %d" % function, "f", b"text"))
    made = Submit(task, n, function, pack.sizes_bytes(), bytes(pack.data))
    client.say(Rewrite(made))


def test_what_nobody_could_read_is_tried_again_as_it_is_written_now(world, client):
    worker = world.new_worker()
    task = client.submit(1)
    after = client.submit(1, whole=((task, 1),))
    worker.fail(run_of(worker, task))
    assert client.status[task] == client.status[after] == "failed"
    rewritten(world, client, task)
    client.say(Retry(((after, 1),)))
    # The worker asserts that it is given these arguments.
    world.settle()
    assert client.status[task] == client.status[after] == "finished"
    assert find(world.state, task).function.payload == b"text"


def test_what_runs_is_left_alone_and_what_waits_is_not(world, client):
    worker = world.new_worker(1)
    base = client.submit(6)
    worker.read(10)
    running = {t for run in worker.runs.values() for t in run.todo}
    before = {t: world.arguments[t] for t in running}
    rewritten(world, client, base, 6)
    world.arguments.update(before)
    client.values.update(before)
    told = {t: find(world.state, t).function.payload for t in range(base, base + 6)}
    assert {t for t, payload in told.items() if payload == b"text"} == (
        set(range(base, base + 6)) - running
    )
    world.settle()
    assert all(client.status[t] == "finished" for t in range(base, base + 6))


@pytest.mark.parametrize("wrong", ["foreign", "function", "sizes"])
def test_nobody_writes_what_is_not_his_or_makes_no_sense(world, client, wrong):
    other = world.new_client()
    task = client.submit(1)
    speaker = other if wrong == "foreign" else client
    if wrong == "function":
        made = Submit(task, 1, 999, b"\0\0\0\0", b"")
    elif wrong == "sizes":
        made = Submit(task, 2, 1, b"\0\0\0\0", b"")
    else:
        made = Submit(task, 1, 1, b"\0\0\0\0", b"")
    with pytest.raises(RemoteProtocolError):
        world.core.step(Said(speaker.peer, [Rewrite(made)]), 0.0)


def test_a_journal_tells_the_next_scheduler_what_was_written_last():
    pack = Pack.of([b"x"])
    first = Submit(5, 1, 1, pack.sizes_bytes(), b"x")
    second = Submit(5, 1, 2, pack.sizes_bytes(), b"y")
    other = Submit(6, 1, 1, pack.sizes_bytes(), b"x")
    records = [(1, message) for message in (first, other, second, Detach(((5, 2),)))]
    assert journaling.latest(records) == records[1:]
    assert (1, first) not in journaling.essence(records)
