"""Futures of ``distributed``, which need not be installed: what dask knows of them."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest

dask = pytest.importorskip("dask")

import dask.array as da  # noqa: E402  (only where dask is)
import dask.bag as db  # noqa: E402
import dask.dataframe as dd  # noqa: E402
import pandas as pd  # noqa: E402
from dask import delayed  # noqa: E402
from dask._task_spec import Task, TaskRef  # noqa: E402

from covey import errors  # noqa: E402


class Future(TaskRef):
    """As theirs: it is nothing without its client, which cannot be pickled."""

    __slots__ = ("client",)

    def __init__(self, key):
        super().__init__(key)
        self.client = iter(())

    def __reduce__(self):
        return Future, (self.key,)

    def __dask_tokenize__(self):
        return self.key


Future.__module__ = "distributed.client"


@pytest.fixture(autouse=True)
def there(monkeypatch):
    module = ModuleType("distributed.client")
    module.Future = Future
    monkeypatch.setitem(sys.modules, "distributed.client", module)


def persisted(collection):
    """What their client makes of a collection: a future under each of its keys."""

    def futures_of(dsk, keys, **options):
        if isinstance(keys, list):
            return [futures_of(dsk, key) for key in keys]
        return Future(keys)

    return collection.persist(scheduler=futures_of)


GRAPHS = {
    "by hand": lambda client, f: client.get({"a": (pow, f, 2)}, "a"),
    "in a list": lambda client, f: client.get({"a": (sum, [1, f])}, "a"),
    "alone": lambda client, f: client.get({"a": f}, "a"),
    "argument": lambda client, f: delayed(pow)(f, 2).compute(),
    "arguments": lambda client, f: delayed(sum)([f, f]).compute(),
    "delayed": lambda client, f: delayed(f).compute(),
    "from_delayed": lambda client, f: da.from_delayed(f, (), dtype=int).compute(),
    "blocks": lambda client, f: da.ones(2).map_blocks(np.add, f, dtype=float).compute(),
    "array": lambda client, f: persisted(da.ones(4, chunks=2)).sum().compute(),
    "array again": lambda client, f: persisted(da.ones(4, chunks=2)).persist(),
    "bag": lambda client, f: persisted(db.from_sequence([1, 2])).count().compute(),
    "frame": lambda client, f: (
        persisted(dd.from_pandas(pd.DataFrame({"a": [1]}), npartitions=1))
        .a.sum()
        .compute()
    ),
    "value": lambda client, f: persisted(delayed(abs)(-1)).compute(),
}


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_future_of_another_scheduler_in_a_graph_is_told_as_one(client, graph):
    with pytest.raises(
        errors.UsageError,
        match=r"a future of another scheduler \(distributed\.client\.Future\).*fetch",
    ):
        GRAPHS[graph](client, Future("pow-0123"))


def test_a_key_that_is_missing_is_missing_beside_such_a_future(client):
    graph = {"a": Task("a", abs, TaskRef("b")), "c": (sum, [Future("d")])}
    with pytest.raises(errors.UsageError, match="no key 'b', which 'a' takes"):
        client.get(graph, ["a", "c"])


def test_it_is_refused_as_an_argument(client):
    future = Future("pow-0123")
    calls = {
        r"args\[0\]": lambda: client.submit(pow, future, 2),
        r"args\[0\]\[0\]": lambda: client.map(len, [[future]]),
        r"kwargs\['k'\]\[0\]": lambda: client.submit(dict, k=[future]),
        r"closure variable 'future'": lambda: client.submit(lambda: future),
        "value": lambda: client.scatter(future),
    }
    for path, call in calls.items():
        with pytest.raises(
            errors.NotPicklable,
            match=rf"{path} \(distributed\.client\.Future\).*another scheduler.*result",
        ):
            call()
