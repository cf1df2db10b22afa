"""The garbage collector rests while the scheduler knows many tasks."""

from __future__ import annotations

import gc
import weakref

import pytest

from covey.scheduler.collector import MANY, Collector


@pytest.fixture
def frozen():
    """Return how many objects are out of the collector's sight; put all back at the end."""
    assert gc.get_freeze_count() == 0
    yield gc.get_freeze_count
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
    gone = weakref.ref(Circle())
    assert gone() is not None
    collector.spare(MANY)
    gc.collect()
    assert gone() is not None
    collector.spare(MANY - 1)
    assert gone() is not None
    collector.spare(0)
    assert gone() is None


def test_a_users_process_is_left_alone(frozen):
    Collector(ours=False).spare(MANY)
    assert frozen() == 0
