"""The disk of the scheduler's machine, with a journal on it, and what becomes of that.

What is written survives the death of the process; what is flushed survives that of
the machine, and of the rest some beginning, cut anywhere.  When the disk is full the
journal ends, and stays valid.  The next life begins with it anew.  All as
``scheduler.journal`` promises it; what the records look like, and what is made of
them, is the real thing.
"""

from __future__ import annotations

from random import Random
from typing import Final

from covey.ids import ClientId
from covey.scheduler.core import journaling
from covey.scheduler.core.books import Record
from covey.scheduler.core.machine import SchedulerCore
from covey.wire import records as wire
from covey.wire.client_link import Detach

#: It is written anew when it has grown by this, which real ones do much later.
_GROWN_BYTES: Final = 4 << 10


class Journal:
    """One journal, over all lives of the scheduler."""

    def __init__(self) -> None:
        self._data = wire.MAGIC
        #: How much of it is on the disk, come what may.
        self._flushed = len(wire.MAGIC)
        self._least = len(wire.MAGIC)
        #: Whether there is no room, and whether this life has given up therefore.
        self.full = False
        self.ended = False

    def records(self) -> list[Record]:
        """Return what it says."""
        contents = wire.decode(self._data)
        return [(ClientId(number), message) for number, message in contents.records]

    def begin(self, records: list[Record]) -> None:
        """Write it anew; where there is no room for that, it stays as it is."""
        self.ended = self.full
        if not self.full:
            self._data = wire.MAGIC + wire.encode(records)
            self._flushed = self._least = len(self._data)

    def note(self, core: SchedulerCore) -> None:
        """Write down what has come."""
        records = core.take_records()
        if not records or self.ended:
            return
        if self.full:
            self.ended = True
            return
        self._data += wire.encode(records)
        if any(isinstance(message, Detach) for _, message in records):
            self.flush()
        if len(self._data) > self._least + _GROWN_BYTES:
            self.begin(journaling.live(core.state, self.records()))

    def flush(self) -> None:
        """Let all that was written be on the disk."""
        if not self.ended:
            self._flushed = len(self._data)

    def lose_power(self, rng: Random) -> None:
        """The machine goes down: of what was not flushed a beginning is left."""
        loose = len(self._data) - self._flushed
        self._data = self._data[: self._flushed + rng.randrange(loose + 1)]

    def unfinished(self) -> list[Record]:
        """Return what was to run to its end, and is not known to have.

        A journal that has ended knows nothing any more of what has happened since.
        """
        if self.ended:
            return []
        return journaling.Wishes(self.records()).detached
