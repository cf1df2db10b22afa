"""Sparing Python's garbage collector the tasks that a scheduler knows.

A task is some small objects that refer to each other, and goes as soon as nothing refers to
it any more: there are no circles to be found among them.  Yet the collector looks at all of
them, again and again, which takes a fifth of a second for 200,000 tasks and more for more, and
meanwhile nobody is answered.  So Python goes on by itself to look at what has just been made,
which never takes long, and when to look at everything is for us to say, once a second: while
there are many tasks never, and all that is there is put out of the collector's sight; at
other times as often as Python would.

While very many more tasks come, what has just been made are these, and to look at each of
them once is a tenth of what it costs to take them in: then the collector rests altogether
until the next second.
"""

from __future__ import annotations

import gc
from typing import Final

#: From so many records of tasks on.
MANY: Final = 20_000

#: So many new objects are looked at together: a graph that comes is more than 700 in no
#: time, and most of what an answer is made of has gone before there are so many.
YOUNG: Final = 5000

#: When so many rounds through younger objects have left some, Python looks at all.
ROUNDS: Final = 10

_NEVER: Final = 1 << 30


class Collector:
    """The collector of a process that belongs to a scheduler.

    Args:
        ours: whether it does; in a user's process it is left alone.
    """

    def __init__(self, *, ours: bool) -> None:
        self._ours = ours
        self._sparing = False
        self._older = 0
        self._known = 0
        if ours:
            _, self._older, _ = gc.get_threshold()
            gc.set_threshold(YOUNG, self._older, _NEVER)

    def spare(self, known: int) -> None:
        """So many records are known; to be called now and then."""
        if not self._ours or not gc.isenabled():
            return
        if known >= (MANY // 2 if self._sparing else MANY):
            # What was looked at once is soon out of sight: not again until then.
            many_come = self._sparing and known - self._known >= MANY
            if not many_come:
                # What else is new may be circles, which nobody would ever find again.
                gc.collect(0)
            gc.freeze()
            gc.set_threshold(_NEVER if many_come else YOUNG, _NEVER, _NEVER)
            self._sparing = True
        elif self._sparing:
            self._sparing = False
            gc.set_threshold(YOUNG, self._older, _NEVER)
            gc.unfreeze()
            gc.collect()
            gc.freeze()
        elif gc.get_count()[2] >= ROUNDS:
            gc.collect()
        self._known = known
