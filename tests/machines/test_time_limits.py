"""Time limits of tasks that go to a slot many at once: whose time is it that runs?

A slot keeps back what has ended, and a task that holds the GIL keeps back everything: then
nothing is heard of its process but what its marks name.
"""

from __future__ import annotations

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from worker_world import RAISED, world_of

from covey.worker.core import orders

sys.path.pop(0)

LIMIT = 1.0
N = 6


class Story:
    """A worker with slots, and one run of short tasks with a limit, in one flight."""

    def __init__(self, runners=1, n=N, limit=LIMIT):
        self.world = world_of(runners)
        self.orders = []
        self.world.watch = self.orders.append
        self.number = self.world.run(n, timeout=limit, seconds=0.001)
        self.base = self.world.runs[self.number].base
        self.slot = self.world.slots[0]
        self.slot.read()

    def seen(self, kind):
        return [order for order in self.orders if isinstance(order, kind)]

    def interrupted(self):
        return [order.task - self.base for order in self.seen(orders.Interrupt)]

    def hear(self):
        while self.slot.out:
            self.world.hear(self.slot)

    def answer(self):
        """The control thread of the runner does what it was asked for."""
        runner = self.world.runners[0]
        self.world.hear_control(runner)
        while runner.out:
            self.world.hear_control(runner)
        self.hear()

    def pass_by(self, seconds, *, holds=False):
        """Time passes; a task that holds the GIL keeps all threads from answering."""
        until = self.world.now + seconds
        while self.world.now < until - 1e-9:
            self.world.tick(min(0.01, until - self.world.now))
            if not holds:
                self.answer()

    def ends(self):
        return [self.world.ends[self.number, self.base + i] for i in range(N)]

    def end(self):
        self.world.polite = True
        self.world.settle()
        self.world.check_ends()

    def sent_once_but(self, *again):
        """Which of the tasks went to a slot more than once."""
        sent = [0] * N
        for order in self.seen(orders.Dispatch):
            for task in range(order.base, order.base + order.n):
                sent[task - self.base] += 1
        return sent == [2 if i in again else 1 for i in range(N)]


@pytest.fixture
def story():
    return Story()


def test_tasks_with_a_limit_go_many_at_once(story):
    assert [order.n for order in story.seen(orders.Dispatch)] == [N]
    story.end()


def test_tasks_with_a_limit_are_sent_ahead_as_others_are():
    story = Story(n=100)
    assert len(story.seen(orders.Dispatch)) == 2
    story.end()


@pytest.mark.parametrize("at", range(N))
def test_only_the_one_that_hangs_is_timed_out(story, at):
    story.slot.run(at)
    began = story.world.now
    story.pass_by(LIMIT - 0.01)
    assert not story.interrupted()
    story.pass_by(0.1)
    assert story.interrupted() == [at]
    assert story.world.now < began + LIMIT + 0.1
    story.end()
    assert story.ends() == ["ran"] * at + ["failed"] + ["ran"] * (N - at - 1)
    assert story.sent_once_but()
    (failure,) = story.world.failures.values()
    assert (failure.kind, failure.type_name) == ("timeout", "TaskTimedOut")


@pytest.mark.parametrize("at", range(N))
def test_who_holds_the_gil_is_known_by_the_mark(story, at):
    story.slot.run(at)
    story.pass_by(LIMIT - 0.01, holds=True)
    assert not story.interrupted()
    story.pass_by(0.1, holds=True)
    assert story.interrupted() == [at]
    story.pass_by(0.39, holds=True)
    assert not story.seen(orders.Kill)
    story.pass_by(0.1, holds=True)
    assert len(story.seen(orders.Kill)) == 1
    # What had ended and was not told of went down with the process, and is no suspect.
    assert not story.world.state.suspects
    story.end()
    assert story.ends() == ["ran"] * at + ["failed"] + ["ran"] * (N - at - 1)
    assert story.sent_once_but(*(i for i in range(N) if i != at))
    (failure,) = story.world.failures.values()
    assert failure.kind == "timeout"


def test_news_begin_the_time_of_the_next_one(story):
    for _ in range(N):
        story.pass_by(0.9 * LIMIT, holds=True)
        story.slot.run(1)
        story.slot.report()
        story.hear()
    story.end()
    assert not story.interrupted()
    assert story.ends() == ["ran"] * N


def test_without_news_marks_begin_it(story):
    for _ in range(N):
        story.pass_by(0.9 * LIMIT, holds=True)
        story.slot.run(1)
    story.slot.report()
    story.hear()
    story.end()
    assert not story.interrupted()
    assert story.ends() == ["ran"] * N


def test_a_limit_may_be_much_shorter_than_a_flight():
    story = Story(limit=0.002)
    for _ in range(N):
        story.pass_by(0.0015, holds=True)
        story.slot.run(1)
    story.slot.report()
    story.hear()
    story.pass_by(0.002)
    assert not story.interrupted()
    story.end()


def test_a_limit_may_be_shorter_than_a_silence():
    story = Story(limit=0.002)
    story.slot.run(1)
    for _ in range(6):
        story.pass_by(0.001)
    assert story.interrupted() == [1]
    story.end()


def test_what_is_kept_back_is_asked_for_whenever_another_one_has_begun(story):
    story.pass_by(0.1)
    for done in range(1, 4):
        story.slot.run(1)
        story.pass_by(0.1)
        assert story.ends().count("ran") == done
    story.end()


def test_a_process_that_does_not_begin_what_it_was_sent_is_ended_as_well(story):
    story.slot.executing = None
    story.pass_by(LIMIT - 0.01, holds=True)
    assert not story.interrupted()
    story.pass_by(0.1, holds=True)
    assert story.interrupted() == [0]
    story.pass_by(0.5, holds=True)
    assert len(story.seen(orders.Kill)) == 1
    story.end()


def test_who_was_to_stop_is_known_without_marks_at_the_end(story):
    """Threads leave none."""
    world = story.world
    story.slot.run(2)
    story.pass_by(LIMIT + 0.1, holds=True)
    world.now += 0.5
    world.step(orders.Tick())
    world.look(world.runners[0])
    assert world.kills == [0]
    world.die(world.runners[0], marks=False)
    assert [task - story.base for _, task in world.failures] == [2]
    story.end()
    assert story.ends() == ["ran", "ran", "failed", "ran", "ran", "ran"]


def test_news_of_those_before_it_do_not_begin_its_time_again(story):
    story.slot.run(2)
    story.pass_by(LIMIT / 2, holds=True)
    story.answer()  # It lets go of the GIL for a moment.
    story.pass_by(LIMIT / 2 + 0.05, holds=True)
    assert story.interrupted() == [2]
    story.end()


def test_who_ends_when_it_is_asked_to_stop_is_not_killed_for_it(story):
    """Nor is the one behind it, though nothing was heard of either."""
    story.world.polite = False
    story.slot.run(2)
    story.pass_by(LIMIT + 0.1, holds=True)
    assert story.interrupted() == [2]
    story.slot.run(1)
    story.pass_by(0.9, holds=True)
    assert not story.seen(orders.Kill)
    story.slot.run(1)
    story.end()
    assert story.ends() == ["ran"] * N
    assert story.sent_once_but()


def test_who_stopped_has_run_out_of_time_though_the_next_one_was_seen_first(story):
    story.slot.run(2)
    story.pass_by(LIMIT + 0.1, holds=True)
    assert story.interrupted() == [2]
    story.world.runners[0].read()  # It stops, and what it says is under way ...
    story.world.look(story.world.runners[0])  # ... while the mark names the next one.
    story.hear()
    assert [f.kind for f in story.world.failures.values()] == ["timeout"]
    story.end()


def test_who_gave_its_slot_away_has_run_out_of_time_when_it_stops(story):
    story.slot.run(2)
    story.pass_by(LIMIT + 0.1, holds=True)
    story.slot.block()
    story.hear()
    story.slot.resume()
    story.slot.resume(fail=True)
    story.hear()
    assert [f.kind for f in story.world.failures.values()] == ["timeout"]
    story.end()


def test_who_gave_its_slot_away_before_its_time_was_up_has_run_out_of_it_as_well(story):
    story.slot.run(2)
    story.slot.block()
    story.hear()
    story.pass_by(LIMIT + 0.1, holds=True)
    assert 2 in story.interrupted()
    story.slot.resume()
    story.slot.resume(fail=True)
    story.hear()
    assert story.world.failures[story.number, story.base + 2].kind == "timeout"
    story.end()


def test_another_one_that_failed_has_not_run_out_of_time(story):
    story.slot.run(1)
    story.slot.fail()
    story.slot.out.clear()  # It is still on its way ...
    failed = orders.SlotFailed(0, story.number, story.base + 1, 0.001, RAISED)
    story.slot.run(1)
    story.pass_by(LIMIT + 0.1, holds=True)
    assert story.interrupted() == [3]
    ran = orders.SlotRan(0, story.number, story.base, 1, 0.001, 8, inline=True)
    for event in (ran, failed):  # ... and comes only now.
        story.world.step(event)
    assert [f.kind for f in story.world.failures.values()] == ["raised"]
    story.answer()
    assert [f.kind for f in story.world.failures.values()] == ["raised", "timeout"]
    story.end()


def test_a_neighbour_may_be_cancelled_meanwhile(story):
    story.slot.run(2)
    story.pass_by(LIMIT / 2)
    story.world.stop(story.number, story.base + 3, 1, kill=True)
    assert not story.interrupted()
    story.pass_by(LIMIT / 2 + 0.05)
    assert story.interrupted() == [2]
    story.end()
    assert story.ends() == ["ran", "ran", "failed", "stopped", "ran", "ran"]


def test_the_one_that_executes_may_be_cancelled_before_its_time(story):
    story.slot.run(2)
    story.pass_by(0.1, holds=True)
    story.world.stop(story.number, story.base + 2, 1, kill=True)
    assert story.interrupted() == [2]
    story.pass_by(0.6, holds=True)
    assert len(story.seen(orders.Kill)) == 1
    story.end()
    assert story.ends() == ["ran", "ran", "stopped", "ran", "ran", "ran"]
    assert not story.world.failures


def test_the_one_that_executed_is_to_blame_for_the_end_of_its_process(story):
    story.slot.run(2)
    story.pass_by(LIMIT / 2, holds=True)
    story.world.die(story.world.runners[0])
    assert [task - story.base for _, task in story.world.failures] == [2]
    (failure,) = story.world.failures.values()
    assert failure.kind == "died"
    story.end()
    assert story.ends() == ["ran", "ran", "failed", "ran", "ran", "ran"]


def test_what_was_sent_ahead_has_its_time_for_itself():
    """The first flight has ended, and nothing was heard of that."""
    story = Story()
    world = story.world
    second = world.run(1, timeout=LIMIT, seconds=0.001)
    assert [order.run for order in story.seen(orders.Dispatch)] == [
        story.number,
        second,
    ]
    story.pass_by(0.8 * LIMIT, holds=True)
    story.slot.run(N)
    story.pass_by(LIMIT - 0.05, holds=True)
    world.step(orders.Looked(0, ()))  # In a moment in which the mark names nobody.
    assert not story.interrupted()
    story.pass_by(0.1, holds=True)
    assert [order.run for order in story.seen(orders.Interrupt)] == [second]
    story.pass_by(0.6, holds=True)
    assert list(world.failures) == [(second, world.runs[second].base)]
    story.end()
    assert story.ends() == ["ran"] * N


def test_what_was_sent_ahead_has_its_time_when_it_is_all_there_is():
    story = Story()
    second = story.world.run(1, timeout=LIMIT, seconds=0.001)
    story.pass_by(LIMIT / 2)
    story.slot.run(N)
    story.slot.report()
    story.hear()
    story.pass_by(LIMIT - 0.05, holds=True)
    assert not story.interrupted()
    story.pass_by(0.1, holds=True)
    assert [order.run for order in story.seen(orders.Interrupt)] == [second]
    story.end()


def test_a_task_that_gives_its_slot_away_keeps_its_time(story):
    story.slot.run(2)
    story.pass_by(LIMIT / 2)
    story.slot.block()
    story.hear()
    story.slot.run(N)
    story.pass_by(LIMIT / 2 + 0.1)
    assert story.interrupted() == [2]
    story.end()


def test_who_gives_its_slot_away_when_it_is_to_stop_is_killed_in_time(story):
    story.slot.run(2)
    story.pass_by(LIMIT + 0.1, holds=True)
    assert story.interrupted() == [2]
    story.slot.block()
    story.hear()
    story.pass_by(0.5, holds=True)
    assert len(story.seen(orders.Kill)) == 1
    story.end()
    assert story.ends()[2] == "failed"


def test_those_behind_who_takes_long_go_to_a_slot_that_is_dry():
    story = Story(runners=2)
    other = story.world.slots[1]
    for _ in range(3):
        other.run(N)
        other.report()
        while other.out:
            story.world.hear(other)
        story.pass_by(0.05)
        story.world.hear_control(story.world.runners[0])
    other.run(N)
    other.report()
    while other.out:
        story.world.hear(other)
    assert story.ends() == ["ran" if end else None for end in story.ends()]
    assert story.ends().count(None) == 1
    story.end()


def test_a_mark_that_lies_is_no_more_than_a_wrong_clock(story):
    """User code can write what it likes into the marks of its process."""
    world = story.world
    for task in (story.base + 4, story.base, story.base + N, 1 << 63):
        world.step(orders.Looked(0, ((story.number, task), (0, 0))))
    story.slot.batches[0][2] = story.base + 3
    world.runners[0].out.append([orders.SlotReturned(0, 1, story.base + 3, N - 3)])
    story.answer()
    story.slot.run(3)
    story.end()
    assert story.ends() == ["ran"] * N


def test_nobody_looks_while_there_are_news(story):
    story.slot.run(1)
    for _ in range(N - 1):
        story.slot.report()
        story.hear()
        story.pass_by(0.01)
        story.slot.run(1)
    assert not story.seen(orders.Look)
    story.end()


def test_nobody_looks_at_a_task_that_is_alone():
    story = Story(n=1)
    story.pass_by(0.9 * LIMIT)
    assert not story.seen(orders.Look)
    story.pass_by(LIMIT)
    assert story.interrupted() == [0]


def test_nobody_looks_where_there_is_no_limit():
    story = Story(limit=0.0)
    story.pass_by(1.0)
    assert not story.seen(orders.Look)
    story.end()
