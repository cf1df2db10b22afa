"""The memory limit of the container that this process is in, if it is in one.

Control groups come in two versions, which spell everything differently, and a limit
may be set on our own group or on any above it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from covey.worker.counters import words_of

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


class Container:
    """The groups that this process was in when this was made, and above.

    Which files there are is found out once: that takes ten times as long as to read
    them, and a worker that has nothing to do does little else than read them.
    """

    def __init__(
        self,
        root: Path = _ROOT,
        membership: Path = _MEMBERSHIP,
        machine: Path = _MACHINE,
    ) -> None:
        groups = tuple(_groups(root, membership))
        self._machine = machine
        self._limits = _files(groups, _LIMIT_FILES)
        self._oom_counts = [
            file for file in _files(groups, _OOM_FILES) if b"oom_kill" in words_of(file)
        ]

    def _limited(self) -> Iterator[tuple[Path, int]]:
        """Yield the groups that have a limit now, with it."""
        for file in self._limits:
            words = words_of(file)
            # No limit is "max", or a number larger than any memory.
            if words and words[0].isdigit() and int(words[0]) < 1 << 60:
                yield file.parent, int(words[0])

    def limit_bytes(self) -> int | None:
        """Return how much memory our groups may use, if they are limited."""
        return min((limit for _, limit in self._limited()), default=None)

    def room_bytes(self) -> int | None:
        """Return how much memory our groups have left, if they are limited.

        Cached files do not count: the kernel lets go of them when it needs to.
        """
        rooms = []
        for group, limit in self._limited():
            for name in _USAGE_FILES:
                words = words_of(group / name)
                if words:
                    cached = _cached_bytes(group)
                    rooms.append(limit - max(0, int(words[0]) - cached))
        return min(rooms, default=None)

    def oom_kills(self) -> int | None:
        """Return how many processes the kernel has ended for memory, if it is known.

        Those of our groups, or, where nothing is counted for them, of the machine.
        """
        counts = list(map(_oom_kills, self._oom_counts or [self._machine]))
        known = [count for count in counts if count is not None]
        return sum(known) if known else None


def _files(groups: Iterable[Path], names: Iterable[str]) -> list[Path]:
    """Return those of the files called so that there are."""
    return [g / name for g in groups for name in names if (g / name).is_file()]


def _oom_kills(file: Path) -> int | None:
    words = words_of(file)
    return int(words[words.index(b"oom_kill") + 1]) if b"oom_kill" in words else None


def _cached_bytes(group: Path) -> int:
    words = words_of(group / "memory.stat")
    stat = dict(zip(words[::2], words[1::2], strict=False))
    # The first version counts groups below it in fields of their own.
    prefix = b"total_" if b"total_inactive_file" in stat else b""
    return sum(int(stat.get(prefix + n, 0)) for n in (b"inactive_file", b"active_file"))
