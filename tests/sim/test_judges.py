"""What judges a simulated run beside the oracle: versions of values, and idle slots."""

from __future__ import annotations

import pytest

from covey.sim.campaign import play
from covey.sim.idleness import WAIT_SECONDS, Idleness
from covey.sim.oracle import Oracle, Wrong
from covey.sim.plan import Plan, Wish
from covey.sim.runners import Inputs
from covey.sim.tasks import Recipe, encode
from covey.sim.versions import Mixed
from covey.wire.base import DEFAULT_OPTIONS

# Versions.


class Tasks:
    """Tasks that are run by hand, as often as a test likes."""

    def __init__(self):
        self.oracle = Oracle()
        self.recipes = {}

    def wish(self, task, *inputs, kind="plain"):
        recipe = Recipe(self.oracle.new_number(), kind, 0.0, inputs)
        self.recipes[task] = recipe
        self.oracle.know(task, recipe, encode(recipe), DEFAULT_OPTIONS)

    def run(self, task, *given):
        recipe = self.recipes[task]
        values = Inputs(dict(zip(recipe.inputs, given, strict=True)))
        return self.oracle.value_made(encode(recipe), recipe, task, values)


@pytest.fixture
def tasks():
    """Three tasks: 2 takes 1, which drifts, and 3 takes both."""
    tasks = Tasks()
    tasks.wish(1, kind="drifts")
    tasks.wish(2, 1)
    tasks.wish(3, 1, 2)
    return tasks


def test_a_task_that_drifts_may_have_any_value_that_it_gave(tasks):
    first, second = tasks.run(1), tasks.run(1)
    assert first != second
    tasks.oracle.check_value(1, first)
    tasks.oracle.check_value(1, second)
    with pytest.raises(Wrong):
        tasks.oracle.check_value(1, b"something else  ")
    with pytest.raises(Wrong):
        tasks.run(2, b"something else  ")


def test_nothing_is_shown_that_was_made_of_two_versions(tasks):
    first = tasks.run(1)
    made_of_first = tasks.run(2, first)
    second = tasks.run(1)
    tasks.oracle.check_value(3, tasks.run(3, first, made_of_first))
    mixed = tasks.run(3, second, made_of_first)
    with pytest.raises(Mixed):
        tasks.oracle.check_value(3, mixed)
    # Nor what is made of such a value in turn.
    tasks.wish(4, 3)
    with pytest.raises(Mixed):
        tasks.oracle.check_value(4, tasks.run(4, mixed))
    # With a life of the scheduler goes what it could compare.
    tasks.oracle.restarts = 1
    tasks.oracle.check_value(3, mixed)


def test_what_takes_nothing_that_drifts_has_one_value(tasks):
    tasks.wish(5)
    tasks.wish(6, 5)
    value = tasks.run(5)
    assert value == tasks.run(5) == tasks.oracle.value(5)
    assert not tasks.oracle.versions.are_open(6)


# Idle slots.


def long_and_short(**changes):
    """Return a plan in which long tasks and very short ones meet."""
    facts = {
        "seed": 1,
        "clients": 1,
        "workers": 2,
        "runners": 1,
        "threads": 1,
        "latency": 1e-3,
        "jitter": 1e-5,
        "task_seconds": 1e-4,
        "kinds": ("long",),
        "odd": 0.3,
        "tasks": 40,
        "checks": 4,
        "corked": True,
        "journal": False,
        "wishes": (Wish(0.1, 0, "map", 3), Wish(0.3, 0, "graph", 5)),
        "faults": (),
    }
    return Plan(**facts | changes)


def test_nothing_waits_beside_a_free_slot():
    for seed in range(6):
        wishes = tuple(Wish(0.1 * i, 0, "graph", 7 * seed + i) for i in range(4))
        assert not play(long_and_short(wishes=wishes))[1].text


def test_looking_once_accuses_nobody():
    world, _ = play(long_and_short())
    Idleness().look(world.scheduler, world.living_workers(), 10 * WAIT_SECONDS)
