"""The shapes of the graphs that the RSDS paper measured, with sizes and durations.

Boehm and Beranek, "Runtime vs Scheduler: Analyzing Dask's Overheads" (2020), ran dask's
own collections.  Those make other graphs by now, so the shapes are frozen here: tasks,
what each takes, how long one takes and how many bytes it makes, by kind of task, near
the paper's own table.  ``SHAPES`` has them by the paper's names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Shape:
    """A graph: inputs come before their users.

    Attributes:
        needs: for every task, the tasks that it takes.
        kinds: for every task, an index into the next two.
        seconds: how long a task of each kind takes.
        nbytes: how large a result of each kind is.
    """

    needs: list[tuple[int, ...]] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    nbytes: list[int] = field(default_factory=list)

    def kind(self, seconds: float, nbytes: int) -> int:
        """Enter a kind of task."""
        self.seconds.append(seconds)
        self.nbytes.append(nbytes)
        return len(self.seconds) - 1

    def add(self, kind: int, *needs: int) -> int:
        """Enter a task; return its index."""
        self.needs.append(needs)
        self.kinds.append(kind)
        return len(self.needs) - 1

    def reduce(self, kind: int, tasks: list[int], fan_in: int) -> int:
        """Join tasks, so many at a time, down to one."""
        while len(tasks) > 1:
            tasks = [
                self.add(kind, *tasks[at : at + fan_in])
                for at in range(0, len(tasks), fan_in)
            ]
        return tasks[0]

    @property
    def edges(self) -> int:
        """How many inputs there are in all."""
        return sum(map(len, self.needs))


def merge(n: int) -> Shape:
    """Many tasks of microseconds, and one that takes them all."""
    shape = Shape()
    leaf = shape.kind(6e-6, 27)
    shape.add(leaf, *(shape.add(leaf) for _ in range(n)))
    return shape


def tree(levels: int) -> Shape:
    """A binary tree of additions."""
    shape = Shape()
    node = shape.kind(7e-6, 27)
    shape.reduce(node, [shape.add(node) for _ in range(1 << (levels - 1))], 2)
    return shape


def bag(partitions: int) -> Shape:
    """The product of a bag with itself, filtered and summed up."""
    shape = Shape()
    make = shape.kind(5e-3, 12_000)
    pair = shape.kind(14e-3, 3_200)
    join = shape.kind(1e-3, 100)
    parts = [shape.add(make, shape.add(make)) for _ in range(partitions)]
    pairs = [shape.add(pair, a, b) for a in parts for b in parts]
    shape.reduce(join, [shape.add(pair, task) for task in pairs], 8)
    return shape


def numpy(chunks: int) -> Shape:
    """``x + x.T`` in blocks, then the mean of every other one."""
    shape = Shape()
    random = shape.kind(2.6e-3, 760_000)
    small = shape.kind(2e-3, 1_000)
    side = range(chunks)
    x = {(i, j): shape.add(random) for i in side for j in side}
    y = {(i, j): shape.add(random, x[i, j], x[j, i]) for i in side for j in side}
    half = [shape.add(small, y[i, j]) for i in side for j in side if not (i + j) % 2]
    shape.reduce(small, half, 4)
    return shape


def groupby(partitions: int) -> Shape:
    """Aggregate a time series by a key, and by hour."""
    shape = Shape()
    read = shape.kind(7.7e-3, 500_000)
    chunk = shape.kind(5e-3, 2_000)
    join = shape.kind(3e-3, 2_000)
    frames = [shape.add(read) for _ in range(partitions)]
    sums = [shape.add(chunk, frame) for frame in frames]
    shape.reduce(join, sums, 8)
    hours = [shape.add(chunk, shape.add(chunk, frame)) for frame in frames]
    shape.reduce(join, hours, 8)
    return shape


def join(partitions: int) -> Shape:
    """A shuffle: every part of the result takes a piece of every partition."""
    shape = Shape()
    read = shape.kind(9.8e-3, 9_000)
    piece = shape.kind(1.7e-3, 3_700)
    side = range(partitions)
    frames = [shape.add(read) for _ in side]
    pieces = [[shape.add(piece, frame) for _ in side] for frame in frames]
    joined = [shape.add(read, *(row[i] for row in pieces)) for i in side]
    shape.reduce(piece, joined, 8)
    return shape


def xarray(chunks: int, weeks: int = 52) -> Shape:
    """Anomalies: each block against the mean of its week, then the sum."""
    shape = Shape()
    load = shape.kind(0.4e-3, 3_300)
    blocks = [shape.add(load) for _ in range(chunks)]
    rest = []
    for block in blocks:
        parts = [shape.add(load, block) for _ in range(weeks)]
        means = [shape.add(load, part) for part in parts]
        rest += [shape.add(load, p, m) for p, m in zip(parts, means, strict=True)]
    shape.reduce(load, rest, 8)
    return shape


SHAPES: dict[str, Callable[[], Shape]] = {
    "merge-25K": lambda: merge(25_000),
    "merge-100K": lambda: merge(100_000),
    "tree-15": lambda: tree(15),
    "bag-25K-100": lambda: bag(100),
    "numpy-50K-100": lambda: numpy(88),
    "groupby-1440-1S-8H": lambda: groupby(4_320),
    "join-1-1S-1T": lambda: join(260),
    "xarray-5": lambda: xarray(57),
}
