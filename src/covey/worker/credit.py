"""Credit: how much one link may have a worker do for it, and hold for it.

Nothing flows into a worker, or out of it, but against something that was agreed to::

    Get ──────► [Asked: so many wait] ──► answered as fast as it is read
    Borrow ───► [Asked] ──► room? ──► lent ──► PutSegment, or bytes for just that memory

A peer that keeps to this never notices; one that asks and does not read, or sends what
nobody waits for, loses its connection.
"""

from __future__ import annotations

from typing import Final

from covey.errors import RemoteProtocolError
from covey.store.segments import Segment
from covey.worker.storage import Storage

#: So many requests, and extents in them, may wait on one link; askers of ours stay
#: well below.
REQUESTS_MAX: Final = 4096
EXTENTS_MAX: Final = 1 << 20


class Asked:
    """What one link has asked for, and has not taken the answers of.

    Whoever asks for more and more, and reads nothing, is cut off.
    """

    __slots__ = ("extents", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.extents = 0

    def take(self, extents: int) -> None:
        """One more request has come.

        Raises:
            RemoteProtocolError: those are too many.
        """
        alone = not self.requests
        self.requests += 1
        self.extents += extents
        if self.requests > REQUESTS_MAX or (self.extents > EXTENTS_MAX and not alone):
            raise RemoteProtocolError(
                f"{self.requests:,} requests for {self.extents:,} extents wait on one "
                f"link: they are asked, and no answers are read"
            )

    def answered(self, extents: int) -> None:
        """The answer to one was taken by the kernel, at least."""
        self.requests -= 1
        self.extents -= extents


class Granted:
    """The memory for one value, which was set aside before its bytes come."""

    def __init__(self, storage: Storage, segment: Segment) -> None:
        self._storage = storage
        self._segment = segment

    def lend(self, nbytes: int) -> Segment:
        """Return it."""
        del nbytes
        return self._segment

    def take_back(self, segment: Segment) -> None:
        """Nothing came of it."""
        self._storage.take_back(segment)
