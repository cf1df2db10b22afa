"""An edge's way to its scheduler: found again whenever it was lost.

Clients and workers are edges.  When the link breaks, for whatever reason, the edge
looks for the scheduler again, with pauses that grow and differ, and takes up its
session.  Where that is not known any more (the scheduler was started anew, or has
waited too long) the edge presents itself again, with the highest epoch it has seen,
and its owner tells all that it has and wants::

    ┌────────┐  link lost   ┌──────┐  pause over  ┌─────────┐ connected ┌──────────┐
    │  open  │─────────────►│ away │─────────────►│ dialing │──────────►│ greeting │
    └────────┘              └──────┘              └─────────┘           └──────────┘
        ▲                     │  ▲  nobody there │                        │  │
        │        patience over│  └────────────────┴──── lost, or silent ──┘  │
        │         or refused  ▼                                              │
        │                   ended                                            │
        └──────────── Resumed, or Welcome (a report follows) ────────────────┘

A machine without a loop, a clock or a socket: it is told what happened and when,
answers with orders, and says when it wants to be woken.  ``net.uplink`` carries them
out on sockets, the simulator on its played network.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from covey.errors import (
    Closed,
    CoveyError,
    Disconnected,
    NoScheduler,
    Refused,
    RemoteProtocolError,
    StartFailed,
)
from covey.wire.introductions import Gone, Refusal, Resume, Resumed, Welcome
from covey.wire.session import Session

FIRST_PAUSE_SECONDS: Final = 0.02
LONGEST_PAUSE_SECONDS: Final = 0.5

#: A scheduler that is just starting may not have written its secret yet.
REFUSED_SECONDS: Final = 3.0

#: How long the answer to a greeting may take before another try.
GREETING_SECONDS: Final = 5.0

#: The first one has longer: one that is not answered is the end of it all.
FIRST_GREETING_SECONDS: Final = 30.0

#: Between two tries no more than this counts as patience: this process was stopped
#: itself, or its machine slept, and cannot say that the scheduler was not there.
STEP_SECONDS: Final = 15.0


class Dial(NamedTuple):
    """Make a connection to where the scheduler is now."""


class Greet(NamedTuple):
    """Take up the session, with these words."""

    words: Resume


class Introduce(NamedTuple):
    """Say who this edge is, and that it has seen this epoch."""

    epoch: int


class Hang(NamedTuple):
    """Have done with this connection; its end is no news."""


class Open(NamedTuple):
    """The scheduler has taken us in, as somebody new to it."""

    welcome: Welcome


class GoOn(NamedTuple):
    """The session goes on; so many frames of ours have come there."""

    received: int


class Search(NamedTuple):
    """The connection is gone, for this reason; the scheduler is looked for."""

    why: Exception | None


class End(NamedTuple):
    """The scheduler was not found, or refuses us."""

    why: CoveyError


Order: TypeAlias = Dial | Greet | Introduce | Hang | Open | GoOn | Search | End


class Phase(enum.Enum):
    """How an edge stands with its scheduler."""

    NEW = "new"
    AWAY = "away"
    DIALING = "dialing"
    GREETING = "greeting"
    OPEN = "open"
    ENDED = "ended"


class Edge:
    """The way of one edge to its scheduler.

    Args:
        patience_seconds: for how long a scheduler that was lost is looked for.
        draw: returns something between 0 and 1.  Many edges lose one scheduler at
            once; they shall not return at once.
    """

    def __init__(self, patience_seconds: float, draw: Callable[[], float]) -> None:
        self._patience_seconds = patience_seconds
        self._draw = draw
        self.phase = Phase.NEW
        #: The highest epoch that was seen.
        self.epoch = 0
        #: What is taken up; none before the first welcome.
        self.session: Session | None = None
        #: When ``tick`` is to be called; 0 if it need not be.
        self.wake_at = 0.0
        self._pause = FIRST_PAUSE_SECONDS
        self._searched = 0.0
        self._looked_at = 0.0
        self._refused_since: float | None = None
        #: Behind how many frames of the session one stands that we could not read.
        self._misread_at = -1

    # What happens to it.

    def connected(self, now: float) -> list[Order]:
        """A connection to the scheduler stands."""
        self.phase = Phase.GREETING
        if self.session is None:
            self.wake_at = now + FIRST_GREETING_SECONDS
            return [Introduce(self.epoch)]
        self.wake_at = now + GREETING_SECONDS
        return [Greet(Resume(self.session.number, self.session.received))]

    def not_found(self, why: CoveyError, now: float) -> list[Order]:
        """No connection could be made."""
        return self._try_again(why, now)

    def heard(
        self, message: Welcome | Refusal | Resumed | Gone, now: float
    ) -> list[Order]:
        """The scheduler answers a greeting."""
        match message:
            case Refusal():
                return [Hang(), *self._try_again(Refused(message.reason), now)]
            case Gone():
                # Should it be an old scheduler that knows of no newer one, then this
                # tells it.
                return [Introduce(self.epoch)]
            case Welcome() if message.epoch < self.epoch:
                old = Disconnected("an older life of the scheduler answered")
                return [Hang(), *self._try_again(old, now)]
            case Welcome():
                self.epoch = message.epoch
                self.session = Session(message.session)
                self._misread_at = -1
                self._opened()
                return [Open(message)]
            case Resumed():
                self._opened()
                return [GoOn(message.received)]

    def lost(self, why: Exception | None, now: float) -> list[Order]:
        """The connection is gone."""
        if self.phase is Phase.GREETING:
            how = f" ({why})" if why is not None else ""
            return self._try_again(Disconnected(f"the connection broke{how}"), now)
        if self.phase is not Phase.OPEN:
            return []
        if isinstance(why, RemoteProtocolError) and self.session is not None:
            # It may have been damaged on its way.  If it was made so, it would come
            # again and again.
            if self._misread_at == self.session.received:
                return self._end(why)
            self._misread_at = self.session.received
        self._pause = FIRST_PAUSE_SECONDS
        self._searched = 0.0
        self._looked_at = now
        self._refused_since = None
        self._rest(now)
        return [Search(why)]

    def tick(self, now: float) -> list[Order]:
        """It is ``wake_at``; a little too early does no harm."""
        if not self.wake_at or now < self.wake_at:
            return []
        self.wake_at = 0.0
        if self.phase is Phase.AWAY:
            self.phase = Phase.DIALING
            return [Dial()]
        silent = Disconnected("the scheduler does not answer a greeting")
        return [Hang(), *self._try_again(silent, now)]

    def close(self) -> None:
        """It is not needed any more."""
        self.phase = Phase.ENDED
        self.wake_at = 0.0

    # What comes of it.

    def _opened(self) -> None:
        self.phase = Phase.OPEN
        self.wake_at = 0.0

    def _rest(self, now: float) -> None:
        self.phase = Phase.AWAY
        self.wake_at = now + self._pause * (0.5 + 0.5 * self._draw())
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)

    def _try_again(self, why: CoveyError, now: float) -> list[Order]:
        """A try has come to nothing: rest before the next, or give up."""
        if self.phase is Phase.ENDED:
            return []
        if self.session is None or isinstance(why, Closed | StartFailed):
            # Never taken in, or there is nothing to be found any more.
            return self._end(why)
        if isinstance(why, Refused):
            since = self._refused_since = self._refused_since or now
            if now - since > REFUSED_SECONDS:
                return self._end(why)
        else:
            self._refused_since = None
        self._searched += min(now - self._looked_at, STEP_SECONDS)
        self._looked_at = now
        if self._searched > self._patience_seconds:
            return self._end(
                NoScheduler(
                    f"the scheduler was not found again within "
                    f"{self._patience_seconds:g} s; last: {why}"
                )
            )
        self._rest(now)
        return []

    def _end(self, why: CoveyError) -> list[Order]:
        self.close()
        return [End(why)]
