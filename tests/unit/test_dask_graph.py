"""Graphs of dask on their way out: names, circles, holes, and what goes once."""

from __future__ import annotations

import functools
import itertools
import pickle
import subprocess
import sys
import threading

import cloudpickle
import numpy as np
import pytest

from covey import errors
from covey.client import sources
from covey.serde import refs
from covey.serde.packing import Packer, loads_pack

dask_spec = pytest.importorskip("dask._task_spec")

from covey.interop import dask_names  # noqa: E402  (only where dask is)
from covey.interop.dask_node import Nodes  # noqa: E402
from covey.interop.dask_packing import (  # noqa: E402
    TABLE_ITEMS_MAX,
    Ref,
    Shelf,
    pack_node,
)


def inc(x):
    return x + 1


class BroughtFuture:
    def __init__(self, task):
        self.id = task


class Bringer:
    """Stands for the data plane: remembers what was brought."""

    def __init__(self):
        self.brought = {}
        self.numbers = itertools.count(1000)

    def promise(self, label):
        return BroughtFuture(next(self.numbers))

    def fulfil(self, promised, frames):
        self.brought[promised.id] = pickle.loads(frames[0], buffers=frames[1:])


def shelf_of(bring):
    return Shelf(bring.promise, bring.fulfil, any_future)


def any_future(label, future):
    """Take a future inside a node as it is."""
    return future


def nodes_of(graph):
    return dask_spec.convert_legacy_graph(graph, all_keys=set(graph))


def run(graph, key, values=None, shelf=None, bring=None):
    """Pack a node as a client does, and run it as a runner does."""
    bring = bring or Bringer()
    shelf = shelf or shelf_of(bring)
    node = nodes_of(graph)[key]
    numbers = {name: 10 + i for i, name in enumerate(sorted(node.dependencies))}
    packer = Packer()
    with refs.capture() as found:
        inputs = {name: Ref(number) for name, number in numbers.items()}
        pack_node(packer, shelf, node, inputs, str(key))
    function = pickle.loads(cloudpickle.dumps(Nodes(str(key), tuple(shelf.table))))
    have = {numbers[name]: (values or {})[name] for name in numbers} | bring.brought
    assert set(found.task_ids) <= set(have)
    with refs.inputs_as(have):
        (arguments,) = loads_pack(packer.take())
        return function(*arguments)


def test_a_node_runs_with_the_values_of_others():
    graph = {"a": 1, "b": (inc, "a"), "c": (sum, ["a", "b", (inc, "b")])}
    assert run(graph, "b", {"a": 1}) == 2
    assert run(graph, "c", {"a": 1, "b": 2}) == 6


def test_lambdas_go_into_a_table_once():
    bring = Bringer()
    shelf = shelf_of(bring)
    double = lambda x: x * 2  # noqa: E731  (a lambda is what is meant)
    graph = {("d", i): (double, float(i)) for i in range(10)}
    assert [run(graph, key, shelf=shelf, bring=bring) for key in graph] == [
        i * 2.0 for i in range(10)
    ]
    assert shelf.table == [double]


def test_what_can_be_imported_needs_no_table():
    shelf = shelf_of(Bringer())
    assert run({"a": (np.multiply, 2, 3)}, "a", shelf=shelf) == 6
    assert shelf.table == []


def test_a_full_table_sends_nodes_whole():
    bring = Bringer()
    shelf = shelf_of(bring)
    n = TABLE_ITEMS_MAX + 5
    graph = {("n", i): (lambda i=i: i,) for i in range(n)}
    assert [run(graph, key, shelf=shelf, bring=bring) for key in graph] == list(
        range(n)
    )
    assert len(shelf.table) == TABLE_ITEMS_MAX


def test_a_large_constant_is_brought_once():
    bring = Bringer()
    shelf = shelf_of(bring)
    array = np.arange(100_000)
    graph = {("x", i): (np.ndarray.__getitem__, array, i) for i in range(5)}
    assert [run(graph, key, shelf=shelf, bring=bring) for key in graph] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert len(bring.brought) == 1
    assert len(shelf.holds) == 1


def test_a_promised_constant_is_brought_when_it_is_needed_and_once():
    bring = Bringer()
    shelf = shelf_of(bring)
    array = np.arange(100_000)
    future = shelf.later(array, "array")
    assert shelf.later(array, "array") is future
    assert not bring.brought
    assert shelf.bring(future.id) == array.nbytes
    assert shelf.bring(future.id) == 0
    assert shelf.constant(array, "array") is future
    assert list(bring.brought) == [future.id]


def test_many_medium_constants_are_brought_together():
    bring = Bringer()
    texts = [str(i) * 30_000 for i in range(5)]
    assert run({"x": (len, texts)}, "x", bring=bring) == 5
    assert len(bring.brought) == 1


def test_what_cannot_travel_is_named_with_its_node():
    class Bad:
        def __reduce__(self):
            raise TypeError("no way")

    with pytest.raises(errors.NotPicklable, match=r"bad\.args\[0\].*no way"):
        run({"bad": (inc, Bad())}, "bad")


def test_a_function_that_cannot_travel_is_named_with_its_node():
    lock = threading.Lock()

    def guarded(x):
        with lock:
            return x

    # A call inside of a call: such a node has a table for its functions.
    with pytest.raises(errors.NotPicklable, match=r"bad\.args.* variable 'lock'"):
        run({"bad": (inc, (guarded, 1))}, "bad")


def test_a_failing_node_is_named():
    with pytest.raises(ZeroDivisionError) as caught:
        run({("x", 3): (divmod, 1, 0)}, ("x", 3))
    assert "('x', 3)" in "".join(caught.value.__notes__)


@pytest.mark.parametrize("wrapped", [lambda f: f, functools.partial])
def test_the_place_of_functions_that_go_by_value_is_known_where_they_fail(wrapped):
    def fails(x):
        return x / 0

    shelf = shelf_of(Bringer())
    assert not shelf.importable(wrapped(fails))
    line = fails.__code__.co_firstlineno + 1
    told = sources.filled_in(f'File "<dynamic-code>", line {line}, in fails')
    assert told.splitlines() == [
        f'File "{__file__}", line {line}, in fails',
        "  return x / 0",
    ]


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("x", "x"),
        (("x", 0), "x"),
        (("sum-aggregate-0123456789abcdef", 1, 2), "sum-aggregate"),
        ("inc-4122de2b-6d1d-4c65-b67c-346e03000000", "inc"),
        ("read-csv-b67c346e0300", "read-csv"),
        ("a-b", "a-b"),
        (7, "7"),
    ],
)
def test_labels_are_without_tokens(key, label):
    assert dask_names.label_of(key) == label


def test_a_runner_needs_no_client_for_dask():
    text = (
        "import sys, covey.interop.dask_node, covey.interop.file_lock; "
        "print([m for m in sys.modules if m.startswith(('covey.client', 'msgspec'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
