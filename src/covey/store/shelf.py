"""The shelf: which bytes rest on this machine, by task id.

Small values lie as stretches of packs, one record for thousands of consecutive
tasks; a large value lies in a segment of its own.  A stretch is cut when part
of it is dropped.  A pack that is mapped from a file lies like any other.  A small value
of a single task, such as a node of a graph, is nothing but its bytes, until somebody asks
for its stretch.  The shelf never looks into the bytes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final, NamedTuple

from covey.ids import TaskId
from covey.payload import Buffer, Pack
from covey.store.segments import Segment
from covey.store.writeback import Unwritten

#: Stretches of less are not worth a place in a file.
_WORTH_BYTES: Final = 4096


class Filed(NamedTuple):
    """Where a pack of small values lies that was left to the kernel to write.

    Attributes:
        file: that with them.
        at: where the pack begins there.
    """

    file: Unwritten
    at: int


class Stretch:
    """Values of ``base`` to ``base + n - 1``: part of a pack, or a segment."""

    __slots__ = ("_nbytes", "at", "base", "filed", "n", "on_disk", "pack", "segment")

    def __init__(
        self,
        base: TaskId,
        n: int,
        pack: Pack | None,
        at: int,
        segment: Segment | None = None,
        *,
        on_disk: bool = False,
        filed: Filed | None = None,
    ) -> None:
        self.base = base
        self.n = n
        self.pack = pack
        self.at = at
        self.segment = segment
        #: Whether the pack is mapped from a file.
        self.on_disk = on_disk
        self.filed = filed
        self._nbytes = 0 if pack is None else pack.bytes_of(at, at + n)

    def part(self, base: TaskId, n: int) -> Pack:
        """Return the payloads of some tasks of this stretch."""
        assert self.pack is not None
        lo = self.at + base - self.base
        return self.pack.cut(lo, lo + n)

    def view(self, base: TaskId, n: int) -> Pack:
        """Return the payloads of some tasks without copying them."""
        assert self.pack is not None
        at = self.at + base - self.base
        return self.pack.view().cut(at, at + n)

    def look(self, base: TaskId, n: int) -> Pack:
        """Return the payloads of some tasks as they are now.

        What the disk may refuse is copied: it may be something else later.
        """
        pack = self.view(base, n)
        return pack if self.filed is None else Pack(pack.sizes, bytes(pack.data))

    @property
    def unwritten(self) -> Unwritten | None:
        """The file in which these values lie, if that was left to the kernel to write."""
        if self.segment is not None:
            return self.segment.unwritten
        return self.filed.file if self.filed is not None else None

    @property
    def nbytes(self) -> int:
        """How many bytes these values take."""
        return self._nbytes if self.segment is None else self.segment.size


def _rest(stretch: Stretch, base: TaskId, n: int, at: int) -> Stretch:
    """Return what is left of a stretch when its neighbours are dropped.

    As long as one value of a pack is there all of its bytes are.  So what is less than
    a quarter of it is copied out: few bytes, and rarely twice.
    """
    pack = stretch.pack
    assert pack is not None
    rest = Stretch(base, n, pack, at, on_disk=stretch.on_disk, filed=stretch.filed)
    few = _WORTH_BYTES <= pack.nbytes > 4 * rest.nbytes
    if stretch.on_disk or not few:
        return rest
    return Stretch(base, n, pack.copy(at, at + n), 0)


class Shelf:
    """All values of one worker.

    Args:
        on_drop: told of each segment whose value is dropped; closes it, or
            keeps it for something else.

    Attributes:
        small_bytes: of small values in memory.
        loose_bytes: those of them that could as well be mapped from a file.
        filed_bytes: of small values that are.
        segment_bytes: of large values.
    """

    def __init__(
        self, on_drop: Callable[[TaskId, Segment], None] | None = None
    ) -> None:
        self._on_drop = on_drop
        self._stretches: dict[TaskId, Stretch] = {}
        #: Those of a single task that are small, and not worth a place in a file.
        self._singles: dict[TaskId, Buffer] = {}
        #: The bases of stretches longer than one, in order.
        self._starts: list[TaskId] = []
        #: Stretches that could be mapped from a file, those that came first in front.
        self._loose: dict[TaskId, Stretch] = {}
        self.small_bytes = self.loose_bytes = self.filed_bytes = 0
        self.segment_bytes = 0

    def __len__(self) -> int:
        longer = sum(stretch.n for stretch in self._stretches.values())
        return longer + len(self._singles)

    def put(self, base: TaskId, pack: Pack) -> None:
        """Keep small values.  What is there already stays as it is."""
        n = len(pack)
        if n == 1:
            self.put_single(base, pack.data)
        elif any(self.find(base, n)):
            for at in range(n):
                self.put_single(base + at, pack[at])
        else:
            self._enter(Stretch(base, n, pack, 0))

    def put_single(self, task: TaskId, payload: Buffer) -> None:
        """Keep one small value, unless there is one already: as ``put``, with less ado."""
        if task in self._singles:
            return
        if (self._starts or task in self._stretches) and self.at(task) is not None:
            return
        if len(payload) >= _WORTH_BYTES:
            self._enter(Stretch(task, 1, Pack.single(payload), 0))
            return
        self._singles[task] = payload
        self.small_bytes += len(payload)

    def single(self, task: TaskId) -> Buffer | None:
        """Return the bytes of a small value, if it is there."""
        payload = self._singles.get(task)
        if payload is not None:
            return payload
        stretch = self.at(task)
        if stretch is None or stretch.pack is None:
            return None
        return stretch.pack[stretch.at + task - stretch.base]

    def put_segment(self, task: TaskId, segment: Segment) -> bool:
        """Keep a large value.

        Returns:
            False if it is there already: then the new copy is closed.
        """
        if any(self.find(task, 1)):
            segment.close()
            return False
        self._enter(Stretch(task, 1, None, 0, segment))
        self.segment_bytes += segment.size
        return True

    def find(self, base: TaskId, n: int) -> Iterator[tuple[TaskId, int, Stretch]]:
        """Yield what there is of the given tasks: (base, n, stretch), in order."""
        task, end = base, base + n
        while task < end:
            stretch = self.at(task)
            if stretch is None:
                task = self._next(task, end)
                continue
            stop = min(end, stretch.base + stretch.n)
            yield task, stop - task, stretch
            task = stop

    def held(self) -> Iterator[tuple[TaskId, int, int]]:
        """Yield all that is there: (base, n, bytes)."""
        for stretch in self._stretches.values():
            yield stretch.base, stretch.n, stretch.nbytes
        for task, payload in self._singles.items():
            yield task, 1, len(payload)

    def drop(self, base: TaskId, n: int) -> None:
        """Let go of what there is of the given tasks."""
        if n == 1 and self._drop_single(base):
            return
        for start, count, stretch in list(self.find(base, n)):
            if self._drop_single(start):
                continue
            self._strike(stretch)
            if stretch.segment is not None:
                self.segment_bytes -= stretch.segment.size
                self._let_go(start, stretch.segment)
                continue
            before = start - stretch.base
            after = stretch.base + stretch.n - (start + count)
            at = stretch.at + before + count
            for base_of, n_of, at_of in (
                (stretch.base, before, stretch.at),
                (start + count, after, at),
            ):
                if n_of:
                    self._enter(_rest(stretch, base_of, n_of, at_of))

    def _drop_single(self, task: TaskId) -> bool:
        payload = self._singles.pop(task, None)
        if payload is None:
            return False
        self.small_bytes -= len(payload)
        return True

    def segment(self, task: TaskId) -> Segment | None:
        """Return the segment of a large value, if there is one of that task."""
        stretch = self._stretches.get(task)
        return stretch.segment if stretch is not None else None

    def move(self, task: TaskId, segment: Segment) -> None:
        """Keep a value that is there in another segment from now on."""
        stretch = self._stretches[task]
        assert stretch.segment is not None
        self.segment_bytes += segment.size - stretch.segment.size
        stretch.segment = segment

    def hold_as_small(self, task: TaskId, payload: bytes) -> None:
        """Keep a large value that is there as bytes from now on; its segment is free."""
        stretch = self._stretches[task]
        assert stretch.segment is not None
        self.segment_bytes -= stretch.segment.size
        self._strike(stretch)
        self._enter(Stretch(task, 1, Pack.single(payload), 0))

    def loose(self, nbytes: int) -> list[Stretch]:
        """Return stretches in memory of about *nbytes* bytes that a file could hold."""
        found: list[Stretch] = []
        for stretch in self._loose.values():
            if nbytes <= 0:
                break
            nbytes -= stretch.nbytes
            found.append(stretch)
        return found

    def file(self, stretch: Stretch, pack: Pack, filed: Filed | None = None) -> None:
        """Keep the values of *stretch* as *pack*, mapped from a file, if still there.

        Args:
            stretch: where they are now.
            pack: all of them.
            filed: where in which file, if that was left to the kernel to write.
        """
        if self._stretches.get(stretch.base) is stretch:
            self._strike(stretch)
            base, n = stretch.base, stretch.n
            self._enter(Stretch(base, n, pack, 0, on_disk=True, filed=filed))

    def filed_in(self, file: Unwritten) -> list[Stretch]:
        """Return the stretches of small values that are mapped from *file*."""
        found = self._stretches.values()
        return [s for s in found if s.filed is not None and s.filed.file is file]

    def take_out(self, stretch: Stretch, content: bytes) -> None:
        """Keep the values of *stretch* in memory again: *content* is that of its file."""
        filed, pack = stretch.filed, stretch.pack
        assert filed is not None and pack is not None
        whole = Pack(pack.sizes, content[filed.at : filed.at + pack.nbytes])
        base, n, at = stretch.base, stretch.n, stretch.at
        self._strike(stretch)
        self._enter(Stretch(base, n, whole.copy(at, at + n), 0))

    def _let_go(self, task: TaskId, segment: Segment) -> None:
        if self._on_drop is None:
            segment.close()
        else:
            self._on_drop(task, segment)

    def clear(self) -> None:
        """Let go of everything; segments are closed."""
        for stretch in self._stretches.values():
            if stretch.segment is not None:
                stretch.segment.close()
        self._stretches.clear()
        self._singles.clear()
        self._starts.clear()
        self._loose.clear()
        self.small_bytes = self.loose_bytes = self.filed_bytes = 0
        self.segment_bytes = 0

    def _enter(self, stretch: Stretch) -> None:
        self._stretches[stretch.base] = stretch
        if stretch.n > 1:
            insort(self._starts, stretch.base)
        self._count(stretch, 1)

    def _strike(self, stretch: Stretch) -> None:
        del self._stretches[stretch.base]
        if stretch.n > 1:
            del self._starts[bisect_left(self._starts, stretch.base)]
        self._count(stretch, -1)

    def _count(self, stretch: Stretch, sign: int) -> None:
        if stretch.segment is not None:
            return
        nbytes = stretch.nbytes
        if stretch.on_disk:
            self.filed_bytes += sign * nbytes
            return
        self.small_bytes += sign * nbytes
        if nbytes < _WORTH_BYTES:
            return
        self.loose_bytes += sign * nbytes
        if sign > 0:
            self._loose[stretch.base] = stretch
        else:
            del self._loose[stretch.base]

    def at(self, task: TaskId) -> Stretch | None:
        """Return the stretch that a task is part of, if its value is there."""
        stretch = self._stretches.get(task)
        if stretch is not None:
            return stretch
        payload = self._singles.get(task)
        if payload is not None:
            return Stretch(task, 1, Pack.single(payload), 0)
        if not self._starts:
            return None
        index = bisect_right(self._starts, task) - 1
        if index < 0:
            return None
        stretch = self._stretches[self._starts[index]]
        return stretch if task < stretch.base + stretch.n else None

    def _next(self, task: TaskId, end: TaskId) -> TaskId:
        """Return the first id after *task* that may be there, at most *end*."""
        index = bisect_right(self._starts, task)
        stop = end
        if index < len(self._starts):
            stop = min(end, self._starts[index])
        longer, singles = self._stretches, self._singles
        if stop - task > len(longer) + len(singles):
            near = (t for t in chain(longer, singles) if task < t < stop)
            return min(near, default=stop)
        found = (t for t in range(task + 1, stop) if t in longer or t in singles)
        return next(found, stop)
