"""The garbage collector rests while the scheduler knows many tasks."""

from __future__ import annotations

import gc
import weakref

import pytest

from covey.scheduler.collector import MANY, ROUNDS, Collector


@pytest.fixture
def frozen():
    """Return how many objects are out of the collector's sight; put all back at the end."""
    assert gc.get_freeze_count() == 0
    thresholds = gc.get_threshold()
    yield gc.get_freeze_count
    gc.set_threshold(*thresholds)
    gc.unfreeze()


class Circle:
    def __init__(self):
        self.itself = self


def test_many_tasks_are_not_looked_at(frozen):
    collector = Collector(ours=True)
    collector.spare(MANY - 1)
    assert frozen() == 0
    collector.spare(MANY)
    before = frozen()
    tasks = [[] for _ in range(1000)]
    collector.spare(MANY)
    assert frozen() >= before + 1000
    del tasks


def test_what_was_out_of_sight_is_looked_at_once_the_tasks_are_gone(frozen):
    collector = Collector(ours=True)
    held = Circle()
    gone = weakref.ref(held)
    collector.spare(MANY)
    del held
    gc.collect()
    assert gone() is not None
    collector.spare(MANY - 1)
    assert gone() is not None
    collector.spare(0)
    assert gone() is None


def test_a_circle_among_many_tasks_goes_before_it_is_out_of_sight(frozen):
    collector = Collector(ours=True)
    collector.spare(MANY)
    for _ in range(3):
        gone = weakref.ref(Circle())
        assert gone() is not None
        collector.spare(MANY)
        assert gone() is None


def test_between_two_looks_only_young_objects_are_looked_at(frozen):
    """A graph comes in faster than once a second can put it out of sight."""
    collector = Collector(ours=True)
    gc.collect()
    oldest = gc.get_stats()[2]["collections"]
    tasks = [[] for _ in range(20 * ROUNDS * gc.get_threshold()[0])]
    assert gc.get_count()[2] >= ROUNDS
    assert gc.get_stats()[2]["collections"] == oldest
    collector.spare(len(tasks))
    assert gc.get_stats()[2]["collections"] == oldest


def test_with_many_tasks_new_objects_are_looked_at_once(frozen):
    collector = Collector(ours=True)
    usual = gc.get_threshold()
    collector.spare(MANY)
    younger, older = (gc.get_stats()[number]["collections"] for number in (0, 1))
    tasks = [[] for _ in range(2 * usual[0] * usual[1])]
    assert gc.get_stats()[0]["collections"] > younger
    assert gc.get_stats()[1]["collections"] == older
    collector.spare(0)
    assert gc.get_threshold() == usual
    del tasks


def test_while_very_many_tasks_come_new_objects_are_not_looked_at_either(frozen):
    collector = Collector(ours=True)
    usual = gc.get_threshold()
    collector.spare(MANY)
    collector.spare(2 * MANY)
    young = gc.get_stats()[0]["collections"]
    tasks = [[] for _ in range(2 * usual[0])]
    assert gc.get_stats()[0]["collections"] == young
    before = frozen()
    collector.spare(MANY - 1)  # Most of them have gone: it rests no more.
    assert frozen() >= before + len(tasks)
    more = [[] for _ in range(2 * usual[0])]
    assert gc.get_stats()[0]["collections"] > young
    collector.spare(0)
    assert gc.get_threshold() == usual
    del tasks, more


def test_a_collector_that_rests_at_the_start_is_ours_as_well(frozen):
    """Who starts a cluster lets it rest until the first runner is there."""
    gc.disable()
    try:
        collector = Collector(ours=True)
        collector.spare(MANY)
        assert frozen() == 0
    finally:
        gc.enable()
    assert gc.get_threshold()[2] > 1000 * ROUNDS
    collector.spare(MANY)
    assert frozen() > 0


def test_with_few_tasks_all_is_looked_at_as_often_as_ever(frozen):
    collector = Collector(ours=True)
    made = [[] for _ in range(20 * ROUNDS * gc.get_threshold()[0])]
    assert gc.get_count()[2] >= ROUNDS
    del made
    circle = Circle()
    gone = weakref.ref(circle)
    gc.collect(1)
    del circle
    assert gone() is not None
    collector.spare(0)
    assert gone() is None


def test_a_users_process_is_left_alone(frozen):
    thresholds = gc.get_threshold()
    Collector(ours=False).spare(MANY)
    assert frozen() == 0
    assert gc.get_threshold() == thresholds
