"""The memory limit of the container that this process is in, if it is in one.

Control groups come in two versions, which spell everything differently, and a limit
may be set on our own group or on any above it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

_ROOT: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")

_LIMIT_FILES: Final = ("memory.max", "memory.limit_in_bytes")
_USAGE_FILES: Final = ("memory.current", "memory.usage_in_bytes")
_MACHINE: Final = Path("/proc/vmstat")
_OOM_FILES: Final = ("memory.events", "memory.oom_control")


def _groups(root: Path, membership: Path) -> Iterator[Path]:
    """Yield our own group of each hierarchy that counts memory, and those above it."""
    try:
        lines = membership.read_text("utf-8").splitlines()
    except OSError:
        lines = []
    tops = {"": root, "memory": root / "memory"}
    paths = {
        controller: path
        for _, controllers, path in (line.split(":", 2) for line in lines)
        for controller in controllers.split(",")
        if controller in tops
    }
    for controller, top in tops.items():
        group = top / paths.get(controller, "/").lstrip("/")
        # Inside a container our path may lead nowhere: then the top is our group.
        while group != top and not group.is_dir():
            group = group.parent
        yield group
        while group != top:
            group = group.parent
            yield group


class _Limited(NamedTuple):
    path: Path
    limit: int


def _limited_groups(root: Path, membership: Path) -> Iterator[_Limited]:
    for group in _groups(root, membership):
        for name in _LIMIT_FILES:
            words = _words(group / name)
            # No limit is "max", or a number larger than any memory.
            if words and words[0].isdigit() and int(words[0]) < 1 << 60:
                yield _Limited(group, int(words[0]))


def limit_bytes(root: Path = _ROOT, membership: Path = _MEMBERSHIP) -> int | None:
    """Return how much memory our groups may use, if they are limited."""
    limits = [group.limit for group in _limited_groups(root, membership)]
    return min(limits, default=None)


def room_bytes(root: Path = _ROOT, membership: Path = _MEMBERSHIP) -> int | None:
    """Return how much memory our groups have left, if they are limited.

    Cached files do not count: the kernel lets go of them when it needs to.
    """
    rooms = []
    for group in _limited_groups(root, membership):
        for name in _USAGE_FILES:
            words = _words(group.path / name)
            if words:
                cached = _cached_bytes(group.path)
                rooms.append(group.limit - max(0, int(words[0]) - cached))
    return min(rooms, default=None)


def _cached_bytes(group: Path) -> int:
    words = _words(group / "memory.stat")
    stat = dict(zip(words[::2], words[1::2], strict=False))
    # The first version counts groups below it in fields of their own.
    prefix = "total_" if "total_inactive_file" in stat else ""
    return sum(int(stat.get(f"{prefix}{n}_file", 0)) for n in ("inactive", "active"))


def oom_kills(
    root: Path = _ROOT, membership: Path = _MEMBERSHIP, machine: Path = _MACHINE
) -> int | None:
    """Return how many processes the kernel has ended for memory; ``None`` if unknown.

    Those of our groups, or, where nothing is counted for them, of the machine.
    """
    counts = [
        int(words[words.index("oom_kill") + 1])
        for group in _groups(root, membership)
        for words in (_words(group / name) for name in _OOM_FILES)
        if "oom_kill" in words
    ]
    if counts:
        return sum(counts)
    words = _words(machine)
    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text("ascii").split()
    except (OSError, UnicodeDecodeError):
        return []
