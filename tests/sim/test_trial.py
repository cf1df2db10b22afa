"""Trials: what a graph would take on machines that are not there."""

from __future__ import annotations

import sys

import pytest

from covey.scheduler.core import distance, placement, queues
from covey.sim.trial import (
    Graph,
    Machines,
    independent,
    layered,
    list_schedule,
    tree,
    try_out,
    uneven,
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
    monkeypatch.setattr(queues, "_nearest", lambda sources, demand: None)
    assert try_out(graph, machines).moved_bytes > ours.moved_bytes


def pairs(n):
    """Load *n* large values, make one small value of each two, and sum these up.

    The order is depth first, as that of a client.
    """
    needs = [()] * n + [(i, i + 1) for i in range(0, n, 2)]
    needs.append(tuple(range(n, n + n // 2)))
    nbytes = [200_000] * n + [16] * (n // 2 + 1)
    functions = [1] * n + [2] * (n // 2) + [3]
    seconds = [0.1] * n + [0.05] * (n // 2) + [0.1]
    order = [i // 2 * 3 + i % 2 for i in range(n)] + [i * 3 + 2 for i in range(n // 2)]
    return Graph(seconds, needs, nbytes, functions), [*order, 3 * n]


def test_what_makes_values_is_withheld_until_there_is_a_slot_for_it(
    monkeypatch, capsys
):
    """Else all that is ready would lie with the workers, and be made first."""
    graph, order = pairs(300)
    machines = Machines(workers=2, slots=2)
    ours = try_out(graph, machines, order=order)
    with monkeypatch.context() as patch:
        patch.setattr(placement, "_room", lambda *_: True)
        at_once = try_out(graph, machines, order=order)
    most, else_ = ours.peak_bytes, at_once.peak_bytes
    sys.stdout.write(f"at most {most:,} bytes at a time, else {else_:,}\n")
    assert ours.peak_bytes < at_once.peak_bytes / 3
    assert ours.makespan_seconds < 1.05 * at_once.makespan_seconds


def test_a_list_schedule_runs_the_longest_way_first():
    """Two slots: the chain of two must not wait behind the single tasks."""
    graph = Graph([1.0, 1.0, 2.0, 2.0], [(), (), (), (2,)])
    assert list_schedule(graph, slots=2) == 4.0


def steady(rng):
    return 0.005 * rng.uniform(0.8, 1.2)


def uneven_and_short(rng):
    """Return 5 ms: mostly less, at times twenty times as much."""
    return min(0.1, 0.005 * rng.lognormvariate(-0.5, 1.0))


def busy(graph, machines):
    """Return which part of their time the slots run something."""
    result = try_out(graph, machines)
    return result.work_seconds / result.makespan_seconds


@pytest.mark.parametrize("duration", [steady, uneven_and_short])
@pytest.mark.parametrize("seconds", [0.1, 0.2])
def test_workers_are_busy_however_far_away_they_are(monkeypatch, duration, seconds):
    """There and back it takes as long as twenty tasks, or forty."""
    graph = independent(4_000, duration=duration)
    far = Machines(workers=2, slots=2, latency=seconds / 2)
    found = busy(graph, far)
    monkeypatch.setattr(distance, "FARTHEST_SECONDS", 0.0)
    else_ = busy(graph, far)
    sys.stdout.write(f"busy for {found:.3f} of the time, else {else_:.3f}\n")
    assert found > 0.9
    assert else_ < 0.7


@pytest.mark.parametrize("duration", [uneven_and_short, uneven])
def test_who_is_near_has_no_more_ahead_for_that(monkeypatch, duration):
    graph = independent(2_000, duration=duration)
    near = Machines(workers=4, slots=4)
    found = try_out(graph, near).makespan_seconds
    monkeypatch.setattr(distance, "FARTHEST_SECONDS", 0.0)
    assert found < 1.02 * try_out(graph, near).makespan_seconds
