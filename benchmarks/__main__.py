"""Rates, latencies and CPU time of covey, and of its peers in the same run.

``python -m benchmarks`` measures covey; ``--peers`` adds ``dask.distributed``, and
``--full`` takes the sizes at which a figure is worth quoting.  Every contender
gets two worker processes of one thread each, runs the same lines, and has its
turn in every round; what is printed are the medians of the rounds.

Machines differ and are noisy: compare columns of one run, never figures of two.
CPU time is less fickle than wall time.  It is that of all processes of a
contender: client, scheduler, workers.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

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


@dataclass(frozen=True)
class Figure:
    """One cell of the table.

    Attributes:
        value: what is compared.
        unit: what it counts: ``s`` or ``1/s``.
        cpu_seconds: CPU time per task, by role; empty where it says nothing.
    """

    value: float
    unit: str
    cpu_seconds: dict[str, float]


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


# Measuring.


def role_of(process: psutil.Process) -> str:
    """Name what a process does; peers keep several roles in one process."""
    if process.pid == os.getpid():
        return "client"
    command = " ".join(process.cmdline())
    return {"covey.cluster": "scheduler and agent", "covey.runner": "runners"}.get(
        next((m for m in ("covey.cluster", "covey.runner") if m in command), ""),
        "workers",
    )


class Meter:
    """Wall time and CPU time of everything below this process."""

    def __init__(self) -> None:
        me = psutil.Process()
        self._processes = [me, *me.children(recursive=True)]
        self._before = self._cpu()
        self._started = time.perf_counter()

    def _cpu(self) -> dict[str, float]:
        seconds: dict[str, float] = {}
        for process in self._processes:
            used = process.cpu_times()
            role = role_of(process)
            seconds[role] = seconds.get(role, 0.0) + used.user + used.system
        return seconds

    def read(self, tasks: int) -> tuple[float, dict[str, float]]:
        """Return the seconds that passed, and CPU seconds per task by role."""
        wall = time.perf_counter() - self._started
        after = self._cpu()
        return wall, {
            role: (after[role] - self._before[role]) / tasks for role in after
        }


def latency(client: Any, sizes: Sizes) -> dict[str, Figure]:
    """Submit one task and wait for it, again and again."""
    times = []
    meter = Meter()
    for number in range(sizes.single):
        # Distinct arguments, since a peer would share the result of equal calls.
        started = time.perf_counter()
        assert client.submit(inc, number).result() == number + 1
        times.append(time.perf_counter() - started)
    _, cpu = meter.read(sizes.single)
    late = sorted(times)[int(len(times) * 0.99)]
    return {
        "one task, submit to result": Figure(statistics.median(times), "s", cpu),
        "one task, 99th percentile": Figure(late, "s", {}),
    }


def throughput(client: Any, sizes: Sizes) -> dict[str, Figure]:
    """Map a function that does nothing, and gather."""
    meter = Meter()
    futures = client.map(inc, range(sizes.map))
    assert client.gather(futures) == list(range(1, sizes.map + 1))
    wall, cpu = meter.read(sizes.map)
    return {f"map and gather, {sizes.map:,}": Figure(sizes.map / wall, "1/s", cpu)}


def chain(client: Any, sizes: Sizes) -> dict[str, Figure]:
    """Let every task wait for the one before it."""
    meter = Meter()
    future = client.submit(inc, 0)
    for _ in range(sizes.chain - 1):
        future = client.submit(inc, future)
    assert future.result() == sizes.chain
    wall, cpu = meter.read(sizes.chain)
    return {f"chain of {sizes.chain:,}, per link": Figure(wall / sizes.chain, "s", cpu)}


def tree(client: Any, sizes: Sizes) -> dict[str, Figure]:
    """Sum leaves pairwise, down to one."""
    tasks = 2 * sizes.tree - 1
    meter = Meter()
    level = client.map(inc, range(sizes.tree))
    while len(level) > 1:
        level = client.map(add, level[::2], level[1::2])
    assert level[0].result() == sizes.tree * (sizes.tree + 1) // 2
    wall, cpu = meter.read(tasks)
    return {f"tree sum of {sizes.tree:,} leaves": Figure(tasks / wall, "1/s", cpu)}


JOBS: list[Callable[[Any, Sizes], dict[str, Figure]]] = [
    latency,
    throughput,
    chain,
    tree,
]


def measure(start: Callable[[], Any], sizes: Sizes) -> dict[str, Figure]:
    """Start a cluster, run all jobs on it, and end it."""
    started = time.perf_counter()
    with start() as client:
        client.submit(inc, -1).result()
        first = time.perf_counter() - started
        figures = {"start, to the first result": Figure(first, "s", {})}
        # Every runner has seen the functions before anything is measured.
        client.gather(client.map(inc, range(-200, -100)))
        client.gather(client.map(add, range(-200, -100), range(100)))
        for job in JOBS:
            figures |= job(client, sizes)
    return figures


# Telling.


def median(figures: list[Figure]) -> Figure:
    """Return the middle of what several rounds gave, value and CPU time each."""
    roles = figures[0].cpu_seconds
    return Figure(
        statistics.median(figure.value for figure in figures),
        figures[0].unit,
        {
            role: statistics.median(f.cpu_seconds.get(role, 0.0) for f in figures)
            for role in roles
        },
    )


def shown(figure: Figure) -> str:
    """Return a figure for the table."""
    if figure.unit == "s":
        return format_seconds(figure.value)
    return f"{figure.value:,.0f}/s"


def advantage(ours: Figure, theirs: Figure) -> str:
    """Say how many times better covey is; below 1 it is worse."""
    times = theirs.value / ours.value if ours.unit == "s" else ours.value / theirs.value
    return f"{times:.1f}x"


def cpu(figure: Figure) -> str:
    """Return CPU microseconds per task, all roles together."""
    if not figure.cpu_seconds:
        return ""
    return f"{sum(figure.cpu_seconds.values()) * 1e6:,.0f}"


def table(columns: dict[str, dict[str, Figure]]) -> str:
    """Return everything as Markdown."""
    ours = columns["covey"]
    peers = [name for name in columns if name != "covey"]
    titles = [f"{n} {importlib.metadata.version(n)}" for n in columns]
    extra = [f"covey / {name}" for name in peers]
    heads = [*titles, *extra, *(f"CPU-us, {name}" for name in columns)]
    lines = ["| job | " + " | ".join(heads) + " |", "|---|" + "--:|" * len(heads)]
    for job, figure in ours.items():
        cells = [shown(columns[name][job]) for name in columns]
        cells += [advantage(figure, columns[name][job]) for name in peers]
        cells += [cpu(columns[name][job]) for name in columns]
        lines.append(f"| {job} | " + " | ".join(cells) + " |")
    lines += ["", "covey's CPU-us per task, by role:", ""]
    roles = sorted({role for figure in ours.values() for role in figure.cpu_seconds})
    lines += ["| job | " + " | ".join(roles) + " |", "|---|" + "--:|" * len(roles)]
    for job, figure in ours.items():
        if figure.cpu_seconds:
            cells = [f"{figure.cpu_seconds.get(role, 0) * 1e6:,.1f}" for role in roles]
            lines.append(f"| {job} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--full", action="store_true", help="sizes worth quoting")
    parser.add_argument("--peers", action="store_true", help="dask.distributed too")
    parser.add_argument("--rounds", type=int, default=3, help="how often (3)")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    arguments = parser.parse_args()

    names = list(CONTENDERS) if arguments.peers else ["covey"]
    rounds: dict[str, list[dict[str, Figure]]] = {name: [] for name in names}
    for number in range(arguments.rounds):
        for name in names:
            print(f"round {number + 1}: {name}", file=sys.stderr)
            sizes = FULL if arguments.full else SHORT
            rounds[name].append(measure(CONTENDERS[name], sizes))
    columns = {
        name: {job: median([r[job] for r in found]) for job in found[0]}
        for name, found in rounds.items()
    }
    place = (
        f"{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"median of {arguments.rounds}"
    )
    print(f"{place}\n\n{table(columns)}")
    if arguments.json is not None:
        figures = {
            name: {
                job: {"value": f.value, "unit": f.unit, "cpu_seconds": f.cpu_seconds}
                for job, f in column.items()
            }
            for name, column in columns.items()
        }
        text = json.dumps({"measured": place, "figures": figures}, indent=1)
        arguments.json.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
