"""The seeds' own programs, against the plain loop that they would replace.

A row tells how many times faster than the loop a contender is, in one process and
in one run; two cores can give 2.0.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.contenders import WORKERS, Contender, Covey
from benchmarks.harness import Figure, Room, Timed

room = Room(__doc__, contenders=("covey", "dask", "futures", "joblib"))


def escape(point: tuple[float, float]) -> int:
    """Return after how many steps a point of the Mandelbrot set escapes."""
    x0, y0 = point
    x = y = 0.0
    steps = 0
    while x * x + y * y < 4 and steps < 180:
        x, y = x * x - y * y + x0, 2 * x * y + y0
        steps += 1
    return steps


def pixels(n: int) -> list[tuple[float, float]]:
    """Return about *n* points of the picture of seed 000, which is four by three."""
    width = max(4, round((4 * n / 3) ** 0.5))
    height = 3 * width // 4
    return [
        (0.1 * column / width - 0.8, 0.15 * row / height - 0.2)
        for column in range(width)
        for row in range(height)
    ]


def times_serial(
    timed: Timed, row: str, n: int, serial: Callable[[], Any], ours: Callable[[], Any]
) -> dict[str, Figure]:
    """Time the loop and the contender, and return their ratios in wall and CPU time."""
    started, cpu_started = time.perf_counter(), time.process_time()
    expected = serial()
    loop = time.perf_counter() - started
    loop_cpu = time.process_time() - cpu_started
    with timed(n):
        found = ours()
    assert expected is None or found == expected
    assert timed.figure is not None
    figure, timed.figure = timed.figure, None
    useful = loop_cpu / (sum(figure.cpu.values()) * n)
    return {
        row: Figure(loop / (figure.value * n), "x", figure.cpu),
        f"{row}; CPU time of the loop / of all": Figure(useful, "x"),
    }


@room.job(
    "000, {n:,} pixels: scatter, map, gather",
    short=48_000,
    full=480_000,
    unit="x",
    needs="scatter",
    must=1.2,
    aim=1.7,
)
def mandelbrot(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Draw by pixel, as seed 000 does; a peer that is slow draws less."""
    points = pixels(n // 32 if cluster.slow else n)
    cluster.gather(cluster.map(escape, points[:64]))

    def ours() -> list[int]:
        client = cluster.client  # type: ignore[attr-defined]
        return cluster.gather(cluster.map(escape, client.scatter(points)))

    row = f"000, {n:,} pixels: scatter, map, gather"
    serial = lambda: [escape(point) for point in points]  # noqa: E731
    return times_serial(timed, row, len(points), serial, ours)


def estimate_pi(points: int) -> tuple[int, float]:
    """Estimate pi from so many random points."""
    import numpy as np

    random = np.random.default_rng()
    x, y = random.uniform(-1, 1, points), random.uniform(-1, 1, points)
    return points, 4 * float(np.sum(np.power(x, 2) + np.power(y, 2) < 1)) / points


@room.job(
    "002, {n:,} Monte Carlo tasks",
    short=120,
    full=1_200,
    unit="x",
    must=1.85,
    aim=1.95,
)
def monte_carlo(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Estimate pi from a thousand to ten million points, as seed 002 does."""
    import numpy as np

    sizes = [int(size) for size in np.logspace(3, 7, num=n)]
    cluster.gather([cluster.submit(estimate_pi, 10) for _ in range(2 * WORKERS)])

    def serial() -> None:
        for size in sizes:
            estimate_pi(size)

    def ours() -> list[Any]:
        return cluster.gather([cluster.submit(estimate_pi, size) for size in sizes])

    return times_serial(timed, f"002, {n:,} Monte Carlo tasks", n, serial, ours)


def nap(number: int) -> int:
    """Sleep for a second."""
    time.sleep(1)
    return number * number


@room.job(
    "003, {n} naps of 1 s on two threads",
    short=10,
    full=10,
    must=5.1,
    aim=5.03,
)
def naps(cluster: Contender, n: int, timed: Timed) -> None:
    """Sleep ten times, as the bag of seed 003 does."""
    cluster.gather([cluster.submit(abs, i) for i in range(2 * WORKERS)])
    with timed():
        values = cluster.gather(cluster.map(nap, range(n)))
    assert values == [number * number for number in range(n)]


@room.job(
    "003, {n} naps of 1 s on ten threads",
    short=10,
    full=10,
    must=1.1,
    aim=1.03,
    needs="sizes",
    started=False,
)
def naps_side_by_side(cluster: Contender, n: int, timed: Timed) -> None:
    """The same where nobody need wait: one worker of ten threads."""
    assert isinstance(cluster, Covey)
    cluster.start(workers=1, threads=10)
    try:
        naps(cluster, n, timed)
    finally:
        cluster.stop()


if __name__ == "__main__":
    room.main()
