"""What runners keep mapped, and are told to forget."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from covey.worker.inputs import Inputs


@pytest.fixture
def told():
    return [[], []]


@pytest.fixture
def inputs(told):
    processes = [SimpleNamespace(control=SimpleNamespace(tell=t.append)) for t in told]
    return Inputs(None, processes, None)


class OnlyLookedUp(dict):
    """Many values, of which nobody wants to see all for the sake of a few."""

    def __iter__(self):
        raise AssertionError("all of them were looked at")


def test_a_value_is_forgotten_by_the_ids_that_each_runner_knows_it_by(inputs, told):
    inputs._is_mapped(0, 7, 7)
    inputs._is_mapped(0, 70, 7)
    inputs._is_mapped(1, 71, 7)
    inputs._is_mapped(1, 8, 8)
    inputs.forget([(7, 1)])
    (operation,) = told[0]
    assert (operation[0], sorted(operation[1])) == ("forget", [[7, 1], [70, 1]])
    assert told[1] == [["forget", [[71, 1]]]]
    inputs.forget([(0, 7)])
    inputs.forget([(7, 1)])
    assert len(told[0]) == len(told[1]) == 1
    inputs.forget([(0, 1 << 40)])
    assert told[1][1:] == [["forget", [[8, 1]]]]


def test_one_that_is_dropped_costs_no_look_at_all_others(inputs, told):
    inputs._mapped[0] = OnlyLookedUp({task: {task} for task in range(100)})
    inputs.forget([(50, 2)])
    assert told[0] == [["forget", [[50, 1], [51, 1]]]]


def test_what_is_not_in_hand_is_forgotten(inputs, told):
    for task in range(4):
        inputs._is_mapped(0, task, task)
    inputs.forget_all_but(lambda task: task % 2 == 0)
    assert told[0] == [["forget", [[1, 1], [3, 1]]]]


def test_what_two_runners_map_counts_twice(inputs):
    sizes = {7: 100, 8: 10}
    shelf = SimpleNamespace(
        segment=lambda task: (
            SimpleNamespace(size=sizes[task]) if task in sizes else None
        )
    )
    inputs._storage = SimpleNamespace(shelf=shelf)
    assert inputs.mapped_bytes() == 0
    for runner, task in ((0, 7), (1, 7), (1, 8), (1, 9)):
        inputs._is_mapped(runner, task, task)
    inputs._is_mapped(1, 70, 7)  # Known by another id as well: the same memory.
    assert inputs.mapped_bytes() == 210
    inputs.forget([(7, 1)])
    assert inputs.mapped_bytes() == 10
