"""What a scheduler makes of what peers of an earlier life report."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from scheduler_world import World

from covey.errors import RemoteProtocolError
from covey.ids import ClientId, first_task_id
from covey.scheduler.core import clients, invariants, orphans
from covey.scheduler.core.comeback import REPORT_SECONDS, SILENCE_SECONDS
from covey.scheduler.core.machine import Joined, Left, Said
from covey.scheduler.core.spans import find
from covey.scheduler.core.state import Client, State, Worker
from covey.wire.base import Options
from covey.wire.client_link import Cancel, DefineFunction, ForgetFunction
from covey.wire.worker_link import Holds, Put, Run, Stop, Watched

sys.path.pop(0)

FIRST = first_task_id(ClientId(3))


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


# While peers are waited for.


def test_nothing_is_dealt_out_while_peers_are_waited_for(world, client):
    old = world.new_worker(2)
    world.restart(late={old.peer})
    workers = [world.new_worker(2, name=name) for name in ("new", "newer")]
    other = world.new_client()
    other.submit(2)
    other.say(Cancel((), running=False))
    other.scatter(1, broadcast=True)
    assert world.state.window is not None
    for worker in workers:
        assert not [m for m in worker.inbox if isinstance(m, Run)]
        # Values need no slot, and nobody else has them.
        assert [m for m in worker.inbox if isinstance(m, Put)]
    world.settle()
    world.check_ends()


def test_a_worker_that_comes_back_is_told_how_often_to_say_how_it_is(world):
    worker = world.new_worker()
    new = world.new_worker(name="new")
    assert not [m for m in (*worker.inbox, *new.inbox) if isinstance(m, Watched)]
    world.restart()
    world.close_window()
    assert [m for m in worker.inbox if isinstance(m, Watched)] == [Watched(0.0)]


def test_who_never_comes_to_the_end_of_his_report_is_shown_out(world):
    worker = world.new_worker()
    world.restart(late={worker.peer})
    world.away.remove(worker)
    hello = worker.introduction(1)
    peer = world.core.peer_for(hello)
    world.core.step(Joined(peer, hello), world.now)
    for number in range(round(REPORT_SECONDS / SILENCE_SECONDS)):
        # Longer than it counts for: this may be the scheduler's own sleep.
        world.now += 10 * REPORT_SECONDS
        world.core.step(Said(peer, [Holds(FIRST + number, 1, 8)]), world.now)
    world.now += SILENCE_SECONDS
    with pytest.raises(RemoteProtocolError, match="has not come to the end"):
        world.core.step(Said(peer, [Holds(FIRST, 1, 8)]), world.now)
    world.core.step(Left(peer), world.now)
    invariants.check(world.state)
    assert not world.state.returning


# Who stands for whom.


def test_a_stand_in_that_is_refused_takes_nobody_along(world, client):
    task = client.submit(1)
    ghost = Client(-1, client.number, "of the journal")
    world.state.clients[ghost.peer] = ghost
    clients.leave(world.state, ghost)
    invariants.check(world.state)
    world.new_worker()
    world.settle()
    assert client.status[task] == "finished"


def test_who_claims_the_digest_of_another_function_runs_his_own(world, client):
    client.say(DefineFunction(7, b"digest", "mine", b"my code"))
    other = world.new_client()
    other.say(DefineFunction(7, b"digest", "theirs", b"their code"))
    state = world.state
    codes = [
        state.client_numbers[side.number].functions[7].payload
        for side in (client, other)
    ]
    assert codes == [b"my code", b"their code"]
    for side in (client, other):
        side.say(ForgetFunction(7))
    assert not state.functions.known


def test_an_attempt_that_has_failed_is_not_stopped_where_its_task_runs_again(
    world, monkeypatch
):
    """It would take along what the later one has made: nobody knows what made a value."""
    client, worker = world.new_client(), world.new_worker()
    task = client.submit(1, options=Options(retries=1))
    worker.read(10)
    (failed,) = worker.runs
    with monkeypatch.context() as patch:
        # The scheduler dies before its client hears of that.
        patch.setattr(client, "hear", lambda message: None)
        worker.unheard.append(worker.fail(failed))
    worker.read(10)
    (again,) = worker.runs
    # Another life hears of both, since it may not know that the first one has ended.
    world.restart()
    world.close_window()
    span = find(world.state, task)
    assert (span.state, span.run) == (State.ASSIGNED, again)
    assert not [message for message in worker.inbox if isinstance(message, Stop)]
    worker.finish(again)
    worker.read(10)
    assert task in worker.store
    assert client.status[task] == "finished"
