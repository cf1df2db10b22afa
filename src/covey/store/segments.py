"""Blocks of memory that several processes of a machine map.

A segment is a memfd: a file without a name that lives in memory and is gone with
the last process that holds it, so nothing is left behind by a crash.  Another
process of the same user opens it through ``/proc``::

    runner: Segment.create(size)         fd 7 ─┐
            path = /proc/4711/fd/7             │ same pages,
    agent:  adopt(path, size)     own fd 9 ────┤ no copy
            ("took": the runner closes fd 7)   │
    others: open_segment(/proc/<agent>/fd/9) ──┘ mapped read-only

Where there is no memfd (macOS) a temporary file of mode 0600 does the same; its
name is removed when the holder closes it.
"""

from __future__ import annotations

import mmap
import os
import stat
import sys
from collections.abc import Sequence
from typing import Final

from covey.payload import Buffer, layout_size, write_layout

_HAS_MEMFD: Final = sys.platform == "linux" and hasattr(os, "memfd_create")
_PREFIX: Final = "covey-segment-"


class Segment:
    """A segment that this process made and may write.

    Attributes:
        fd: the open file.
        size: its length in bytes.
        path: under which other processes of this machine can open it, as long
            as this process keeps it open.
    """

    __slots__ = ("_named", "fd", "path", "size")

    def __init__(self, fd: int, size: int, path: str, *, named: bool) -> None:
        self.fd = fd
        self.size = size
        self.path = path
        self._named = named

    @classmethod
    def create(cls, size: int) -> Segment:
        """Make a segment of *size* bytes.

        Raises:
            OSError: there is no memory, or no file descriptor, left for it.
        """
        if sys.platform == "linux" and _HAS_MEMFD:
            fd = os.memfd_create("covey", os.MFD_CLOEXEC)
            path, named = f"/proc/{os.getpid()}/fd/{fd}", False
        else:
            import tempfile  # it takes 10 ms, and Linux does not need it

            fd, path = tempfile.mkstemp(prefix=_PREFIX)
            named = True
        segment = cls(fd, size, path, named=named)
        try:
            os.ftruncate(fd, size)
        except BaseException:
            segment.close()
            raise
        return segment

    @classmethod
    def of(cls, frames: Sequence[Buffer]) -> Segment:
        """Make a segment that holds the payload of *frames*."""
        size = layout_size([memoryview(frame).nbytes for frame in frames])
        segment = cls.create(size)
        try:
            segment.write_frames(frames)
        except BaseException:
            segment.close()
            raise
        return segment

    def write_frames(self, frames: Sequence[Buffer]) -> None:
        """Lay *frames* out in the segment."""
        with mmap.mmap(self.fd, self.size) as mapped, memoryview(mapped) as view:
            write_layout(view, frames)

    def map(self) -> Mapped:
        """Map it for reading; the mapping outlives ``close``."""
        return Mapped(self.fd, self.size)

    def close(self) -> None:
        """Let go of it; whoever opened it in the meantime keeps it."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        if self._named:
            try:
                os.unlink(self.path)  # noqa: PTH108  # pathlib takes 5 ms to import
            except FileNotFoundError:
                pass


class Mapped:
    """A segment mapped read-only.

    The memory stays mapped for as long as any view into it is alive; nobody
    closes it by hand.

    Attributes:
        view: its bytes.
    """

    __slots__ = ("view",)

    def __init__(self, fd: int, size: int) -> None:
        mapped = mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        self.view = memoryview(mapped)


def _open_checked(path: str, size: int) -> int:
    """Open a segment for reading, if it is what somebody said it is."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise PermissionError(f"{path} is no segment: it is not a regular file")
        if status.st_uid != os.getuid():
            raise PermissionError(
                f"{path} belongs to user {status.st_uid}, not to {os.getuid()}"
            )
        if status.st_size < size or size <= 0:
            raise ValueError(f"{path} has {status.st_size} bytes, not {size}")
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_segment(path: str, size: int) -> Mapped:
    """Map the segment at *path* read-only.

    Raises:
        OSError: it is gone, or belongs to somebody else.
        ValueError: it is shorter than *size*.
    """
    fd = _open_checked(path, size)
    try:
        return Mapped(fd, size)
    finally:
        os.close(fd)


def adopt(path: str, size: int) -> Segment:
    """Open somebody's segment and hold it in their place.

    Afterwards the maker may close it.  The holder cannot write it.

    Raises:
        OSError: it is gone, or belongs to somebody else.
        ValueError: it is shorter than *size*.
    """
    fd = _open_checked(path, size)
    if sys.platform == "linux" and _HAS_MEMFD:
        return Segment(fd, size, f"/proc/{os.getpid()}/fd/{fd}", named=False)
    # A temporary file is held by its name: the maker removes the old one.
    own_path = f"{path}-{os.getpid()}"
    try:
        os.link(path, own_path)
    except BaseException:
        os.close(fd)
        raise
    return Segment(fd, size, own_path, named=True)
