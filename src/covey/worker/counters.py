"""Where the kernel counts what processes and their groups use."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

_PIECE_BYTES: Final = 1 << 14


def words_of(path: str | Path) -> list[bytes]:
    """Return the words in one of the kernel's files; none if it cannot be read.

    Without the buffers and decoders of files, which cost more than the kernel does:
    an idle worker does little else than this.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = b""
            while piece := os.read(file, _PIECE_BYTES):
                text += piece
            return text.split()
        finally:
            os.close(file)
    except OSError:
        return []


def cpu_seconds(pid: int) -> float | None:
    """Return the processor time that a process has used; ``None`` if it is gone."""
    if sys.platform == "linux":
        try:
            # The number of a process's clock is made of its pid; see
            # clock_getcpuclockid(3), which Python has no call for.
            return time.clock_gettime((~pid << 3) | 2)
        except OSError:
            pass  # It has ended; or the kernel only looks like Linux.
    import psutil  # To import it costs what an idle cluster uses in ten seconds.

    try:
        used = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return float(used.user + used.system)
