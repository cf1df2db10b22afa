"""Calls that only follow one another, as one task."""

from __future__ import annotations

import asyncio
import gc
import operator
import pickle
import weakref
from types import CoroutineType

import numpy as np
import pytest

dask = pytest.importorskip("dask")

from dask._task_spec import DataNode, Task, TaskRef  # noqa: E402  (only where dask is)

from covey.interop.dask_chains import LINKS_MAX, NAMES_MAX, join  # noqa: E402
from covey.interop.dask_lowering import Lowering, Plain  # noqa: E402
from covey.interop.dask_names import Names  # noqa: E402
from covey.interop.dask_node import Chain, Named, Nodes, Row  # noqa: E402
from covey.interop.dask_order import number, users_of  # noqa: E402
from covey.interop.dask_packing import Shelf  # noqa: E402
from covey.runner.coroutines import Coroutines  # noqa: E402
from covey.serde.packing import LIMIT_BYTES  # noqa: E402


class Brought:
    id = 99


def joined(graph, *wanted):
    """Return the nodes of a graph by key; those that are no tasks are ``None``."""
    shelf = Shelf(
        lambda label: Brought(),
        lambda promised, frames: None,
        lambda key, future: future,
    )
    lowering = Lowering(graph, shelf)

    def needs(ref):
        ref.node = lowering.node(ref.key, graph[ref.key])
        return taken_by(ref.node)

    def taken_by(node):
        if type(node) is Plain:
            return node.inputs
        return [lowering.ref(key) for key in node.dependencies]

    roots = [lowering.ref(key) for key in wanted]
    nodes, inputs = number(roots, needs)
    chosen = {root.number for root in roots}
    names = Names(lambda head: None)
    users = users_of(inputs)
    joins = join(nodes, inputs, users, chosen, shelf, names, lowering.whole)
    assert joins == any(ref.node is None for ref in nodes)
    for ref, sources in zip(nodes, inputs, strict=True):
        taken = taken_by(ref.node) if ref.node is not None else ()
        found = [nodes[source] for source in sources]
        if type(ref.node) is Row:
            # A node of dask takes a set.
            assert sorted(found, key=id) == sorted(taken, key=id)
        else:
            assert found == list(taken)
    return {ref.key: ref.node for ref in nodes}


def values_of(nodes):
    """Run what is left as runners do; what was joined has no value of its own."""
    values = {}
    for key, node in nodes.items():
        if type(node) is Plain:
            args = list(node.args)
            for at in node.places:
                args[at] = values[args[at].key]
            function = pickle.loads(pickle.dumps(node.function))
            values[key] = function(*args, **node.kwargs or {})
        elif node is not None:
            values[key] = pickle.loads(pickle.dumps(node))(values)
    return values


def test_a_call_that_takes_only_another_one_makes_both():
    graph = {("x", i): (operator.add, i, 1) for i in range(3)}
    graph |= {("y", i): (operator.mul, ("x", i), 10) for i in range(3)}
    graph["total"] = (sum, [("y", i) for i in range(3)])
    nodes = joined(graph, "total")
    assert [key for key, node in nodes.items() if node is None] == [
        ("x", i) for i in range(3)
    ]
    # One function for all of them.
    assert len({id(nodes["y", i].function) for i in range(3)}) == 1
    assert values_of({key: nodes[key] for key in nodes if key != "total"}) == {
        ("y", i): (i + 1) * 10 for i in range(3)
    }


def test_what_it_takes_may_be_somebody_elses():
    graph = {
        "a": (operator.add, 1, 2),
        "b": (operator.add, "a", 10),
        "c": (operator.mul, "b", "b"),
        "d": (operator.sub, "a", "c"),
    }
    nodes = joined(graph, "d")
    assert nodes["b"] is None
    assert [ref.key for ref in nodes["c"].inputs] == ["a"]
    assert values_of(nodes) == {"a": 3, "c": 169, "d": -166}


def test_tasks_of_collections_are_joined_as_well():
    graph = {"a": Task("a", operator.neg, 3), "b": Task("b", abs, TaskRef("a"))}
    nodes = joined(graph, "b")
    assert nodes["a"] is None
    assert values_of(nodes) == {"b": 3}


@pytest.mark.parametrize(
    "graph",
    [
        pytest.param(
            {"a": (abs, -1), "b": (max, "a", 0), "c": (min, "a", "b")}, id="users"
        ),
        pytest.param({"a": (abs, -1), "c": (sum, ["a"])}, id="inside of a list"),
        pytest.param(
            {"a": (abs, -1), "b": (abs, -2), "c": (max, "a", "b")}, id="two inputs"
        ),
        pytest.param(
            {"a": (abs, -1), "c": (max, "a", np.zeros(LIMIT_BYTES))},
            id="large constant",
        ),
        pytest.param(
            {"a": DataNode("a", -1), "c": Task("c", abs, TaskRef("a"))}, id="data"
        ),
    ],
)
def test_others_stay_tasks(graph):
    assert all(joined(graph, "c").values())


class Thing:
    """What keeps a node from being nothing but a call."""

    def __init__(self, number):
        self.number = number


def plus(value, thing, *, times=1):
    return value + times * thing.number


def column(value, columns, *, reverse=False):
    return sorted((value, *columns), reverse=reverse)


def test_named_arguments_and_lists_of_plain_ones_go_along():
    graph = {
        "a": Task("a", dict, b=1),
        "c": Task("c", list, TaskRef("a")),
        "d": Task("d", column, TaskRef("c"), [["e"], ["f"]], reverse=True),
        "g": Task("g", str, TaskRef("d")),
    }
    nodes = joined(graph, "g")
    assert [key for key, node in nodes.items() if node is not None] == ["g"]
    assert type(nodes["g"]) is Plain
    assert values_of(nodes) == {"g": "[['f'], ['e'], ['b']]"}


def test_nodes_that_are_more_than_calls_are_joined_as_dask_has_them():
    graph = {
        "one": Task("one", operator.neg, -1),
        "two": Task("two", operator.neg, -2),
        "sum": Task("sum", operator.add, TaskRef("one"), TaskRef("two")),
        "more": Task("more", plus, TaskRef("sum"), Thing(10), times=2),
        "end": Task("end", operator.mul, TaskRef("more"), TaskRef("more")),
    }
    nodes = joined(graph, "end")
    kinds = {key: type(node) for key, node in nodes.items() if node is not None}
    assert kinds == {"one": Plain, "two": Plain, "end": Row}
    assert nodes["end"].name == "sum, more, end"
    assert values_of(nodes)["end"] == 23 * 23


def test_nodes_by_hand_are_joined_to_those_of_dask():
    graph = {
        "a": (operator.add, 1, 2),
        "b": Task("b", plus, TaskRef("a"), Thing(10)),
        "c": (operator.mul, "b", 2),
    }
    nodes = joined(graph, "c")
    assert [key for key, node in nodes.items() if node is not None] == ["c"]
    assert values_of(nodes) == {"c": 26}


def test_calls_that_became_a_chain_are_part_of_a_row():
    graph = {
        "a": (operator.add, 1, 2),
        "b": (operator.mul, "a", 2),
        "c": Task("c", plus, TaskRef("b"), Thing(10)),
    }
    assert values_of(joined(graph, "c")) == {"c": 16}


@pytest.fixture
def coroutines():
    made = Coroutines()
    yield made
    made.close()


def run_as_runners_do(node, coroutines):
    """Run a task that takes nothing of others, and what its calls have to wait for."""
    if type(node) is Plain:
        value = node.function(*node.args, **node.kwargs or {})
    else:
        value = node({})
    return coroutines.run(value) if type(value) is CoroutineType else value


async def later(value):
    await asyncio.sleep(0)
    return value + 1


def promise(value):
    """Return a coroutine, which nobody can tell of it beforehand."""
    return later(value)


def times(value, by):
    return value * (by.number if type(by) is Thing else by)


def loop_of_its_own(value):
    return asyncio.run(later(value))


@pytest.mark.parametrize("by", [10, Thing(10)], ids=["chain", "row"])
@pytest.mark.parametrize("wait", [later, promise])
@pytest.mark.parametrize("at", [{0}, {1}, {2}, {3}, {0, 1}, {1, 2}, {0, 1, 2, 3}])
def test_a_coroutine_is_waited_for_before_the_next_call(coroutines, by, wait, at):
    graph = {"start": Task("start", times, 1, by)}
    expected, before = 10, "start"
    for i in range(4):
        graph[i] = Task(i, wait if i in at else operator.neg, TaskRef(before))
        expected, before = expected + 1 if i in at else -expected, i
    nodes = joined(graph, 3)
    assert [key for key, node in nodes.items() if node is not None] == [3]
    assert type(nodes[3]) is (Row if type(by) is Thing else Plain)
    assert run_as_runners_do(nodes[3], coroutines) == expected


@pytest.mark.parametrize("by", [10, Thing(10)], ids=["chain", "row"])
def test_what_follows_a_coroutine_may_use_an_event_loop_of_its_own(coroutines, by):
    graph = {
        "a": Task("a", later, 1),
        "b": Task("b", loop_of_its_own, TaskRef("a")),
        "c": Task("c", times, TaskRef("b"), by),
    }
    assert run_as_runners_do(joined(graph, "c")["c"], coroutines) == 30


def fail(value):
    raise ValueError(value)


async def fail_later(value):
    raise ValueError(value)


@pytest.mark.parametrize("by", [10, Thing(10)], ids=["chain", "row"])
@pytest.mark.parametrize(
    ("one", "two", "key"), [(fail_later, abs, "a"), (later, fail, "b")]
)
def test_it_is_told_which_one_failed_by_a_coroutine(coroutines, by, one, two, key):
    graph = {
        "a": Task("a", one, 1),
        "b": Task("b", two, TaskRef("a")),
        "c": Task("c", times, TaskRef("b"), by),
    }
    with pytest.raises(ValueError, match=r"1|2") as caught:
        run_as_runners_do(joined(graph, "c")["c"], coroutines)
    assert caught.value.__notes__ == [f"in the task {key!r} of a dask graph"]


def test_what_somebody_holds_stays_a_task():
    graph = {"a": (abs, -1), "b": (abs, "a")}
    assert all(joined(graph, "b", "a").values())


def test_a_long_chain_stays_in_pieces():
    graph = {0: (abs, -1)} | {i: (operator.add, i - 1, 1000) for i in range(1, 20)}
    nodes = joined(graph, 19)
    lengths = [
        len(node.function.links) if type(node.function) is Chain else 1
        for node in nodes.values()
        if node is not None
    ]
    assert sum(lengths) == 20
    assert max(lengths) == LINKS_MAX
    assert values_of(nodes)[19] == 19_001


def test_a_long_row_stays_in_pieces():
    graph = {0: Task(0, plus, 0, Thing(1))}
    graph |= {i: Task(i, plus, TaskRef(i - 1), Thing(1)) for i in range(1, 20)}
    nodes = joined(graph, 19)
    rows = [node for node in nodes.values() if node is not None]
    assert [len(row.nodes) for row in rows] == [8, 8, 4]
    assert values_of(nodes)[19] == 20


@pytest.mark.parametrize(
    ("graph", "key"),
    [
        ({"a": (fail, 1), "b": (abs, "a"), "c": (abs, "b")}, "a"),
        ({"a": (abs, 1), "b": (fail, "a"), "c": (abs, "b")}, "b"),
    ],
)
def test_it_is_told_which_one_failed(graph, key):
    node = joined(graph, "c")["c"]
    with pytest.raises(ValueError, match="1") as caught:
        node.function(*node.args)
    assert caught.value.__notes__ == [f"in the task {key!r} of a dask graph"]


@pytest.mark.parametrize("key", ["a", "b", "c"])
def test_it_is_told_of_no_other_one_that_it_failed(key):
    # As a runner calls it: it knows the name of the whole, which is the last one's.
    does = dict.fromkeys("abc", abs) | {key: fail}
    graph = {"a": Task("a", does["a"], 1)}
    graph["b"] = Task("b", does["b"], TaskRef("a"))
    graph["c"] = Task("c", does["c"], TaskRef("b"))
    chain = joined(graph, "c")["c"]
    by_hand = Row(tuple(graph.values()))
    for call, args in (
        (Named("c", chain.function), ("c", chain.args)),
        (Nodes("c", ()), (by_hand, {})),
    ):
        with pytest.raises(ValueError, match="1") as caught:
            call(*args)
        assert caught.value.__notes__ == [f"in the task {key!r} of a dask graph"]


@pytest.mark.parametrize("at", ["a", "b"])
def test_it_is_told_which_node_of_a_row_failed(at):
    graph = {
        "a": Task("a", fail if at == "a" else abs, 1),
        "b": Task("b", fail if at == "b" else abs, TaskRef("a")),
        "c": Task("c", plus, TaskRef("b"), Thing(1)),
    }
    row = joined(graph, "c")["c"]
    with pytest.raises(ValueError, match="1") as caught:
        row({})
    assert caught.value.__notes__ == [f"in the task {at!r} of a dask graph"]


@pytest.mark.parametrize("waits", [set(), {"a"}, {"b"}, {"a", "b"}])
def test_a_row_holds_on_to_nothing_but_what_its_node_takes(coroutines, waits):
    class Value:
        pass

    seen = []

    def make():
        value = Value()
        seen.append(weakref.ref(value))
        return value

    def follow(before, thing):
        assert before is seen[-1]()
        return make()

    async def make_later():
        return make()

    async def follow_later(before, thing):
        return follow(before, thing)

    def end(before, thing):
        gc.collect()
        return [ref() is not None for ref in seen]

    graph = {
        "a": Task("a", make_later if "a" in waits else make),
        "b": Task(
            "b", follow_later if "b" in waits else follow, TaskRef("a"), Thing(1)
        ),
        "c": Task("c", end, TaskRef("b"), Thing(1)),
    }
    node = joined(graph, "c")["c"]
    assert run_as_runners_do(node, coroutines) == [False, True]


def test_what_became_one_task_is_named_after_all_its_calls():
    graph = {
        ("make-0123456789abcdef", 0): (operator.add, 1, 1),
        ("again-0123456789abcdef", 0): (operator.neg, ("make-0123456789abcdef", 0)),
        "end": (operator.neg, ("again-0123456789abcdef", 0)),
    }
    node = joined(graph, "end")["end"]
    assert node.function.labels == ("make", "again")
    assert node.function.name("end") == "make, again, end"
    assert Chain(node.function.links, ("neg", "neg")).name("neg") == "neg"


def test_where_each_node_has_a_name_of_its_own_few_functions_are_made():
    graph = {}
    for i in range(2 * NAMES_MAX):
        graph[f"x{i}"] = (operator.add, i, 1)
        graph[f"y{i}"] = (operator.neg, f"x{i}")
    nodes = joined(graph, *[f"y{i}" for i in range(2 * NAMES_MAX)])
    chains = {node.function for node in nodes.values() if node is not None}
    assert len(chains) == NAMES_MAX + 1
    assert values_of(nodes)["y7"] == -8
