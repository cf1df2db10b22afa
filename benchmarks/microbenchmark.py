"""The jobs of Ray's own microbenchmark, by its names, so that others can compare.

What each does is what Ray's does, in the calls of the contender: there "put" is
``scatter`` and "get" is ``result``, and a *client* of "multi client" is a task that
uses the cluster itself.  Jobs about actors have no counterpart, and one about a result
that holds 10,000 references none either: who returns a future hands on the future of a
task that its own worker holds no longer.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.contenders import WORKERS, Contender
from benchmarks.data import put
from benchmarks.harness import Figure, Room, Timed

room = Room(__doc__, contenders=("dask", "ray"), apart=True)

#: How many tasks act as clients where there are several.
CLIENTS = 2 * WORKERS


def small_value() -> bytes:
    """Return next to nothing."""
    return b"ok"


def tasks_from_within(kind: str, n: int) -> int:
    """Run *n* small tasks from inside a task."""
    if kind == "ray":
        import ray

        remote = ray.remote(small_value)
        return len(ray.get([remote.remote() for _ in range(n)]))
    if kind == "covey":
        import covey

        client = covey.get_client()
        return len(client.gather([client.submit(small_value) for _ in range(n)]))
    from distributed import worker_client

    with worker_client() as inner:
        futures = [inner.submit(small_value, pure=False) for _ in range(n)]
        return len(inner.gather(futures))


def puts_from_within(kind: str, n: int) -> int:
    """Put *n* small values from inside a task."""
    if kind == "ray":
        import ray

        return len([ray.put(0) for _ in range(n)])
    if kind == "covey":
        import covey

        client = covey.get_client()
        return len([client.scatter(0) for _ in range(n)])
    from distributed import worker_client

    with worker_client() as inner:
        return len([inner.scatter(0, hash=False) for _ in range(n)])


@room.job("single client get calls (Plasma Store)", short=300, full=3_000, unit="1/s")
def get_calls(cluster: Contender, n: int, timed: Timed) -> None:
    """Get one small value again and again."""
    value = put(cluster, 0)
    with timed(n):
        for _ in range(n):
            assert cluster.result(value) == 0


@room.job("single client put calls (Plasma Store)", short=300, full=3_000, unit="1/s")
def put_calls(cluster: Contender, n: int, timed: Timed) -> None:
    """Put small values, one after the other, and let go of each."""
    with timed(n):
        for _ in range(n):
            put(cluster, 0)


@room.job("multi client put calls (Plasma Store)", short=400, full=1_000, unit="1/s")
def multi_client_put_calls(cluster: Contender, n: int, timed: Timed) -> None:
    """Put small values from within several tasks."""
    kind = cluster.package
    with timed(n):
        each = [cluster.submit(puts_from_within, kind, n // 10) for _ in range(10)]
        assert sum(cluster.gather(each)) == n // 10 * 10


@room.job("single client put gigabytes", short=1, full=5)
def put_gigabytes(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Put 0.8 GB again and again; gigabytes a second, as bytes a second."""
    del timed
    if cluster.package == "distributed":
        return {}  # It loses its scheduler over that: ``data`` asks it for half as much.
    array = np.zeros(100 * 1024 * 1024, dtype=np.int64)
    started = time.perf_counter()
    for _ in range(n):
        value: Any = put(cluster, array)
        del value
    took = time.perf_counter() - started
    return {"single client put gigabytes": Figure(n * array.nbytes / took, "B/s")}


@room.job("single client tasks and get batch", short=3, full=10, unit="1/s")
def tasks_and_get_batch(cluster: Contender, n: int, timed: Timed) -> None:
    """Submit 1,000 calls without arguments, and get them all; batches a second."""
    with timed(n):
        for _ in range(n):
            cluster.gather([cluster.submit(small_value) for _ in range(1000)])


@room.job("single client wait 1k refs", short=1, full=3, unit="1/s")
def wait_for_1k(cluster: Contender, n: int, timed: Timed) -> None:
    """Wait for the first of 1,000 tasks that are left, until none is."""
    with timed(n):
        for _ in range(n):
            left = [cluster.submit(small_value) for _ in range(1000)]
            while left:
                left = _wait_for_one(cluster, left)


def _wait_for_one(cluster: Contender, handles: list[Any]) -> list[Any]:
    """Wait until one is done, and return those left: one less, as Ray counts."""
    if hasattr(cluster, "ray"):
        _, left = cluster.ray.wait(handles, fetch_local=False)
        return list(left)
    if cluster.package == "covey":
        from covey import wait
    else:
        from distributed import wait
    done, _ = wait(handles, return_when="FIRST_COMPLETED")
    first = next(iter(done))
    return [handle for handle in handles if handle is not first]


@room.job("single client tasks sync", short=500, full=3_000, unit="1/s")
def tasks_sync(cluster: Contender, n: int, timed: Timed) -> None:
    """Submit a call and get its result, one after the other."""
    with timed(n):
        for _ in range(n):
            cluster.result(cluster.submit(small_value))


@room.job("single client tasks async", short=1_000, full=1_000, unit="1/s")
def tasks_async(cluster: Contender, n: int, timed: Timed) -> None:
    """Submit 1,000 calls without arguments, and get them all."""
    with timed(n):
        cluster.gather([cluster.submit(small_value) for _ in range(n)])


@room.job("multi client tasks async", short=4_000, full=40_000, unit="1/s")
def multi_client_tasks_async(cluster: Contender, n: int, timed: Timed) -> None:
    """Submit calls from within several tasks, and get them there."""
    kind, each = cluster.package, n // CLIENTS
    with timed(each * CLIENTS):
        asked = [cluster.submit(tasks_from_within, kind, each) for _ in range(CLIENTS)]
        assert sum(cluster.gather(asked)) == each * CLIENTS


if __name__ == "__main__":
    room.main()
