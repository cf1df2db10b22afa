"""What a node of a graph costs a runner, counted in calls of Python functions."""

from __future__ import annotations

import operator
import pickle
import sys

import pytest

from covey.interop.dask_node import Named
from covey.runner.frames import Frame
from covey.runner.looked import Looked
from covey.runner.mapped import MappedInputs
from covey.runner.nodes import read_nodes

NODES = 200


def nothing(*_: object) -> None:
    """Do nothing."""


def nodes_of(count):
    """Return nodes, each with a value that came along and one that is made here."""
    body, columns = [], [[], [], [], [], [], []]
    value = pickle.dumps({"key": 7})
    for at in range(count):
        payload = b"\3" + pickle.dumps((("n", at), (-1000, "key"), (0,)))
        row = (at, 1, 1000 + at, 0, len(payload), [["in", at, len(value)], 10_000 + at])
        for column, cell in zip(columns, row, strict=True):
            column.append(cell)
        body += [payload, value]
    frame = Frame([], b"".join(body))
    operation = ["nodes", *columns]
    (batch,) = read_nodes(
        operation, frame, MappedInputs(), Looked(), lambda _: "pickle"
    )
    return batch


@pytest.mark.parametrize(
    ("function", "most"),
    [(nothing, 15.5), (operator.getitem, 21)],
    ids=["any", "looks"],
)
def test_a_node_costs_few_calls(function, most):
    named, calls = Named("n", function), 0

    def count(_frame, event, _arg):
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        batch = nodes_of(NODES)
        call = batch.caller(named)
        for node in batch.nodes:
            call(node)
    finally:
        sys.setprofile(None)
    sys.stdout.write(f"{calls / NODES:.2f} calls a node\n")
    assert batch.nodes[0].owns == ((10_000, 10_000),)
    assert calls / NODES < most
