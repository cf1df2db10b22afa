"""Memory that small values have left behind in the heap of the agent.

What is freed there stays with the process until it is asked to give it back, and counts as
used: a worker that holds nothing any more could seem full, and begin nothing for it::

    small values    ▁▃▅▇▇▇▂▁            were here, and are gone
    rest of heap    ▂▂▂▂▂▂▆▇ ─► trim ─► ▂    else the free memory between what is left stays

To give it back takes a moment, and to get it again takes another, so it is done where
memory is wanted or nothing runs, and once in some seconds at most.
"""

from __future__ import annotations

from typing import Final

#: It is worth it from this part of the limit on, within these bounds.
_WORTH: Final = 16
_WORTH_MIN: Final = 8 << 20
_WORTH_MAX: Final = 128 << 20

#: Not sooner again than this.
_AGAIN_SECONDS: Final = 2.0


class Heap:
    """What is known of the heap of the agent."""

    def __init__(self) -> None:
        #: What it held besides small values when these had left nothing behind.
        self._base: int | None = None
        #: The most of small values since then.
        self._most = 0
        self._again = 0.0
        #: Whether small values have left much behind that can be given back.
        self.is_loose = False

    def look(self, heap_bytes: int, small_bytes: int, limit_bytes: int) -> None:
        """Note how large the heap is, and how much of that small values take."""
        rest = heap_bytes - small_bytes
        self._base = rest if self._base is None else min(rest, self._base)
        self._most = max(small_bytes, self._most)
        worth = max(_WORTH_MIN, min(limit_bytes // _WORTH, _WORTH_MAX))
        left_behind = min(rest - self._base, self._most - small_bytes)
        self.is_loose = left_behind > worth

    def may_trim(self, now: float) -> bool:
        """Whether to have it given back now; if so, it counts as done."""
        if not self.is_loose or now < self._again:
            return False
        self._again = now + _AGAIN_SECONDS
        return True

    def trimmed(self) -> None:
        """What could be given back was: what is there from now on is in use."""
        self._base, self._most, self.is_loose = None, 0, False
