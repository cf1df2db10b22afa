"""How far away a worker is: how long it takes until it has heard, and we have heard of it.

Nobody is asked on purpose.  With a run that is sent anyway, now and then, goes a question
to which the worker's agent knows the answer, whatever its runners do::

    scheduler   Run, Forget()                     Forgot()      so far away
    worker               └──────── at once ───────┘

What it has ahead has to last for that long, and what it told of last is so old by now.
The shorter of the last two answers counts: a slow turn of somebody's loop is no distance.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from covey.wire.worker_link import Forget

if TYPE_CHECKING:
    from covey.scheduler.core.state import SchedulerState, Worker

#: A worker that is sent runs is asked this often.
ASK_SECONDS: Final = 2.0

#: Who seems to be farther away than this was out of reach, or stood still: it is sent no
#: more ahead than one that is as far away as this.
FARTHEST_SECONDS: Final = 1.0

#: And nobody by one answer alone, which may have been late by chance, than this: about as
#: much as lies ahead of a slot next door.
FARTHEST_AT_FIRST_SECONDS: Final = 0.05


class Distance:
    """How far away one worker is, and by what that was found.

    Attributes:
        seconds: how far; 0 as long as nobody knows.
        ask_at: when to ask again; never, while an answer is awaited.
    """

    __slots__ = ("_asked", "_before", "ask_at", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.ask_at = -math.inf
        #: Since when an answer is awaited, if it is, and how long the last one took.
        self._asked: float | None = None
        self._before: float | None = None

    def asks(self, now: float) -> None:
        """The worker is asked now."""
        self.ask_at = math.inf
        self._asked = now

    def answered(self, now: float) -> None:
        """The worker has answered."""
        asked, self._asked = self._asked, None
        if asked is None:
            return  # Another life of the scheduler has asked.
        self.ask_at = now
        seconds = max(0.0, now - asked)
        if seconds == math.inf:
            return
        before, self._before = self._before, seconds
        if before is None:
            # It may have been a late one: another one is asked for with the next run.
            self.seconds = min(seconds, FARTHEST_AT_FIRST_SECONDS)
            return
        self.ask_at += ASK_SECONDS
        self.seconds = min(seconds, before, FARTHEST_SECONDS)

    def interrupted(self) -> None:
        """The link broke: an answer that had to wait for another one tells nothing."""
        if self._asked is not None:
            self._asked = -math.inf


def ask(state: SchedulerState, worker: Worker) -> None:
    """*worker* is sent something: have it answer at once."""
    worker.distance.asks(state.now)
    state.send(worker.peer, Forget(()))


def at_hand(worker: Worker, count: int, backlog: float) -> int:
    """Return how many of *count* tasks, which take *backlog* seconds, lie there to be run.

    Of what *worker* is known to have, so much is on its way to it, or has ended there and
    news of it are on their way to us, as its slots do while one comes and goes.
    """
    away = worker.distance.seconds * worker.slots
    if not away:
        return count
    if backlog <= away:
        return 0
    # A part of a task lies there as a whole one, or next door there were always room for one
    # more; but for what is lost in counting with fractions.
    return math.ceil(count - count * away / backlog - 1e-9)
