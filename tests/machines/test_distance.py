"""How far away workers are, and how much they are sent ahead for that."""

from __future__ import annotations

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from covey.scheduler.core import balance, distance, placement
from covey.scheduler.core.machine import Away, Back
from covey.scheduler.core.spans import find
from covey.wire.worker_link import Forget, Forgot, Return

sys.path.pop(0)

ASK = distance.ASK_SECONDS


def record(world, worker):
    return world.state.workers[worker.peer]


def asked(worker):
    """Return how many questions wait for *worker*."""
    return worker.inbox.count(Forget(()))


def obey(worker):
    """Read all; what it is asked is answered at once."""
    worker.read(len(worker.inbox))


def answer(world, client, worker, seconds):
    """Let *worker*, which has nothing to do, answer a question that late."""
    client.submit(1)
    assert asked(worker) == 1
    world.pass_time(seconds)
    obey(worker)
    world.settle()


def test_a_question_goes_with_a_run_and_no_other_one_before_it_is_answered(
    world, client
):
    worker = world.new_worker(2)
    assert not asked(worker)
    client.submit(1)
    client.submit(1)
    assert [type(message) for message in worker.inbox].count(Forget) == 1
    world.pass_time(0.02)
    obey(worker)
    assert record(world, worker).distance.seconds == pytest.approx(0.02)


def test_the_second_question_goes_with_the_next_run_and_the_others_now_and_then(
    world, client
):
    worker = world.new_worker(1)
    answer(world, client, worker, 0.3)
    answer(world, client, worker, 0.1)
    client.submit(1)
    assert not asked(worker)
    world.settle()
    world.pass_time(ASK)
    answer(world, client, worker, 0.2)


def test_the_shorter_of_the_last_two_answers_counts(world, client):
    worker = world.new_worker(1)
    found = []
    for seconds in (0.4, 0.1, 0.3, 0.2, 0.5):
        world.pass_time(ASK)
        answer(world, client, worker, seconds)
        found.append(record(world, worker).distance.seconds)
    first = distance.FARTHEST_AT_FIRST_SECONDS
    assert found == pytest.approx([first, 0.1, 0.1, 0.2, 0.2])


def test_one_late_answer_makes_nobody_far_away(world, client):
    """Be it the first one, when a worker has just begun to work and has much to import."""
    worker = world.new_worker(2)
    answer(world, client, worker, 0.9)
    client.submit(5_000)
    each = placement.FULL_SECONDS + distance.FARTHEST_AT_FIRST_SECONDS
    held = record(world, worker).count / 2
    known = record(world, worker).backlog_seconds(1.0) / record(world, worker).count
    assert held * known <= each * 1.02
    world.pass_time(0.001)
    obey(worker)
    assert record(world, worker).distance.seconds == pytest.approx(0.001)


def test_nobody_is_farther_away_than_makes_sense(world, client):
    worker = world.new_worker(1)
    for _ in range(2):
        answer(world, client, worker, 100 * distance.FARTHEST_SECONDS)
    assert record(world, worker).distance.seconds == distance.FARTHEST_SECONDS


def test_an_answer_that_had_to_wait_for_another_link_tells_nothing(world, client):
    worker = world.new_worker(1)
    answer(world, client, worker, 0.01)
    client.submit(1)
    world.step(Away(worker.peer))
    world.pass_time(0.9)
    world.step(Back(worker.peer))
    obey(worker)
    assert record(world, worker).distance.seconds == pytest.approx(0.01)
    world.settle()
    # It is asked once more.
    world.pass_time(ASK)
    answer(world, client, worker, 0.005)
    assert record(world, worker).distance.seconds == pytest.approx(0.005)


def test_an_answer_that_nobody_asked_for_is_no_news(world, client):
    worker = world.new_worker(1)
    worker.say(Forgot(()))
    client.submit(1)
    world.pass_time(0.01)
    obey(worker)
    worker.say(Forgot(()))
    assert record(world, worker).distance.seconds == pytest.approx(0.01)


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_a_worker_has_as_much_more_ahead_as_it_is_away(world, client, seconds):
    worker = world.new_worker(2)
    # Each is known to take a millisecond.
    for _ in range(2):
        client.submit(1)
        world.pass_time(seconds)
        obey(worker)
        world.settle()
    client.submit(5_000)
    obey(worker)
    held = record(world, worker).count / 2
    assert held == pytest.approx(1000 * (placement.FULL_SECONDS + seconds), rel=0.02)


@pytest.mark.parametrize(
    ("seconds", "held"), [(0.0, 2), (0.0004, 2), (0.2, 4), (0.5, 7)]
)
def test_of_long_tasks_it_has_two_for_each_slot_and_those_on_their_way(
    world, client, seconds, held
):
    worker = world.new_worker(1)
    for _ in range(2):
        known = client.submit(1)
        world.pass_time(seconds)
        obey(worker)
        find(world.state, known).function.seconds = 0.1
        world.settle()
    find(world.state, known).function.seconds = 0.1
    for _ in range(20):
        client.submit(1)
    assert record(world, worker).count == held


def test_who_is_far_away_is_not_silent_before_its_news_can_have_come(world, client):
    one = world.new_worker(1, name="one")
    answer(world, client, one, 0.8)
    answer(world, client, one, 0.8)
    client.submit(2)
    world.new_worker(1, name="two")
    one.read(len(one.inbox))
    # Nor is it worth the way to have back what waits for less than that.
    for seconds, known in ((balance.SILENT_SECONDS + 0.1, 0), (0.8, 0), (0.8, 1)):
        world.pass_time(seconds)
        returns = [message for message in one.inbox if isinstance(message, Return)]
        assert len(returns) == known


def test_one_looks_again_when_it_may_be_worth_the_way(world, client):
    one = world.new_worker(1, name="one")
    answer(world, client, one, 0.8)
    answer(world, client, one, 0.8)
    client.submit(2)
    world.new_worker(1, name="two")
    one.read(len(one.inbox))
    given = record(world, one).stirred
    assert world.core.wake_at - given == pytest.approx(1.6, abs=0.1)
    world.pass_time(world.core.wake_at - world.now)
    assert [message for message in one.inbox if isinstance(message, Return)]
