"""Long arguments that go along with their calls, by way of the scheduler.

To bring a value to a worker takes two round trips, one after the other, which is longer
than to hand on what is not very long.  But what is handed on rests in the scheduler for
as long as somebody holds the future of the call.  So a few go along; the next ones are
brought to a worker, until futures of those are let go of.
"""

from __future__ import annotations

import threading
import weakref
from typing import Final

#: Arguments of one call up to this, and those of all calls whose futures are held.
ALONG_BYTES: Final = 256 << 10
ALONG_BYTES_ALL: Final = 4 << 20


class Ticket:
    """Lets arguments go along.  Held for as long as the scheduler has them.

    Attributes:
        nbytes: how long they are.
    """

    __slots__ = ("__weakref__", "nbytes")

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


class Along:
    """Which long arguments of one client have gone along, as long as they are held."""

    def __init__(self) -> None:
        self._tickets: weakref.WeakSet[Ticket] = weakref.WeakSet()
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """How long all of them are."""
        with self._lock:
            return sum([ticket.nbytes for ticket in self._tickets])

    def ticket(self, nbytes: int) -> Ticket | None:
        """Return what lets arguments of so many bytes go along, if they may."""
        if nbytes > ALONG_BYTES or self.nbytes + nbytes > ALONG_BYTES_ALL:
            return None
        ticket = Ticket(nbytes)
        with self._lock:
            self._tickets.add(ticket)
        return ticket
