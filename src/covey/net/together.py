"""What is done now and then in one event loop, done in one wake-up.

To wake a process that has long slept costs more than most of what it then does: the
caches are cold.  So what comes round once a second or more seldom is put on whole seconds
of the loop's own, and all that falls on one of them has a single timer::

    beat    |         |         |          asked for: after 1 s
    memory  |         |         |          after 1 s
    status  |                   |          after 2 s
            0         1         2

The first time comes up to a second sooner than was asked for, and never more
than a timer's error later.  The seconds of each loop begin when it first asks, so that
the processes of a machine do not all wake at once.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from typing import Final

#: All that is done now and then is done at multiples of this.
GRID_SECONDS: Final = 1.0

#: Timers ring a little early: so many seconds count as none.
_EARLY_SECONDS: Final = 0.005


class Due:
    """Something that is to be done once."""

    __slots__ = ("_at", "_call")

    def __init__(self, at: float, call: Callable[[], object]) -> None:
        self._at = at
        self._call: Callable[[], object] | None = call

    def when(self) -> float:
        """Return the time of the loop at which it is done."""
        return self._at

    def cancel(self) -> None:
        """Do it not."""
        self._call = None

    def run(self) -> None:
        """Do it, unless it was cancelled."""
        if self._call is not None:
            self._call()


class _Seconds:
    """The seconds of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._begin = loop.time()
        #: What is done at which of them.
        self._due: dict[int, list[Due]] = {}

    def after(self, seconds: float, call: Callable[[], object]) -> Due:
        passed = self.loop.time() - self._begin
        number = math.floor((passed + seconds + _EARLY_SECONDS) / GRID_SECONDS)
        at = self._begin + number * GRID_SECONDS
        due = Due(at, call)
        others = self._due.get(number)
        if others is None:
            self._due[number] = [due]
            self.loop.call_at(at, self._ring, number)
        else:
            others.append(due)
        return due

    def _ring(self, number: int) -> None:
        for due in self._due.pop(number):
            # Each by itself: one that fails takes no other along.
            self.loop.call_soon(due.run)


class _Here(threading.local):
    """The seconds of the loop that this thread has run last."""

    def __init__(self) -> None:
        self.seconds: _Seconds | None = None


_here: Final = _Here()


def call_later(seconds: float, call: Callable[[], object]) -> Due | asyncio.TimerHandle:
    """Have *call* done after *seconds* or a little sooner, with what else is due then.

    What is to be done sooner than in a second has a timer of its own.
    """
    loop = asyncio.get_running_loop()
    if seconds < GRID_SECONDS:
        return loop.call_later(seconds, call)
    here = _here.seconds
    if here is None or here.loop is not loop:
        here = _here.seconds = _Seconds(loop)
    return here.after(seconds, call)
