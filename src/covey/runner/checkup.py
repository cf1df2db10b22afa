"""What a runner can tell of its machine, for ``covey doctor``."""

from __future__ import annotations

import os
import platform
import resource
import socket
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from covey.store.segments import Segment, open_segment
from covey.version import VERSION

#: Packages whose versions matter, because values of theirs travel.
PACKAGES: Final = ("cloudpickle", "numpy", "pandas", "pyarrow", "dask", "msgspec")


def examine() -> dict[str, Any]:
    """Return facts about this process and its machine, as plain data."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {
        "time": time.time(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "executable": sys.executable,
        "python": platform.python_version(),
        "covey": VERSION,
        "packages": {name: _version_of(name) for name in PACKAGES},
        "open_files": -1 if soft == resource.RLIM_INFINITY else soft,
        "shared_memory": shared_memory_problem(),
    }


def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        pass
    # It may be there without its description: a worker lends it to other Pythons.
    module = sys.modules.get(name)
    if module is None and name == "cloudpickle":
        try:
            module = __import__(name)
        except ModuleNotFoundError:
            return None
    return getattr(module, "__version__", None)


def shared_memory_problem() -> str:
    """Return what is wrong with shared memory here, or nothing."""
    try:
        segment = Segment.of([b"x" * 4096])
        try:
            open_segment(segment.place, segment.size)
        finally:
            segment.close()
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def size_of(data: bytes) -> int:
    """Return how many bytes arrived."""
    return len(data)
