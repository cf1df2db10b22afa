"""How long it takes to begin, and what it costs to wait.

Starting a cluster is timed to its first result; importing is timed in a fresh
process; an idle cluster is watched for a few seconds.
"""

from __future__ import annotations

import subprocess
import sys
import time

import psutil

from benchmarks.contenders import Contender
from benchmarks.harness import Figure, Room, Timed, cpu_seconds

room = Room(__doc__, contenders=("covey", "dask", "ray", "futures"))


def inc(number: int) -> int:
    """Do as little as a task can."""
    return number + 1


@room.job(
    "import, in a fresh process, the best of {n}",
    short=3,
    full=9,
    must=150e-3,
    aim=60e-3,
    started=False,
)
def importing(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Import the package, less what an empty Python takes; the best of a few."""
    if not cluster.package:
        return {}

    def best(code: str) -> float:
        times = []
        for _ in range(n):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append(time.perf_counter() - started)
        return min(times)

    seconds = best(f"import {cluster.package}") - best("pass")
    row = f"import, in a fresh process, the best of {n}"
    return {row: Figure(seconds, timed.unit)}


@room.job(
    "start a cluster, to the first result",
    short=1,
    full=1,
    must=350e-3,
    aim=150e-3,
    started=False,
)
def starting(cluster: Contender, n: int, timed: Timed) -> None:
    """Start, submit, wait for the result; imports included where they are lazy."""
    del n
    with timed():
        cluster.start()
        assert cluster.result(cluster.submit(inc, 1)) == 2
    cluster.stop()


@room.job(
    "idle, share of a core (percent)",
    short=3,
    full=20,
    unit="%",
    must=0.5,
    aim=0.1,
)
def idle(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Do nothing for *n* seconds, and add up what all processes use."""
    cluster.result(cluster.submit(inc, 1))
    time.sleep(1.0)  # What follows the first task is not idleness yet.
    me = psutil.Process()
    pids = [me.pid, *(child.pid for child in me.children(recursive=True))]
    before = sum(map(cpu_seconds, pids))
    time.sleep(n)
    used = sum(map(cpu_seconds, pids)) - before
    return {"idle, share of a core (percent)": Figure(100 * used / n, timed.unit)}


if __name__ == "__main__":
    room.main()
