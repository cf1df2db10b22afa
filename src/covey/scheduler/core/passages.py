"""Passages: askers who cannot reach a worker, and the workers that call for them.

::

    asked ──────► waiting, under a ticket ── met ──► joined ── one end is lost ──► gone
      │               │ too late, or lost
      └► too many     └► gone

There are never many.  When one too many is asked for, one on which nothing was said for
long makes room.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

End = TypeVar("End")

#: So many at a time, those that wait included; each has two connections.
PASSAGES_MAX: Final = 256

#: A worker that has not called within this time is as little to be reached.
MEET_SECONDS: Final = 3.0

#: A passage on which nothing was said for so long makes room for another one.
IDLE_SECONDS: Final = 60.0


class Passages(Generic[End]):
    """Who waits for a worker, and who is joined with whom.

    Args:
        at_once: how many there may be.
    """

    def __init__(self, at_once: int = PASSAGES_MAX) -> None:
        self._at_once = at_once
        #: By their tickets, in the order in which they came: who waits, since when.
        self._waiting: dict[int, tuple[End, float]] = {}
        self._tickets: dict[End, int] = {}
        self._others: dict[End, End] = {}
        #: When something was said last, by the asker's end; the quietest first.
        self._said: dict[End, float] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._said)

    @property
    def waits(self) -> bool:
        """Whether anybody waits for a worker."""
        return bool(self._waiting)

    def knows(self, end: End) -> bool:
        """Whether somebody waits there, or is joined with another one."""
        return end in self._tickets or end in self._others

    def asked(self, asker: End, ticket: int, now: float) -> tuple[bool, End | None]:
        """Somebody wants to be joined with a worker, which is to say *ticket*.

        Returns:
            Whether there is room, and which joined end is to go to make it.
        """
        idle: End | None = None
        if len(self) >= self._at_once:
            idle = next(iter(self._said), None)
            if idle is None or now - self._said[idle] < IDLE_SECONDS:
                return False, None
            self.lost(idle)
        self._waiting[ticket] = (asker, now)
        self._tickets[asker] = ticket
        return True, idle

    def met(self, ticket: int, keeper: End, now: float) -> End | None:
        """A worker has called; return who waited for that, if he still does."""
        found = self._waiting.pop(ticket, None)
        if found is None:
            return None
        asker, _ = found
        del self._tickets[asker]
        self._others[asker], self._others[keeper] = keeper, asker
        self._said[asker] = now
        return asker

    def said(self, end: End, now: float) -> None:
        """Something has come at one of two joined ends."""
        asker = end if end in self._said else self._others.get(end)
        if asker is not None and self._said.pop(asker, None) is not None:
            self._said[asker] = now

    def lost(self, end: End) -> End | None:
        """One end is gone; return the other one, which is to go, too."""
        ticket = self._tickets.pop(end, None)
        if ticket is not None:
            del self._waiting[ticket]
            return None
        other = self._others.pop(end, None)
        if other is not None:
            del self._others[other]
            self._said.pop(end, None)
            self._said.pop(other, None)
        return other

    def late(self, now: float) -> list[End]:
        """Return those who have waited for too long, and forget them."""
        late = []
        for asker, since in list(self._waiting.values()):
            if now - since < MEET_SECONDS:
                break
            late.append(asker)
            self.lost(asker)
        return late

    def ends(self) -> list[End]:
        """Return all that wait, and all that are joined."""
        return [*self._tickets, *self._others]
