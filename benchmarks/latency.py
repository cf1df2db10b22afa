"""How long one task takes, from ``submit`` to its result in hand."""

from __future__ import annotations

import time

from benchmarks.contenders import Contender
from benchmarks.harness import Figure, Room, Timed, quantiles

room = Room(__doc__, apart=True)


def inc(number: int) -> int:
    """Do as little as a task can."""
    return number + 1


#: No slower than this peer, in the median and at the end of the tail.
AHEAD = {"futures": 1.0}


@room.job(
    "submit(inc, i).result(), median",
    short=500,
    full=3_000,
    must=350e-6,
    aim=150e-6,
    ahead=AHEAD,
)
def round_trip(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Submit one task and wait for it, again and again."""
    for number in range(-100, 0):
        cluster.result(cluster.submit(inc, number))
    samples = []
    with timed(n):
        for number in range(n):
            started = time.perf_counter()
            value = cluster.result(cluster.submit(inc, number))
            samples.append(time.perf_counter() - started)
            assert value == number + 1
    assert timed.figure is not None
    cpu, timed.figure = timed.figure.cpu, None
    median, late = quantiles(samples)
    return {
        "submit(inc, i).result(), median": Figure(median, "s", cpu),
        "submit(inc, i).result(), 99th percentile": Figure(late, "s"),
    }


room.ask("submit(inc, i).result(), 99th percentile", must=2e-3, aim=500e-6, ahead=AHEAD)

if __name__ == "__main__":
    room.main()
