"""Maps over all sorts of values: large ones, objects, keywords, closures and futures.

None of them may fall off the path that whole numbers take.  Classes and functions are those
of a program's own ``__main__``, which is what this file is while a turn is taken.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.harness import Room, Timed

room = Room(__doc__)

#: Whom a row with large values is to be ahead of.
PEERS = {"dask": 1.0, "ray": 1.0, "futures": 1.0}

MB, TENTH = 1_000_000, 100_000


class Point:
    """An object of a class that nobody else can import."""

    def __init__(self, x: int) -> None:
        self.x = x

    def moved(self) -> Point:
        """Return another one."""
        return Point(self.x + 1)


def length(value: Any) -> int:
    """Do as little as a task can with what it was given."""
    return len(value)


def place(point: Point) -> int:
    """The same for an object."""
    return point.x


def zeros(nbytes: int) -> bytes:
    """Return so many; a function, for Ray takes a class for an actor."""
    return bytes(nbytes)


def made(x: int) -> Point:
    """Return an object."""
    return Point(x)


def add(left: int, right: int = 1) -> int:
    """Take two numbers."""
    return left + right


def plus_two(number: int) -> int:
    """Call that with a keyword, for whoever's map takes none."""
    return add(number, right=2)


def map_of(
    cluster: Contender,
    timed: Timed,
    function: Callable[..., Any],
    column: Any,
    expected: list[Any],
) -> None:
    """Time a map over *column*, and what it takes to have all of its results."""
    # What has come once is no news to a worker, and memory is warm.
    assert cluster.gather(cluster.map(function, column)) == expected
    with timed(len(column)):
        values = cluster.gather(cluster.map(function, column))
    assert values == expected


def large(
    title: str, short: int, full: int, ahead: dict[str, float] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a row with large values: the time for each."""
    ahead = PEERS if ahead is None else ahead
    return room.job(title, short=short, full=full, needs="map", ahead=ahead)


@large("{n:,} arguments of 1 MB of bytes, each", 100, 200)
def large_bytes(cluster: Contender, n: int, timed: Timed) -> None:
    """Map over long byte strings that nothing can compress."""
    map_of(cluster, timed, length, [os.urandom(MB) for _ in range(n)], [MB] * n)


@large("{n:,} arguments of 100 kB of bytes, each", 500, 1_000)
def medium_bytes(cluster: Contender, n: int, timed: Timed) -> None:
    """Map over shorter ones."""
    map_of(cluster, timed, length, [os.urandom(TENTH) for _ in range(n)], [TENTH] * n)


@large("{n:,} arguments of 1 MB of text, each", 100, 200)
def large_texts(cluster: Contender, n: int, timed: Timed) -> None:
    """Map over long texts."""
    map_of(cluster, timed, length, [f"{i:09} " * TENTH for i in range(n)], [MB] * n)


@large("{n:,} arrays of 1 MB as arguments, each", 100, 200)
def large_arrays(cluster: Contender, n: int, timed: Timed) -> None:
    """Map over arrays, which pickle leaves out of its stream."""
    import numpy as np

    column = [np.full(MB // 8, float(i)) for i in range(n)]
    map_of(cluster, timed, length, column, [MB // 8] * n)


@large("{n:,} lists of 10,000 whole numbers as arguments, each", 200, 500)
def lists(cluster: Contender, n: int, timed: Timed) -> None:
    """Map over lists that are just small enough for a message."""
    draw = random.Random(0)
    column = [[draw.randrange(1 << 30) for _ in range(10_000)] for _ in range(n)]
    map_of(cluster, timed, length, column, [10_000] * n)


@large("{n:,} results of 1 MB of bytes, each", 100, 200)
def large_results(cluster: Contender, n: int, timed: Timed) -> None:
    """Gather long byte strings."""
    map_of(cluster, timed, zeros, [MB] * n, [bytes(MB)] * n)


@large("{n:,} results of 100 kB of bytes, each", 500, 1_000)
def medium_results(cluster: Contender, n: int, timed: Timed) -> None:
    """Gather shorter ones."""
    map_of(cluster, timed, zeros, [TENTH] * n, [bytes(TENTH)] * n)


@room.job(
    "{n:,} objects of a class of __main__ as arguments",
    short=10_000,
    full=20_000,
    unit="1/s",
    needs="map",
    ahead={"dask": 1, "ray": 1, "futures": 1},
)
def objects(cluster: Contender, n: int, timed: Timed) -> None:
    """Map over objects that take their class along."""
    map_of(cluster, timed, place, [Point(i) for i in range(n)], [*range(n)])


@room.job(
    "{n:,} objects of a class of __main__ as results",
    short=10_000,
    full=20_000,
    unit="1/s",
    needs="map",
    ahead={"dask": 1, "ray": 1, "futures": 1},
)
def objects_back(cluster: Contender, n: int, timed: Timed) -> None:
    """Gather such objects."""
    cluster.gather(cluster.map(made, range(100)))
    with timed(n):
        points = cluster.gather(cluster.map(made, range(n)))
    assert [point.x for point in points] == [*range(n)]


@room.job(
    "{n:,} calls with a keyword argument",
    short=20_000,
    full=50_000,
    unit="1/s",
    needs="map",
    must=200_000,
    ahead={"dask": 1, "ray": 1, "futures": 1},
)
def keywords(cluster: Contender, n: int, timed: Timed) -> None:
    """Map with a keyword argument, or with what stands for it where there is none."""
    client = getattr(cluster, "client", None)

    def mapped(column: range) -> Any:
        if client is not None:
            return client.map(add, column, right=2)
        return cluster.map(plus_two, column)

    cluster.gather(mapped(range(-100, 0)))
    with timed(n):
        values = cluster.gather(mapped(range(n)))
    assert values == [*range(2, n + 2)]


@room.job(
    "{n:,} calls of a closure",
    short=20_000,
    full=50_000,
    unit="1/s",
    needs="graph",
    must=200_000,
    ahead={"dask": 1, "ray": 1},
)
def closures(cluster: Contender, n: int, timed: Timed) -> None:
    """Map a lambda that has a variable of its surroundings; a pool takes none."""
    step = 3
    function = lambda number: number + step  # noqa: E731
    cluster.gather(cluster.map(function, range(-100, 0)))
    with timed(n):
        values = cluster.gather(cluster.map(function, range(n)))
    assert values == [*range(step, n + step)]


@room.job(
    "{n:,} calls of a future and a number",
    short=10_000,
    full=20_000,
    unit="1/s",
    needs="graph",
    must=100_000,
    ahead={"dask": 1, "ray": 1},
)
def futures_inside(cluster: Contender, n: int, timed: Timed) -> None:
    """Map over the futures of another map, beside numbers."""
    before = cluster.map(add, range(n))
    cluster.gather(before)
    with timed(n):
        values = cluster.gather(cluster.map(add, before, range(n)))
    assert values == [2 * i + 1 for i in range(n)]


if __name__ == "__main__":
    room.main()
