"""Everything to everywhere: what dask's exchanges take, each scheduler in its own way.

covey and dask's threads shuffle data frames and rechunk arrays by tasks, and
``dask.distributed`` by its own exchange (p2p), as each of them does when nobody says anything;
``tasks`` in a row means that ``dask.distributed`` does it by tasks as well.  All workers
together may use half as much memory as the row has data (never less than 1 GiB, so that
says something with ``--full``); threads have no limit.  Memory and bytes on disk are those of ``benchmarks.collections``.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from benchmarks.collections import LEAST_LIMIT, measured, scheduler
from benchmarks.contenders import Contender
from benchmarks.harness import Figure, Room, Timed

room = Room(__doc__, contenders=("covey", "dask", "threads"), turn_seconds=3600.0)

MB = 1_000_000
#: A part of a frame, and a chunk of an array.
PART_MB = 20
#: Eight bytes of key, and eight of each of two values.
ROW_BYTES = 24
KEYS = 1000


def part_of_frame(part: int) -> Any:
    """Return one part of a frame; its keys are drawn from all there are."""
    import numpy as np
    import pandas as pd

    drawn = np.random.default_rng(part)
    rows = PART_MB * MB // ROW_BYTES
    return pd.DataFrame(
        {
            "key": drawn.integers(0, KEYS, rows),
            "x": np.ones(rows),
            "y": drawn.random(rows),
        }
    )


def frame_of(megabytes: int) -> tuple[Any, int]:
    """Return a frame, and how many rows it has."""
    import dask.dataframe as dd

    parts = max(2, megabytes // PART_MB)
    frame = dd.from_map(part_of_frame, range(parts), meta=part_of_frame(0).iloc[:0])
    return frame, parts * (PART_MB * MB // ROW_BYTES)


@contextlib.contextmanager
def by_tasks(chosen: bool) -> Iterator[None]:
    """Let data frames and arrays go by tasks, if that is *chosen*."""
    import dask

    ways = ("dataframe.shuffle.method", "array.rechunk.method")
    with dask.config.set(dict.fromkeys(ways, "tasks") if chosen else {}):
        yield


def limit_of(megabytes: int) -> int:
    """Return the bytes that the workers may use together."""
    return max(LEAST_LIMIT, megabytes * MB // 2)


def keys_in(part: Any) -> Any:
    """Return a frame of one row: how many keys and rows a part has."""
    import pandas as pd

    return pd.DataFrame({"keys": [part.key.nunique()], "rows": [len(part)]})


SHUFFLE = "{n} MB of frames by key"


def shuffled(
    cluster: Contender, n: int, timed: Timed, row: str, tasks: bool
) -> dict[str, Figure]:
    """Bring all rows of a key together, and count the keys of each part."""
    figures: dict[str, Figure] = {}
    frame, rows = frame_of(n)
    with (
        by_tasks(tasks),
        scheduler(cluster, limit_of(n)),
        measured(row.format(n=n), timed, figures, spills=True),
    ):
        found = frame.shuffle("key").map_partitions(keys_in).sum().compute()
    assert found["rows"] == rows
    # Each key is in one part only.
    assert found["keys"] == KEYS
    return figures


@room.job(SHUFFLE, short=200, full=2000, needs="collections", started=False)
def shuffle(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Shuffle a data frame, as each scheduler does by default."""
    return shuffled(cluster, n, timed, SHUFFLE, tasks=False)


SHUFFLE_BY_TASKS = SHUFFLE + ", tasks"


@room.job(SHUFFLE_BY_TASKS, short=200, full=2000, needs="collections", started=False)
def shuffle_by_tasks(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Shuffle a data frame by tasks."""
    return shuffled(cluster, n, timed, SHUFFLE_BY_TASKS, tasks=True)


MERGE = "{n} MB of frames, merge"


def ids_of_part(part: int, parts: int, dealt: bool) -> Any:
    """Return a part of a frame with an id in each row, *dealt* out or one by one."""
    import numpy as np
    import pandas as pd

    rows = PART_MB * MB // 16
    ids = np.arange(rows) * parts + part if dealt else np.arange(rows) + part * rows
    return pd.DataFrame({"id": ids, "x" if dealt else "y": ids % 97})


@room.job(MERGE, short=200, full=2000, needs="collections", started=False)
def merge(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Merge two frames in which every id stands once, in two different orders."""
    import dask.dataframe as dd

    figures: dict[str, Figure] = {}
    parts = max(2, n // 2 // PART_MB)
    left, right = [
        dd.from_map(
            ids_of_part,
            range(parts),
            parts=parts,
            dealt=dealt,
            meta=ids_of_part(0, parts, dealt).iloc[:0],
        )
        for dealt in (True, False)
    ]
    with (
        scheduler(cluster, limit_of(n)),
        measured(MERGE.format(n=n), timed, figures, spills=True),
    ):
        merged = left.merge(right, on="id")
        same = (merged.x == merged.y).sum().compute()
    assert same == parts * (PART_MB * MB // 16)
    return figures


SORT = "{n} MB of frames, set_index"


@room.job(SORT, short=200, full=2000, needs="collections", started=False)
def sort(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Sort a data frame by key: once through for the bounds, once for the rows."""
    figures: dict[str, Figure] = {}
    frame, rows = frame_of(n)
    with (
        scheduler(cluster, limit_of(n)),
        measured(SORT.format(n=n), timed, figures, spills=True),
    ):
        in_order = frame.set_index("key")
        found = in_order.x.sum().compute()
    assert found == rows
    assert in_order.known_divisions
    return figures


APPLY = "{n} MB of frames, groupby.apply"


def widest(group: Any) -> float:
    """Return what cannot be computed from parts of a group."""
    return float(group.y.median())


@room.job(APPLY, short=200, full=2000, needs="collections", started=False)
def apply(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Apply a function to each group of rows with one key."""
    figures: dict[str, Figure] = {}
    frame, _ = frame_of(n)
    with (
        scheduler(cluster, limit_of(n)),
        measured(APPLY.format(n=n), timed, figures, spills=True),
    ):
        medians = frame.groupby("key").apply(widest, meta=("y", float)).compute()
    assert len(medians) == KEYS
    assert medians.between(0.4, 0.6).all()
    return figures


RECHUNK = "{n} MB of an array, from rows to columns"


@room.job(RECHUNK, short=200, full=2000, needs="collections", started=False)
def rechunk(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Turn chunks of whole rows into chunks of whole columns."""
    import dask.array as da

    figures: dict[str, Figure] = {}
    side = int((n * MB / 8) ** 0.5)
    pieces = max(2, n // PART_MB)
    with (
        scheduler(cluster, limit_of(n)),
        measured(RECHUNK.format(n=n), timed, figures, spills=True),
    ):
        rows = da.ones((side, side), chunks=(side // pieces + 1, side))
        columns = rows.rechunk((side, side // pieces + 1))
        found = columns.cumsum(axis=0)[-1].sum().compute()
    assert found == side * side
    return figures


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message="Sending large graph")
    room.main()
