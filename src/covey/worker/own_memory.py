"""What a worker keeps in memory that clients of its machine have made (``store/own.py``).

A client that wants to bring a value is lent, of what it has made itself, what is free;
else, if nothing else is warm, it is promised that it may make some more::

    Borrow ──► lend_back ──► own, lent ─────► PutSegment(own)
       └─────► promise ────► it makes some ─► PutSegment(own, place) ──► adopt
"""

from __future__ import annotations

from functools import partial
from typing import Final

from covey.errors import RemoteProtocolError
from covey.net.link import Link
from covey.store.own import WORTH_BYTES, adopt_own
from covey.store.pool import capacity_for
from covey.store.segments import Segment
from covey.wire.data_link import ForgetOwn, PutSegment
from covey.worker.storage import Promise, Storage

#: A client keeps at most so many mapped, of large ones, and of others: many small values
#: leave a large one its place.
_MADE_MAX: Final = 64
_LARGE_BYTES: Final = 2 << 20


class OwnMemory:
    """The segments of one worker that its clients have made, by link."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._made: dict[Link, dict[int, Segment]] = {}

    def opened(self, link: Link) -> None:
        """Somebody is there."""
        self._made[link] = {}

    def lend_back(self, link: Link, nbytes: int) -> tuple[int, Segment] | None:
        """Lend a free segment that the other side of *link* has made: (number, it)."""
        made = self._made[link]
        if not made:
            return None
        segment = self._storage.lend_one_of(nbytes, set(made.values()))
        if segment is None:
            return None
        return next(number for number, own in made.items() if own is segment), segment

    def promise(self, link: Link, nbytes: int) -> Promise | None:
        """Set room aside for a segment that is to be made, if that is worth it."""
        if nbytes < WORTH_BYTES:
            return None
        is_large = capacity_for(nbytes) >= _LARGE_BYTES
        alike = [
            own
            for own in self._made[link].values()
            if (own.capacity >= _LARGE_BYTES) == is_large
        ]
        if len(alike) >= _MADE_MAX:
            return None
        return self._storage.promise(capacity_for(nbytes))

    def adopt(self, link: Link, message: PutSegment, promise: Promise) -> Segment:
        """Hold what was made on a promise; it is lent from now on.

        Raises:
            OSError: it cannot be opened.
            ValueError: it is not what was promised.
        """
        self._storage.redeem(promise)
        if message.own in self._made[link] or not message.own:
            raise RemoteProtocolError("two segments of a client have one number")
        segment = adopt_own(message.place, message.nbytes, promise.capacity)
        self._made[link][message.own] = segment
        segment.on_close = partial(self._closed, link, message.own)
        return self._storage.admit(segment)

    def take_back(self, link: Link, loan: Segment) -> None:
        """Its maker is gone, or will be: who may still be writing there?"""
        if loan in self._made[link].values():
            self._storage.discard(loan)
        else:
            self._storage.take_back(loan)

    def _closed(self, link: Link, number: int) -> None:
        made = self._made.get(link)
        if made is not None:
            del made[number]
            if not link.lost:
                link.send(ForgetOwn(number))

    def lost(self, link: Link) -> None:
        """Nobody is there any more; what was made stays."""
        self._made.pop(link, None)
