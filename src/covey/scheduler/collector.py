"""Sparing Python's garbage collector the tasks that a scheduler knows.

A task is some small objects that refer to each other, and goes as soon as nothing refers to
it any more: there are no circles to be found among them.  Yet the collector looks at all of
them, again and again, which takes a fifth of a second for 200,000 tasks and more for more, and
meanwhile nobody is answered.  So while there are many, all that is there is put out of
its sight once a second.  When they are gone it looks at everything, once.
"""

from __future__ import annotations

import gc
from typing import Final

#: From so many records of tasks on.
MANY: Final = 20_000


class Collector:
    """The collector of a process that belongs to a scheduler.

    Args:
        ours: whether it does; in a user's process it is left alone.
    """

    def __init__(self, *, ours: bool) -> None:
        self._ours = ours
        self._sparing = False

    def spare(self, known: int) -> None:
        """So many records are known; to be called now and then."""
        if not self._ours or not gc.isenabled():
            return
        if known >= MANY:
            self._sparing = True
            gc.freeze()
        elif self._sparing and known < MANY // 2:
            self._sparing = False
            gc.unfreeze()
            gc.collect()
            gc.freeze()
