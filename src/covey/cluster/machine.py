"""What this machine has for us: cores and memory, within its limits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from covey.worker.cgroup import Container

_CGROUP: Final = Path("/sys/fs/cgroup")


def cores(root: Path = _CGROUP) -> int:
    """Return how many cores this process may keep busy."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = _cpu_quota(root)
    return max(1, min(count, int(quota))) if quota else count


def _cpu_quota(root: Path) -> float | None:
    """Return how many cores' worth of time the container gets, if it is limited."""
    words = _words(root / "cpu.max")
    if not words:
        words = _words(root / "cpu/cpu.cfs_quota_us")
        words += _words(root / "cpu/cpu.cfs_period_us")
    try:
        quota, period = map(int, words)
    except ValueError:
        return None  # "max", or no such file: no limit.
    return quota / period if quota > 0 and period > 0 else None


def memory_bytes() -> int:
    """Return how much memory this process may use."""
    total = _total_bytes()
    limit = Container().limit_bytes()
    return total if limit is None else min(total, limit)


def _total_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        # It takes a while to import, and every cluster would wait for it.
        import psutil

        return int(psutil.virtual_memory().total)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text("ascii").split()
    except (OSError, UnicodeDecodeError):
        return []
