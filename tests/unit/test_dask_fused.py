"""Fused nodes, taken apart: dask's values, and nothing held that nobody takes."""

from __future__ import annotations

import operator
import pickle
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

dask = pytest.importorskip("dask")

import dask.array as da  # noqa: E402  (only where dask is)
from dask._task_spec import Alias, DataNode, List, Task, TaskRef  # noqa: E402

from covey.interop.dask_constants import may_change  # noqa: E402
from covey.interop.dask_fused import fused, is_fused, run  # noqa: E402
from covey.interop.dask_lowering import Lowering, Plain  # noqa: E402
from covey.interop.dask_packing import FUNCTION_BYTES_MAX, Shelf  # noqa: E402


def combine(*values, named=None):
    """Tell apart by what it was called, in a few bytes: nested values would double."""
    return zlib.crc32(repr((values, named)).encode())


@st.composite
def fused_nodes(draw, depth=3):
    """Draw a fused node that takes ``x``, with fused nodes, names and data within."""
    tasks = []
    for at in range(draw(st.integers(2, 5))):
        known = ["x", *[task.key for task in tasks]]
        # Everything leads to the last one, for dask wants one result.
        args = [TaskRef(known[-1]), TaskRef(draw(st.sampled_from(known)))]
        kind = draw(st.sampled_from(["plain", "list", "data", "alias", "fused"]))
        key = f"k{at}"
        if kind == "fused" and depth:
            within = draw(fused_nodes(depth=depth - 1))
            tasks.append(within.substitute({"x": args[0].key}, key=key))
        elif kind == "alias":
            tasks.append(Alias(key, args[0].key))
        elif kind == "list":
            tasks.append(Task(key, combine, List(*args), named=args[1]))
        elif kind == "data":
            tasks.append(Task(key, combine, DataNode(None, at), at, *args))
        else:
            tasks.append(Task(key, combine, *args))
    last = tasks[-1].key
    named = draw(st.booleans())
    tasks.append(Alias("end", last) if named else Task("end", combine, TaskRef(last)))
    return Task.fuse(*tasks)


@settings(deadline=None, max_examples=50)
@given(fused_nodes())
def test_the_values_are_those_of_dask(node):
    assert is_fused(node)
    assert run(node, {"x": 7}) == node({"x": 7})


@settings(deadline=None, max_examples=50)
@given(fused_nodes())
def test_it_travels(node):
    inner, outkey, inkeys, *_ = node.args
    function = pickle.loads(pickle.dumps(fused(inner, outkey, inkeys)))
    assert function(7) == node({"x": 7})


def test_what_is_given_to_a_level_may_have_no_name():
    within = Task.fuse(
        Task("a", combine, TaskRef("x"), TaskRef("y")), Task("b", combine, TaskRef("a"))
    )
    above = within.substitute(
        {"x": DataNode(None, 3), "y": List(TaskRef("z"), 4)}, key="c"
    )
    node = Task.fuse(above, Task("d", combine, TaskRef("c")))
    assert run(node, {"z": 1}) == node({"z": 1})


class Counted:
    alive = 0
    most = 0

    def __init__(self, *_):
        Counted.alive += 1
        Counted.most = max(Counted.most, Counted.alive)

    def __del__(self):
        Counted.alive -= 1


def test_nothing_is_held_that_nobody_takes_any_more():
    node = Task.fuse(
        Task("a0", Counted, TaskRef("x")), Task("b0", Counted, TaskRef("a0"))
    )
    for level in range(1, 20):
        # A level around the one before: what goes in there goes through all levels.
        first = Task(f"a{level}", Counted, TaskRef("x"))
        rest = node.substitute({"x": f"a{level}"}, key=f"r{level}")
        node = Task.fuse(first, rest, key=f"f{level}")
    node({"x": 1})
    assert Counted.most >= 20  # That is why.
    Counted.most = 0
    run(node, {"x": 1})
    assert Counted.most <= 3


def test_what_was_fused_may_be_other_names_only():
    # dask makes these where what it concatenates is one part.
    node = Task.fuse(Alias("a", "x"), Alias("b", "a"))
    assert is_fused(node)
    assert run(node, {"x": 7}) == node({"x": 7}) == 7


# On their way to a runner.


class Brought:
    id = 99


def lowered(graph):
    lowering = Lowering(
        graph,
        Shelf(
            lambda label: Brought(), lambda promised, frames: None, lambda key, it: it
        ),
    )
    return [lowering.node(key, node) for key, node in graph.items() if is_fused(node)]


def chunks_of(array):
    (optimized,) = dask.optimize(array)
    return dict(optimized.__dask_graph__())


def test_what_many_chunks_have_in_common_is_one_function():
    x, y = [da.from_array(np.arange(n, n + 40), chunks=10) for n in range(2)]
    array = (x + 1) * y
    nodes = lowered(chunks_of(array))
    calls = [node for node in nodes if type(node) is Plain]
    # The first one does not know yet that there are more.
    assert len(nodes) == 4
    assert len(calls) == 3
    assert len({id(call.function) for call in calls}) == 1


def count(values, *_, **options):
    """Change all that can be changed, and tell how often that was done."""
    values.append(0)
    options["to"]["calls"] = options["to"].get("calls", 0) + 1
    return len(values), options["to"]["calls"]


def test_tasks_that_share_a_function_share_none_of_its_constants():
    inner = {
        "a": Task("a", operator.neg, TaskRef("x")),
        "b": Task("b", count, [], TaskRef("a"), to={}),
    }
    read = pickle.loads(pickle.dumps(fused(inner, "b", ["x"])))
    assert [read(1) for _ in range(3)] == [(1, 1)] * 3
    assert list(read._anew) == [2]
    again = pickle.loads(pickle.dumps(read))
    assert again(1) == (1, 1)


def test_functions_in_a_node_that_is_made_anew_stay_what_they_are():
    class Local:
        """Nothing that could be pickled by name."""

    inner = {"a": Task("a", lambda x, kinds: (x, kinds), TaskRef("x"), [Local])}
    assert fused(inner, "a", ["x"]).share()(1) == (1, [Local])


@pytest.mark.parametrize(
    ("value", "changes"),
    [
        *((fixed, False) for fixed in (None, 1, "s", (1, (2.0,)), slice(1), len, int)),
        *((fixed, False) for fixed in (np.float64(1), np.dtype("f8"), np.int8)),
        (TaskRef("x"), False),
        (Task("a", operator.add, TaskRef("x"), 1), False),
        *((open_, True) for open_ in ([], {}, set(), (1, []), np.ones(1), object())),
        *((open_, True) for open_ in (np.ma.ones(1), np.rec.array([1]))),
        (DataNode("d", []), True),
        (Task("a", operator.add, Task("b", len, []), 1), True),
    ],
)
def test_what_a_call_could_change(value, changes):
    assert may_change(value) is changes


def test_what_is_too_large_for_a_function_stays_a_node():
    big = np.zeros(FUNCTION_BYTES_MAX)
    inner = {
        "a": Task("a", operator.add, TaskRef("x"), DataNode(None, big)),
        "b": Task("b", operator.neg, TaskRef("a")),
    }
    node = Task.fuse(*inner.values())
    graph = {("c", i): node.substitute({"x": i}, key=("c", i)) for i in range(3)}
    assert [type(node) for node in lowered(graph)] == [Task] * 3
