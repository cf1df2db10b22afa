"""The critical path, the lives of tasks, and what pages are told of the graph."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.dashboard import lives
from covey.dashboard.critical import critical_path
from covey.dashboard.lives import Lives
from covey.dashboard.model import Model
from covey.dashboard.questions import with_path
from covey.recording import Batch

GRAPHS = st.integers(0, 9).flatmap(
    lambda count: st.tuples(
        st.tuples(
            *(
                st.lists(st.integers(0, max(0, at - 1)), max_size=3)
                if at
                else st.just([])
                for at in range(count)
            )
        ),
        st.lists(st.integers(0, 5), min_size=count, max_size=count),
    )
)


def longest(needs, seconds, at):
    """Say it again, the slow way."""
    return seconds[at] + max((longest(needs, seconds, n) for n in needs[at]), default=0)


@given(GRAPHS, st.randoms())
def test_no_chain_is_longer_than_the_critical_path(graph, shuffle):
    needs, seconds = graph
    count = len(needs)
    # In whatever order the tasks are listed.
    order = list(range(count))
    shuffle.shuffle(order)
    place = {at: index for index, at in enumerate(order)}
    needs = [[place[need] for need in needs[at]] for at in order]
    seconds = [seconds[at] for at in order]
    path = critical_path(needs, seconds)
    chains = [longest(needs, seconds, at) for at in range(count)]
    assert path.seconds == max(chains, default=0)
    assert path.seconds == sum(seconds[at] for at in path.places)
    for before, after in zip(path.places, path.places[1:], strict=False):
        assert before in needs[after]
    if path.places:
        assert not needs[path.places[0]], "it begins where nothing is needed"


def test_a_circle_is_left_out():
    path = critical_path([[1], [0], []], [5.0, 5.0, 1.0])
    assert path == ([2], 1.0)


def test_a_life_is_told_from_its_beginning(monkeypatch):
    told = Lives()
    told.note(1.0, "submitted", 10, 4, "", "client-1")
    told.note(2.0, "tried again", 11, 1, "alice", "ValueError: no")
    told.note(3.0, "returned", 10, 4, "bob", 2.0, 400, 1)
    told.note(4.0, "copied", 11, 1, "alice", "bob", 100, 0.5)
    told.note(5.0, "lost", 20, 1, "")
    assert told.of(11) == [
        (1.0, "submitted", "", "by client-1, with 3 others"),
        (2.0, "tried again", "alice", "after ValueError: no"),
        (3.0, "returned", "bob", "after 500 ms on slot 1: 100 B, with 3 others"),
        (4.0, "copied", "alice", "100 B from bob in 500 ms"),
    ]
    assert told.of(14) == []
    monkeypatch.setattr(lives, "_TOLD", 2)
    assert [what for _, what, _, _ in told.of(11)] == ["returned", "copied"]


def test_events_become_lives_and_history():
    model = Model()
    events = [
        [1.0, "submitted", 1, 2, "inc", "client"],
        [2.0, "erred", 2, "inc", "alice", 0.1, 0],
        [2.0, "failed", 2, 1, "inc", "alice", "raised", "KeyError", "x\ny", -1],
        [3.0, "paused", "alice"],
        [3.5, "spilled", "alice", 2048],
        [4.0, "unpaused", "alice"],
    ]
    model.take(Batch(0, 0, 5.0, events))
    assert [what for _, what, _, _ in model.lives.of(2)] == [
        "submitted",
        "raised",
        "failed",
    ]
    assert [entry[1:] for entry in model.frame("")["history"]] == [
        ("paused", "alice", "memory is short there"),
        ("spilled", "alice", "2 KiB to disk"),
        ("goes on", "alice", "memory is there again"),
    ]


@pytest.mark.parametrize("total", [3, 4])
def test_the_graph_is_given_with_its_critical_path(total):
    model = Model()
    model.take(
        Batch(0, 0, 5.0, [[2.0, "ran", 7, 1, "load", "alice", 4.0, 8, 0]]),
    )
    answer = {
        "groups": [],
        "edges": [],
        "nodes": [
            ("load-7", "load", "done", 1, 7, 0.0, []),
            ("load-8", "load", "assigned", 1, 8, 9.0, []),
            ("sum-9", "sum", "waiting", 1, 9, 0.0, [0, 1]),
        ],
        "total": total,
        "looked": 3,
        "inputs_left_out": 0,
    }
    found = with_path(answer, model)
    assert found["path_seconds"] == 9.0
    assert [(n["key"], n["how"]) for n in found["path"]] == [
        ("load-8", "running"),
        ("sum-9", "unknown"),
    ]
    assert len(found["nodes"]) == (3 if total == 3 else 0), "all tasks, or none"


def test_what_an_earlier_scheduler_had_done_is_not_to_be_done():
    model = Model()
    submitted = [1.0, "submitted", 1, 9, "inc", "client"]
    model.take(Batch(0, 0, 1.0, [submitted, [1.0, "found", 1, 8, "inc", "alice"]]))
    line = model.functions["inc"]
    assert (line.pending, line.done, model.done) == (1, 8, 8)
    assert ("found", "alice") in {(e[1], e[2]) for e in model.lives.of(3)}


def test_counts_are_right_again_after_events_were_missed():
    model = Model()
    view = {
        "next": 10,
        "impossible": [],
        "clients": [],
        "running": {},
        "ready": 0,
        "known": 0,
        "slots": 1,
        "functions": {"inc": {"submitted": 9, "done": 7, "failed": 1, "seconds": 0.5}},
    }
    event = [1.0, "ran", 1, 1, "inc", "alice", 0.1, 8, 0]
    model.take(Batch(6, 6, 1.0, [event]))
    model.refresh(view)
    # Up to number 10 events are in these counts already, from there on they add up.
    model.take(Batch(7, 0, 2.0, [event, event]))
    assert model.done == 3
    model.take(Batch(9, 0, 3.0, [event, event]))
    assert (model.done, model.failed, model.dropped) == (8, 1, 6)
    assert model.functions["inc"].submitted == 9
    model.refresh({**view, "next": 11})
    model.take(Batch(11, 0, 4.0, [event]))
    assert model.done == 9, "nothing was missed since"
