"""The files of values of which the kernel may still say that the disk refused them."""

from __future__ import annotations

from collections import OrderedDict
from weakref import WeakSet

from covey.ids import TaskId
from covey.store.segments import Segment
from covey.store.writeback import Unwritten


class Unsettled:
    """What of a worker's values was left to the kernel to write.

    Attributes:
        large: segments, by task.
        small: files of small values; each goes with the last of these.
    """

    def __init__(self) -> None:
        #: In the order in which they were asked about, the latest last.
        self.large: OrderedDict[TaskId, Segment] = OrderedDict()
        self.small: WeakSet[Unwritten] = WeakSet()
        #: Whether there may be any.
        self.any = False

    def __bool__(self) -> bool:
        return bool(self.large or self.small)

    def put(self, task: TaskId, segment: Segment) -> None:
        """A value lies in *segment* now."""
        self.large.pop(task, None)
        if segment.unwritten is not None:
            self.large[task] = segment
            self.any = True

    def add(self, file: Unwritten) -> None:
        """Small values lie in *file* now."""
        self.small.add(file)
        self.any = True

    def drop(self, task: TaskId) -> None:
        """A value is gone, or has reached the disk."""
        self.large.pop(task, None)

    def has_doubts(self, looks: int) -> bool:
        """Ask about some of the files, in turn; say whether one was refused.

        Args:
            looks: about how many.
        """
        self.any = bool(self)
        for _ in range(min(looks, len(self.large))):
            task, segment = self.large.popitem(last=False)
            self.large[task] = segment
            if segment.in_doubt():
                return True
        return any(file.in_doubt() for file in self.small)

    def clear(self) -> None:
        """All values are gone."""
        self.large.clear()
        self.small.clear()
        self.any = False
