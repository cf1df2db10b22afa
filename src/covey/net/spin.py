"""To look again and again before one sleeps.

Who sleeps until something comes has the kernel wake a thread, and mostly a processor as well:
some 50 µs, and on a virtual machine at times ten times that.  Where it comes soon, who has
stayed awake has it at once, and the processor that tells it need not wake anybody::

    sleeps   wait ──► sleep ·············· something comes ──► wake up ──► go on
    spins    wait ──► look, look, look ··· something comes ──► go on

Between two looks the processor is offered to others: of the processes of a round trip one
may have none but this.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from covey import clock

if TYPE_CHECKING:
    import select

#: So long it is looked for: of small tasks all but few have gone to a runner and come back by
#: then, in a slow hour of the machine, too.
SPIN_SECONDS: Final = 1e-3

#: Who gets the processor back so late has others to share it with.  Who sleeps meanwhile is
#: woken before they are done; who spins waits for its turn, which is milliseconds.
LOST_SECONDS: Final = 1e-3

#: Where it was in vain it is not done so many times in a row, at most.
PAUSE_MOST: Final = 63

#: The same where the processor was lost.
PAUSE_SHARED: Final = 1023


class Spin:
    """Looks at a poll for one that waits again and again, as long as that is of use.

    After one in vain it is not done once, then three times, seven times and so on: so what
    takes long costs next to nothing.

    Attributes:
        is_worth_it: whether what is waited for may come that soon: where runners tell early
            words.  On the way by the scheduler the others work for longer than they sleep.
        pause: how often it was left the last time; 0 as soon as somebody has had all that
            he waited for without sleep.
        slept: set when one sleeps.
    """

    __slots__ = ("_left", "is_worth_it", "pause", "slept")

    def __init__(self) -> None:
        self._left = self.pause = 0
        self.is_worth_it = self.slept = False

    def poll(self, poll: select.poll, milliseconds: float) -> list[tuple[int, int]]:
        """Return what *poll* does, and look some times before it may sleep."""
        # What is there already tells nothing of what is to come.
        if come := poll.poll(0):
            return come
        if self.is_worth_it and milliseconds >= 1000.0 * SPIN_SECONDS:
            if self._left:
                self._left -= 1
            elif come := self._look(poll):
                return come
        self.slept = True
        return poll.poll(milliseconds)

    def _look(self, poll: select.poll) -> list[tuple[int, int]]:
        now = clock.monotonic()
        until = now + SPIN_SECONDS
        while True:
            os.sched_yield()
            if come := poll.poll(0):
                return come
            last, now = now, clock.monotonic()
            if now - last > LOST_SECONDS:
                self._left = PAUSE_SHARED
                return []
            if now >= until:
                self._left = self.pause = min(2 * self.pause + 1, PAUSE_MOST)
                return []
