"""Single tasks that come together: each is an attempt of its own."""

from __future__ import annotations

import os
import sys
import threading

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from runner_harness import Agent
from test_runner import (
    Gate,
    Ref,
    by_value,
    by_value_deep,
    crash_by_exit,
    make_hold,
    needs_proc,
)

from covey.errors import TaskCancelled
from covey.serde.columns import columns_payload, strides_payload
from covey.stacks import Tree

sys.path.pop(0)


@pytest.fixture
def held():
    gate = Gate()
    yield gate
    gate.close()


def test_functions_and_attempts_of_their_own(agent):
    agent.run_nodes((7, 500, abs, (-1,)), (9, 20, len, ("abc",)), (8, 300, abs, (-2,)))
    operation, _ = agent.slots[0].next()
    assert operation[:3] == ["rans", [7, 9, 8], [500, 20, 300]]
    assert len(operation[3]) == 3 and min(operation[3]) >= 0


def test_what_one_made_later_ones_take_each_anew(agent):
    agent.run_nodes(
        (1, 100, list, ("ab",), {"keep": True}),
        (2, 200, lambda made: made.append("c") or made, (Ref(100),), {"own": [100]}),
        (3, 300, len, (Ref(100),), {"own": [100]}),
    )
    agent.run_nodes((4, 400, len, (Ref(100),), {"own": [100]}))
    found = agent.slots[0].outcomes(4)
    assert found == {100: [*"ab"], 200: [*"abc"], 300: 2, 400: 2}


def test_what_one_made_another_one_knows_by_another_number(agent):
    agent.run_nodes(
        (1, 100, list, ("ab",), {"keep": True}),
        (2, 200, len, (Ref(7),), {"own": [(7, 100)]}),
    )
    assert agent.slots[0].outcomes(2) == {100: [*"ab"], 200: 2}


def test_an_input_comes_along_once_for_all(agent):
    agent.run_nodes(
        (
            1,
            100,
            lambda made: made.append(3) or len(made),
            (Ref(8),),
            {"in": {8: [1, 2]}},
        ),
        (2, 200, lambda a, b: (a is b, len(a)), (Ref(8), Ref(8))),
        (3, 308, len, columns_payload([8 - 308])),
        (4, 309, len, strides_payload(307, [(4, 2)])),
    )
    assert agent.slots[0].outcomes(4) == {100: 3, 200: (True, 2), 308: 2, 309: 2}


def test_what_lacks_something_goes_back_and_the_others_run(agent):
    agent.run_nodes(
        (1, 100, int, ("no number",), {"keep": True}),
        (2, 200, abs, (Ref(100),), {"own": [100], "keep": True}),
        (3, 300, abs, (-3,)),
        (4, 400, abs, (Ref(200),), {"own": [200]}),
        (5, 500, abs, (-5,)),
        (6, 600, len, (Ref(77),)),
    )
    slot = agent.slots[0]
    told = [slot.next()[0] for _ in range(6)]
    assert [t[:3] if t[0] == "failed" else t for t in told if t[0] != "rans"] == [
        ["failed", 1, 100],
        ["returned", 0, 2, 200, 1],
        ["returned", 0, 4, 400, 1],
        ["failed", 6, 600],
    ]
    assert [t[1:3] for t in told if t[0] == "rans"] == [[[3], [300]], [[5], [500]]]


def test_a_large_result_in_the_middle(agent):
    agent.run_nodes(
        (1, 100, abs, (-1,)), (2, 200, bytes, (1 << 20,)), (3, 300, abs, (-3,))
    )
    found = agent.slots[0].outcomes(3)
    assert (found[100], len(found[200]), found[300]) == (1, 1 << 20, 3)


@needs_proc
@pytest.mark.parametrize("count", [-1, 1, 2])
def test_what_has_not_begun_is_given_back(agent, held, count):
    hold = make_hold()
    agent.run_nodes(*((i, 100 * i, hold, (held.paths, i)) for i in range(1, 4)))
    held.wait_began()
    agent.control.send([["retract", 0, count]])
    back = [3, 2][: count if count > 0 else 2]
    for i in back:
        assert agent.control.expect("returned")[0] == ["returned", 0, i, 100 * i, 1]
    held.release(3)
    kept = {100, 200, 300} - {100 * i for i in back}
    assert agent.slots[0].outcomes(len(kept)).keys() == kept


@needs_proc
def test_what_is_settled_need_not_wait_behind_a_long_one(agent, held):
    hold = make_hold()
    agent.run_nodes((1, 100, abs, (-1,)), (2, 200, hold, (held.paths, 2)))
    held.wait_began()
    agent.control.send([["flush", 0]])
    assert agent.slots[0].outcomes(1) == {100: 1}
    held.release()
    assert agent.slots[0].outcomes(1) == {200: 2}


def test_the_marks_tell_who_was_to_blame(start):
    agent = start()

    def trip(index):
        if index == 2:
            crash_by_exit()

    trip = by_value_deep(trip, crash_by_exit)
    agent.run_nodes(*((10 + i, 100 * i, trip, (i,)) for i in range(5)))
    assert agent.process.wait(30) == 3
    assert agent.mark() == (12, 200)


@needs_proc
def test_a_blocked_one_gives_its_slot_away(agent, held):
    hold, held_paths = make_hold(), held.paths

    def wait():
        from covey.runner.context import blocking, current

        with blocking():
            hold(held_paths, 1)
        return current().run, current().task_id

    agent.run_nodes((1, 100, by_value(wait), ()), (2, 200, abs, (-2,)))
    assert agent.slots[0].expect("blocked")[0] == ["blocked", 1, 100]
    held.wait_began()
    assert agent.slots[0].outcomes(1) == {200: 2}
    held.release()
    agent.slots[0].expect("resumed")
    assert agent.slots[0].outcomes(1) == {100: (1, 100)}


@needs_proc
def test_a_profile_tells_the_function_of_each(agent, held):
    agent.control.send([["profile", 20]])
    agent.control.expect("profiled")
    hold = make_hold()
    agent.run_nodes((1, 100, abs, (-1,)), (2, 200, hold, (held.paths, 1)))
    held.wait_began()
    # Some of what was seen until then may be how it was loaded.
    agent.control.send([["profile", 20]])
    agent.control.expect("profiled")
    seen = []
    while not seen:
        agent.control.send([["profile", 20]])
        seen = agent.control.expect("profiled")[0][1]
    ((function, names, numbers),) = seen
    assert function == 2
    Tree().add_flat(names, numbers)
    assert names[0].startswith("make_hold.<locals>.hold\t")
    held.release()
    agent.slots[0].outcomes(2)


def test_interrupts_at_any_moment_hit_whom_they_are_meant_for(agent):
    def work(x):
        for _ in range(x % 5 * 100_000):
            pass
        return x

    work, wanted, hit = by_value(work), set(), 0
    for number in range(3):
        tasks = range(1000 * (number + 1), 1000 * (number + 1) + 40)
        agent.run_nodes(*((task + 7, task, work, (task,)) for task in tasks))
        task = 0
        while task != tasks[-1]:
            run, task = agent.mark()
            if run == task + 7 and task in tasks and task not in wanted:
                agent.control.send([["cancel", 0, run, task]])
                wanted.add(task)
            threading.Event().wait(0.0003)
        found = agent.slots[0].outcomes(len(tasks))
        assert set(found) == set(tasks)
        wrong = {task: value for task, value in found.items() if value != task}
        assert set(wrong) <= wanted
        assert all(isinstance(error, TaskCancelled) for error in wrong.values())
        hit += len(wrong)
    assert hit


def test_one_task_after_the_other_costs_a_runner_few_calls():
    """Who waits for each waits for every function that is called on the way."""
    counted = []

    def count(_frame, event, _arg):
        if event == "call":
            counted.append(1)

    threading.setprofile(count)
    try:
        agent = Agent(process=False)
    finally:
        threading.setprofile(None)
    for number in range(1, 101):
        if number == 51:
            counted.clear()
        agent.run_nodes((number, number, abs, (-number,)))
        assert agent.slots[0].outcomes(1) == {number: number}
    agent.close()
    sys.stdout.write(f"{len(counted) / 50:.1f} calls a task\n")
    assert len(counted) / 50 < 60
