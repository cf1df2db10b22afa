"""What to do about tasks of dask's own that use too much memory.

Nobody wrote these: they put together what was computed, or cut it in another way.
"""

from __future__ import annotations

from typing import Final

_FINALIZE: Final = (
    "This task is dask's own: it puts all pieces of the result together in one process. "
    "Compute a part of it or something smaller made of it, store it piece by piece "
    "(to_zarr, to_parquet), or persist it, which leaves the pieces where they are; or "
    "give the worker a larger memory limit."
)
_RECHUNK: Final = (
    "This task is dask's own: it cuts and joins pieces for a rechunk. Its steps hold "
    "pieces of up to array.chunk-size, 128 MiB if nothing else was set, several at a "
    'time: dask.config.set({"array.chunk-size": "32MiB"}), or chunks that are smaller '
    "before and after; or give the worker a larger memory limit."
)
_SHUFFLE: Final = (
    "This task is dask's own: it sorts the rows of frames by where they are to go. Make "
    "partitions smaller first (repartition), or give the worker a larger memory limit."
)

#: By how their names begin.
_OWN: Final = (
    ("finalize-hlgfinalizecompute-", _FINALIZE),
    ("rechunk-merge-", _RECHUNK),
    ("rechunk-split-", _RECHUNK),
    ("group-taskshuffle-", _SHUFFLE),
    ("split-taskshuffle-", _SHUFFLE),
    ("taskshuffle-", _SHUFFLE),
)


def advise(key: str) -> str:
    """Return what to do about a task that is dask's own; nothing if it is not."""
    return next((said for begin, said in _OWN if key.startswith(begin)), "")
