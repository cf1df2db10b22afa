"""Trees of stacks: they add up, stay bounded, and travel; and a sampler sees."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey import stacks
from covey.stacks import Profiles, Sampler, Seen, Tree

STACKS = st.lists(
    st.tuples(
        st.lists(
            st.sampled_from(["a\tm.py\t1", "b\tm.py\t2", "c\tn.py\t3"]), max_size=6
        ),
        st.integers(0, 1_000_000),
    ),
    max_size=20,
)


def tree_of(seen):
    tree = Tree()
    for stack, microseconds in seen:
        tree.add(stack, microseconds)
    return tree


def stacks_of(tree):
    """Return what a tree says, whatever the order of its nodes."""
    found = {}
    paths = [()]
    for parent, name, microseconds in tree.nodes[1:]:
        paths.append((*paths[parent], tree.names[name]))
        if microseconds:
            found[paths[-1]] = microseconds
    if tree.nodes[0][2]:
        found[()] = tree.nodes[0][2]
    return found


@given(STACKS, STACKS)
def test_trees_add_up_whichever_way_they_came(first, second):
    together = tree_of(first + second)
    apart = tree_of(first)
    apart.add_tree(tree_of(second))
    assert stacks_of(apart) == stacks_of(together)


@given(STACKS, st.floats(0, 1))
def test_what_is_pruned_counts_for_the_frame_above(seen, share):
    tree = tree_of(seen)
    pruned = tree.pruned(share)
    assert pruned.seconds == pytest.approx(tree.seconds)
    assert len(pruned) <= len(tree)
    kept = dict(zip(_paths(pruned), pruned.totals(), strict=True))
    whole = dict(zip(_paths(tree), tree.totals(), strict=True))
    for path, total in kept.items():
        assert total == whole[path]


def _paths(tree):
    paths = [()]
    for parent, name, _ in tree.nodes[1:]:
        paths.append((*paths[parent], tree.names[name]))
    return paths


def test_a_tree_is_bounded(monkeypatch):
    monkeypatch.setattr(stacks, "NODES_MAX", 10)
    tree = Tree()
    for number in range(100):
        tree.add(["f\tm.py\t1", f"g{number}\tm.py\t2"], 1)
    assert len(tree) <= 10
    assert len(tree.names) <= 11
    assert tree.totals()[0] == 100


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        ((), ()),
        ((), (-1,)),
        ((), (0, 0, 0, 1)),
        (("f",), (0, 0, 0)),
        (("f",), (0, 1, 0, 1)),
        (("f",), (0, 0, -1, 1)),
        (("f",), (0, 0, 0, -1)),
        (("f",), (0, -1, 0, 1)),
    ],
)
def test_nonsense_is_no_tree(names, numbers):
    with pytest.raises(ValueError, match="profile"):
        Tree().add_flat(names, numbers)


def test_lines_for_flame_graph_tools():
    tree = Tree()
    tree.add(["f\t/x/m.py\t1", "g\t/x/m.py\t20"], 2_000)
    tree.add(["f\t/x/m.py\t1"], 1_000)
    assert tree.collapsed() == "f (m.py:1) 1\nf (m.py:1);g (m.py:20) 2\n"


def test_profiles_are_asked_by_function_worker_and_time():
    found = Profiles()
    found.add(0.0, "alice", "fit", ["f\tm.py\t1"], [0, 0, 0, 1_000_000])
    found.add(1.0, "bob", "fit", ["f\tm.py\t1"], [0, 0, 0, 2_000_000])
    found.add(50.0, "bob", "load", ["g\tm.py\t9"], [0, 0, 0, 3_000_000])
    found.add(50.0, "", "(scheduler)", ["h\tm.py\t9"], [0, 0, 0, 500_000])
    assert found.subjects()[0] == ("bob", "load", 3.0)
    assert found.tree("fit").seconds == 3.0
    assert found.tree("fit", "bob").seconds == 2.0
    assert found.tree().collapsed() == (
        "fit (:0);f (m.py:1) 3000\nload (:0);g (m.py:9) 3000\n"
    )
    assert found.tree(since=40.0).seconds == 3.0
    assert found.tree("(scheduler)").seconds == 0.5


def test_old_slices_go_when_there_is_too_much(monkeypatch):
    monkeypatch.setattr(stacks, "_NODES_KEPT", 20)
    found = Profiles()
    for number in range(100):
        at = number * stacks.SLICE_SECONDS
        found.add(at, "w", "f", [f"n{number}\tm.py\t1"], [0, 0, 0, 1])
    assert len(found.tree("f")) <= 22


class Large:
    pass


def hold(seen, leave):
    large = Large()
    seen.append(weakref.ref(large))
    leave.wait(20)


def test_what_was_looked_at_is_let_go():
    seen, leave = [], threading.Event()
    worker = threading.Thread(target=hold, args=(seen, leave))
    worker.start()
    while not seen:
        pass
    sampler = Sampler(lambda: [Seen(0, worker.ident)], lambda _: False)
    gc.disable()
    try:
        for _ in range(3):
            sampler._look(1)
        leave.set()
        worker.join(20)
        assert seen[0]() is None, "a look keeps what variables name"
    finally:
        gc.enable()


def outer(go, leave):
    inner(go, leave)


def inner(go, leave):
    go.set()
    leave.wait(20)


def test_a_sampler_sees_what_a_thread_does_and_stops():
    go, leave = threading.Event(), threading.Event()
    worker = threading.Thread(target=outer, args=(go, leave))
    worker.start()
    go.wait(20)
    looked = threading.Event()

    def whom():
        looked.set()
        return [Seen(7, worker.ident), Seen(8, -1)]

    sampler = Sampler(whom, lambda code: code is outer.__code__)
    sampler.go_on(20.0)
    thread = sampler._thread
    assert looked.wait(20)
    sampler.go_on(0.0)
    thread.join(20)
    assert not thread.is_alive(), "nobody has asked again"
    trees = sampler.take()
    assert set(trees) == {7}
    text = trees[7].collapsed()
    assert "inner (test_stacks.py" in text and "outer" not in text
    assert sampler.take() == {}
    looked.clear()
    sampler.go_on(20.0)
    thread = sampler._thread
    assert looked.wait(20)
    sampler.go_on(0.0)
    thread.join(20)
    assert set(sampler.take()) == {7}, "it can be asked again"
    leave.set()
    worker.join(20)
