"""A large graph on its way in: what it costs the client, and how long the scheduler stalls.

``python -m benchmarks.ingest`` sends the random graph of ``benchmarks.collections`` with
1,000,000 nodes, which begins to run at once, and lets go of it when the scheduler has
it all (how fast such a graph runs to its end is told by that room).  Meanwhile a client
in another process asks the scheduler one small thing after the other: its longest wait
bounds the longest stall of the scheduler's loop from above, together with whatever else
the machine was busy with.  So the same is told of a quiet cluster before.  What dask
itself needs to convert and order a graph, before its scheduler hears of it, is measured
on a fiftieth of the nodes: its time for a node grows with the graph.
"""

from __future__ import annotations

import argparse
import gc
import json
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.collections import random_graph
from benchmarks.harness import circumstances, cpu_seconds

PAUSE_SECONDS = 0.01
QUIET_SECONDS = 3.0


class Probe:
    """A client in a process of its own, that measures how long answers take."""

    def __init__(self, file: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.ingest", "--probe", str(file)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.take()

    def take(self) -> dict[str, float]:
        """Return the longest waits since the last time."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: dict[str, float] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def probe(file: Path) -> None:
    """Ask the scheduler one thing after the other; tell at every line of input."""
    from covey import Client

    with Client(file, set_as_default=False) as client:
        client.overview()
        waits = [0.0]
        while True:
            started = time.perf_counter()
            client.overview()
            waits.append(time.perf_counter() - started)
            if not select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
                continue
            if not sys.stdin.readline():
                return
            waits.sort()
            told = {
                "asked": len(waits),
                "median": waits[len(waits) // 2],
                "99 %": waits[int(len(waits) * 0.99)],
                "longest": waits[-1],
            }
            print(json.dumps(told), flush=True)
            waits = [0.0]


def shown(waits: dict[str, float]) -> str:
    """Return waits as text."""
    return (
        f"longest {1e3 * waits['longest']:.0f} ms, 99 % {1e3 * waits['99 %']:.1f} ms, "
        f"median {1e3 * waits['median']:.1f} ms of {waits['asked']:,.0f}"
    )


def times(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what *work* returns, the seconds, and the CPU seconds of this thread."""
    started, cpu = time.perf_counter(), time.thread_time()
    value = work()
    return value, time.perf_counter() - started, time.thread_time() - cpu


def dask_alone(n: int) -> tuple[float, float]:
    """Return the CPU seconds that dask takes to convert and to order a graph."""
    from dask._task_spec import convert_legacy_graph
    from dask.order import order

    graph, _ = random_graph(n)
    converted, _, converting = times(lambda: convert_legacy_graph(graph))
    _, _, ordering = times(lambda: order(converted))
    return converting, ordering


def measure(n: int) -> None:
    """Send one graph, and print what was seen."""
    from covey import Client, LocalCluster
    from covey.interop.dask import futures_of_keys
    from covey.net.connection_file import file_for

    graph, ends = random_graph(n)
    print(f"{circumstances()}\n\n{n:,} nodes, {len(ends):,} of them wanted")
    with LocalCluster(n_workers=2, host="127.0.0.1") as cluster:
        watcher = Probe(file_for(cluster.port))
        with Client(cluster) as client:
            client.get(random_graph(1000)[0], ("n", 999))
            pid = client.scheduler_info()["workers"][0]["facts"]["pid"]
            watcher.take()
            time.sleep(QUIET_SECONDS)
            quiet = watcher.take()
            scheduler_cpu = cpu_seconds(pid)
            started = time.perf_counter()
            futures, sent, cpu = times(lambda: futures_of_keys(client, graph, ends))
            client.overview()  # Answered when all before it was taken in.
            taken = time.perf_counter() - started
            stalls = watcher.take()
            lines = client.overview()["functions"].values()
            ran = sum(line["done"] for line in lines)
            started = time.perf_counter()
            del futures
            gc.collect()
            while client.overview()["known"]:
                time.sleep(PAUSE_SECONDS)
            forgotten = time.perf_counter() - started
            later = watcher.take()
            scheduler_cpu = cpu_seconds(pid) - scheduler_cpu
        watcher.close()
    print(
        f"packed and sent by the client   {sent:7.1f} s, {1e6 * cpu / n:.1f} CPU-µs a node"
    )
    print(f"taken in by the scheduler       {taken:7.1f} s")
    print(f"run by then                     {ran:9,}")
    print(f"let go of, all                  {forgotten:7.1f} s")
    print(f"CPU time of the cluster's process {scheduler_cpu:5.1f} s")
    print(f"answers, quiet cluster:   {shown(quiet)}")
    print(f"answers, while it came:   {shown(stalls)}")
    print(f"answers, while it went:   {shown(later)}")
    part = max(1000, n // 50)
    converting, ordering = dask_alone(part)
    print(
        f"dask alone, {part:,} nodes: converting {1e6 * converting / part:.1f} and "
        f"ordering {1e6 * ordering / part:.1f} CPU-µs a node"
    )


def main() -> None:
    """Measure and print, or be the probe."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.ingest", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--probe", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.probe is not None:
        probe(arguments.probe)
    else:
        measure(arguments.nodes)


if __name__ == "__main__":
    main()
