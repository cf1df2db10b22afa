"""Memory of values that were dropped, and that only clients still map.

A result that a client has got is mapped by it.  When its future is let go the value is
dropped, but a view that the user keeps is his as long as he wants it: that is memory of
the client, as if he had made a copy, and no task can be blamed for it::

    dropped, mapped by ──► a runner of this worker     its tasks keep it: it counts
                      └──► nobody but others           a client does: it does not

Which it is, is read from the tables of the runners' mappings, and so only where there is
enough of it to matter, and twice in a second at most.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from covey.store.pool import Reusable

#: Less than this part of the limit is counted without a look.
_WORTH: Final = 1 / 16

#: The tables are not read sooner again than this.
_AGAIN_SECONDS: Final = 0.5

_OURS: Final = b"/memfd:covey"


class Kept:
    """How much of what was dropped is kept by others than the runners."""

    def __init__(self) -> None:
        self._nbytes = 0
        self._again = 0.0

    def look(
        self,
        lingering: Iterable[Reusable],
        lingering_bytes: int,
        limit_bytes: int,
        pids: Iterable[int],
        now: float,
    ) -> None:
        """Find out, if it matters.

        Args:
            lingering: segments without a value that somebody maps.
            lingering_bytes: how much that is.
            limit_bytes: what the worker may use.
            pids: the processes of its runners.
            now: what the clock shows.
        """
        if lingering_bytes < _WORTH * limit_bytes:
            self._nbytes = 0
        elif now >= self._again:
            self._again = now + _AGAIN_SECONDS
            mapped = _mapped_inodes(pids)
            self._nbytes = sum(
                segment.capacity
                for segment in lingering
                if mapped is not None and _inode(segment) not in mapped
            )

    def nbytes(self, lingering_bytes: int) -> int:
        """Return how many of the bytes that linger now that is."""
        return min(self._nbytes, lingering_bytes)


def _inode(segment: Reusable) -> int:
    fd = getattr(segment, "fd", -1)
    return os.fstat(fd).st_ino if fd >= 0 else 0


def _mapped_inodes(pids: Iterable[int]) -> set[int] | None:
    """Return which of our segments these processes map; ``None`` where none can tell."""
    found: set[int] = set()
    for pid in pids:
        try:
            table = Path(f"/proc/{pid}/maps").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            if not Path("/proc/self/maps").exists():
                return None
            continue  # It has just ended.
        except OSError:
            return None
        found |= {
            int(line.split(None, 5)[4]) for line in table.splitlines() if _OURS in line
        }
    return found
