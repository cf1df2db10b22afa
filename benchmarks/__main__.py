"""The first table: rates and latencies of covey, and of a peer in the same run.

``python -m benchmarks`` measures covey; ``--peers`` adds ``dask.distributed``, and
``--full`` takes the sizes at which a figure is worth quoting.  Every contender
gets two worker processes of one thread each.  Machines differ and are noisy:
compare columns of one run, never figures of two.

All contenders have the same interface, so they run the same lines.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from covey.units import format_seconds


@dataclass(frozen=True)
class Sizes:
    """How much of each job is run."""

    single: int
    map: int
    chain: int
    tree: int


SHORT = Sizes(single=200, map=50_000, chain=1_000, tree=1_024)
FULL = Sizes(single=2_000, map=500_000, chain=10_000, tree=8_192)
#: What a peer that is two orders slower does in the time of a short run.
PEER = Sizes(single=100, map=2_000, chain=200, tree=512)


def inc(number: int) -> int:
    """Do as little as a task can."""
    return number + 1


def add(left: int, right: int) -> int:
    """Join two branches of the tree."""
    return left + right


def start_covey() -> Any:
    """Start a covey cluster of two runners."""
    from covey import Client

    return Client(n_workers=2, threads_per_worker=1)


def start_distributed() -> Any:
    """Start a cluster of ``dask.distributed`` with two workers."""
    from distributed import Client

    return Client(n_workers=2, threads_per_worker=1, dashboard_address=None)


CONTENDERS: dict[str, Callable[[], Any]] = {
    "covey": start_covey,
    "distributed": start_distributed,
}


def timed(job: Callable[[], object]) -> float:
    """Return how long *job* takes."""
    started = time.perf_counter()
    job()
    return time.perf_counter() - started


def latency(client: Any, sizes: Sizes) -> str:
    """Submit one task and wait for it, again and again."""

    def once(number: int) -> None:
        # Distinct arguments, since a peer would share the result of equal calls.
        assert client.submit(inc, number).result() == number + 1

    times = sorted(
        timed(lambda number=number: once(number)) for number in range(sizes.single)
    )
    late = times[int(len(times) * 0.99)]
    return f"{format_seconds(statistics.median(times))} / {format_seconds(late)}"


def throughput(client: Any, sizes: Sizes) -> str:
    """Map a function that does nothing, and gather."""

    def job() -> None:
        futures = client.map(inc, range(sizes.map))
        assert client.gather(futures) == list(range(1, sizes.map + 1))

    return f"{sizes.map / timed(job):,.0f} tasks/s ({sizes.map:,})"


def chain(client: Any, sizes: Sizes) -> str:
    """Let every task wait for the one before it."""

    def job() -> None:
        future = client.submit(inc, 0)
        for _ in range(sizes.chain - 1):
            future = client.submit(inc, future)
        assert future.result() == sizes.chain

    return f"{format_seconds(timed(job) / sizes.chain)} per link ({sizes.chain:,})"


def tree(client: Any, sizes: Sizes) -> str:
    """Sum leaves pairwise, down to one."""

    def job() -> None:
        level = client.map(inc, range(sizes.tree))
        while len(level) > 1:
            level = client.map(add, level[::2], level[1::2])
        assert level[0].result() == sizes.tree * (sizes.tree + 1) // 2

    return f"{(2 * sizes.tree - 1) / timed(job):,.0f} tasks/s ({sizes.tree:,} leaves)"


JOBS: dict[str, Callable[[Any, Sizes], str]] = {
    "one task, median / p99": latency,
    "map and gather of `inc`": throughput,
    "chain of `inc`": chain,
    "tree sum": tree,
}


def measure(start: Callable[[], Any], sizes: Sizes) -> dict[str, str]:
    """Start a cluster, run all jobs on it, and end it."""
    started = time.perf_counter()
    with start() as client:
        client.submit(inc, -1).result()
        figures = {
            "start, until the first result": format_seconds(
                time.perf_counter() - started
            )
        }
        # Every runner has seen the function before anything is measured.
        client.gather(client.map(inc, range(-200, -100)))
        for name, job in JOBS.items():
            figures[name] = job(client, sizes)
    return figures


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--full", action="store_true", help="sizes worth quoting")
    parser.add_argument("--peers", action="store_true", help="dask.distributed too")
    arguments = parser.parse_args()

    names = list(CONTENDERS) if arguments.peers else ["covey"]
    columns = {}
    for name in names:
        sizes = FULL if arguments.full else SHORT
        columns[name] = measure(CONTENDERS[name], sizes if name == "covey" else PEER)

    print(f"Python {platform.python_version()}, {os.cpu_count()} cores", end="")
    print(f", {platform.system()} {platform.machine()}\n")
    titles = [f"{name} {importlib.metadata.version(name)}" for name in names]
    print("| job | " + " | ".join(titles) + " |")
    print("|---|" + "--:|" * len(names))
    for job in columns["covey"]:
        print(f"| {job} | " + " | ".join(columns[name][job] for name in names) + " |")


if __name__ == "__main__":
    main()
