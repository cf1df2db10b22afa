"""A heap of ready spans, some of which lie there no more.

Nothing is searched for when a span is dealt or released: it says that it lies elsewhere,
and is thrown out when it comes to the top.  Where many have left that never come there,
all of them are thrown out at once, since they keep their arguments in memory.
"""

from __future__ import annotations

from heapq import heapify, heappop
from typing import Any, Final

#: So many may have left, besides half of what is there, before they are thrown out.
_LEFT_MAX: Final = 64


class Heap(list[Any]):
    """Entries (rank, span), the lowest on top: see ``heapq``."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        super().__init__()
        #: About how many of the spans here have left.
        self.left = 0

    def clear(self) -> None:
        """Throw everything out."""
        super().clear()
        self.left = 0

    def pop_left(self) -> None:
        """Throw out the top, which has left."""
        heappop(self)
        if self.left:
            self.left -= 1

    def leave(self) -> None:
        """A span that lay here lies here no more, and says so."""
        self.left += 1
        if self.left > _LEFT_MAX + len(self) // 2:
            self[:] = [entry for entry in self if entry[1].queue is self]
            heapify(self)
            self.left = 0
