"""Memory in which a client writes one value after the other for the worker of its machine.

To open memory and map it anew for each value takes longer than to copy the value.  So
a client makes segments of its own, which it keeps mapped, and the worker adopts them::

    client: OwnSegment ── fill ──► adopted ──► dropped, read by nobody
               ▲  mapped all the time                      │
               └──────────── lent again ◄── pool of the worker

The kernel does not count the one who made a memfd among those who have it open.  So the
worker can still find out whether somebody reads what is there (page 13), and the client
writes only where the worker has lent it to him.

When the worker needs the memory for something else, it cuts the pages out of the file:
what the client keeps mapped is empty then, and takes none.  A worker that dies takes
nothing away: what the client has made it can bring to another one.
"""

from __future__ import annotations

import mmap
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from covey.ids import TaskId
from covey.payload import HEAD_BYTES, Buffer, layout_parts, read_layout, read_stamp
from covey.store.files import new_stamp, write_frames
from covey.store.pool import capacity_for
from covey.store.segments import Segment, adopt

#: Whether this system has what it takes.
AVAILABLE: Final = sys.platform == "linux" and hasattr(os, "memfd_create")

#: What is smaller is no large argument.  Neighbours of those make one value of some hundred
#: kilobytes, which takes a tenth less to bring this way, and outlives its worker.
WORTH_BYTES: Final = 1 << 16

#: Pages are mapped in; what cannot be had is an error, and no signal.  In memory that is
#: shared they can be written afterwards, and to map them in for reading takes a third of
#: the time: sixteen at once, where it is each by itself for writing.
_MADV_POPULATE_READ: Final = 22

#: What is copied with the interpreter lock held goes in such pieces: others have it in
#: between.
_PIECE_BYTES: Final = 2 << 20

_PLACE: Final = re.compile(r"(/proc/\d+/fd/\d+)@[0-9a-f]+")


class OwnSegment:
    """A segment that this process has made, and fills again and again.

    Args:
        capacity: its length in bytes.

    Raises:
        OSError: there is no file descriptor left.
    """

    __slots__ = ("_doomed", "_fd", "_filled", "_view", "_writing", "capacity")

    def __init__(self, capacity: int) -> None:
        assert sys.platform == "linux"
        self._fd = os.memfd_create("covey", os.MFD_CLOEXEC)
        self.capacity = capacity
        self._filled = False
        self._view: memoryview | None = None
        self._writing = threading.Lock()
        self._doomed = False
        try:
            os.ftruncate(self._fd, capacity)
        except BaseException:
            self.close()
            raise

    def fill(self, frames: Sequence[Buffer]) -> str:
        """Write the payload of *frames*; return where others find it.  For a thread.

        Raises:
            OSError: there is no memory left, or it was closed.
        """
        with self._writing:
            try:
                stamp = self._write(frames)
                return f"/proc/{os.getpid()}/fd/{self._fd}@{stamp:x}"
            finally:
                if self._doomed:
                    self._end()

    def _write(self, frames: Sequence[Buffer]) -> int:
        if self._fd < 0:
            raise OSError("the worker is gone for which it was made")
        if self._filled and self._map():
            stamp = new_stamp()
            self._copy(layout_parts(frames, stamp))
            return stamp
        # Fresh memory: it costs least when it is written like a file.
        stamp = write_frames(self._fd, frames)
        self._filled = True
        return stamp

    def _map(self) -> bool:
        """Have it mapped for writing, if that can be done."""
        if self._view is None:
            mapped = mmap.mmap(self._fd, self.capacity)
            try:
                mapped.madvise(_MADV_POPULATE_READ)
            except OSError:
                # An older kernel; or there is no memory, of which a write will tell.
                mapped.close()
                return False
            self._view = memoryview(mapped)
        return True

    def _copy(self, parts: Sequence[Buffer]) -> None:
        assert self._view is not None
        at = 0
        for part in parts:
            with memoryview(part) as source:
                _copy(source, self._view[at : at + len(source)])
                at += len(source)

    def read(self, place: str, nbytes: int) -> list[memoryview] | None:
        """Return the frames of what was written at *place*, if they are still there."""
        stamp = int(place.rpartition("@")[2], 16)
        if self._fd < 0 or read_stamp(os.pread(self._fd, HEAD_BYTES, 0)) != stamp:
            return None
        mapped = mmap.mmap(self._fd, nbytes, prot=mmap.PROT_READ)
        return read_layout(memoryview(mapped))

    def close(self) -> None:
        """Let go of it, as soon as nobody writes; what the worker holds of it stays."""
        self._doomed = True
        if self._writing.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._writing.release()

    def _end(self) -> None:
        self._view = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Kept(NamedTuple):
    """A value that was written into a segment of this process.

    Attributes:
        task: whose it is.
        segment: where it is.
        place: what it is called.
        nbytes: how long it is.
    """

    task: TaskId
    segment: OwnSegment
    place: str
    nbytes: int

    def frames(self) -> list[memoryview] | None:
        """Return the value, if it was not taken away meanwhile."""
        return self.segment.read(self.place, self.nbytes)


class Made:
    """The segments that this process has made for one worker, by their numbers."""

    def __init__(self) -> None:
        #: Whether to make any.
        self.able = AVAILABLE
        self._segments: dict[int, OwnSegment] = {}
        #: What was written last into each.
        self._kept: dict[int, Kept] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._segments)

    def make(self, nbytes: int) -> tuple[int, OwnSegment]:
        """Make one for a value of so many bytes.

        Raises:
            OSError: there is no file descriptor left.
        """
        segment = OwnSegment(capacity_for(nbytes))
        self._last += 1
        self._segments[self._last] = segment
        return self._last, segment

    def again(self, number: int) -> OwnSegment | None:
        """Return one that was made before, to be written once more."""
        self._kept.pop(number, None)
        return self._segments.get(number)

    def keep(self, number: int, task: TaskId, place: str, nbytes: int) -> None:
        """The value of *task* stands in one of them."""
        segment = self._segments.get(number)
        if segment is not None:
            self._kept[number] = Kept(task, segment, place, nbytes)

    def kept(self) -> Iterator[Kept]:
        """Yield the values that are there, as far as this is known."""
        yield from self._kept.values()

    def forget(self, number: int) -> None:
        """The worker uses one no more."""
        self._kept.pop(number, None)
        segment = self._segments.pop(number, None)
        if segment is not None:
            segment.close()

    def part(self, is_wanted: Callable[[TaskId], bool]) -> list[Kept]:
        """The worker is gone: return what is wanted of the values, close the rest."""
        left = [kept for kept in self._kept.values() if is_wanted(kept.task)]
        stay = {kept.segment for kept in left}
        for segment in self._segments.values():
            if segment not in stay:
                segment.close()
        self._segments.clear()
        self._kept.clear()
        return left


def adopt_own(place: str, nbytes: int, capacity: int) -> Segment:
    """Hold, in a worker, what a client has written into memory of its own.

    Args:
        place: where the client says that it is.
        nbytes: how long the value is.
        capacity: how much memory may be behind it.

    Raises:
        OSError: it is gone, belongs to another user, or is something else.
        ValueError: it is shorter than *nbytes*, or longer than *capacity*.
    """
    named = _PLACE.fullmatch(place)
    if named is None:
        raise ValueError("that is no place of a segment")
    segment = adopt(place, nbytes)
    is_memory = os.readlink(f"/proc/self/fd/{segment.fd}").startswith("/memfd:covey ")  # noqa: PTH115  # pathlib takes 5 ms to import
    if not is_memory or segment.capacity > capacity:
        segment.close()
        raise ValueError(
            f"{named[1]} is no memory of covey, or of {segment.capacity:,} bytes"
        )
    return segment


def _copy(source: memoryview, target: memoryview) -> None:
    """Copy bytes; without the interpreter lock and at full speed where numpy is loaded.

    Whoever has a large value mostly has it.  In one piece the processor writes past its
    caches, which takes half the time.
    """
    # While another thread imports it, it is there and has nothing in it.
    frombuffer = getattr(sys.modules.get("numpy"), "frombuffer", None)
    if frombuffer is not None and len(source) > _PIECE_BYTES:
        frombuffer(target, "u1")[:] = frombuffer(source, "u1")
        return
    for start in range(0, len(source), _PIECE_BYTES):
        end = start + _PIECE_BYTES
        target[start:end] = source[start:end]
