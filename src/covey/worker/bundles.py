"""Many small values for a client on the same machine, in one segment.

Sent through a socket, ten thousand values of 10 KB are copied half a dozen times on
their way.  Here they are written once, into memory that is lent until the client has
mapped it, and are read there::

    shelf ──(a thread writes)──► segment ──Bundle──► client maps it
                                    │◄───Unwrapped──────┘
                                    └──► pool: lingers until the last value is read

What is lent or still read counts as memory of the worker.  So there is never much of
it: beyond that, and for a few values only, messages are the better way.
"""

from __future__ import annotations

from typing import Any, Final

from covey.errors import RemoteProtocolError
from covey.payload import Pack
from covey.store.segments import Segment, payload_size
from covey.wire.data_link import Bundle
from covey.worker.storage import Storage

#: A bundle is closed when it holds so much; one of less is not worth a segment.
BUNDLE_BYTES: Final = 16 << 20
BUNDLE_BYTES_MIN: Final = 1 << 20

#: All that is lent or being read is at most one part in so many of the memory limit.
_PART: Final = 4


class Bundles:
    """The bundles of one worker, by link, until they were opened."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._lent: dict[Any, dict[int, Segment]] = {}
        self._last = 0

    def __len__(self) -> int:
        return sum(map(len, self._lent.values()))

    async def wrap(
        self, link: Any, request: int, parts: list[tuple[int, Pack]]
    ) -> Bundle | None:
        """Write the packs of *parts*, ``(base, pack)``, into a segment and lend it.

        Returns:
            ``None`` if there is no memory for that, or too little in them.
        """
        storage = self._storage
        frames = [pack.data for _, pack in parts]
        nbytes = payload_size(frames)
        in_use = storage.lent_bytes + storage.pool.lingering_bytes
        if nbytes < BUNDLE_BYTES_MIN or in_use + nbytes > storage.limit_bytes // _PART:
            return None
        try:
            segment = await storage.write_new(nbytes, frames)
        except OSError:
            return None
        self._last += 1
        self._lent.setdefault(link, {})[self._last] = segment
        stretches = tuple((base, pack.sizes_bytes()) for base, pack in parts)
        return Bundle(request, self._last, segment.place, nbytes, stretches)

    def unwrapped(self, link: Any, bundle: int) -> None:
        """A bundle was opened: its memory is free as soon as nobody reads there.

        Raises:
            RemoteProtocolError: it was not lent to this link.
        """
        segment = self._lent.get(link, {}).pop(bundle, None)
        if segment is None:
            raise RemoteProtocolError("a bundle was opened that was never lent")
        self._storage.take_back(segment)

    def lost(self, link: Any) -> None:
        """Nobody will open any more what was lent to this link."""
        for segment in self._lent.pop(link, {}).values():
            self._storage.take_back(segment)
