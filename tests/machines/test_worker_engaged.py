"""A worker tells of slots that take nothing, though its scheduler takes them for free."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from worker_world import world_of

from covey.wire.worker_link import Engaged
from covey.worker.core import orders, reporting
from covey.worker.core.engaged import LASTING_SECONDS

sys.path.pop(0)


def told(world):
    """Return a list that gets what is said of engaged slots."""
    said = []
    before = world.watch

    def watch(order):
        before(order)
        if isinstance(order, orders.Tell) and isinstance(order.message, Engaged):
            said.append(order.message.slots)

    world.watch = watch
    return said


def hear_all(world):
    for slot in world.slots:
        while slot.out:
            world.hear(slot)


def test_a_task_that_nobody_wants_takes_its_slot_until_it_ends():
    world = world_of()
    said = told(world)
    number = world.run(1)
    world.slots[0].read()
    world.stop(number, world.runs[number].base, 1)
    world.tick(LASTING_SECONDS / 2)
    assert not said
    world.tick(LASTING_SECONDS)
    assert said == [1]
    # Another life of the scheduler hears it as well.
    assert Engaged(1) in reporting.afterwards(world.core.state, [])
    world.slots[0].run(1)
    world.slots[0].report()
    hear_all(world)
    assert said == [1, 0]
    assert Engaged(1) not in reporting.afterwards(world.core.state, [])


def test_what_is_over_soon_is_not_told():
    world = world_of()
    said = told(world)
    number = world.run(1)
    world.slots[0].read()
    world.stop(number, world.runs[number].base, 1)
    world.tick(LASTING_SECONDS / 2)
    world.slots[0].run(1)
    world.slots[0].report()
    hear_all(world)
    world.tick(1.0)
    assert not said


def test_what_must_be_alone_engages_its_neighbours():
    world = world_of(threads=2)
    said = told(world)
    for _ in range(2):
        world.run(1)
    for slot in world.slots:
        slot.read()
    world.die(world.runners[0])
    world.hear_control(world.runners[0])
    world.start(0)
    world.tick(2 * LASTING_SECONDS)
    world.tick(2 * LASTING_SECONDS)
    assert said == [1]
    world.settle()
    world.check_ends()
    assert said[-1] == 0
