"""What a new life of the scheduler remembers of those who come back to it."""

from __future__ import annotations

from typing import Final

from covey.wire.base import Message

#: How long a new life of the scheduler waits for peers of the last one, and for how
#: long nobody may have come back when it waits no more.
WINDOW_SECONDS: Final = 10.0
QUIET_SECONDS: Final = 1.0


#: What a peer says that has come back is kept for so long, if it does not say that
#: this was all.
REPORT_SECONDS: Final = 300.0

#: So long a silence counts at most: in a longer one it may be us who slept.
SILENCE_SECONDS: Final = 10.0


class Returning:
    """A peer that was there before, and has not told all that it has and wants.

    What it says is kept until it is complete, since only the whole makes sense: a
    value that nobody has asked for yet is not to be thrown away, and a task whose
    worker has not reported yet is not to be run again.
    """

    __slots__ = ("_heard", "complete", "messages", "seconds")

    def __init__(self, now: float) -> None:
        #: For how long it has been telling, as far as we were awake.
        self.seconds = 0.0
        self._heard = now
        self.messages: list[Message] = []
        self.complete = False

    def hear(self, messages: list[Message], now: float) -> None:
        """It said more."""
        self.seconds += min(now - self._heard, SILENCE_SECONDS)
        self._heard = now
        self.messages += messages


class Window:
    """The time in which a new life of the scheduler waits for peers of the last."""

    __slots__ = ("closes", "quiet")

    def __init__(self, now: float) -> None:
        #: At the latest then.
        self.closes = now + WINDOW_SECONDS
        #: Then, if nobody else comes back and all have reported; 0: nobody has come.
        self.quiet = 0.0
