"""HDF5 files, groups and data sets of h5py, which travel by their place.

An open file belongs to one process.  What is open for reading goes as the path of its
file and its name in there, and is opened again where it arrives; nothing of its content
goes along.

What is open for writing does not travel: HDF5 lets no other process open that file
meanwhile, and two processes that write to one file ruin it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from covey.errors import UsageError

#: How h5py may have opened a file that lies on a disk under its name.
_DRIVERS: Final = frozenset({"core", "direct", "sec2", "stdio", "windows"})


def reducers(h5py: ModuleType) -> dict[type, Callable[[Any], Any]]:
    """Return the reducers of h5py's types, for a pickler's ``dispatch_table``."""
    homes = {"File": _reduce_file, "Group": _reduce_part, "Dataset": _reduce_part}
    # While it is being imported, it may not have the name yet.
    return {
        vars(h5py)[name]: reduce for name, reduce in homes.items() if name in vars(h5py)
    }


def open_file(path: str, swmr: bool) -> Any:
    """Open a file for reading; unpickling calls this.

    Args:
        path: of the file.
        swmr: whether it is read while another process writes to it.
    """
    import h5py

    return h5py.File(path, "r", swmr=swmr)


def open_part(path: str, swmr: bool, name: str) -> Any:
    """Open a group or data set called *name* for reading; unpickling calls this."""
    # The file stays open for as long as something of it does.
    return open_file(path, swmr)[name]


def _reduce_file(file: Any) -> tuple[object, ...]:
    return (open_file, _place(file))


def _reduce_part(part: Any) -> tuple[object, ...]:
    place = _place(part)
    if part.name is None:
        raise UsageError("it has no name in its file by which others could open it")
    return (open_part, (*place, part.name))


def _place(part: Any) -> tuple[str, bool]:
    """Return where others find the file of *part*, and whether it is read meanwhile.

    Raises:
        UsageError: another process cannot open it.
    """
    if not part:
        raise UsageError("its file is closed; keep it open until the tasks are done")
    file = part.file
    path = Path(os.fsdecode(file.filename)).absolute()
    if file.mode != "r":
        raise UsageError(
            f"{path} is open for writing here, and HDF5 lets no other process open it "
            "meanwhile. To read it in tasks, close it and open it with mode 'r'; to write "
            "what tasks make, write here: data_set[...] = x.compute(), or "
            "store() and to_hdf5() in `with dask.config.set(scheduler='threads')`"
        )
    if file.driver not in _DRIVERS or not path.exists():
        raise UsageError(
            f"the file {path} of driver {file.driver!r} is not found on a disk under that "
            "name, so that no other process can open it; open it inside the task"
        )
    return str(path), bool(file.swmr_mode)
