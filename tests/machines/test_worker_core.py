"""The worker's core, one behaviour at a time: what the machine once found.

Each test is a short story in the same world in which Hypothesis plays.
"""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from worker_world import world_of

from covey.wire.base import Failure
from covey.wire.worker_link import (
    Blocked,
    Define,
    Drop,
    Holds,
    Lacks,
    Resumed,
    Return,
    Returned,
    Run,
    RunFailed,
    Stop,
    Undefine,
    Undelivered,
    Unfetched,
)
from covey.worker.core import invariants, orders, reporting
from covey.worker.core.extents import Extents
from covey.worker.core.machine import WorkerCore

sys.path.pop(0)


@pytest.fixture
def world():
    return world_of()


def told(world, kind):
    """Collect what the scheduler is told from now on."""
    return seen(world, orders.Tell, lambda order: isinstance(order.message, kind))


def seen(world, kind, wanted=lambda order: True):
    found = []
    before = world.watch

    def watch(order):
        before(order)
        if isinstance(order, kind) and wanted(order):
            found.append(order.message if kind is orders.Tell else order)

    world.watch = watch
    return found


def hear_all(world):
    for slot in world.slots:
        while slot.out:
            world.hear(slot)


def ends(world, run):
    return [end for (number, _), end in sorted(world.ends.items()) if number == run]


# Dispatching.


def test_an_unknown_function_goes_one_task_at_a_time(world):
    sent = seen(world, orders.Dispatch)
    world.run(100)
    assert [d.n for d in sent] == [1]


def test_short_tasks_go_in_flights_two_deep(world):
    sent = seen(world, orders.Dispatch)
    world.run(10_000, base=100_000, seconds=0.00001)
    assert len(sent) == 2
    assert all(d.n > 100 for d in sent)


@pytest.mark.parametrize(("seconds", "ahead"), [(0.01, 1), (0.02, 0), (0.5, 0)])
def test_behind_what_is_over_soon_lies_the_next_one(world, seconds, ahead):
    sent = seen(world, orders.Dispatch)
    world.run(5, seconds=seconds)
    assert [d.n for d in sent] == [1] * (1 + ahead)
    world.settle()
    world.check_ends()


def test_the_next_one_behind_goes_to_who_is_dry():
    world = world_of(2)
    number = world.run(5, seconds=0.01)
    retracts = seen(world, orders.Retract)
    slow, other = world.slots
    slow.read()
    for _ in range(3):
        assert not retracts, "while any lie in the queue"
        other.run(100)
        other.report()
        hear_all(world)
    assert [r.slot for r in retracts] == [slow.number]
    world.hear_control(world.runners[0])
    other.run(100)
    other.report()
    hear_all(world)
    assert ends(world, number).count("ran") == 4
    world.settle()
    world.check_ends()


def test_the_last_ones_lie_behind_nobody():
    """Whoever is dry first takes them, and nobody has to hand them back for that."""
    world = world_of(2)
    sent = seen(world, (orders.Dispatch, orders.Retract))
    number = world.run(4, seconds=0.01)
    slow, other = world.slots
    slow.read()
    assert [order.slot for order in sent] == [slow.number, other.number]
    for _ in range(3):
        other.run(100)
        other.report()
        hear_all(world)
    assert [order.slot for order in sent[2:]] == [other.number] * 2
    assert ends(world, number).count("ran") == 3
    world.settle()
    world.check_ends()


def test_no_more_is_called_back_than_somebody_is_dry_for():
    world = world_of(4)
    world.run(20, seconds=0.003)
    retracts = seen(world, orders.Retract)
    *_, dry = world.slots
    for slot in world.slots:
        slot.read()
    dry.run(100)
    dry.report()
    hear_all(world)
    assert len(retracts) == 1
    world.settle()
    world.check_ends()


def test_who_does_not_hand_back_is_not_counted_on_for_long():
    """It may hold the GIL for an hour, and what lies behind another one is to be had."""
    world = world_of(3)
    world.run(20, seconds=0.003)
    retracts = seen(world, orders.Retract)
    silent, straggler, dry = world.slots
    for slot in world.slots:
        slot.read()
    dry.run(100)
    dry.report()
    hear_all(world)
    assert [r.slot for r in retracts] == [silent.number]
    world.tick(0.01)
    assert len(retracts) == 1, "it is on its way"
    world.tick(0.011)
    assert [r.slot for r in retracts] == [silent.number, straggler.number]
    world.settle()
    world.check_ends()


def test_what_is_left_is_shared_by_all_slots():
    world = world_of(2)
    sent = seen(world, orders.Dispatch)
    world.run(100, seconds=0.00001)
    assert max(d.n for d in sent) <= 50
    assert {d.slot for d in sent} == {0, 1}


def test_inputs_are_named_as_the_dispatched_tasks_need_them(world):
    world.start(0)
    sent = seen(world, orders.Dispatch)
    number = world.run(3, aligned=(50,), whole=((900, 5),), sources=((50, 3, 7),))
    assert not sent
    world.store |= set(range(900, 905))
    world.fetched((50, 3))
    world.settle()
    base = world.runs[number].base
    assert sum(d.n for d in sent) == 3
    for dispatch in sent:
        assert dispatch.aligned == (50 + dispatch.base - base,)
        assert dispatch.whole == ((900, 5),)


def test_who_takes_what_was_told_without_digests_has_it_vouched_for(world):
    base = world.runs[world.run(4, seconds=0.00001)].base
    world.settle()
    told = seen(world, (orders.Vouch, orders.Dispatch))
    world.run(1, aligned=(base + 1,))
    world.run(1, whole=((base, 4),))
    world.settle()
    kinds = [type(order) for order in told]
    assert kinds.index(orders.Vouch) < kinds.index(orders.Dispatch)
    vouched = [order for order in told if isinstance(order, orders.Vouch)]
    tasks = [task for o in vouched for task in range(o.base, o.base + o.n)]
    assert sorted(tasks) == list(range(base, base + 4)), "each is told of once"


def test_what_somebody_waits_for_is_told_with_its_digests(world):
    reports = seen(world, (orders.Report, orders.Vouch))
    base = world.runs[world.run(2, seconds=0.00001)].base
    world.run(1, aligned=(base,), awaits=(base,))
    world.settle()
    first, *_ = reports
    assert isinstance(first, orders.Report) and first.digests


# Stopping.


def test_of_stopped_tasks_nothing_is_kept_and_nothing_is_said(world):
    number = world.run(5, seconds=0.00001)
    base = world.runs[number].base
    world.slots[0].run(2)
    world.stop(number, base, 3)
    world.settle()
    assert ends(world, number) == ["stopped"] * 3 + ["ran"] * 2
    assert world.store == {base + 3, base + 4}


def test_a_stopped_task_that_is_wanted_again_runs_again(world):
    """The first attempt still executes when the second one is asked for."""
    first = world.run(1)
    base = world.runs[first].base
    world.slots[0].read()
    world.stop(first, base, 1)
    second = world.run(1, base=base)
    world.settle()
    assert ends(world, second) == ["ran"]
    assert world.store == {base}


def test_a_run_is_stopped_while_its_inputs_are_on_the_way(world):
    number = world.run(6, aligned=(10,), sources=((10, 6, 7),))
    base = world.runs[number].base
    world.stop(number, base + 1, 3)
    world.fetched((10, 6))
    world.settle()
    world.check_ends()
    assert ends(world, number) == ["ran", *["stopped"] * 3, "ran", "ran"]


def test_a_cancelled_task_is_interrupted_and_then_killed(world):
    number = world.run(1)
    world.slots[0].read()
    world.polite = False
    interrupts, kills = seen(world, orders.Interrupt), seen(world, orders.Kill)
    world.stop(number, world.runs[number].base, 1, kill=True)
    assert [i.run for i in interrupts] == [number]
    assert not kills
    world.tick(1.0)
    assert len(kills) == 1
    assert not world.runners[0].ready
    world.settle()
    world.check_ends()


def test_the_next_task_is_not_killed_for_the_one_before(world):
    """Who was to stop ended by itself; the flight goes on."""
    number = world.run(4, seconds=0.00001)
    base = world.runs[number].base
    slot = world.slots[0]
    slot.read()
    world.polite = False
    kills = seen(world, orders.Kill)
    world.stop(number, base, 1, kill=True)
    slot.run(1)
    slot.report()
    hear_all(world)
    world.tick(5.0)
    assert not kills
    world.settle()
    assert ends(world, number) == ["stopped", "ran", "ran", "ran"]


def test_what_a_slot_has_not_begun_of_cancelled_tasks_it_need_not_begin(world):
    number = world.run(50, seconds=0.00001)
    world.slots[0].read()
    retracts = seen(world, orders.Retract)
    world.stop(number, world.runs[number].base, 50, kill=True)
    assert len(retracts) == 1
    world.hear_control(world.runners[0])
    assert world.slots[0].batches == []
    world.settle()
    world.check_ends()


# Time limits.


def test_a_task_that_runs_too_long_fails_with_a_timeout(world):
    number = world.run(1, timeout=1.0)
    world.slots[0].read()
    world.tick(1.5)
    world.runners[0].read()
    hear_all(world)
    assert ends(world, number) == ["failed"]
    (failure,) = world.failures.values()
    assert (failure.kind, failure.type_name) == ("timeout", "TaskTimedOut")
    assert "1 s" in failure.message


def test_an_overdue_time_limit_is_not_put_off_by_a_later_one():
    world = world_of(2)
    first = world.run(1, timeout=1.0)
    world.slots[0].read()
    interrupts = seen(world, orders.Interrupt)
    # The loop was busy: before the tick of the first, news of a second come.
    world.now += 1.5
    world.run(1, timeout=3600.0)
    world.tick()
    assert [order.run for order in interrupts] == [first]


def test_a_task_that_does_not_listen_is_killed_and_fails_with_a_timeout():
    world = world_of(1, 2)
    number = world.run(1, timeout=1.0)
    beside = world.run(1)
    for slot in world.slots:
        slot.read()
    world.polite = False
    world.tick(1.5)
    world.tick(1.0)
    assert ends(world, number) == ["failed"]
    (failure,) = world.failures.values()
    assert failure.kind == "timeout"
    # Its neighbour did nothing wrong: it runs again, and not as a suspect.
    assert not world.state.suspects
    world.settle()
    assert ends(world, beside) == ["ran"]


# Death and blame.


def test_the_one_that_executed_is_to_blame(world):
    number = world.run(10, seconds=0.00001)
    world.slots[0].run(3)
    world.die(world.runners[0])
    base = world.runs[number].base
    assert list(world.failures) == [(number, base + 3)]
    world.settle()
    assert ends(world, number).count("failed") == 1


def test_several_that_executed_are_tried_alone():
    world = world_of(1, 3)
    numbers = [world.run(1) for _ in range(3)]
    for slot in world.slots:
        slot.read()
    world.die(world.runners[0])
    assert not world.failures
    assert len(world.state.suspects) == 3
    world.start(0)
    for position in range(3):
        in_hand = [slot for slot in world.slots if slot.tasks()]
        assert len(in_hand) == 1
        if position == 1:
            in_hand[0].read()
            world.die(world.runners[0])
            world.start(0)
        else:
            in_hand[0].run(1)
            in_hand[0].report()
            hear_all(world)
    assert sorted(ends(world, n)[0] for n in numbers) == ["failed", "ran", "ran"]


def test_a_suspect_does_not_wait_for_those_that_wait_for_others():
    """Parked tasks may wait for what stands behind the suspect in line."""
    world = world_of(1, 2)
    parents = [world.run(1), world.run(1)]
    world.slots[0].block()
    hear_all(world)
    suspects = [world.run(1), world.run(1)]
    for slot in world.slots:
        slot.read()
    world.die(world.runners[0])
    world.start(0)
    world.slots[0].block()
    world.settle()
    world.check_ends()
    assert [ends(world, n) for n in (*parents, *suspects)].count(["failed"]) <= 1


def test_a_process_that_dies_again_and_again_between_tasks_is_not_tried_for_ever(
    world,
):
    """No mark names anybody: whoever is next in line becomes a suspect."""
    number = world.run(3)
    for _ in range(10):
        if any(world.ends[number, t] is None for _, t in world.ends):
            world.die(world.runners[0], marks=False)
            world.start(0)
    assert ends(world, number) == ["failed"] * 3


def test_an_outcome_that_was_lost_with_the_process_is_made_again(world):
    number = world.run(4, seconds=0.00001)
    world.slots[0].run(2)
    world.slots[0].report()
    world.die(world.runners[0], lose_news=True)
    world.settle()
    assert ends(world, number) == ["ran", "ran", "failed", "ran"]


def test_an_end_that_was_already_heard_of_blames_nobody(world):
    """The mark still names a task whose outcome has come."""
    number = world.run(2, seconds=1.0)
    base = world.runs[number].base
    world.slots[0].run(1)
    world.slots[0].report()
    hear_all(world)
    world.slots[0].read()
    world.slots[0].executing = (number, base)
    world.die(world.runners[0])
    assert not world.failures
    world.settle()
    assert ends(world, number) == ["ran", "ran"]


# Waiting for others.


def test_a_task_that_waits_gives_its_slot_to_others(world):
    blocked, resumed = told(world, Blocked), told(world, Resumed)
    parent = world.run(1)
    child = world.run(1)
    world.slots[0].block()
    hear_all(world)
    assert [b.run for b in blocked] == [parent]
    world.slots[0].run(1)
    world.slots[0].report()
    hear_all(world)
    assert ends(world, child) == ["ran"]
    world.slots[0].resume()
    hear_all(world)
    assert [r.run for r in resumed] == [parent]
    # It goes on beside nobody else.
    world.run(1)
    assert not world.slots[0].inbox
    world.settle()
    world.check_ends()


def test_a_time_limit_holds_for_a_task_that_waits(world):
    number = world.run(1, timeout=1.0)
    world.slots[0].block()
    hear_all(world)
    interrupts = seen(world, orders.Interrupt)
    world.tick(2.0)
    assert [(i.run, i.task) for i in interrupts] == [(number, world.runs[number].base)]


# Calling back.


def test_a_straggler_is_called_back_when_another_slot_is_dry():
    world = world_of(2)
    number = world.run(20, seconds=0.0005)
    retracts = seen(world, orders.Retract)
    straggler, other = world.slots
    straggler.read()

    def others_run():
        while other.inbox or other.executing or other.out:
            other.run(100)
            other.report()
            hear_all(world)

    others_run()
    world.tick(0.02)
    assert [r.slot for r in retracts] == [straggler.number]
    world.hear_control(world.runners[0])
    others_run()
    assert ends(world, number).count("ran") == 19
    world.settle()
    world.check_ends()


def test_what_ends_after_news_is_asked_for_as_well():
    world = world_of(1)
    asked = []
    watch = world.watch
    world.watch = lambda order: (watch(order), asked.append(type(order)))
    world.run(3, seconds=0.001)
    slot = world.slots[0]
    slot.read()
    world.tick(0.021)
    assert asked.count(orders.Flush) == 1
    slot.run(1)
    slot.report()
    world.hear(slot)
    assert world.state.wake_at
    world.tick(0.021)
    assert asked.count(orders.Flush) == 2
    world.settle()
    world.check_ends()


def test_who_speaks_again_may_have_more_whatever_it_tells_of():
    world = world_of(1)
    world.run(1, seconds=0.001)
    world.slots[0].read()
    world.tick(0.03)
    world.run(1, seconds=0.001)
    assert world.state.queued, "nothing is put behind one that is silent"
    # Of a task that was in the hands of a process before this one.
    world.step(orders.SlotRanNodes(0, (99, 98), (990, 980), (0.1, 0.1), (8, 8), 8))
    assert not world.state.queued
    world.settle()
    world.check_ends()


def test_the_last_in_line_go_back_first(world):
    first = world.run(4)
    second = world.run(4)
    world.slots[0].read()
    world.ask_back(5)
    assert ends(world, second) == ["returned"] * 4
    assert ends(world, first) == [None, None, None, "returned"]
    assert not world.return_asked
    world.settle()
    world.check_ends()


def test_what_slots_have_not_begun_goes_back_as_well(world):
    number = world.run(10, seconds=0.00001)
    world.slots[0].read()
    world.ask_back(5)
    assert world.return_asked
    world.hear_control(world.runners[0])
    assert not world.return_asked
    assert ends(world, number).count("returned") == 5
    world.settle()
    world.check_ends()


def test_what_was_stopped_is_none_of_what_is_asked_for():
    """Else nothing went back, and the worker was left alone with what it has for a while."""
    world = world_of(2)
    first, second = world.run(10, seconds=0.00001), world.run(10, seconds=0.00001)
    for slot in world.slots:
        slot.read()
    held = [slot.unbegun for slot in world.state.slots]
    assert held == [9, 9]
    world.stop(first, world.runs[first].base + 1, 9)
    world.ask_back(5)
    for runner in world.runners:
        world.hear_control(runner)
    assert not world.return_asked
    assert ends(world, second) == [None] * 5 + ["returned"] * 5
    world.settle()
    world.check_ends()


def test_of_a_run_of_which_some_are_stopped_the_others_go_back(world):
    number = world.run(10, seconds=0.00001)
    base = world.runs[number].base
    world.slots[0].read()
    world.stop(number, base + 6, 3)
    world.ask_back(3)
    world.hear_control(world.runners[0])
    assert not world.return_asked
    assert ends(world, number) == (
        [None] * 4 + ["returned"] * 2 + ["stopped"] * 3 + ["returned"]
    )
    world.settle()
    world.check_ends()


def test_what_slots_were_asked_for_goes_back_though_their_process_ends(world):
    number = world.run(10, seconds=0.00001)
    world.slots[0].read()
    world.ask_back(9)
    assert world.return_asked
    world.die(world.runners[0])
    assert not world.return_asked
    assert ends(world, number) == ["failed"] + ["returned"] * 9
    world.settle()
    world.check_ends()


def test_what_was_called_back_for_a_neighbour_goes_back_if_it_is_asked_for():
    world = world_of(2)
    number = world.run(20, seconds=0.003)
    silent, dry = world.slots
    silent.read()
    dry.read()
    while world.state.queued or world.state.slots[1].flights:
        dry.run(100)
        dry.report()
        world.hear(dry)
    assert world.state.slots[0].retracting
    world.ask_back(9)
    world.die(world.runners[0])
    assert not world.return_asked
    assert "returned" in ends(world, number)
    assert not world.state.slots[1].count
    world.settle()
    world.check_ends()


def test_as_many_as_are_wanted_go_back_of_a_run_that_waits_for_its_inputs(world):
    """With more, slots would idle that have just room for them: these came again, for ever."""
    fetches = seen(world, orders.FetchFrom)
    number = world.run(5, aligned=(10,), sources=((10, 5, 7),))
    world.ask_back(2)
    assert ends(world, number) == [None] * 3 + ["returned"] * 2
    world.ask_back(1)
    assert ends(world, number) == [None] * 2 + ["returned"] * 3
    world.fetched((10, 5))
    assert len(fetches) == 1
    world.settle()
    world.check_ends()
    assert ends(world, number) == ["ran"] * 2 + ["returned"] * 3


def test_all_of_a_run_that_waits_for_its_inputs_can_go_back(world):
    number = world.run(5, aligned=(10,), sources=((10, 5, 7),))
    world.ask_back(7)
    assert set(ends(world, number)) == {"returned"}
    world.fetched((10, 5))
    world.settle()
    world.check_ends()


# Fetching.


def test_a_source_that_does_not_deliver_is_named(world):
    returned = told(world, Returned)
    number = world.run(2, aligned=(10,), sources=((10, 2, 7),))
    world.fetched((10, 2), ok=False)
    assert [(r.run, r.lacking) for r in returned] == [(number, ((10, 2, 7),))]


def test_when_a_source_does_not_deliver_the_next_one_is_asked_at_once(world):
    fetches = seen(world, orders.FetchFrom)
    returned = told(world, Returned)
    undelivered = told(world, Undelivered)
    spares = ((10, 2, 8), (10, 2, 9))
    number = world.run(2, aligned=(10,), sources=((10, 2, 7),), spares=spares)
    world.fetched((10, 2), ok=False)
    assert [f.worker for f in fetches] == [7, 8]
    world.fetched((10, 2))
    assert not returned
    assert undelivered == [Undelivered((10, 2), 7)]
    world.settle()
    assert set(world.ends.values()) == {"ran"}
    assert {run for run, _ in world.ends} == {number}


def test_when_no_source_delivers_all_are_named_and_none_is_asked_twice(world):
    fetches = seen(world, orders.FetchFrom)
    returned = told(world, Returned)
    world.run(2, aligned=(10,), sources=((10, 2, 7),), spares=((10, 2, 8),))
    # Another run knows a third place, and one that is known already.
    world.run(2, aligned=(10,), sources=((10, 2, 8),), spares=((10, 2, 9),))
    for _ in range(3):
        world.fetched((10, 2), ok=False)
    assert [f.worker for f in fetches] == [7, 8, 9]
    lacking = ((10, 2, 7), (10, 2, 8), (10, 2, 9))
    assert [r.lacking for r in returned] == [lacking, lacking]
    world.check_ends()


def test_what_the_disk_garbled_is_not_here_any_more(world):
    lacks = told(world, Lacks)
    world.run(2, aligned=(10,), sources=((10, 2, 7),))
    world.fetched((10, 2))
    world.settle()
    world.step(orders.Garbled(11))
    assert lacks == [Lacks(((11, 1),))]
    assert 11 not in world.store
    # Another scheduler is told so as well: a client may tell it only then of the value.
    assert reporting.afterwards(world.state, []) == lacks
    fetches = seen(world, orders.FetchFrom)
    world.run(2, aligned=(10,), sources=((10, 2, 7),))
    assert len(fetches) == 1
    world.settle()
    world.check_ends()


def test_runs_whose_inputs_were_garbled_go_back_and_do_not_start(world):
    returned = told(world, Returned)
    for _ in range(10):
        world.run(1, seconds=10.0)
    waits = world.run(2, aligned=(10,), sources=((10, 2, 7),), seconds=10.0)
    world.fetched((10, 2))
    assert not returned
    world.step(orders.Garbled(11))
    # This one was on its way when the scheduler heard of that.
    late = world.run(1, whole=((10, 2),), seconds=10.0)
    lacking = ((11, 1, 0),)
    assert returned == [
        Returned(waits, world.runs[waits].base, 2, lacking),
        Returned(late, world.runs[late].base, 1, lacking),
    ]
    again = world.run(1, whole=((10, 2),), sources=((11, 1, 7),), seconds=10.0)
    world.fetched((11, 1))
    world.settle()
    assert len(returned) == 2 and world.ends[again, world.runs[again].base]
    world.check_ends()


def test_what_is_fetched_says_how_urgent_it_is(world):
    fetches = seen(world, orders.FetchFrom)
    number = world.run(1, aligned=(10,), sources=((10, 1, 7),))
    world.fetch((20, 1), 7)
    assert [f.rank for f in fetches] == [world.runs[number].rank, ()]


def test_a_copy_for_the_scheduler_that_could_not_be_made_is_reported(world):
    """A run waits for the same values: it is told apart from the order to copy."""
    unfetched = told(world, Unfetched)
    world.run(2, aligned=(10,), sources=((10, 2, 7),))
    world.fetch((10, 2), 8)
    world.fetched((10, 2), ok=False)
    # That was the other one: now this one is asked, too.
    assert not unfetched
    world.fetched((10, 2), ok=False)
    assert unfetched == [Unfetched(((10, 2),), 8)]


def test_values_that_are_here_are_not_fetched_again(world):
    fetches = seen(world, orders.FetchFrom)
    holds = told(world, Holds)
    world.run(4, aligned=(10,), sources=((10, 4, 7),))
    world.run(4, aligned=(10,), sources=((10, 4, 7),))
    assert len(fetches) == 1
    world.fetched((10, 4))
    world.run(2, aligned=(11,), sources=((11, 2, 7),))
    assert len(fetches) == 1
    assert len(holds) == 1


def test_a_copy_of_which_a_part_was_dropped_is_fetched_again(world):
    world.run(4, aligned=(10,), sources=((10, 4, 7),))
    world.fetched((10, 4))
    world.settle()
    world.tell(Drop(((12, 1),)))
    fetches = seen(world, orders.FetchFrom)
    world.run(4, aligned=(10,), sources=((10, 4, 7),))
    assert [f.extent for f in fetches] == [(10, 4)]
    world.settle()
    world.check_ends()


def test_a_failure_is_reported_with_its_task(world):
    failed = told(world, RunFailed)
    number = world.run(3, seconds=0.00001)
    world.slots[0].run(1)
    world.slots[0].fail()
    world.settle()
    assert [(f.run, f.task) for f in failed] == [(number, world.runs[number].base + 1)]


# The set of copies.


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 30), st.integers(1, 12)), max_size=20
    ),
    st.integers(0, 30),
    st.integers(1, 12),
)
def test_extents_are_a_set_of_ids(changes, base, n):
    extents = Extents()
    model = set()
    for add, lo, count in changes:
        tasks = set(range(lo, lo + count))
        if add:
            extents.add(lo, count)
            model |= tasks
        else:
            extents.discard(lo, count)
            model -= tasks
        assert len(extents) == len(model)
    assert extents.covers(base, n) == (set(range(base, base + n)) <= model)
    gaps = zip(extents._ends, extents._starts[1:], strict=False)
    assert all(end < start for end, start in gaps)


_EXTENTS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 4)), max_size=8)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.sets(st.integers(0, 30)), _EXTENTS, _EXTENTS)
def test_extents_are_taken_out_of_a_set_together(singles, longer, gone):
    extents = Extents()
    for base, n in longer:
        extents.add(base, n)
    extents.add_singles(singles)
    extents.discard_all(gone)
    model = singles.union(*(range(base, base + n) for base, n in longer))
    model = model.difference(*(range(base, base + n) for base, n in gone))
    assert {task for base, n in extents for task in range(base, base + n)} == model


def test_a_function_is_forgotten_when_nothing_of_it_is_in_hand(world):
    forgotten = seen(world, orders.ForgetFunction)
    world.run(3)
    world.tell(Undefine(1))
    assert not forgotten
    world.settle()
    assert [order.fn for order in forgotten] == [1]
    world.tell(Undefine(2))
    assert [order.fn for order in forgotten] == [1, 2]


def test_a_suspect_that_rode_waits_for_its_input_and_runs_alone():
    """Else two of them could take their process down together for ever."""
    core = WorkerCore(1, 2)
    step = 0.001

    def dispatched(event):
        found = core.step(event, step)
        return [order.run for order in found if isinstance(order, orders.Dispatch)]

    runs = [
        Run(number, 1, base, 1, b"\0" * 4, b"", (0,), seconds=1e-5, awaits=awaits)
        for number, base, awaits in ((1, 10, ()), (2, 11, (10,)), (3, 20, ()))
    ]
    runs.append(Run(4, 1, 21, 1, b"\0" * 4, b"", (0,), seconds=1e-5, awaits=(20,)))
    core.step(orders.Told([Define(1, "f", b""), *runs]), step)
    assert sorted(dispatched(orders.RunnerReady(0))) == [1, 2, 3, 4]
    died = Failure("died", "RunnerDied", "SIGSEGV")
    core.step(orders.RunnerEnded(0, ((2, 11), (4, 21)), died), step)
    assert sorted(dispatched(orders.RunnerReady(0))) == [1, 3]
    inputs = [slot.flights[0].run for slot in core.state.slots]
    for slot, run in enumerate(inputs):
        core.step(orders.SlotRan(slot, run.run, run.base, 1, 1e-5, 1, True), step)
    alone = [flight.alone for s in core.state.slots for flight in s.flights]
    assert alone == [True]
    invariants.check(core.state)


def test_who_rode_behind_a_stopped_task_and_waits_for_others_lacks_nothing():
    """Of what was stopped nothing is kept here; who executes has found it in its slot."""
    core = WorkerCore(1, 1)
    runs = [
        Run(1, 1, 10, 1, b"\0" * 4, b"", (0,), seconds=1e-5),
        Run(2, 1, 11, 1, b"\0" * 4, b"", (0,), seconds=1e-5, awaits=(10,)),
    ]
    core.step(orders.Told([Define(1, "f", b""), *runs]), 0.0)
    core.step(orders.RunnerReady(0), 0.0)
    assert [flight.run.run for flight in core.state.slots[0].flights] == [1, 2]
    core.step(orders.Told([Stop(1, 10, 1), Stop(2, 11, 1)]), 0.0)
    core.step(orders.SlotRan(0, 1, 10, 1, 1e-5, 1, True), 0.0)
    core.step(orders.SlotBlocked(0, 2, 11), 0.0)
    invariants.check(core.state)
    assert not core.state.awaited
    core.step(orders.SlotResumed(0, 2, 11), 0.0)
    core.step(orders.SlotRan(0, 2, 11, 1, 1e-5, 1, True), 0.0)
    invariants.check(core.state)
    assert not core.state.runs


@pytest.mark.parametrize("blameless", [True, False])
def test_a_process_that_was_ended_for_no_fault_of_its_task_fails_nobody(blameless):
    core = WorkerCore(1, 1)
    told = [Define(1, "f", b""), Run(1, 1, 10, 1, b"\0" * 4, b"", (0,))]
    core.step(orders.Told(told), 0.0)
    core.step(orders.RunnerReady(0), 0.0)
    died = Failure("died", "RunnerDied", "SIGKILL")
    ended = orders.RunnerEnded(0, ((1, 10),), died, blameless=blameless)
    messages = [o.message for o in core.step(ended, 0.0) if isinstance(o, orders.Tell)]
    assert [type(m) for m in messages] == ([] if blameless else [RunFailed])
    again = core.step(orders.RunnerReady(0), 0.0)
    begun = [order.run for order in again if isinstance(order, orders.Dispatch)]
    assert begun == ([1] if blameless else [])
    invariants.check(core.state)


def test_what_can_begin_at_once_is_not_handed_back():
    """Where links are slow it would go round for ever: it came along with the wish."""
    core = WorkerCore(1, 1)
    core.step(orders.RunnerReady(0), 0.0)
    returned = []
    run = Run(1, 1, 100, 1, b"\1\0\0\0", b"x", (0, 0, 0))
    told = orders.Told([Define(1, "f", b"f"), run, Return(1)])
    for order in core.step(told, 0.0):
        if isinstance(order, orders.Tell) and isinstance(order.message, Returned):
            returned.append(order.message)
        elif isinstance(order, orders.Dispatch):
            begun = order.run
    assert begun == 1
    assert not returned


def test_a_slot_that_has_handed_back_all_is_not_asked_again_before_it_has_news():
    """What ended there is told of by another socket: it would be asked without end."""
    core = WorkerCore(1, 2)
    core.step(orders.RunnerReady(0), 0.0)
    define = Define(1, "f", b"f")
    long = Run(1, 1, 100, 4, b"\1\0\0\0" * 4, b"xxxx", (0, 0, 0), seconds=0.001)
    core.step(orders.Told([define, long]), 0.0)
    other, slot = sorted(core.state.slots, key=lambda slot: slot.count)
    assert slot.count > 1
    for flight in list(other.flights):
        news = (other.number, flight.run.run, flight.base, flight.n, 0.001, 1, True)
        core.step(orders.SlotRan(*news), 0.001)
    found, asked = core.step(orders.Tick(), 1.0), 0
    for _ in range(20):
        # Nothing is left: all but the one that executes have ended by now.
        mine = [order for order in found if isinstance(order, orders.Retract)]
        asked += len(mine)
        found = [o for m in mine for o in core.step(orders.RetractDone(m.slot), 1.0)]
    assert asked == 1


def test_a_task_behind_news_that_have_not_come_is_stopped_when_they_do():
    """When it was to stop, it seemed not to have begun."""
    core = WorkerCore(1, 1)
    core.step(orders.RunnerReady(0), 0.0)
    define = Define(1, "f", b"f")
    run = Run(1, 1, 100, 6, b"\1\0\0\0" * 6, b"x" * 6, (0, 0, 0), seconds=1e-6)
    core.step(orders.Told([define, run]), 0.0)
    (flight,) = core.state.slots[0].flights
    found = core.step(orders.Told([Stop(1, 103, 1, True)]), 0.0)
    assert orders.Retract(0) in found
    assert not [order for order in found if isinstance(order, orders.Interrupt)]
    core.step(orders.SlotReturned(0, 1, 104, 2), 0.0)
    core.step(orders.RetractDone(0), 0.0)
    found = core.step(orders.SlotRan(0, 1, 100, 3, 1e-6, 3, True), 0.0)
    assert orders.Interrupt(0, 1, 103) in found
    assert flight.kill_at
