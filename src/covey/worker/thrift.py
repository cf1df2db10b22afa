"""Descriptors for links and runners, however many large values there are.

Each large value has a segment, in memory or on disk, and each segment takes a
descriptor.  When three quarters of what the process may have are in use, large values of
moderate size are kept as bytes, like small ones: these go to disk many to a file, which
takes one descriptor for all of them::

    segment ──(descriptors are scarce)──► bytes ──(memory is scarce)──► a file of many

Who has the place of such a value finds that it is gone, asks, and is sent it.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from covey.ids import TaskId
from covey.store import descriptors
from covey.store.segments import Segment

if TYPE_CHECKING:
    from covey.worker.storage import Storage

#: Values up to this size are kept as bytes, so many for each that comes; so many are
#: looked at for that.
PACKED_BYTES_MAX: Final = 1 << 20
_PACKED_AT_ONCE: Final = 2

#: A file of small values holds as much, at least, when descriptors have been scarce.
FILE_BYTES_MIN: Final = 1 << 20
_LOOKS: Final = 32

#: About so many descriptors a worker has for other things than values.
_OTHERS: Final = 24


class Thrift:
    """Keeps descriptors free for others than values.

    Args:
        storage: the values of the worker.

    Attributes:
        is_needed: whether descriptors have been scarce.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.is_needed = False
        #: Values that could be kept as bytes, in the order of looks at them; and those
        #: that came when descriptors were scarce.
        self._packable: OrderedDict[TaskId, None] = OrderedDict()
        self._beyond: OrderedDict[TaskId, None] = OrderedDict()

    def put(self, task: TaskId, segment: Segment) -> None:
        """A value has come, which lies in *segment*."""
        is_beyond = self.are_scarce(segment.fd)
        if self.is_for(segment):
            (self._beyond if is_beyond else self._packable)[task] = None
        if is_beyond:
            self.save()

    def drop(self, task: TaskId) -> None:
        """A value is gone."""
        self._packable.pop(task, None)
        self._beyond.pop(task, None)

    def clear(self) -> None:
        """All values are gone."""
        self._packable.clear()
        self._beyond.clear()

    def may_file(self) -> bool:
        """Whether there are enough small values for a file, which takes a descriptor."""
        return not self.is_needed or self._storage.shelf.loose_bytes >= FILE_BYTES_MIN

    def are_scarce(self, fd: int) -> bool:
        """Whether there should be no more like *fd*, which was just opened."""
        return descriptors.are_scarce(self._used(fd))

    def _used(self, fd: int) -> int:
        """How many descriptors are in use, at least.

        All numbers below one that was just opened are; but where values were dropped or
        moved there are gaps, which it may have filled.
        """
        return max(fd, self._storage.descriptors_used + _OTHERS)

    def check(self, segment: Segment) -> None:
        """Close a segment that would take one of the descriptors which others need.

        Raises:
            OSError: this was done.
        """
        if descriptors.are_short(self._used(segment.fd)) and not self.save():
            segment.close()
            raise OSError(errno.EMFILE, descriptors.problem("the worker's"))

    def is_for(self, segment: Segment) -> bool:
        """Whether a value is one that could be kept as bytes."""
        return segment.size <= PACKED_BYTES_MAX

    def save(self) -> int:
        """Keep some values as bytes that have segments; return how many."""
        storage = self._storage
        self.is_needed = True
        storage.pool.shrink(storage.pool.free_bytes)
        stays = storage.stays()
        # Those beyond the bound first: where others go, the next take their numbers.
        return self._pack_some(self._beyond, stays) or self._pack_some(
            self._packable, stays
        )

    def _pack_some(
        self, among: OrderedDict[TaskId, None], stays: Callable[[TaskId], bool]
    ) -> int:
        ledger, packed = self._storage.ledger, 0
        for _ in range(min(_LOOKS, len(among))):
            task = next(iter(among))
            if ledger.rests(task) and not stays(task) and self.pack(task):
                packed += 1
            else:
                among.move_to_end(task)
            if packed == _PACKED_AT_ONCE:
                break
        return packed

    def pack(self, task: TaskId) -> bool:
        """Keep a value that is in memory as bytes, if it can be read."""
        self.is_needed = True
        storage = self._storage
        segment = storage.shelf.segment(task)
        assert segment is not None
        try:
            payload = os.pread(segment.fd, segment.size, 0)
        except OSError:
            return False
        storage.ledger.drop(task)
        storage.unsettled.drop(task)
        self.drop(task)
        storage.shelf.hold_as_small(task, payload)
        segment.close()
        return True
