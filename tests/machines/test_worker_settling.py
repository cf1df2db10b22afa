"""Runners move to the environments that tasks ask for; nothing is lost on the way."""

from __future__ import annotations

import pytest

from covey.wire.base import Failure
from covey.wire.worker_link import Define, Resumed, RunFailed
from covey.wire.worker_link import Run as RunMessage
from covey.worker.core.invariants import check
from covey.worker.core.machine import WorkerCore
from covey.worker.core.orders import (
    Dispatch,
    Kill,
    NoEnvironment,
    RunnerEnded,
    RunnerReady,
    SlotBlocked,
    SlotRan,
    SlotResumed,
    Spawn,
    Tell,
    Tick,
    Told,
    WakeAt,
)
from covey.worker.core.settling import EXTRAS_MAX, STUCK_SECONDS, TENURE_SECONDS

ENDED = Failure("died", "RunnerDied", "ended")
USUAL, OTHER = 1, 2
MOVED = Kill(0, "its place is for another environment")


class World:
    """A core with runners that are ready, and a clock."""

    def __init__(self, runners):
        self.core = WorkerCore(runners, 1)
        self.now = 10.0
        self.runs = 0
        for number in range(runners):
            self.step(RunnerReady(number))
        self.step(Told([Define(USUAL, "f", b""), Define(OTHER, "g", b"", "E")]))

    def step(self, event):
        orders = self.core.step(event, self.now)
        check(self.core.state)
        return orders

    def run(self, fn, n, seconds=0.0):
        self.runs += 1
        base = self.runs * 1000
        message = RunMessage(
            self.runs, fn, base, n, b"\4\0\0\0" * n, b"data" * n, (0, self.runs, 0)
        )
        return self.step(Told([message]))

    def end(self, runner):
        return self.step(RunnerEnded(runner, (), ENDED))

    def ran(self, dispatch):
        return self.step(
            SlotRan(
                dispatch.slot, dispatch.run, dispatch.base, dispatch.n, 1.0, 9, False
            )
        )


def of(kind, orders):
    return [order for order in orders if isinstance(order, kind)]


def test_a_runner_moves_when_a_task_asks_for_it():
    world = World(2)
    orders = world.run(OTHER, 1)
    (kill,) = of(Kill, orders)
    assert not of(Dispatch, orders)
    assert of(Spawn, world.end(kill.runner)) == [Spawn(kill.runner, "E")]
    (dispatch,) = of(Dispatch, world.step(RunnerReady(kill.runner)))
    assert dispatch.slot == kill.runner
    # The other one stays, and serves those who ask for nothing.
    (usual,) = of(Dispatch, world.run(USUAL, 1))
    assert usual.slot != kill.runner


def test_no_more_runners_move_than_tasks_wait():
    world = World(4)
    assert len(of(Kill, world.run(OTHER, 2))) == 2


def test_a_runner_with_work_of_its_own_is_drawn_away_after_a_while():
    world = World(1)
    (first,) = of(Dispatch, world.run(USUAL, 3))
    orders = world.run(OTHER, 1)
    assert not of(Kill, orders)
    # It had been there for long: it takes nothing more, ends what it has, and goes.
    assert of(Kill, world.ran(first)) == [MOVED]
    assert of(Spawn, world.end(0)) == [Spawn(0, "E")]
    (other,) = of(Dispatch, world.step(RunnerReady(0)))
    orders = world.ran(other)
    # Nothing waits there any more, and its old work does.
    assert of(Kill, orders) == [MOVED]
    world.end(0)
    assert of(Dispatch, world.step(RunnerReady(0)))


def test_two_environments_do_not_drive_one_runner_to_and_fro():
    world = World(1)
    world.run(OTHER, 3)
    world.end(0)
    (first,) = of(Dispatch, world.step(RunnerReady(0)))
    world.run(USUAL, 1)
    orders = world.ran(first)
    assert not of(Kill, orders)
    (second,) = of(Dispatch, orders)
    world.now += TENURE_SECONDS
    world.step(Tick())
    assert of(Kill, world.ran(second)) == [MOVED]


def test_a_stay_begins_when_the_runner_is_there_however_long_it_took_to_start():
    world = World(1)
    (first,) = of(Dispatch, world.run(USUAL, 2))
    world.run(OTHER, 2)
    assert of(Kill, world.ran(first)) == [MOVED]
    world.end(0)
    world.now += 10 * TENURE_SECONDS
    orders = world.step(RunnerReady(0))
    # It does something before it turns back to the work that waits where it was.
    assert not of(Kill, orders)
    (other,) = of(Dispatch, orders)
    assert of(Dispatch, world.ran(other))


def test_no_runner_leaves_where_a_task_waits_for_tasks_of_its_own():
    world = World(1)
    (parent,) = of(Dispatch, world.run(USUAL, 1))
    world.run(OTHER, 1)
    # It was to go when the parent ends; but the parent waits for a child.
    orders = world.step(SlotBlocked(0, parent.run, parent.base))
    assert not of(Kill, orders)
    (child,) = of(Dispatch, world.run(USUAL, 1))
    assert not of(Kill, world.ran(child))
    assert of(Kill, world.ran(parent)) == [MOVED]


def test_no_process_is_ended_for_a_suspect_while_a_task_waits_in_it():
    world = World(2)
    (kill,) = of(Kill, world.run(OTHER, 1))
    world.end(kill.runner)
    world.step(RunnerReady(kill.runner))
    (parent,) = of(Dispatch, world.run(USUAL, 1))
    world.step(SlotBlocked(parent.slot, parent.run, parent.base))
    # What crashed is tried again alone: where it belongs, or where nobody waits.
    assert not of(Kill, world.end(kill.runner))
    assert of(Dispatch, world.run(USUAL, 1))
    (again,) = of(Dispatch, world.step(RunnerReady(kill.runner)))
    assert again.slot == kill.runner


def test_what_waited_in_a_process_that_ends_is_told_to_need_a_slot_again():
    world = World(1)
    (parent,) = of(Dispatch, world.run(USUAL, 1))
    world.step(SlotBlocked(0, parent.run, parent.base))
    world.run(USUAL, 1)
    told = [t.message for t in of(Tell, world.end(0))]
    assert told == [Resumed(parent.run, parent.base)]
    # And one that went on already was told of then.
    world.step(RunnerReady(0))
    world.step(SlotBlocked(0, parent.run, parent.base))
    world.step(SlotResumed(0, parent.run, parent.base))
    assert Resumed(parent.run, parent.base) not in [
        t.message for t in of(Tell, world.end(0))
    ]


def test_what_cannot_be_had_fails_all_that_asked_for_it_and_nothing_else():
    world = World(1)
    (usual,) = of(Dispatch, world.run(USUAL, 1))
    world.run(OTHER, 3)
    world.ran(usual)
    world.end(0)
    why = Failure("environment", "EnvironmentFailed", "no such Python")
    orders = world.step(NoEnvironment(0, "E", why))
    failed = [t.message for t in of(Tell, orders) if isinstance(t.message, RunFailed)]
    assert [message.failure for message in failed] == [why] * 3
    assert of(Spawn, orders) == [Spawn(0)]
    world.step(RunnerReady(0))
    assert of(Dispatch, world.run(USUAL, 1))


@pytest.mark.parametrize("runners", [1, 3])
def test_a_crash_on_the_way_is_no_end(runners):
    world = World(runners)
    (kill, *_) = of(Kill, world.run(OTHER, 1))
    world.end(kill.runner)
    assert of(Spawn, world.end(kill.runner)) == [Spawn(kill.runner, "E")]
    assert of(Dispatch, world.step(RunnerReady(kill.runner)))


# All runners wait, inside of tasks, for what only another environment can run.


def park(world, dispatch):
    return world.step(SlotBlocked(dispatch.slot, dispatch.run, dispatch.base))


def parents(world, n):
    """Have *n* tasks run, each of which waits for tasks of its own."""
    found = of(Dispatch, world.run(USUAL, n))
    assert len(found) == n
    for dispatch in found:
        assert not of(Spawn, park(world, dispatch))
    return found


@pytest.mark.parametrize("runners", [1, 3])
def test_an_extra_runner_does_what_all_others_wait_for(runners):
    world = World(runners)
    found = parents(world, runners)
    orders = world.run(OTHER, 1)
    assert not of(Kill, orders)
    assert not of(Spawn, orders)
    assert of(WakeAt, orders) == [WakeAt(world.now + STUCK_SECONDS)]
    world.now += STUCK_SECONDS
    assert of(Spawn, world.step(Tick())) == [Spawn(runners, "E")]
    (child,) = of(Dispatch, world.step(RunnerReady(runners)))
    assert child.slot == runners
    # It stays for what may follow, and does not begin what others could.
    assert not of(Kill, world.ran(child))
    (second,) = of(Dispatch, world.run(OTHER, 1))
    assert second.slot == runners
    world.ran(second)
    # When one of the others is free, it goes; nobody takes its place.
    assert of(Kill, world.ran(found[0])) == [Kill(runners, MOVED.because)]
    assert not of(Spawn, world.end(runners))
    assert of(Kill, world.run(OTHER, 1)) == [MOVED]


def test_an_extra_runner_that_ends_is_started_again():
    world = World(1)
    parents(world, 1)
    world.run(OTHER, 2)
    world.now += STUCK_SECONDS
    world.step(Tick())
    (child,) = of(Dispatch, world.step(RunnerReady(1)))
    orders = world.step(RunnerEnded(1, ((child.run, child.base),), ENDED))
    assert [o.message.failure for o in of(Tell, orders)] == [ENDED]
    assert of(Spawn, orders) == [Spawn(1, "E")]
    assert of(Dispatch, world.step(RunnerReady(1)))


def test_an_environment_that_an_extra_runner_cannot_have_fails_what_asks_for_it():
    world = World(1)
    (parent,) = parents(world, 1)
    world.run(OTHER, 2)
    world.now += STUCK_SECONDS
    world.step(Tick())
    orders = world.step(NoEnvironment(1, "E", ENDED))
    assert len(of(Tell, orders)) == 2
    assert not of(Spawn, orders)
    world.ran(parent)
    assert of(Dispatch, world.run(USUAL, 1))


def test_there_is_no_end_of_extra_runners_but_a_failure():
    world = World(1)
    (parent,) = parents(world, 1)
    functions = [Define(10 + n, "f", b"", f"E{n}") for n in range(EXTRAS_MAX + 1)]
    world.step(Told(functions))
    for number in range(EXTRAS_MAX):
        world.run(10 + number, 1)
        world.now += STUCK_SECONDS
        orders = world.step(Tick())
        assert of(Spawn, orders) == [Spawn(1 + number, f"E{number}")]
        (child,) = of(Dispatch, world.step(RunnerReady(1 + number)))
        park(world, child)
    world.run(10 + EXTRAS_MAX, 2)
    world.now += STUCK_SECONDS
    orders = world.step(Tick())
    assert not of(Spawn, orders)
    failures = [order.message.failure for order in of(Tell, orders)]
    assert len(failures) == 2
    assert "nested too deep" in failures[0].message
    world.ran(parent)
