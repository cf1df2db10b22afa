"""Tasks that take groups of another range, as the levels of a tree do."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from scheduler_world import World

sys.path.pop(0)

from covey.errors import RemoteProtocolError
from covey.scheduler.core import about, checks, explain, graph, invariants, ties
from covey.scheduler.core.spans import find, isolate
from covey.scheduler.core.state import State
from covey.wire.base import Options
from covey.wire.client_link import Cancel, Retry, Submit
from covey.wire.worker_link import Run


def tree(client, leaves, g=2, options=None):
    """Submit a tree; return (first, n) of each level, the leaves first."""
    levels = [(client.submit(leaves, options=options), leaves)]
    while levels[-1][1] >= g:
        first, n = levels[-1]
        n //= g
        made = client.submit(n, groups=((first, g),), options=options)
        levels.append((made, n))
    return levels


def under(levels, level, index, g=2):
    """Return the tasks below one of a tree, itself included, and those above it."""
    below, above = set(), set()
    lo, n = index, 1
    for at in range(level, -1, -1):
        below |= {levels[at][0] + i for i in range(lo, lo + n)}
        lo, n = lo * g, n * g
    for at in range(level + 1, len(levels)):
        index //= g
        if index < levels[at][1]:
            above.add(levels[at][0] + index)
    return below, above


def statuses(client, levels):
    return {
        first + i: client.status[first + i] for first, n in levels for i in range(n)
    }


def test_a_level_of_a_tree_is_one_span(world, client):
    levels = tree(client, 256)
    assert len(world.state.spans) == len(levels) == 9
    world.new_worker(2)
    world.settle()
    world.check_ends()
    assert set(statuses(client, levels).values()) == {"finished"}
    client.release_all()
    world.check_empty()


@pytest.mark.parametrize("g", [2, 3, 4, 10])
def test_slices_that_are_dealt_leave_groups_whole(g):
    world = World()
    client = world.new_client()
    source = client.submit(1000)
    users = client.submit(1000 // g, groups=((source, g),))
    world.new_worker(3 * g + 1)
    assert find(world.state, source).n == 3 * g
    assert find(world.state, users).n == 3


def test_a_cut_within_a_group_sets_one_task_of_each_level_free(world, client):
    levels = tree(client, 128)
    isolate(world.state, levels[0][0] + 101, 1)
    invariants.check(world.state)
    at = 101
    for first, _ in levels[1:]:
        at //= 2
        span = find(world.state, first + at)
        assert (span.n, span.groups) == (1, ())
        assert [m for _, m in span.whole] == [2]
    # On both sides of the path there are whole trees, of which each level is a span.
    assert len(world.state.spans) < 8 * 8
    world.new_worker(2)
    world.settle()
    assert set(statuses(client, levels).values()) == {"finished"}


@pytest.mark.parametrize("leaf", [0, 1, 37, 62, 63])
def test_a_leaf_that_fails_fails_what_is_above_it_and_nothing_else(leaf):
    world = World()
    client = world.new_client()
    levels = tree(client, 64)
    worker = world.new_worker(64)
    worker.read(len(worker.inbox))
    number, start = next(
        (number, leaf + levels[0][0] - run.todo[0])
        for number, run in worker.runs.items()
        if levels[0][0] + leaf in run.todo
    )
    worker.fail(number, start)
    world.settle()
    world.check_ends()
    _, above = under(levels, 0, leaf)
    failed = {t for t, how in statuses(client, levels).items() if how == "failed"}
    assert failed == {levels[0][0] + leaf, *above}
    client.say(Retry(tuple((task, 1) for task in sorted(failed))))
    world.settle()
    assert set(statuses(client, levels).values()) == {"finished"}


def test_a_task_in_a_group_is_tried_again(world, client):
    levels = tree(client, 16, options=Options(retries=1))
    worker = world.new_worker(16)
    worker.read(len(worker.inbox))
    worker.fail(next(iter(worker.runs)), 5)
    world.settle()
    assert set(statuses(client, levels).values()) == {"finished"}


def test_what_is_cancelled_in_the_middle_takes_what_is_above_it_along(world, client):
    levels = tree(client, 64)
    client.say(Cancel(((levels[2][0] + 5, 1),)))
    world.new_worker(2)
    world.settle()
    world.check_ends()
    _, above = under(levels, 2, 5)
    ended = statuses(client, levels)
    for task in (levels[2][0] + 5, *above):
        assert ended.pop(task) == "failed"
    assert set(ended.values()) == {"finished"}


def test_inner_futures_that_are_dropped_are_made_and_let_go(world, client):
    levels = tree(client, 64)
    for first, n in levels[:-1]:
        client.release((first, n))
    assert len(world.state.spans) == len(levels)
    world.new_worker(2)
    world.settle()
    assert client.status[levels[-1][0]] == "finished"
    assert sum(span.n for span in world.state.spans.values()) <= 2 * 64
    for worker in world.workers.values():
        assert set(worker.store) == {levels[-1][0]}


def test_values_that_are_lost_are_made_again_with_what_they_take(world, client):
    levels = tree(client, 32)
    client.release((levels[0][0], 32))
    first = world.new_worker(2)
    world.settle()
    world.lose(first.peer)
    world.new_worker(3)
    world.settle()
    world.check_ends()
    kept = statuses(client, levels[1:])
    assert set(kept.values()) == {"finished"}


@pytest.mark.parametrize("sizes", [(2, 3), (3, 2), (2, 4), (6, 4)])
def test_groups_of_several_sizes_over_one_range(sizes):
    world = World()
    client = world.new_client()
    source = client.submit(48)
    users = [client.submit(48 // g, groups=((source, g),)) for g in sizes]
    both = client.submit(3, aligned=(users[0],), groups=((users[1] + 1, 2),))
    isolate(world.state, source + 7, 1)
    invariants.check(world.state)
    world.new_worker(5)
    world.settle()
    world.check_ends()
    assert all(how == "finished" for how in client.status.values())
    assert client.status[both + 2] == "finished"


def test_groups_of_what_is_known_in_part_and_by_other_ids(world, client):
    shared = client.submit(1, name="shared", fn=3)
    again = client.submit(1, name="shared", fn=3)
    more = client.submit(3)
    assert (again, more) == (shared + 1, shared + 2)
    client.new_ids(4)
    users = client.submit(4, groups=((shared, 2),))
    world.new_worker(2)
    world.settle()
    found = [client.status[users + i] for i in range(4)]
    assert found == ["finished", "finished", "failed", "failed"]


def test_a_worker_is_told_of_groups_once_for_all(world, client):
    runs = []
    world.watch = lambda _, message: runs.append(message)
    source = client.submit(20)
    client.submit(10, groups=((source, 2),))
    world.new_worker(20)
    world.settle()
    told = [m for m in runs if isinstance(m, Run) and (m.groups or m.whole)]
    assert [(m.n, m.groups, m.whole) for m in told] == [(10, ((source, 2),), ())]


def test_the_page_of_a_task_names_its_group(world, client):
    source = client.submit(20)
    users = client.submit(10, groups=((source, 2),))
    answer = about.named(
        world.state, explain.key_of(world.state, find(world.state, users))
    )
    assert answer["needs_n"] == 2
    assert [(need["n"], need["state"]) for need in answer["needs"]] == [(20, "ready")]
    drawn = graph.graph(world.state)
    assert [node[-1] for node in drawn["nodes"]] == [[], [0]]


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        (((1 << 62, 1 << 32),), "there are no"),
        (((0, 1),), "groups of one"),
        ((((1 << 63) - 7, 4),), "there are no"),
    ],
)
def test_groups_that_make_no_sense_are_refused(world, client, groups, why):
    client.submit(1)
    record = world.state.clients[client.peer]
    sizes = b"\0\0\0\0" * 2
    message = Submit(client.new_ids(2), 2, 1, sizes, b"", groups=groups)
    with pytest.raises(RemoteProtocolError, match=why):
        checks.submit(world.state, record, message)


@given(
    leaves=st.integers(2, 100),
    g=st.sampled_from([2, 2, 3, 5]),
    cuts=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 199)), max_size=6),
)
@settings(max_examples=25, deadline=None)
def test_cuts_anywhere_keep_all_that_hangs_together(leaves, g, cuts):
    world = World()
    client = world.new_client()
    levels = tree(client, leaves, g)
    for level, index in cuts:
        first, n = levels[level % len(levels)]
        isolate(world.state, first + index % n, 1)
        invariants.check(world.state)
    world.new_worker(3)
    world.settle()
    world.check_ends()
    assert all(span.state is State.DONE for span in world.state.spans.values())


@given(n=st.integers(1, 300), k=st.integers(1, 300))
@settings(max_examples=40, deadline=None)
def test_an_even_slice_is_over_half_of_what_was_asked_for(n, k):
    world = World()
    client = world.new_client()
    first = client.submit(n)
    span = find(world.state, first)
    while n >= 2:
        first, n = client.submit(n // 2, groups=((first, 2),)), n // 2
    if k <= span.n:
        assert k / 2 < ties.even(span, k) <= k
