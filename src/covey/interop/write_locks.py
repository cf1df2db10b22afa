"""The locks that dask and xarray put around writes, and what those write to.

Both ask which scheduler will run the tasks, know the one of ``distributed`` by name, and
take any other for one of threads: what they choose then does not travel, or
guards nothing beyond its process, and runners would write over each other.  So the two
functions that choose are asked here first, and for a client of covey they get

* for a file (xarray's netCDF), a lock that lies beside it;
* for ``dask.array.store(lock=True)`` and the like, which name nothing, one in the
  folder for temporary files of this machine.  On several, that is refused.

And an array of NumPy is no target for ``store``: each process would write a copy of its
own, and nothing would come of it.

With any other scheduler everything stays as it was.
"""

from __future__ import annotations

import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any, Final

from covey.errors import UsageError
from covey.interop.file_lock import FileLock
from covey.interop.on_import import OnImport, put_in_front, scheduling_client

#: What xarray calls a scheduler of processes: each opens a file, writes, closes it.
_OF_PROCESSES: Final = "multiprocessing"


def begin() -> None:
    """Choose the locks from now on, in what has been imported and what will be."""
    _dask.begin()
    _dask_array.begin()
    _xarray.begin()


def end() -> None:
    """Wait for no more imports.  What has been put in place asks whose turn it is."""
    _dask.end()
    _dask_array.end()
    _xarray.end()


# dask.


def _scheduler_lock(theirs: Any) -> Any:
    def get_scheduler_lock(collection: Any = None, scheduler: Any = None) -> Any:
        client = scheduling_client(collections=[collection], scheduler=scheduler)
        if client is None:
            return theirs(collection, scheduler)
        hosts = {seen.host for seen in client.session.engine.workers.values()}
        if len(hosts) > 1:
            raise UsageError(
                f"lock=True asks for a lock that all tasks share, and the workers are on "
                f"{len(hosts)} hosts. If the target takes several writes at once, as Zarr "
                f"does with chunks of its own, say lock=False; else give a lock that all hosts "
                f"share: covey.interop.file_lock.FileLock(path), in a folder they all have"
            )
        return FileLock(Path(tempfile.gettempdir(), f"covey-store-{uuid.uuid4()}"))

    return get_scheduler_lock


def _store(theirs: Any) -> Any:
    def store(sources: Any, targets: Any, *args: Any, **kwargs: Any) -> Any:
        several = isinstance(targets, list | tuple)
        if scheduling_client(scheduler=kwargs.get("scheduler")) is not None and any(
            isinstance(target, sys.modules["numpy"].ndarray)
            for target in (targets if several else (targets,))
        ):
            raise UsageError(
                "store() cannot write into an array of NumPy, nor into one that maps a file: "
                "tasks run in other processes, and each would fill a copy of its own. Say "
                "target[...] = x.compute(), or store into Zarr or files that each task "
                "opens by itself, or say scheduler='threads'"
            )
        return theirs(sources, targets, *args, **kwargs)

    return store


# xarray.


def _scheduler_name(theirs: Any) -> Any:
    def get_dask_scheduler(get: Any = None, collection: Any = None) -> str | None:
        if "dask" in sys.modules and scheduling_client(scheduler=get) is not None:
            return _OF_PROCESSES
        name: str | None = theirs(get, collection)
        return name

    return get_dask_scheduler


def _write_lock(theirs: Any) -> Any:
    def get_write_lock(key: Any) -> Any:
        is_file = isinstance(key, str | Path) and "://" not in str(key)
        if not is_file or "dask" not in sys.modules or scheduling_client() is None:
            return theirs(key)
        path = Path(key)
        return FileLock(path.with_name(f".{path.name}.lock"))

    return get_write_lock


def _in_dask() -> None:
    put_in_front("dask", "get_scheduler_lock", _scheduler_lock)


def _in_dask_array() -> None:
    put_in_front("dask", "store", _store)


def _in_xarray() -> None:
    put_in_front("xarray", "get_dask_scheduler", _scheduler_name)
    put_in_front("xarray", "get_write_lock", _write_lock)


_dask: Final = OnImport("dask.utils", _in_dask)
_dask_array: Final = OnImport("dask.array.core", _in_dask_array)
_xarray: Final = OnImport("xarray.backends.locks", _in_xarray)
