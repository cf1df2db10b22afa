"""Nodes of dask as plain calls: the same values as dask gives them."""

from __future__ import annotations

import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

dask = pytest.importorskip("dask")

from dask import _task_spec as spec  # noqa: E402  (only where dask is)

from covey.interop.dask_lowering import Lowering, Plain  # noqa: E402
from covey.interop.dask_node import Named  # noqa: E402
from covey.interop.dask_packing import Shelf  # noqa: E402
from covey.serde import refs  # noqa: E402
from covey.serde.packing import Packer, loads_pack  # noqa: E402
from covey.serde.places import call_in_places  # noqa: E402


class Brought:
    id = 99


def shelf():
    return Shelf(
        lambda label: Brought(),
        lambda promised, frames: None,
        lambda key, future: future,
    )


def lowered(graph, key):
    return Lowering(graph, shelf()).node(key, graph[key])


def run(graph):
    """Run all nodes of a graph, those that became calls as a runner does."""
    lowering = Lowering(graph, shelf())
    values = {}
    for key in dask.order.order(spec.convert_legacy_graph(graph)):
        node = lowering.node(key, graph[key])
        if type(node) is not Plain:
            values[key] = node({name: values[name] for name in node.dependencies})
            continue
        for number, ref in enumerate(node.inputs):
            ref.task = number
        packer = Packer()
        packer.add((node.args, node.kwargs or {}))
        with refs.inputs_as([values[ref.key] for ref in node.inputs]):
            args, kwargs = next(loads_pack(packer.take()))
        values[key] = node.function(*args, **kwargs)
        assert in_places(key, node, values) == values[key]
    return values


def in_places(key, node, values):
    """Run a call that was packed with many others."""
    packer = Packer()
    packer.add(node.in_places(key, 7, node.taken()))
    inputs = [values[ref.key] for ref in node.inputs]
    with refs.inputs_as(inputs):
        call = next(loads_pack(packer.take()))
        return call_in_places(call, 7, inputs, Named("label", node.function))


def gather(*args):
    return args


keys = st.one_of(st.integers(0, 5), st.sampled_from("abc"), st.just(("t", 1)))
atoms = st.one_of(keys, st.sampled_from([0.5, None, slice(1, 2)]))
nested = st.one_of(atoms, st.lists(atoms, max_size=3), st.tuples(atoms, atoms))
arguments = st.one_of(nested, st.lists(nested, max_size=2))


@given(st.lists(st.tuples(keys, st.lists(arguments, max_size=3)), max_size=6))
def test_the_values_are_those_of_dask(drawn):
    graph = {}
    for key, args in drawn:
        # What a node takes must be there before: no circles.
        if key not in graph:
            graph[key] = 7 if not args else (gather, *args)
            try:
                spec_graph = spec.convert_legacy_graph(graph)
                dask.core.toposort(spec_graph)
            except (RuntimeError, TypeError):
                del graph[key]
    expected = dict(zip(graph, dask.get(graph, list(graph)), strict=True))
    assert run(graph) == expected


def test_calls_by_hand_are_plain():
    graph = {"x": 1, ("y", 0): 2, "z": (operator.add, "x", ("y", 0))}
    node = lowered(graph, "z")
    assert type(node) is Plain
    assert [ref.key for ref in node.inputs] == ["x", ("y", 0)]


def test_tasks_of_collections_are_plain():
    task = spec.Task(
        "t", gather, spec.TaskRef("x"), spec.List(spec.TaskRef("y"), 1), {"a": [1]}
    )
    node = lowered({"t": task}, "t")
    assert type(node) is Plain
    assert [ref.key for ref in node.inputs] == ["x", "y"]
    assert node.args[1][1:] == [1] and node.args[2] == {"a": [1]}


@pytest.mark.parametrize(
    "value",
    [
        (gather, (gather, 1)),
        (gather, {"a": "x"}),
        (gather, object()),
        (gather, lambda: 1),
        spec.Task("t", gather, spec.Task(None, gather, spec.TaskRef("x"))),
        spec.Task("t", gather, {"a": spec.TaskRef("x")}),
    ],
)
def test_what_only_dask_understands_stays_a_node(value):
    graph = {"x": 1, "t": value}
    assert isinstance(lowered(graph, "t"), spec.GraphNode)


def test_what_takes_nothing_but_inputs_names_them_once():
    node = lowered({"x": 1, ("y", 0): 2, "t": (gather, "x", ("y", 0))}, "t")
    assert node.args is node.inputs and node.places == (0, 1)
    x, y = node.inputs
    x.task, y.task = 5, 6
    assert node.taken() == (5, 6)
    assert node.in_places("t", 7, (5, 6)) == ("t", (-2, -1), (0, 1))
    # Two names of one task: it is taken once, in both places.
    y.task = 5
    assert node.taken() == (5,)
    assert node.in_places("t", 7, (5,)) == ("t", (-2, -2), (0, 1))


def test_a_call_that_has_nothing_but_named_arguments_keeps_them():
    graph = {
        "x": 2,
        "t": spec.Task("t", dict, a=1),
        "u": spec.Task("u", dict, a=spec.TaskRef("x"), b=spec.List(spec.TaskRef("x"))),
    }
    assert run(graph) == {"x": 2, "t": {"a": 1}, "u": {"a": 2, "b": [2]}}
    node = lowered(graph, "t")
    assert node.in_places("t", 7, ()) == ("t", (), (), {"a": 1})


def test_inputs_stand_in_places_unless_they_lie_deeper():
    node = lowered({"x": 1, "y": 2, "t": (gather, "x", 3, ["y"], "x")}, "t")
    assert node.places == (0, 3)
    x, y = node.inputs
    x.task, y.task = 5, 6
    assert node.in_places("t", 7, node.taken())[:3] == ("t", (-2, 3, [y], -2), (0, 3))


def test_a_large_constant_becomes_an_input():
    big = np.zeros(100_000)
    node = lowered({"t": (gather, big, "x" * 100_000, np.zeros(3))}, "t")
    assert node.extras == (99, 99)
