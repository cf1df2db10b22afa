"""How many results are in memory at once: covey's order of a graph beside dask's.

``python -m benchmarks.orders`` runs no task.  It goes through the order of some
graphs and counts what is there at the same time, every result as one, and the
parts into which a value is taken as a share of it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import pandas as pd
from dask._expr import FinalizeCompute
from dask._task_spec import convert_legacy_graph
from dask.base import collections_to_expr
from dask.core import flatten
from dask.order import order as order_of_dask

from covey.interop.dask_order import order

Needs = dict[Any, set[Any]]


def most_kept(keys: list[Any], needs: Needs) -> float:
    """Return how much is there at once, at most, when *keys* are run in order."""
    users: dict[Any, list[Any]] = {key: [] for key in keys}
    for key in keys:
        for source in needs[key]:
            users[source].append(key)
    sizes: dict[Any, float] = {}
    left = {key: len(after) for key, after in users.items()}
    now = most = 0.0
    for key in keys:
        sizes[key] = _size(key, needs, users, sizes)
        now += sizes[key]
        most = max(most, now)
        for source in needs[key]:
            left[source] -= 1
            if not left[source]:
                now -= sizes[source]
    return most


def _size(
    key: Any, needs: Needs, users: dict[Any, list[Any]], sizes: dict[Any, float]
) -> float:
    """Return the size of a result: a share, where a value is only taken apart."""
    if len(needs[key]) != 1:
        return 1.0
    (source,) = needs[key]
    parts = users[source]
    if len(parts) > 1 and all(len(needs[part]) == 1 for part in parts):
        return sizes[source] / len(parts)
    return 1.0


def nothing(*_: Any) -> None:
    """Stand for the work of a node."""


def collections() -> Iterator[tuple[str, list[Any]]]:
    """Yield names and collections."""
    x = da.random.random((2000, 2000), chunks=(100, 100))
    y = da.random.random((2000, 2000), chunks=(100, 100))
    yield "x.sum()", [x.sum()]
    yield "(x + x.T)[::2].mean()", [(x + x.T)[::2].mean()]
    yield "x.mean(), x.std()", [x.mean(), x.std()]
    yield "x.sum(), (x * y).sum(), y.sum()", [x.sum(), (x * y).sum(), y.sum()]
    yield "(x - x.mean()).sum()", [(x - x.mean()).sum()]
    yield "standardized rows", [((x - x.mean(axis=0)) / x.std(axis=0)).sum(axis=1)]
    yield "x.rechunk(columns).sum()", [x.rechunk((2000, 50)).sum()]
    yield "map_overlap", [x.map_overlap(nothing, depth=1, dtype=float).sum()]
    yield "x.dot(y).sum()", [x.dot(y).sum()]
    yield "x.cumsum(axis=0).sum()", [x.cumsum(axis=0).sum()]
    frame = dd.from_map(
        lambda i: pd.DataFrame({"a": [i], "b": [i]}),
        range(50),
        meta=pd.DataFrame({"a": [1], "b": [1]}),
    )
    yield "groupby sum", [frame.groupby("b").a.sum()]
    yield "shuffle", [frame.shuffle("b").a.sum()]
    yield "merge", [frame.merge(frame.assign(a=1), on="b")]


def graphs() -> Iterator[tuple[str, dict[Any, Any], list[Any]]]:
    """Yield names, graphs and the keys that are wanted of them."""
    for name, chosen in collections():
        expr = FinalizeCompute(collections_to_expr(chosen)).optimize()
        graph = convert_legacy_graph(dict(expr.__dask_graph__()))
        yield name, graph, list(flatten(expr.__dask_keys__()))
    drawn = random.Random(0)
    hand: dict[Any, Any] = {}
    for i in range(5000):
        near = [i - 1 - int(drawn.expovariate(1 / 500)) for _ in range(4)]
        hand["t", i] = (nothing, *{("t", max(0, k)) for k in near if i > 10})
    used = {source for node in hand.values() for source in node[1:]}
    yield "random, near", convert_legacy_graph(hand), [k for k in hand if k not in used]
    hand = {
        ("s", t, i): (
            nothing,
            *[("s", t - 1, j) for j in (i - 1, i, i + 1) if t and 0 <= j < 50],
        )
        for t in range(40)
        for i in range(50)
    }
    hand["end"] = (nothing, *[("s", 39, i) for i in range(50)])
    yield "stencil", convert_legacy_graph(hand), ["end"]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what *work* returns, and the CPU time it took."""
    begin = time.thread_time()
    value = work()
    return value, time.thread_time() - begin


def main() -> None:
    """Print the table."""
    print(f"{'':34}{'tasks':>7}{'covey':>8}{'us/task':>9}{'dask':>8}{'us/task':>9}")
    with dask.config.set({"dataframe.shuffle.method": "tasks"}):
        for name, graph, wanted in graphs():
            needs: Needs = {k: set(node.dependencies) for k, node in graph.items()}
            keys, our_seconds = timed(lambda w=wanted, n=needs: order(w, n.__getitem__))
            culled = {key: graph[key] for key in keys}
            ranks, their_seconds = timed(
                lambda c=culled, n=needs: order_of_dask(c, {k: set(n[k]) for k in c})
            )
            theirs = sorted(keys, key=ranks.__getitem__)
            print(
                f"{name:34}{len(keys):7}"
                f"{most_kept(keys, needs):8.0f}{1e6 * our_seconds / len(keys):9.1f}"
                f"{most_kept(theirs, needs):8.0f}{1e6 * their_seconds / len(keys):9.1f}"
            )


if __name__ == "__main__":
    main()
