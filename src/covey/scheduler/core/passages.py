"""Passages: askers who cannot reach a worker, and the workers that call for them.

::

    asked ──► in line ── there is room ──► called, under a ticket ── met ──► joined
                 │                            │                                │
                 └──────── too late, or lost ─┴──────── one end is lost ───────┴──► gone

There are never many.  Who asks for one too many stands in line; one on which nothing
was said for a while makes room.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

End = TypeVar("End")

#: So many at a time, those that wait included; each has two connections.
PASSAGES_MAX: Final = 256

#: A worker that has not called within this time is as little to be reached.
MEET_SECONDS: Final = 3.0

#: A passage on which nothing was said for so long makes room for another one.
IDLE_SECONDS: Final = 10.0

#: So many may stand in line, and for so long.
LINE_MAX: Final = 1024
LINE_SECONDS: Final = 20.0


class Passages(Generic[End]):
    """Who waits for a worker, and who is joined with whom.

    Args:
        at_once: how many there may be.
    """

    def __init__(self, at_once: int = PASSAGES_MAX) -> None:
        self._at_once = at_once
        #: Who stands in line, for which worker, since when; the first is the first.
        self._line: dict[End, tuple[int, float]] = {}
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
        return bool(self._waiting or self._line)

    def knows(self, end: End) -> bool:
        """Whether somebody waits there, or is joined with another one."""
        return end in self._line or end in self._tickets or end in self._others

    def asked(self, asker: End, worker: int, now: float) -> bool:
        """Somebody wants to be joined with a worker; say whether he may wait for that."""
        if len(self._line) >= LINE_MAX:
            return False
        self._line[asker] = (worker, now)
        return True

    def idle(self, now: float) -> End | None:
        """Return an end that is to go, for others wait, and nothing is said there."""
        if not self._line or len(self) < self._at_once:
            return None
        quietest = next(iter(self._said), None)
        if quietest is None or now - self._said[quietest] < IDLE_SECONDS:
            return None
        self.lost(quietest)
        return quietest

    def call(self, ticket: int, now: float) -> tuple[End, int] | None:
        """Return who is the next and which worker is to call, if there is room.

        It is to say *ticket*.
        """
        if not self._line or len(self) >= self._at_once:
            return None
        asker = next(iter(self._line))
        worker, _ = self._line.pop(asker)
        self._waiting[ticket] = (asker, now)
        self._tickets[asker] = ticket
        return asker, worker

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
        if self._line.pop(end, None) is not None:
            return None
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
        late = [a for a, since in self._waiting.values() if now - since >= MEET_SECONDS]
        late += [
            a for a, (_, since) in self._line.items() if now - since >= LINE_SECONDS
        ]
        for asker in late:
            self.lost(asker)
        return late

    def ends(self) -> list[End]:
        """Return all that wait, and all that are joined."""
        return [*self._line, *self._tickets, *self._others]
