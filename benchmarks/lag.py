"""How long the scheduler lets others wait while it is busy.

A task asks it again and again how the cluster is, and notes how long each answer
took, while the client keeps it busy with something else.  Two workers of one thread:
the other one does the work.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from operator import add
from typing import Any

from benchmarks.contenders import Contender, Covey, Distributed
from benchmarks.harness import Figure, Room, Timed

room = Room(__doc__, contenders=("covey", "dask"))

#: How long nothing else is asked, before the next question.
PAUSE_SECONDS = 0.002


def inc(number: int) -> int:
    """Do as little as a task can."""
    return number + 1


def ask(module: str, seconds: float) -> list[float]:
    """Return how long each answer took, for so many seconds."""
    client = importlib.import_module(module).get_client()
    samples = []
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        client.scheduler_info()
        samples.append(time.perf_counter() - started)
        time.sleep(PAUSE_SECONDS)
    return samples


def percentiles(samples: list[float], when: str) -> dict[str, Figure]:
    """Return the rows of the table for *samples*."""
    ordered = sorted(samples)
    at = {
        "median": ordered[len(ordered) // 2],
        "99th percentile": ordered[int(len(ordered) * 0.99)],
        "longest": ordered[-1],
    }
    return {f"an answer {when}, {name}": Figure(s, "s") for name, s in at.items()}


def while_busy(
    cluster: Contender, seconds: float, work: Callable[[float], None]
) -> list[float]:
    """Return how long answers took while *work* was done until its time was over."""
    assert isinstance(cluster, Covey | Distributed)
    module = type(cluster.client).__module__.partition(".")[0]
    asking = cluster.submit(ask, module, seconds)
    work(time.perf_counter() + seconds)
    samples: list[float] = cluster.result(asking)
    return samples


@room.job("an answer of an idle scheduler, median", short=2, full=10)
def idle(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Ask a scheduler that does nothing else."""
    del timed
    return percentiles(while_busy(cluster, n, lambda _: None), "of an idle scheduler")


@room.job("an answer during maps, median", short=3, full=15)
def during_maps(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Map 20,000 elements, again and again."""
    del timed

    def work(end: float) -> None:
        while time.perf_counter() < end:
            cluster.gather(cluster.map(inc, range(20_000)))

    return percentiles(while_busy(cluster, n, work), "during maps")


@room.job("an answer during trees, median", short=3, full=15)
def during_trees(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Sum trees of 512 leaves, again and again: every node is a task of its own."""
    del timed

    def work(end: float) -> None:
        while time.perf_counter() < end:
            row: list[Any] = [cluster.submit(inc, i) for i in range(512)]
            while len(row) > 1:
                row = [
                    cluster.submit(add, row[i], row[i + 1])
                    for i in range(0, len(row), 2)
                ]
            cluster.result(row[0])

    return percentiles(while_busy(cluster, n, work), "during trees")


if __name__ == "__main__":
    room.main()
