"""Which large values are in memory, which on disk, and which go there first.

A pure table: no bytes, no files, no clock.  A value is in one of four places::

            ┌──► aside: it was mapped when it was looked at last
            ▼
    put ──► memory ──choose──► leaving ──left──► disk ◄── put: another worker's file
               ▲                  │               │
               ├────── stays ─────┘               │
               └─────────────── back ─────────────┘       drop: from any of them

Memory that somebody maps would not become free, so such a value is put aside.  A few of
those are looked at again each time, in turn: however many there are, nobody waits long.

``choose`` takes what is cold and cheap to bring back.  To read a value again costs
a seek and a transfer, so that a byte of a large value is cheaper than one of a
small value.  Each value's rank is what the clock showed when it was used last,
plus that cost of a byte; the lowest rank goes, and sets the clock (this is the
rule known as GreedyDual-Size).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

from covey.ids import TaskId

#: What it takes to read a value again: a seek, and so many bytes in a second.
_SEEK_SECONDS: Final = 0.01
_BYTES_PER_SECOND: Final = 500e6

#: So many values that somebody maps are looked at in one go.
LOOKS: Final = 128

_MEMORY, _ASIDE, _LEAVING, _DISK = range(4)


class _Entry:
    """One large value."""

    __slots__ = ("nbytes", "place", "rank")

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.place = _MEMORY
        self.rank = 0.0


class Ledger:
    """The large values of one worker.

    Attributes:
        memory_bytes: of values in memory, those aside or leaving included.
        aside_bytes: of values that were mapped when they were looked at last.
        leaving_bytes: of values that are being written to disk.
        disk_bytes: of values that are on disk.
    """

    def __init__(self) -> None:
        self.memory_bytes = 0
        self.aside_bytes = 0
        self.leaving_bytes = 0
        self.disk_bytes = 0
        #: Those that are aside, in the order in which they were looked at.
        self._aside: OrderedDict[TaskId, _Entry] = OrderedDict()
        self._entries: dict[TaskId, _Entry] = {}
        #: Ranks as they were; an entry's own rank says whether one still holds.
        self._ranks: list[tuple[float, TaskId]] = []
        self._clock = 0.0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, task: TaskId, nbytes: int, *, on_disk: bool = False) -> None:
        """A value has come, and takes *nbytes* bytes of memory, or of the disk."""
        assert task not in self._entries
        entry = self._entries[task] = _Entry(nbytes)
        if on_disk:
            entry.place = _DISK
            self.disk_bytes += nbytes
            return
        self.memory_bytes += nbytes
        self._rank(task, entry)

    def rests(self, task: TaskId) -> bool:
        """Whether a value is in memory, and on its way nowhere."""
        entry = self._entries.get(task)
        return entry is not None and entry.place in {_MEMORY, _ASIDE}

    def touch(self, task: TaskId) -> None:
        """A value is used."""
        entry = self._entries.get(task)
        if entry is not None and entry.place in {_MEMORY, _LEAVING}:
            self._rank(task, entry)

    def _rank(self, task: TaskId, entry: _Entry) -> None:
        cost = _SEEK_SECONDS / entry.nbytes + 1 / _BYTES_PER_SECOND
        rank = self._clock + cost
        if rank == entry.rank:
            return
        entry.rank = rank
        heappush(self._ranks, (rank, task))
        if len(self._ranks) > 64 + 4 * len(self._entries):
            self._ranks = [(e.rank, t) for t, e in self._entries.items()]
            heapify(self._ranks)

    def drop(self, task: TaskId) -> None:
        """A value is not needed any more."""
        entry = self._entries.pop(task)
        if entry.place == _DISK:
            self.disk_bytes -= entry.nbytes
            return
        self.memory_bytes -= entry.nbytes
        if entry.place == _LEAVING:
            self.leaving_bytes -= entry.nbytes
        elif entry.place == _ASIDE:
            self.aside_bytes -= entry.nbytes
            del self._aside[task]

    def choose(self, nbytes: int, is_pinned: Callable[[TaskId], bool]) -> list[TaskId]:
        """Choose values of about *nbytes* bytes to be written to disk.

        Args:
            nbytes: how much memory is to become free.
            is_pinned: tells of values that must stay where they are.

        Returns:
            Less than was asked for, if many values must stay; the next call looks at
            others.
        """
        self.look_again(is_pinned)
        chosen: list[TaskId] = []
        looks = LOOKS
        while nbytes > 0 and looks > 0 and self._ranks:
            rank, task = heappop(self._ranks)
            entry = self._entries.get(task)
            if entry is None or entry.rank != rank or entry.place != _MEMORY:
                continue
            if is_pinned(task):
                looks -= 1
                self._put_aside(task, entry)
                continue
            self._clock = max(self._clock, rank)
            entry.place = _LEAVING
            self.leaving_bytes += entry.nbytes
            nbytes -= entry.nbytes
            chosen.append(task)
        return chosen

    def look_again(self, is_pinned: Callable[[TaskId], bool]) -> None:
        """Find out which of some values that are aside could leave by now."""
        for _ in range(min(LOOKS, len(self._aside))):
            task, entry = self._aside.popitem(last=False)
            if is_pinned(task):
                self._aside[task] = entry
                continue
            self.aside_bytes -= entry.nbytes
            self._return(task, entry)

    def _put_aside(self, task: TaskId, entry: _Entry) -> None:
        entry.place = _ASIDE
        self.aside_bytes += entry.nbytes
        self._aside[task] = entry

    def _return(self, task: TaskId, entry: _Entry) -> None:
        entry.place = _MEMORY
        entry.rank = 0.0
        self._rank(task, entry)

    def left(self, task: TaskId, nbytes: int) -> None:
        """A value that was leaving is on disk, *nbytes* long, and its memory free."""
        entry = self._entries[task]
        assert entry.place == _LEAVING
        entry.place = _DISK
        self.leaving_bytes -= entry.nbytes
        self.memory_bytes -= entry.nbytes
        entry.nbytes = nbytes
        self.disk_bytes += nbytes

    def back(self, task: TaskId, nbytes: int) -> None:
        """A value that was on disk is in memory again, where it takes *nbytes* bytes."""
        entry = self._entries[task]
        assert entry.place == _DISK
        self.disk_bytes -= entry.nbytes
        entry.nbytes = nbytes
        self.memory_bytes += nbytes
        self._return(task, entry)

    def stays(self, task: TaskId) -> None:
        """A value that was leaving stays in memory: the disk would not have it."""
        entry = self._entries[task]
        assert entry.place == _LEAVING
        self.leaving_bytes -= entry.nbytes
        self._return(task, entry)

    def clear(self) -> None:
        """All values are gone."""
        self._entries.clear()
        self._ranks.clear()
        self._aside.clear()
        self.memory_bytes = self.leaving_bytes = self.disk_bytes = 0
        self.aside_bytes = 0
