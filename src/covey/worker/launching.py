"""Starting a runner's process: the program, its environment, and its open files.

Little is imported here, so that a process that somebody waits for can start its
runners first and import the rest of itself while they come up.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from covey.net.scheme import is_join_string

_MARK_BYTES: Final = 16

_THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

#: glibc gives freed memory back when more than this is free, and what is larger than the
#: second comes and goes by itself: each page of it is made anew for the next array, which
#: took a tenth of the time of tasks with arrays of 10 to 20 MB.
_TRIM_VARIABLE: Final = "MALLOC_TRIM_THRESHOLD_"
_MAP_VARIABLE: Final = "MALLOC_MMAP_THRESHOLD_"
_KEPT_BYTES: Final = 128 << 20
_KEPT_PART: Final = 16
#: By itself, glibc comes to these, and keeps up to twice as much free.
_MAPPED_BYTES: Final = 32 << 20

#: These name the environment of this Python, and mislead another one.
_MISLEADING: Final = ("PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


class Launched(NamedTuple):
    """A process that has been started, with our ends of what it holds.

    Attributes:
        process: the process; its stderr is a pipe.
        control: the socket for what concerns all of it.
        slots: a socket for each slot.
        marks: shared memory in which it marks what it runs.
    """

    process: subprocess.Popen[bytes]
    control: socket.socket
    slots: Sequence[socket.socket]
    marks: mmap.mmap


def launch(executable: str, slots: int, environment: dict[str, str]) -> Launched:
    """Start a runner with so many slots.

    Raises:
        OSError: the process cannot be started.
    """
    # What is inherited is closed here in any case, and what is ours if it fails.
    with contextlib.ExitStack() as inherited, contextlib.ExitStack() as undo:
        ours, fds = [], []
        for _ in range(1 + slots):
            end, other = socket.socketpair()
            ours.append(undo.enter_context(end))
            fds.append(inherited.enter_context(other).fileno())
        marks_fd = _marks_file(_MARK_BYTES * slots)
        inherited.callback(os.close, marks_fd)
        marks = undo.enter_context(mmap.mmap(marks_fd, _MARK_BYTES * slots))
        command = [
            executable,
            "-m",
            "covey.runner",
            "--control",
            str(fds[0]),
            "--marks",
            str(marks_fd),
            "--slots",
            ",".join(map(str, fds[1:])),
        ]
        process = subprocess.Popen(
            command,
            pass_fds=[*fds, marks_fd],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
        )
        undo.pop_all()
    _offer_to_the_kernel(process.pid)
    control, *ends = ours
    return Launched(process, control, ends, marks)


def package_path() -> str:
    """Return the folder in which this covey lies."""
    return str(Path(__file__).parent.parent.parent)


def environment(path: str, setup: dict[str, Any], *, own: bool) -> dict[str, str]:
    """Return the environment of a runner: ours, without secrets.

    Args:
        path: the folder where it finds covey.
        setup: what it will be told first; ``environ`` in it is added.
        own: whether it is the Python that we run in.
    """
    found = {
        name: value for name, value in os.environ.items() if not is_join_string(value)
    }
    for name in _THREAD_VARIABLES:
        # BLAS and OpenMP would start one thread per core in every runner.
        found.setdefault(name, "1")
    paths = [path, found.get("PYTHONPATH", "")]
    found["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    if not own:
        for name in _MISLEADING:
            found.pop(name, None)
    found.update(setup.get("environ", {}))
    return found


def heap_variables(memory_bytes: int) -> dict[str, str]:
    """Return variables that let a runner keep some freed memory for the next array.

    Args:
        memory_bytes: the runner's share of what its worker may use.
    """
    kept = min(_KEPT_BYTES, memory_bytes // _KEPT_PART)
    if kept < 2 * _MAPPED_BYTES or any(n.startswith("MALLOC_") for n in os.environ):
        return {}  # The memory is worth more; or somebody has thought about it.
    return {_TRIM_VARIABLE: str(kept), _MAP_VARIABLE: str(_MAPPED_BYTES)}


def _offer_to_the_kernel(pid: int) -> None:
    """When memory runs out, a runner shall be ended before any agent or client."""
    try:
        Path(f"/proc/{pid}/oom_score_adj").write_text("500", "ascii")
    except OSError:
        pass  # No Linux, or it has ended already: then others say so.


def _marks_file(size: int) -> int:
    """Return a descriptor of shared memory in which a runner marks what it runs."""
    if sys.platform == "linux":
        fd = os.memfd_create("covey-marks")
    else:
        import tempfile  # Where there is no memfd; it takes a while to import.

        fd, path = tempfile.mkstemp(prefix="covey-marks-")
        Path(path).unlink()
    os.set_inheritable(fd, True)
    os.ftruncate(fd, size)
    return fd
