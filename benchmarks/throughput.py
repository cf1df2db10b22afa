"""How many tasks a second: maps, single submissions, chains and trees."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.harness import Figure, Room, Timed

room = Room(__doc__, apart=True)


def inc(number: int) -> int:
    """Do as little as a task can."""
    return number + 1


def add(left: int, right: int) -> int:
    """Join two branches of a tree."""
    return left + right


def warm(cluster: Contender) -> None:
    """Let every worker see the functions before a clock runs."""
    cluster.gather(cluster.map(inc, range(-200, -100)))
    if "graph" in cluster.can:
        cluster.gather(cluster.map(add, range(-200, -100), range(100)))


@room.job(
    "map and gather of {n:,} inc",
    short=50_000,
    full=50_000,
    unit="1/s",
    needs="map",
    must=200_000,
    aim=1_000_000,
    ahead={"dask": 100, "ray": 100, "joblib": 1},
)
def map_and_gather(cluster: Contender, n: int, timed: Timed) -> None:
    """Map a function that does nothing, and gather."""
    warm(cluster)
    with timed(n):
        values = cluster.gather(cluster.map(inc, range(n)))
    assert values == list(range(1, n + 1))


@room.job(
    "{n:,} submit one by one, then gather",
    short=10_000,
    full=50_000,
    unit="1/s",
    must=30_000,
    aim=80_000,
)
def submit_and_gather(cluster: Contender, n: int, timed: Timed) -> None:
    """Submit in a loop, and gather."""
    with timed(n):
        handles = [cluster.submit(inc, i) for i in range(n)]
        values = cluster.gather(handles)
    assert values == list(range(1, n + 1))


@room.job(
    "chain of {n:,}, a link",
    short=1_000,
    full=1_000,
    needs="graph",
    must=150e-6,
    aim=30e-6,
)
def chain(cluster: Contender, n: int, timed: Timed) -> None:
    """Let every task wait for the one before it."""
    with timed(n):
        handle = cluster.submit(inc, 0)
        for _ in range(n - 1):
            handle = cluster.submit(inc, handle)
        assert cluster.result(handle) == n


def _odd(level: Sequence[Any]) -> list[Any]:
    """Return what has no neighbour: it is for the next level."""
    return [*level[len(level) - len(level) % 2 :]]


@room.job(
    "tree sum of {n:,} leaves by submit, node by node, tasks",
    short=1_024,
    full=8_192,
    unit="1/s",
    needs="graph",
    must=25_000,
    aim=80_000,
)
def tree_by_submit(cluster: Contender, n: int, timed: Timed) -> None:
    """Sum leaves pairwise, down to one, by a call for every node."""
    with timed(2 * n - 1):
        level = [cluster.submit(inc, i) for i in range(n)]
        while len(level) > 1:
            pairs, odd = zip(level[::2], level[1::2], strict=False), _odd(level)
            level = [cluster.submit(add, one, other) for one, other in pairs] + odd
        total = cluster.result(level[0])
    assert total == n * (n + 1) // 2


@room.job(
    "tree sum of {n:,} leaves by maps, a level at a time, tasks",
    short=1_024,
    full=8_192,
    unit="1/s",
    needs="graph",
    must=25_000,
    aim=80_000,
)
def tree(cluster: Contender, n: int, timed: Timed) -> None:
    """Sum leaves pairwise, down to one, by a map for every level."""
    with timed(2 * n - 1):
        level = cluster.map(inc, range(n))
        while len(level) > 1:
            odd = _odd(level)
            level = cluster.map(add, level[: len(level) - len(odd) : 2], level[1::2])
            if odd:  # A list takes more than a range does.
                level = [*level, *odd]
        total = cluster.result(level[0])
    assert total == n * (n + 1) // 2


#: What a map over many elements is asked for, in seconds: must and aim.
LARGE_MAP = {
    "the call returns": (1.0, 0.05),
    "first result": (0.3, 0.05),
    "all gathered": (15.0, 4.0),
}


@room.job("map over {n:,}", short=100_000, full=1_000_000, needs="covey")
def large_map(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Map over many elements: when the call returns, and when results come."""
    del timed
    warm(cluster)
    started = time.perf_counter()
    futures = cluster.map(inc, range(n))
    moments = [time.perf_counter()]
    assert cluster.result(futures[0]) == 1
    moments.append(time.perf_counter())
    values = cluster.gather(futures)
    moments.append(time.perf_counter())
    assert values == list(range(1, n + 1))
    rows = [f"map over {n:,}: {what}" for what in LARGE_MAP]
    return {
        row: Figure(moment - started, "s")
        for row, moment in zip(rows, moments, strict=True)
    }


for _what, (_must, _aim) in LARGE_MAP.items():
    room.ask(f"map over 1,000,000: {_what}", must=_must, aim=_aim)


if __name__ == "__main__":
    room.main()
