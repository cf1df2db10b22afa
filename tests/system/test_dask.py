"""dask on a real cluster: graphs by hand, and every kind of collection."""

from __future__ import annotations

import asyncio
import gc
import operator
import threading
import warnings

import numpy as np
import pytest

dask = pytest.importorskip("dask")

import dask.array as da  # noqa: E402  (only where dask is)
import dask.bag as db  # noqa: E402
import dask.dataframe as dd  # noqa: E402
import pandas as pd  # noqa: E402
from dask import delayed  # noqa: E402
from dask._task_spec import Alias, Task, TaskRef  # noqa: E402
from dask.tokenize import tokenize  # noqa: E402

from covey import AsyncClient, Client, Retry, errors, wait  # noqa: E402
from covey.client.nested import futures_in  # noqa: E402
from covey.dask import get  # noqa: E402
from covey.interop import dask_graph, dask_messages  # noqa: E402
from covey.interop.dask_lowering import Lowering  # noqa: E402
from covey.wire.client_link import WorkerSeen  # noqa: E402


def inc(x):
    return x + 1


def boom(x):
    raise ValueError(f"no {x}")


class Odd:
    """A value with an attribute that nodes of dask have as well."""

    dependencies = 5


def tasks_known(client):
    return sum(client.scheduler_info()["tasks"].values())


@pytest.fixture
def collections():
    frame = pd.DataFrame({"a": range(100), "b": np.arange(100) % 7})
    return {
        "array": da.arange(1000, chunks=100),
        "bag": db.from_sequence(range(50), npartitions=5),
        "frame": dd.from_pandas(frame, npartitions=4),
        "delayed": delayed(inc)(1),
    }


EXPECTED = {
    "array": lambda v: (v == np.arange(1000)).all(),
    "bag": lambda v: list(v) == list(range(50)),
    "frame": lambda v: v.shape == (100, 2) and v.a.sum() == 4950,
    "delayed": lambda v: v == 2,
}
KINDS = sorted(EXPECTED)

mixed = pytest.mark.filterwarnings("ignore:Computing mixed collections:UserWarning")


# Graphs by hand.


def test_the_shape_of_the_keys_is_the_shape_of_the_values(client):
    dsk = {"a": 1, ("b", 0): (inc, "a"), "c": (operator.add, "a", ("b", 0))}
    assert client.get(dsk, "c") == 3
    assert client.get(dsk, [["a", ("b", 0)], "c", []]) == [[1, 2], 3, []]
    assert client.get(dsk, ["c", "c"]) == [3, 3]


def test_a_graph_that_is_not_waited_for_gives_futures(client):
    dsk = {"a": 1, ("b", 0): (inc, "a")}
    whole, (first, [second]) = (
        client.get(dsk, ("b", 0), sync=False),
        client.get(dsk, ["a", [("b", 0)]], sync=False),
    )
    assert [f.result() for f in (whole, first, second)] == [2, 1, 2]


def test_what_was_made_to_send_a_graph_goes_without_the_collector(client):
    graph = {"x": 1} | {("y", i): (inc, "x") for i in range(20)}
    client.get(graph, ("y", 0))
    gc.collect()
    gc.disable()
    try:
        assert client.get(graph, [("y", 3), ("y", 4)]) == [2, 2]
        assert not [it for it in gc.get_objects() if type(it) is Lowering]
    finally:
        gc.enable()


def test_other_names_and_nested_values(client):
    dsk = {"a": 1, "b": "a", "c": "b", "l": ["a", (inc, "c"), {"k": "b"}]}
    keys = ["a", "b", "c", "l"]
    assert client.get(dsk, keys) == list(dask.get(dsk, keys))


def test_results_on_the_cluster_are_inputs_of_a_graph(client):
    one, many = client.submit(inc, 1), client.map(inc, range(5))
    dsk = {"f": one, "g": "f", "h": (operator.add, "f", many[3]), "s": (sum, many)}
    assert client.get(dsk, ["f", "g", "h", "s"]) == [2, 2, 6, 15]
    assert get(client, {"x": many[4], "y": "x"}, ["x", "y"]) == [5, 5]


def test_functions_of_the_caller_travel_with_the_graph(client):
    offset = 10
    dsk = {i: (lambda x, i=i: x + i + offset, 0.5) for i in range(1, 300)}
    values = client.get(dsk, list(dsk))
    assert values == [i + 10.5 for i in range(1, 300)]


def test_a_graph_in_several_messages(client, monkeypatch, until):
    monkeypatch.setattr(dask_messages, "CHUNK_TASKS", 7)
    dsk = {("n", i): (inc, i + 1000) for i in range(50)}
    dsk["sum"] = (sum, list(dsk))
    gc.collect()
    assert client.get(dsk, "sum") == sum(range(1001, 1051))
    assert until(lambda: tasks_known(client) < 20), "intermediates were kept"


def test_calls_in_a_row_in_several_messages(client, monkeypatch):
    monkeypatch.setattr(dask_messages, "CHUNK_TASKS", 7)
    dsk = {"base": (inc, 99)}
    dsk |= {("p", i): (operator.add, "base", i) for i in range(50)}
    dsk |= {("q", i): (operator.neg, ("p", i)) for i in range(50)}
    dsk["sum"] = (sum, [("q", i) for i in range(50)])
    assert client.get(dsk, "sum") == -sum(range(100, 150))


def test_a_chain_fails_with_the_node_that_failed(client):
    with pytest.raises(ValueError, match="no 2") as caught:
        client.get({"a": (inc, 1), "b": (boom, "a"), "c": (inc, "b")}, "c")
    assert "in the task 'b' of a dask graph" in caught.value.__notes__


class Scale:
    """What keeps a node from being nothing but a call: an object among its arguments."""

    def __init__(self, by):
        self.by = by

    def __reduce__(self):
        return (Scale, (self.by,))


def scaled(value, scale):
    return value * scale.by


def test_nodes_of_dask_in_a_row_are_one_task(client):
    given = client.submit(inc, 9)
    dsk = {"given": given, "other name": Alias("other name", "given")}
    for i in range(3):
        dsk["row-a", i] = Task(("row-a", i), scaled, TaskRef("other name"), Scale(i))
        dsk["row-b", i] = Task(("row-b", i), operator.add, TaskRef(("row-a", i)), 1)
        dsk["row-c", i] = Task(("row-c", i), scaled, TaskRef(("row-b", i)), Scale(2))
    assert client.get(dsk, [("row-c", i) for i in range(3)]) == [2, 22, 42]
    done = {name: seen["done"] for name, seen in client.overview()["functions"].items()}
    assert {n: k for n, k in done.items() if "row-" in n} == {"row-a, row-b, row-c": 3}


async def scaled_later(value, scale):
    await asyncio.sleep(0)
    return scaled(value, scale)


def scaled_by_promise(value, scale):
    return scaled_later(value, scale)


@pytest.mark.parametrize("wait", [scaled_later, scaled_by_promise])
@pytest.mark.parametrize("at", ["a", "b", "c"])
def test_a_coroutine_in_a_row_of_nodes_is_waited_for(client, wait, at):
    does = dict.fromkeys("abc", scaled) | {at: wait}
    dsk = {
        "a": Task("a", does["a"], 1, Scale(2)),
        "b": Task("b", does["b"], TaskRef("a"), Scale(3)),
        "c": Task("c", does["c"], TaskRef("b"), Scale(4)),
    }
    assert client.get(dsk, "c") == 24


def test_a_row_of_nodes_fails_with_the_node_that_failed(client):
    dsk = {
        "a": Task("a", scaled, 1, Scale(2)),
        "b": Task("b", boom, TaskRef("a")),
        "c": Task("c", scaled, TaskRef("b"), Scale(2)),
    }
    with pytest.raises(ValueError, match="no 2") as caught:
        client.get(dsk, "c")
    notes = [note for note in caught.value.__notes__ if "in the task" in note]
    assert notes == ["in the task 'b' of a dask graph"]


def test_frames_that_are_computed_together_make_a_task_for_calls_in_a_row(client):
    # What dask fuses for one frame it leaves apart where there are two.
    frame = pd.DataFrame({"a": range(100), "b": np.arange(100) % 7})
    parts = dd.from_pandas(frame, npartitions=4)
    groups = parts.groupby("b").agg({"a": "sum"})
    merged = parts.merge(dd.from_pandas(frame * 7, npartitions=2), on="b")
    found, total = dask.compute(groups, merged.a_x.sum())
    assert found.a.to_dict() == frame.groupby("b").a.sum().to_dict()
    assert total == frame.merge(frame * 7, on="b").a_x.sum()
    names = client.overview()["functions"]
    assert any(", chunk" in name for name in names)


def test_intermediates_go_as_soon_as_they_can(client, until):
    dsk = {("n", i): (inc, i + 1000) for i in range(200)}
    dsk["sum"] = (sum, list(dsk))
    gc.collect()
    future = dask_graph.futures_of_keys(client, dsk, "sum")
    assert future.result(20) == sum(range(1001, 1201))
    # Their recipes stay, in case the sum has to be made again.
    assert until(lambda: client.scheduler_info()["tasks"]["done"] < 100)


def test_a_node_that_cannot_travel_leaves_nothing_behind(client, monkeypatch, until):
    monkeypatch.setattr(dask_messages, "CHUNK_TASKS", 7)
    dsk = {("n", i): (inc, i + 1000) for i in range(50)}
    dsk["bad"] = (operator.add, ("n", 49), threading.Lock())
    with pytest.raises(errors.NotPicklable, match=r"bad\..*lock"):
        client.get(dsk, ["bad", *[("n", i) for i in range(50)]])
    gc.collect()
    assert until(lambda: tasks_known(client) < 20)


def test_what_is_wrong_with_a_graph_is_said(client):
    with pytest.raises(errors.UsageError, match="cycle: 'a' -> 'b'"):
        client.get({"a": (inc, "b"), "b": (inc, "a")}, "a")
    with pytest.raises(errors.UsageError, match="no key 'nowhere', and you asked"):
        client.get({"a": 1}, "nowhere")
    lacking = {
        "a": Task("a", inc, TaskRef("nowhere")),
        "b": (inc, "a"),
        "c": Odd(),
        "d": Alias("d", "nowhere"),
    }
    with pytest.raises(errors.UsageError, match="no key 'nowhere', which 'd' takes"):
        client.get({"d": lacking["d"]}, "d")
    with pytest.raises(errors.UsageError, match="which 'a' and 1 other take"):
        client.get(lacking, "b")
    with pytest.raises(errors.UsageError, match="which keys"):
        client.get({"a": 1})
    with pytest.raises(errors.UsageError, match="int"):
        client.get(5, "a")
    with pytest.raises(errors.UsageError, match="2 arguments"):
        get("host", {})
    with pytest.raises(errors.UsageError, match="not int"):
        client.persist([5])


def test_the_failing_task_is_named(client):
    dsk = {("bad", 3): (boom, 1), "y": (inc, ("bad", 3)), "z": (inc, "y")}
    with pytest.raises(ValueError, match="no 1") as caught:
        client.get(dsk, "z")
    assert "('bad', 3)" in "".join(caught.value.__notes__)


@pytest.mark.parametrize(
    ("slip", "meant"),
    [("prioriy", "priority"), ("retry", "retries"), ("optimise_graph", "optimize_gr")],
)
def test_a_misspelt_keyword_is_refused(client, slip, meant):
    told = rf"{slip}= is no keyword .*did you mean {meant}"
    one = delayed(inc)(1)
    for call in (one.compute, one.persist, lambda **o: client.get({"a": 1}, "a", **o)):
        with pytest.raises(errors.UsageError, match=told):
            call(**{slip: 1})
    for ours in (client.compute, client.persist):
        with pytest.raises(errors.UsageError, match=told):
            ours(one, **{slip: 1})


def test_keywords_for_others_are_let_pass(client, recwarn):
    one = delayed(inc)(1)
    # Of dask's schedulers, of ``distributed``, and xarray's.
    others = {"num_workers": 2, "pool": None, "rerun_exceptions_locally": True}
    others |= {"fifo_timeout": "1s", "actors": False, "flush": True}
    assert one.compute(optimize_graph=True, **others) == 2
    assert one.compute(priority=1, retries=1, timeout=60) == 2
    assert not recwarn.list
    with pytest.warns(UserWarning, match="unheard_of= means nothing"):
        assert one.compute(unheard_of=1) == 2


def test_calls_with_nothing_but_named_arguments_get_them(client):
    made = [delayed(dict)(a=1), delayed(dict)(a=delayed(inc)(1))]
    assert client.compute(made, sync=True) == [{"a": 1}, {"a": 2}]


# Collections.


@pytest.mark.parametrize("kind", KINDS)
def test_the_client_is_the_default(client, collections, kind):
    assert dask.config.get("scheduler") is client
    before = client.scheduler_info()["counters"]["tasks_submitted"]
    assert EXPECTED[kind](collections[kind].compute())
    assert client.scheduler_info()["counters"]["tasks_submitted"] > before


@pytest.mark.parametrize("kind", KINDS)
def test_one_future_stands_for_the_whole_value(client, collections, kind):
    future = client.compute(collections[kind])
    assert EXPECTED[kind](future.result(30))
    assert EXPECTED[kind](client.compute(collections[kind], sync=True))


@pytest.mark.parametrize("kind", KINDS)
def test_persisted_collections_mean_the_same(client, collections, kind):
    kept = client.persist(collections[kind])
    assert type(kept) is type(collections[kind])
    before = client.scheduler_info()["counters"]["tasks_submitted"]
    assert EXPECTED[kind](kept.compute())
    again = kept.persist()
    assert EXPECTED[kind](again.compute())
    # Nothing was made anew: only put together, twice.
    made = client.scheduler_info()["counters"]["tasks_submitted"] - before
    assert made <= 4


@mixed
def test_several_collections_at_once(client, collections):
    given = [*collections.values(), 5]
    values = client.compute(given, sync=True)
    kinds = list(collections)
    assert all(EXPECTED[k](v) for k, v in zip(kinds, values[:-1], strict=True))
    assert values[-1] == 5
    kept = client.persist(list(collections.values()))
    assert [type(k) for k in kept] == [type(c) for c in collections.values()]
    values = dask.compute({"all": list(collections.values())})[0]["all"]
    assert all(EXPECTED[k](v) for k, v in zip(kinds, values, strict=True))


def test_collections_inside_lists_and_dicts(client, collections):
    one = collections["delayed"]
    nested = client.compute({"a": one, "b": [one, 3]}, sync=True)
    assert nested == {"a": 2, "b": [2, 3]}
    assert client.compute([[one, one], one], sync=True) == [[2, 2], 2]
    assert client.compute([]) == []
    assert client.compute(7) == 7


def test_work_that_collections_share_is_done_once(client, tmp_path):
    def count(path):
        with path.open("a") as file:
            file.write("x")
        return 1

    path = tmp_path / "count"
    shared = delayed(count)(path)
    assert client.compute([shared + 1, shared + 2], sync=True) == [2, 3]
    assert path.read_text() == "x"


def test_shuffles_go_by_tasks(client, collections):
    frame = collections["frame"]
    assert len(frame.shuffle("b").compute()) == 100
    assert frame.merge(frame, on="b").a_x.count().compute() == 1430
    assert frame.set_index("b").a.sum().compute() == 4950


@pytest.mark.parametrize("kind", ["frame", "bag"])
def test_a_shuffle_over_one_disk_is_refused_on_two_hosts(
    client, collections, kind, monkeypatch
):
    if kind == "frame":
        shuffled = collections["frame"].shuffle("b", shuffle_method="disk")
    else:
        shuffled = db.from_sequence(range(9)).groupby(bool, shuffle="disk")
    assert len(shuffled.compute()) in {100, 2}
    far = WorkerSeen(1 << 40, "far", (), "another", 1)
    monkeypatch.setitem(client.session.engine.workers, far.worker, far)
    with pytest.raises(errors.UsageError, match="'dataframe.shuffle.method': 'tasks'"):
        shuffled.compute()


def test_work_begins_before_the_last_large_array_is_brought(client, monkeypatch):
    monkeypatch.setattr(dask_messages, "BROUGHT_BYTES", 1 << 20)
    sent = []
    post = dask_graph._Ingest.post

    def noted(ingest, message):
        sent.append(len(ingest._shelf.promised))
        post(ingest, message)

    monkeypatch.setattr(dask_graph._Ingest, "post", noted)
    x = np.arange(1_000_000)
    chunks = da.from_array(x, chunks=100_000)
    other = da.from_array(-x, chunks=100_000)
    assert ((chunks + 1) * other).sum().compute() == ((x + 1) * -x).sum()
    assert sent[0] > 0, "all was brought before the first message"
    assert sent[-1] == 0
    # What somebody wants as it is, and no task takes, comes as well.
    assert (client.get({"x": x}, "x") == x).all()


def test_a_large_array_is_brought_by_the_data_plane(client):
    array = np.random.default_rng(1).random(400_000)
    chunked = da.from_array(array, chunks=100_000)
    assert chunked.sum().compute() == pytest.approx(array.sum())
    assert np.array_equal((chunked * 2).compute(), array * 2)
    held = {("x", i): (operator.getitem, array, i) for i in range(20)}
    before = client.scheduler_info()["counters"]["tasks_submitted"]
    assert client.get(held, ("x", 19)) == array[19]
    assert client.get(held, list(held)) == list(array[:20])
    after = client.scheduler_info()["counters"]["tasks_submitted"]
    assert after - before <= 21 + 2


@pytest.mark.parametrize("kind", ["array", "bag", "delayed"])
def test_annotations_outlive_optimization(client, kind):
    made = {
        "array": lambda: (1 + da.ones(10, chunks=5))[1:] * 2,
        "bag": lambda: db.from_sequence([1, 2]).map(inc).filter(bool),
        "delayed": lambda: delayed(inc)(delayed(inc)(1)),
    }
    with dask.annotate(workers="nobody-of-this-name", priority=1):
        nowhere = made[kind]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        future = client.compute(nowhere)
        assert "nobody-of-this-name" in why_the_first_waits(client, future)
        future.cancel()


def why_the_first_waits(client, future):
    """Return why a task waits; if it waits for others, why one of those does."""
    task = future.id
    while True:
        answer = client.session.ask("explain", extents=((task, 1),))
        if not answer.get("inputs"):
            return answer["text"]
        task = answer["inputs"][0]["base"]


def test_annotations_become_options(client):
    with dask.annotate(workers="nobody-of-this-name"):
        nowhere = delayed(inc)(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        future = client.compute(nowhere, optimize_graph=False)
        assert "nobody-of-this-name" in future.explain()
    future.cancel()
    with dask.annotate(workers="nobody-of-this-name", allow_other_workers=True):
        anywhere = delayed(inc)(2)
    assert client.compute(anywhere, sync=True, optimize_graph=False) == 3
    with dask.annotate(priority=lambda key: 3, retries=1):
        total = (da.ones(10, chunks=5) + 1).sum()
    assert total.compute(optimize_graph=False) == 20


def test_retries_of_an_annotation(client, tmp_path):
    def twice(path):
        if not path.exists():
            path.touch()
            raise OSError("not yet")
        return "done"

    with dask.annotate(retries=2):
        stubborn = delayed(twice)(tmp_path / "mark")
    assert client.compute(stubborn, sync=True, optimize_graph=False) == "done"
    other = delayed(twice)(tmp_path / "other")
    assert client.compute(other, sync=True, retries=2) == "done"
    with dask.annotate(retries=Retry(2, on=ValueError)):
        choosy = delayed(twice)(tmp_path / "choosy")
    with pytest.raises(OSError, match="not yet"):
        client.compute(choosy, sync=True, optimize_graph=False)


def test_futures_of_elsewhere_are_refused(client):
    class Other:
        """What dask knows as the future of some scheduler."""

        __dask_future__ = True
        key = "x"

    with pytest.raises(errors.UsageError, match="'x' is a future of another"):
        client.get({"x": Other(), "y": (inc, "x")}, "y")
    with Client(n_workers=1, processes=False, set_as_default=False) as elsewhere:
        future = elsewhere.submit(inc, 1)
        with pytest.raises(errors.UsageError, match="'x' takes inc-.*another cluster"):
            client.get({"x": future, "y": (inc, "x")}, "y")
        with pytest.raises(errors.UsageError, match="'y' takes inc-.*another cluster"):
            client.get({"y": (sum, [[future]])}, "y")
        kept = da.ones(5).persist(scheduler=elsewhere)
        with pytest.raises(errors.UsageError, match="another cluster"):
            kept.sum().compute()


@pytest.mark.parametrize("same", [True, False])
def test_futures_of_a_closed_client_are_refused(client, same):
    place = (client.cluster,) if same else ()
    own = {} if same else {"n_workers": 1, "processes": False}
    with Client(*place, name="gone", set_as_default=False, **own) as other:
        future = other.submit(inc, 1)
        kept = da.ones(5).persist(scheduler=other)
    closed = "takes .*a future of the client 'gone', which was closed.* again"
    with pytest.raises(errors.UsageError, match="'y' " + closed):
        client.get({"y": (inc, future)}, "y")
    with pytest.raises(errors.UsageError, match="'x' " + closed):
        client.get({"x": future, "y": (inc, "x")}, "y")
    with pytest.raises(errors.UsageError, match=closed):
        kept.sum().compute()
    assert client.get({"y": (inc, 1)}, "y") == 2


def test_a_collection_of_another_client_of_this_cluster(client):
    with Client(client.cluster, set_as_default=False) as other:
        kept = da.arange(10, chunks=5).persist(scheduler=other)
        future = other.submit(np.arange, 7)
        assert (kept + 1).sum().compute() == 55
        assert (kept + 1).persist().sum().compute(scheduler=other) == 55
        assert delayed(len)([future, 1]).compute() == 2
        assert client.get({"x": future, "y": (np.sum, "x")}, "y") == 21
        for i in range(20):
            # Its wish may come later than ours: they go over different links.
            early = other.submit(inc, i)
            assert client.get({"x": early, "y": (inc, "x")}, "y") == i + 2


def test_collections_are_made_of_futures(client):
    frame = client.submit(pd.DataFrame, {"a": [1, 2, 3]})
    array = client.submit(np.arange, 5)
    meta = pd.DataFrame({"a": [1]})
    assert dd.from_delayed([frame, frame], meta=meta).a.sum().compute() == 12
    mapped = dd.from_map(inc, [frame, frame], meta=meta)
    assert mapped.a.sum().compute() == 18
    assert da.from_delayed(array, shape=(5,), dtype=int).sum().compute() == 10
    items = client.submit(list, range(5))
    assert db.from_delayed([items]).sum().compute() == 10
    added = da.ones(5, chunks=5).map_blocks(np.add, array, dtype=float)
    assert added.sum().compute() == 15
    assert delayed(dict)(k=[array]).compute()["k"][0].sum() == 10


def test_frames_are_made_of_a_map_over_futures(client):
    def frame(number, more=0):
        return pd.DataFrame({"a": [number + more]})

    tens = client.map(lambda n: 10 * n, range(3))
    for futures in (tens, list(tens)):
        made = dd.from_map(frame, futures, more=tens[1], meta=frame(0))
        assert made.compute().a.tolist() == [10, 20, 30]
    assert tokenize(tens) == tokenize(tens) != tokenize(tens[0]) != tokenize(tens[1])
    changed = client.map(lambda n: 10 * n, range(3))
    changed.append(tens[0])
    assert tokenize(changed) != tokenize(tens)


def test_tasks_compute_collections_themselves(client):
    def total():
        return int(da.ones(10, chunks=5).sum().compute())

    assert client.submit(total).result(60) == 10


async def test_dask_and_the_async_client(client):
    async with AsyncClient(client.cluster) as other:
        assert await other.get({"a": 1, "b": (inc, "a")}, ["a", "b"]) == [1, 2]
        assert await (await other.get({"a": 1}, "a", sync=False)) == 1
        total = da.ones(100, chunks=10).sum()
        assert await other.compute(total) == 100
        kept = other.persist(total + 1)
        assert await other.compute(kept) == 101


# What futures hold, on other schedulers.


@pytest.fixture
def of_futures(client, collections):
    """Collections that rest on futures of *client*."""
    frame = client.submit(pd.DataFrame, {"a": [1, 2, 3]})
    array, items = client.submit(np.arange, 50_000), client.submit(list, range(5))
    return {kind: kept.persist() for kind, kept in collections.items()} | {
        "arrays": da.from_delayed(array, shape=(50_000,), dtype=int).sum(),
        "bags": db.from_delayed([items]).sum(),
        "frames": dd.from_delayed([frame], meta=pd.DataFrame({"a": [1]})).a.sum(),
        "call": delayed(operator.add)(client.submit(inc, 1), 1),
        "value": delayed(client.submit(inc, 2)),
    }


@pytest.mark.parametrize("scheduler", ["threads", "sync", "processes"])
def test_other_schedulers_get_what_futures_hold(of_futures, scheduler):
    for kind in KINDS:
        assert EXPECTED[kind](of_futures[kind].compute(scheduler=scheduler))
    doubled = of_futures["array"].map_blocks(np.multiply, 2, dtype=int)
    assert doubled.sum().compute(scheduler=scheduler) == 999_000
    made = {"arrays": 49_999 * 25_000, "bags": 10, "frames": 6, "value": 3}
    for kind, value in made.items():
        assert of_futures[kind].compute(scheduler=scheduler) == value
    if scheduler != "processes":  # In those is no client that could fetch an argument.
        assert of_futures["call"].compute(scheduler=scheduler) == 3


@mixed
def test_what_futures_of_a_closed_client_held_is_told_to_be_gone(client):
    with Client(client.cluster, name="gone", set_as_default=False) as other:
        kept = [
            da.ones(4, chunks=2).persist(scheduler=other),
            other.persist(db.from_sequence([1, 2], npartitions=2)),
            other.persist(delayed(inc)(1)),
            other.persist(dd.from_pandas(pd.DataFrame({"a": [1]}), npartitions=1)),
            delayed(inc)(other.submit(inc, 1)),
        ]
        dask.compute(*kept, scheduler=other)
    for collection in kept:
        with pytest.raises(errors.UsageError, match="client 'gone', which was closed"):
            collection.compute(scheduler="sync")


def test_what_is_held_takes_no_task(client):
    kept = da.ones(50, chunks=10).persist()
    deep = (kept + 1) * 2
    wait([kept])
    before = client.scheduler_info()["counters"]["tasks_submitted"]
    assert client.gather(client.compute(deep)).sum() == 200
    again = deep.persist().persist()
    wait(again)
    assert len(list(futures_in(again))) == 5
    after = client.scheduler_info()["counters"]["tasks_submitted"]
    # Five chunks and the array that is made of them; then the five chunks.
    assert after - before == 6 + 5


def test_persisted_collections_are_arguments_of_tasks(client, collections):
    def total(array, items, frame, value):
        import dask

        counts = array.sum(), items.count(), frame.b.count(), value
        return [int(n) for n in dask.compute(*counts, scheduler="sync")]

    kept = [collections[kind].persist() for kind in ("array", "bag", "frame")]
    value = collections["delayed"].persist()
    assert client.submit(total, *kept, value).result() == [499_500, 50, 100, 2]
    client.publish_dataset("persisted", kept)
    try:
        with Client(client.cluster, set_as_default=False) as other:
            array, items, frame = other.get_dataset("persisted")
            assert EXPECTED["array"](array.compute(scheduler="sync"))
            assert EXPECTED["bag"](items.compute(scheduler=other))
            assert EXPECTED["frame"](frame.compute(scheduler="threads"))
    finally:
        client.unpublish_dataset("persisted")


def test_arrays_are_compared_as_dask_compares_them(client):
    from dask.array.utils import assert_eq

    assert_eq(da.ones(4, chunks=2) + 1, np.full(4, 2.0), scheduler=client)
