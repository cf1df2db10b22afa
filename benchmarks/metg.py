"""The smallest task that is worth running: METG(50 %) of Task Bench.

Slaughter et al. (2020) run graphs of columns over steps and shrink the tasks until half
of the time is overhead; the mean duration of a task at that point is the figure.  The
patterns: ``trivial`` has no dependencies, in ``stencil`` a task takes itself and both
neighbours of the step before, in ``tree`` and ``fft`` itself and a partner at a distance
that halves or doubles.  A task spins for a given time, so that its duration is known.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.contenders import WORKERS, Contender
from benchmarks.harness import Figure, Room, Timed

room = Room(__doc__, contenders=("covey", "dask", "ray"))

#: The durations that are tried, from long to short.
SECONDS = (0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001, 0.00005, 0.00002)

WIDTH = 2 * WORKERS


def spin(seconds: float, *inputs: int) -> int:
    """Keep a core busy for so long, in its own time."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return len(inputs)


def partners(pattern: str, step: int, column: int) -> list[int]:
    """Return the columns whose last results a task takes."""
    if pattern == "trivial":
        return []
    if pattern == "stencil":
        near = (column - 1, column, column + 1)
        return [other for other in near if 0 <= other < WIDTH]
    rounds = max(1, WIDTH.bit_length() - 1)
    power = step % rounds
    distance = 1 << (power if pattern == "fft" else rounds - 1 - power)
    return [column, column ^ distance]


def efficiency(cluster: Contender, pattern: str, seconds: float, steps: int) -> float:
    """Return the share of the time that tasks take of what the cores could give."""
    started = time.perf_counter()
    row: list[Any] = []
    rows: list[Any] = []
    for step in range(steps):
        row = [
            cluster.submit(
                spin,
                seconds,
                *([row[i] for i in partners(pattern, step, column)] if step else []),
            )
            for column in range(WIDTH)
        ]
        rows += row
    cluster.gather(rows)
    took = time.perf_counter() - started
    return steps * WIDTH * seconds / (took * WORKERS)


def metg(cluster: Contender, pattern: str, n: int) -> float:
    """Return the duration at which efficiency falls to a half, between two tried."""
    before: tuple[float, float] | None = None
    for seconds in SECONDS:
        steps = max(4, min(n, int(0.5 / (seconds * WIDTH))))
        share = efficiency(cluster, pattern, seconds, steps)
        if share < 0.5:
            if before is None:
                return seconds
            longer, good = before
            part = (good - 0.5) / (good - share)
            return longer * (seconds / longer) ** part
        before = (seconds, share)
    return SECONDS[-1]


def enter(pattern: str, must: float, aim: float) -> Callable[..., Any]:
    """Enter one pattern as a job."""
    row = f"METG(50 %), {pattern}"

    @room.job(row, short=100, full=400, needs="graph", must=must, aim=aim)
    def job(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
        cluster.gather([cluster.submit(spin, 0.0, i) for i in range(WIDTH)])
        return {row: Figure(metg(cluster, pattern, n), timed.unit)}

    return job


for _pattern, _must, _aim in (
    ("trivial", 200e-6, 30e-6),
    ("stencil", 1e-3, 150e-6),
    ("tree", 1e-3, 150e-6),
    ("fft", 1e-3, 150e-6),
):
    enter(_pattern, _must, _aim)

if __name__ == "__main__":
    room.main()
