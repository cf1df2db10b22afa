"""Trials: what a graph would take on machines that are not there."""

from __future__ import annotations

import pytest

from covey.scheduler.core import queues
from covey.sim.trial import (
    Graph,
    Machines,
    independent,
    layered,
    list_schedule,
    tree,
    try_out,
)


def test_a_chain_takes_as_long_as_its_tasks():
    chain = Graph([1.0] * 10, [(i - 1,) if i else () for i in range(10)])
    result = try_out(chain, Machines(workers=3, slots=2))
    assert result.path_seconds == result.list_seconds == 10.0
    assert 10.0 <= result.makespan_seconds < 10.5


def test_equal_tasks_are_shared_by_all_slots():
    result = try_out(Graph([1.0] * 64, [()] * 64), Machines(workers=4, slots=4))
    assert result.work_seconds == result.list_seconds == 4.0
    assert 4.0 <= result.makespan_seconds < 4.5


@pytest.mark.parametrize("graph", [independent(300), layered(6, 40), tree(100)])
def test_no_schedule_beats_the_bounds(graph):
    result = try_out(graph, Machines(workers=5, slots=4))
    for seconds in (result.makespan_seconds, result.list_seconds):
        assert seconds >= max(result.path_seconds, result.work_seconds) - 1e-9
    assert result == try_out(graph, Machines(workers=5, slots=4))


def test_large_results_are_moved_when_they_are_needed_elsewhere():
    graph = layered(4, 16, nbytes=200_000)
    assert try_out(graph, Machines(workers=4, slots=4)).moved_bytes > 0
    assert try_out(graph, Machines(workers=1, slots=16)).moved_bytes == 0


def test_a_policy_can_be_tried_by_putting_it_in_the_place_of_ours(monkeypatch):
    """Without looking where inputs are, more is moved."""
    graph = layered(6, 40, inputs=2, nbytes=200_000)
    machines = Machines(workers=5, slots=4)
    ours = try_out(graph, machines)
    monkeypatch.setattr(queues, "_nearest", lambda state, span, demand: None)
    assert try_out(graph, machines).moved_bytes > ours.moved_bytes


def test_a_list_schedule_runs_the_longest_way_first():
    """Two slots: the chain of two must not wait behind the single tasks."""
    graph = Graph([1.0, 1.0, 2.0, 2.0], [(), (), (), (2,)])
    assert list_schedule(graph, slots=2) == 4.0
