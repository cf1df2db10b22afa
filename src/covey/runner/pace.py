"""How long a slot keeps outcomes back while it has more to do."""

from __future__ import annotations

from typing import Final

#: Outcomes wait at most this long while there is more to do, at first ...
FLUSH_SECONDS: Final = 0.001

#: ... and twice as long each time up to this, while a slot is kept busy: every
#: message costs the agent and the scheduler about what some hundred results cost.
FLUSH_MOST_SECONDS: Final = 0.012

#: Those of a range wait a little longer, for a multiple of this to be full: what takes
#: groups of these tasks is not torn apart then.
LATE_SECONDS: Final = 0.001
EVEN: Final = 64


class Pace:
    """When a slot sends what it has settled.

    Most often that is where a batch ends, a little earlier or later than its time would
    be: what the batches before and after it came to would else be told in two messages::

        batches     ├─────────────────┤├─────────────────┤├───────
        time is up               ·                ·
        sent                          ▲                  ▲

    Attributes:
        deadline: when to send next; minus infinity once the slot was given away.
        steady: whether the slot has been busy for a while.
    """

    __slots__ = ("_late", "_patience", "deadline", "steady")

    def __init__(self) -> None:
        self.deadline = 0.0
        self.steady = False
        self._patience = FLUSH_SECONDS
        #: Whether the deadline was put off already.
        self._late = False

    def begin(self, now: float) -> None:
        """The slot has waited for work, and now has some."""
        self._patience = FLUSH_SECONDS
        self.deadline = now + FLUSH_SECONDS
        self._late = self.steady = False

    def sent(self, now: float) -> None:
        """All that was settled has been sent."""
        self.deadline = now + self._patience
        self._patience = min(FLUSH_MOST_SECONDS, 2 * self._patience)
        self._late, self.steady = False, True

    def give_away(self) -> None:
        """The slot is another one's: stop at the next occasion."""
        self.deadline = float("-inf")
        self._late = True

    def waits(self, now: float, done: int, left_seconds: float) -> bool:
        """Time is up: whether to send nothing yet.

        Args:
            now: the time.
            done: how many tasks of the batch have ended.
            left_seconds: how long the rest of it should take.
        """
        if left_seconds <= self._patience / 2 and not self._late:
            self._late = True
            self.deadline = now + self._patience / 2
            return True
        return done % EVEN != 0 and now < self.deadline + LATE_SECONDS

    def is_due(self, now: float) -> bool:
        """Whether to send now, where a batch ends."""
        return self._late or now >= self.deadline - self._patience / 2
