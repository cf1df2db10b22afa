"""dask's collections: seconds, and the memory of all processes at its peak.

``--scale 0.5`` halves every size.  The lines that compute are the same for covey, for
``dask.distributed`` (``dask``) and for dask's scheduler of threads (``threads``), which
needs no processes and has no limit of memory.

Memory is what a machine has to have: the anonymous memory of all processes, and each
file in memory (``memfd``) once, however many processes map it.  Five samples are taken
a second, so a short peak can be higher than told.  Bytes on disk are all that the
processes wrote to files: what they spilled, a few logs apart.  Both are told on Linux.

Everybody's workers are fresh: the clock holds their imports of NumPy or pandas as well,
which is a second that small sizes feel.
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import psutil

from benchmarks.contenders import WORKERS, Contender
from benchmarks.harness import Figure, Room, Timed

room = Room(__doc__, contenders=("covey", "dask", "threads"), turn_seconds=3600.0)

GIB = 1 << 30
SAMPLE_SECONDS = 0.2
#: Three processes that have imported data frames need this much before they begin.
LEAST_LIMIT = GIB


class Watch:
    """What this process and all below it use: ``with Watch() as seen: ...``."""

    def __init__(self) -> None:
        self.memory = 0
        self._written: dict[int, int] = {}
        self._before: dict[int, int] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def written(self) -> int:
        """How many bytes went to files meanwhile."""
        return sum(
            count - self._before.get(pid, 0) for pid, count in self._written.items()
        )

    def __enter__(self) -> Self:
        self._sample()
        self._before = dict(self._written)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._sample()

    def _run(self) -> None:
        while not self._end.wait(SAMPLE_SECONDS):
            self._sample()

    def _sample(self) -> None:
        if sys.platform != "linux":
            return  # Others do not tell what is shared.
        me = psutil.Process()
        files: dict[int, int] = {}
        total = 0
        for process in (me, *me.children(recursive=True)):
            with contextlib.suppress(OSError, psutil.Error):  # It has just ended.
                memory = process.memory_info()
                total += memory.rss - memory.shared
                self._written[process.pid] = process.io_counters().write_bytes
                files |= memory_files(process.pid)
        self.memory = max(self.memory, total + sum(files.values()))


def memory_files(pid: int) -> dict[int, int]:
    """Return the bytes of each file in memory that a process holds, by inode."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # It was closed a moment ago.
            if str(entry.readlink()).startswith("/memfd:"):
                seen = entry.stat()
                found[seen.st_ino] = seen.st_blocks * 512
    return found


@contextlib.contextmanager
def scheduler(cluster: Contender, limit: int | None = None) -> Iterator[Any]:
    """Make the contender dask's default scheduler; yield what has its ``get``.

    Args:
        cluster: who it is.
        limit: the bytes that all workers together may use.
    """
    kind = cluster.package
    if kind == "covey":
        from covey import Client

        options = {} if limit is None else {"memory_limit": limit}
        with Client(n_workers=WORKERS, threads_per_worker=1, **options) as client:
            client.gather(client.map(abs, range(2 * WORKERS)))
            yield client
    elif kind == "distributed":
        from distributed import Client as DaskClient

        options = {} if limit is None else {"memory_limit": limit // WORKERS}
        with DaskClient(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, **options
        ) as client:
            yield client
    else:
        import dask
        import dask.threaded

        with dask.config.set(scheduler="threads", num_workers=WORKERS):
            yield dask.threaded


@contextlib.contextmanager
def measured(
    row: str, timed: Timed, figures: dict[str, Figure], *, spills: bool = False
) -> Iterator[None]:
    """Time what is inside, and enter what it used into *figures*."""
    with Watch() as seen, timed():
        yield
    assert timed.figure is not None
    figures[row], timed.figure = timed.figure, None
    if not seen.memory:
        return
    figures[f"{row}: peak memory"] = Figure(float(seen.memory), "B")
    if spills:
        figures[f"{row}: bytes to disk"] = Figure(float(seen.written), "B")


def limit_for(share: float) -> int:
    """Return 2 GiB, or less where less is done, as far as processes can do with it."""
    return max(LEAST_LIMIT, int(2 * GIB * share))


# The seeds.

SEED_001 = "001, {n} random arrays of 1,000,000, dask.array"


@room.job(SEED_001, short=100, full=1000, needs="collections", started=False)
def array_sum(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Sum random numbers as seed 001 does with ``dask.array``."""
    import dask.array as da

    figures: dict[str, Figure] = {}
    with scheduler(cluster), measured(SEED_001.format(n=n), timed, figures):
        x = da.random.random(1_000_000 * n, chunks=1_000_000)
        total = x.sum().compute()
    assert 0.49 < total / (1_000_000 * n) < 0.51
    return figures


BY_HAND = "001, the same {n} as a graph made by hand"


@room.job(BY_HAND, short=100, full=1000, needs="collections", started=False)
def hand_made(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Sum random numbers as the hand-made graph of seed 001 does."""
    import numpy as np

    graph: dict[Any, Any] = {}
    for i in range(n):
        graph["x", i] = (np.random.random, 1_000_000)
        graph["sum", i] = (np.sum, ("x", i))
    graph["total"] = (sum, [("sum", i) for i in range(n)])
    figures: dict[str, Figure] = {}
    with (
        scheduler(cluster) as it,
        measured(BY_HAND.format(n=n), timed, figures),
    ):
        total = it.get(graph, "total")
    assert 0.49 < total / (1_000_000 * n) < 0.51
    return figures


room.ask(SEED_001.format(n=1000), ahead={"dask": 1 / 0.6})
room.ask(BY_HAND.format(n=1000), ahead={"dask": 1 / 0.6})
room.ask(f"{SEED_001.format(n=1000)}: peak memory", must=GIB, aim=GIB / 2)
room.ask(f"{BY_HAND.format(n=1000)}: peak memory", must=GIB, aim=GIB / 2)


def fractal_of(c: Any, fractal: Any, iterations: int = 20) -> Any:
    """Return after how many steps each point escapes: the lines of seed 004."""
    import numpy as np

    fractal *= 0
    fractal += iterations
    z = c
    for i in range(iterations):
        z = z**2 + c
        diverge = np.absolute(z) > 2
        divnow = diverge & (fractal == iterations)
        fractal[divnow] = i
        z[diverge] = 2
    return fractal


FRACTAL = "004, {n} x 12000, chunks (100, 12000)"


room.ask(FRACTAL.format(n=8000), ahead={"dask": 1 / 0.6, "threads": 1 / 1.1})


@room.job(FRACTAL, short=800, full=8000, needs="collections", started=False)
def fractal(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Draw the fractal of seed 004."""
    import dask.array as da
    import numpy as np

    y, x = np.ogrid[-1 : 0 : n * 1j, -1.5 : 0 : 12000 * 1j]
    c = x + y * 1j
    zeros = np.zeros(c.shape, dtype=np.int32)
    figures: dict[str, Figure] = {}
    with scheduler(cluster), measured(FRACTAL.format(n=n), timed, figures):
        chunks = (100, 12000)
        lazy = fractal_of(
            da.from_array(c, chunks=chunks), da.from_array(zeros, chunks=chunks)
        )
        drawn = lazy.compute()
    assert np.array_equal(drawn[:20], fractal_of(c[:20], zeros[:20]))
    return figures


# More than memory.

TRANSPOSE = "(x + x.T)[::2].mean(), {n} x {n} in 100 chunks"


@room.job(TRANSPOSE, short=4000, full=20_000, needs="collections", started=False)
def transpose(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Add an array to itself across the diagonal, with 2 GiB for 3.2 GB."""
    import dask.array as da

    figures: dict[str, Figure] = {}
    with (
        scheduler(cluster, limit_for((n / 20_000) ** 2)),
        measured(TRANSPOSE.format(n=n), timed, figures, spills=True),
    ):
        x = da.random.random((n, n), chunks=n // 10)
        mean = (x + x.T)[::2].mean().compute()
    assert 0.99 < mean < 1.01
    return figures


FRAME = "{n} MB of parquet: groupby, merge"


room.ask(FRAME.format(n=2000), ahead={"dask": 1 / 0.8})


@room.job(FRAME, short=100, full=2000, needs="collections", started=False)
def frame(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Group a data frame and merge it with another one, with 2 GiB for 2 GB."""
    import dask
    import dask.dataframe as dd

    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory(prefix="covey-benchmark-") as folder:
        rows, right_sum = write_frames(Path(folder), n)
        with (
            scheduler(cluster, limit_for(n / 2000)),
            measured(FRAME.format(n=n), timed, figures, spills=True),
        ):
            left = dd.read_parquet(f"{folder}/left")
            right = dd.read_parquet(f"{folder}/right")
            groups = left.groupby("group").agg({"x": "count", "y": "mean"})
            merged = left.merge(right, on="key")
            found, z = dask.compute(groups, merged.z.sum())
    assert found.x.sum() == rows
    assert z == right_sum
    return figures


def write_frames(folder: Path, megabytes: int) -> tuple[int, int]:
    """Write both frames; return the rows of the left, and the sum of what they match."""
    import numpy as np
    import pandas as pd

    drawn = np.random.default_rng(1)
    parts = max(4, megabytes // 25)
    rows = megabytes * 1_000_000 // parts // 24
    keys = max(1000, rows * parts // 20)
    for name in ("left", "right"):
        (folder / name).mkdir()
    total = 0
    for part in range(parts):
        key = drawn.integers(0, keys, rows)
        total += int(key.sum()) * 3
        left = pd.DataFrame(
            {
                "key": key,
                "group": drawn.integers(0, 1000, rows, dtype=np.int32),
                "x": drawn.random(rows),
                "y": drawn.random(rows),
            }
        )
        left.to_parquet(folder / "left" / f"{part:04}.parquet")
    pieces = max(2, parts // 10)
    for part, key in enumerate(np.array_split(drawn.permutation(keys), pieces)):
        right = pd.DataFrame({"key": key, "z": key * 3})
        right.to_parquet(folder / "right" / f"{part:04}.parquet")
    return rows * parts, total


# Many small things.


def record(number: int) -> dict[str, Any]:
    """Return a record of a log."""
    return {"id": number, "name": f"user-{number % 1000}", "amount": number % 97}


def is_odd(found: dict[str, Any]) -> bool:
    """Say whether a record has an odd amount."""
    return bool(found["amount"] % 2)


def name_of(found: dict[str, Any]) -> str:
    """Return whose record it is."""
    return str(found["name"])


def add(total: int, found: dict[str, Any]) -> int:
    """Add up amounts."""
    return total + int(found["amount"])


def plus(a: int, b: int) -> int:
    """Add up totals."""
    return a + b


BAG = "bag of {n:,} records, 1000 in each part: filter, foldby"


room.ask(BAG.format(n=1_000_000), ahead={"dask": 2})


@room.job(BAG, short=100_000, full=1_000_000, needs="collections", started=False)
def bag(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Filter records and fold them by name."""
    import dask.bag as db

    figures: dict[str, Figure] = {}
    with scheduler(cluster), measured(BAG.format(n=n), timed, figures):
        records = db.range(n, npartitions=max(1, n // 1000)).map(record)
        folded = records.filter(is_odd).foldby(name_of, add, 0, plus, 0)
        found = dict(folded.compute())
    assert sum(found.values()) == sum(i % 97 for i in range(n) if i % 97 % 2)
    return figures


def nothing(*_: Any) -> None:
    """Do nothing."""


def random_graph(n: int) -> tuple[dict[Any, Any], list[Any]]:
    """Return a graph of *n* nodes that take one to four others, and what nobody takes."""
    drawn = random.Random(0)
    graph: dict[Any, Any] = {}
    taken = set()
    for i in range(n):
        near = range(max(0, i - 1000), i)
        inputs = {drawn.choice(near) for _ in range(drawn.randint(1, 4)) if i}
        taken |= inputs
        graph["n", i] = (nothing, *(("n", k) for k in inputs))
    return graph, [("n", i) for i in range(n) if i not in taken]


@room.job(
    "random graph of {n:,} nodes that do nothing",
    short=20_000,
    full=100_000,
    unit="1/s",
    needs="collections",
    must=20_000,
    aim=50_000,
    started=False,
)
def random_nodes(cluster: Contender, n: int, timed: Timed) -> None:
    """Run a graph in which only the overhead takes time; from the dict to the values."""
    graph, ends = random_graph(n)
    with scheduler(cluster) as it:
        it.get(random_graph(100)[0], ("n", 99))
        with timed(n):
            values = it.get(graph, ends)
    assert list(values) == [None] * len(ends)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message="Sending large graph")
    room.main()
