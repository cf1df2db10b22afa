"""Blocks of memory that several processes of a machine map.

A segment is a memfd: a file without a name that lives in memory and is gone with
the last process that holds it, so nothing is left behind by a crash.  Another
process of the same user opens it through ``/proc``::

    runner: Segment.create(size)         fd 7 ─┐
            place = /proc/4711/fd/7@5eed       │ same pages,
    agent:  adopt(place, size)    own fd 9 ────┤ no copy
            ("took": the runner closes fd 7)   │
    others: open_segment(/proc/<agent>/fd/9@5eed, size)  mapped read-only

Fresh memory is several times slower to write than memory that was written
before, so a segment whose value is gone holds the next one.  Two things keep
readers safe.  The *stamp* behind the ``@`` stands in the payload, too: who comes
late finds another one and is told that the value is gone.  And a segment is only
used again when the kernel says that nobody else has it open or mapped
(``unshared``): a view is never written under, however long somebody keeps it.

Where there is no memfd (macOS) a temporary file of mode 0600 does the same; its
name is removed when the holder closes it, and it is used once.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import re
import signal
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from covey.payload import (
    HEAD_BYTES,
    Buffer,
    empty_head,
    layout_size,
    read_stamp,
)
from covey.store import descriptors
from covey.store.files import copy, new_stamp, read_all, write, write_frames

if TYPE_CHECKING:
    from covey.store.writeback import Unwritten

_HAS_MEMFD: Final = sys.platform == "linux" and hasattr(os, "memfd_create")
_PREFIX: Final = "covey-segment-"

#: Where a segment without a name is found.
_PLACE: Final = re.compile(r"/proc/[0-9]+/fd/[0-9]+")

#: What the kernel counts the size of files in.
_BLOCK_BYTES: Final = 512


#: These answers mean that others have the file open, or that there is no memory at the
#: moment; any other, that this kernel gives no leases on memory to us at all.
_NOT_NOW: Final = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EINTR, errno.ENOLCK})


class _Leases:
    """Whether leases are given; assumed until one is refused for good."""

    given = sys.platform == "linux"


class Garbled(OSError):
    """The disk has not given back what was written."""


class Segment:
    """A segment that this process holds and may write.

    Attributes:
        fd: the open file.
        size: the length of what it holds, in bytes.
        capacity: the length of the file.
        path: under which other processes of this machine can open it, as long
            as this process keeps it open.
        on_disk: its pages are those of a file on disk, not memory.
        checksum: the CRC-32 of what it holds, where it was written to disk.
        is_guest: another worker keeps it, too, and is the one to use it again.
        on_close: the client that has made it keeps it mapped; told when it ends here.
        unwritten: its file, if that was left to the kernel to write.
    """

    __slots__ = (
        "_named",
        "_stamp",
        "capacity",
        "checksum",
        "fd",
        "is_guest",
        "on_close",
        "on_disk",
        "path",
        "size",
        "unwritten",
    )

    def __init__(
        self, fd: int, size: int, path: str, *, named: bool, on_disk: bool = False
    ) -> None:
        self.fd = fd
        self.on_disk = on_disk
        self.is_guest = False
        self.on_close: Callable[[], None] | None = None
        self.checksum: int | None = None
        self.unwritten: Unwritten | None = None
        self.size = size
        self.capacity = size
        self.path = path
        self._named = named
        self._stamp = 0

    @classmethod
    def create(cls, size: int) -> Segment:
        """Make a segment of *size* bytes.

        Raises:
            OSError: there is no memory, or no file descriptor, left for it.
        """
        if sys.platform == "linux" and _HAS_MEMFD:
            fd, path = _memfd()
            named = False
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
        segment = cls.create(payload_size(frames))
        try:
            segment.write_frames(frames)
        except BaseException:
            segment.close()
            raise
        return segment

    @property
    def held_bytes(self) -> int:
        """How much memory it takes, or how long it is on disk.

        One that was used before may be longer than what it holds, and keeps its pages.
        """
        if self.on_disk:
            return self.size
        return max(self.size, os.fstat(self.fd).st_blocks * _BLOCK_BYTES)

    @property
    def place(self) -> str:
        """Where others find it, and what they will find there."""
        if not self._stamp:
            self._stamp = read_stamp(os.pread(self.fd, HEAD_BYTES, 0))
        return f"{self.path}@{self._stamp:x}"

    def write_frames(self, frames: Sequence[Buffer]) -> None:
        """Lay *frames* out in the segment.

        Raises:
            OSError: there is no memory left; nothing can be read here then.
        """
        self.size = payload_size(frames)
        self._stamp = write_frames(self.fd, frames)

    def write_at(self, offset: int, data: Buffer) -> None:
        """Write a part of a payload that somebody else has laid out.

        Raises:
            OSError: there is no memory left.
        """
        write(self.fd, data, offset)

    def copy_from(self, other: Segment) -> None:
        """Take over what *other* holds.

        Raises:
            OSError: there is no memory left.
            Garbled: it is not what was written there, or cannot be read any more.
        """
        self.filled(other.size)
        try:
            checksum = copy(other.fd, self.fd, other.size)
        except OSError as error:
            # Memory has no such errors, and no segment is shorter than it was.
            if not other.on_disk or error.errno not in {None, errno.EIO}:
                raise
            raise Garbled(
                f"{other.size:,} bytes cannot be read back: {error}"
            ) from error
        if other.checksum not in {None, checksum} or (
            other.checksum is None and other.in_doubt()
        ):
            raise Garbled(
                f"{other.size:,} bytes came back from disk that are not those written"
            )

    def again(self) -> Segment:
        """Open it once more, for a thread: what is dropped meanwhile is closed.

        Raises:
            OSError: there are too many open files.
        """
        again = Segment(os.dup(self.fd), self.size, "", named=False)
        again.checksum, again.on_disk = self.checksum, self.on_disk
        if self.unwritten is not None:
            again.unwritten = self.unwritten.again(again.fd)
        return again

    def in_doubt(self) -> bool:
        """Whether the disk has refused some of what it holds."""
        return self.unwritten is not None and self.unwritten.in_doubt()

    def map(self) -> Mapped:
        """Map it for reading; the mapping outlives ``close``.

        Raises:
            OSError: no file descriptor is left.
        """
        # Opened anew, so that ``unshared`` sees that it is mapped.
        return open_segment(self.place, self.size)

    def offer(self) -> str:
        """Return a place where somebody else may write a payload (``fill``)."""
        self._stamp = new_stamp()
        os.pwrite(self.fd, empty_head(self._stamp), 0)
        return self.place

    def filled(self, size: int) -> None:
        """Somebody has written a payload of *size* bytes here.

        Raises:
            ValueError: it is longer than the segment.
        """
        if not 0 < size <= self.capacity:
            raise ValueError(f"{self.path} has {self.capacity} bytes, not {size}")
        self.size = size
        self._stamp = 0

    def void(self) -> None:
        """Let nobody find in it any more what it held."""
        os.pwrite(self.fd, bytes(HEAD_BYTES), 0)
        self._stamp = 0

    @property
    def reusable(self) -> bool:
        """Whether it is ours to use again, and the kernel tells when.

        Of two workers that both kept it until the other one has let go, neither
        ever would.
        """
        return self._has_leases and not self.is_guest

    @property
    def _has_leases(self) -> bool:
        """Whether it can be found out that nobody else has it any more."""
        return _Leases.given and not self._named

    def is_read(self) -> bool:
        """Whether somebody else has it open or mapped; false if that is unknown."""
        return not self.unshared() and self._has_leases

    def unshared(self) -> bool:
        """Whether nobody else has it open or mapped; false if that is unknown."""
        with self._lease() as alone:
            return alone

    def reclaim(self) -> bool:
        """Void it, if nobody else has it open or mapped; say whether that was so.

        Raises:
            OSError: there is no memory for its first page.
        """
        # Nobody can open it between the look and the deed.
        with self._lease() as alone:
            if alone:
                self.void()
            return alone

    def withdraw(self) -> bool:
        """Take back what was offered, unless somebody writes there, or has written."""
        with self._lease() as alone:
            if alone and read_stamp(os.pread(self.fd, HEAD_BYTES, 0)) == self._stamp:
                self.void()
                return True
            return False

    @contextmanager
    def _lease(self) -> Iterator[bool]:
        """Keep others from opening it, and say whether nobody else has it open."""
        if not self._has_leases:
            yield False
            return
        try:
            # A lease for writing is given to the only one who has a file open;
            # a mapping counts.  Whoever opens it meanwhile waits, and the kernel
            # signals us: with one that is ignored.
            fcntl.fcntl(self.fd, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(self.fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as error:
            if error.errno not in _NOT_NOW and not self.on_disk:
                _Leases.given = False
            yield False
            return
        try:
            yield True
        finally:
            fcntl.fcntl(self.fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    def close(self) -> None:
        """Let go of it; whoever opened it in the meantime keeps it."""
        if self.fd < 0:
            return
        on_close, self.on_close = self.on_close, None
        if on_close is not None:
            self._cut_out()
            on_close()
        if self.unwritten is not None:
            self.unwritten.let_go()
        os.close(self.fd)
        self.fd = -1
        if self._named:
            try:
                os.unlink(self.path)  # noqa: PTH108  # pathlib takes 5 ms to import
            except FileNotFoundError:
                pass

    def _cut_out(self) -> None:
        """Give the memory back though its maker maps it, unless somebody reads it."""
        with self._lease() as alone:
            if alone:
                with mmap.mmap(self.fd, self.capacity) as mapped:
                    mapped.madvise(mmap.MADV_REMOVE)


class SharedMap(mmap.mmap):
    """The memory of a segment: what an array lies in tells that others read it, too."""

    __slots__ = ()


class Mapped:
    """A segment mapped read-only.

    The memory stays mapped for as long as any view into it is alive; nobody
    closes it by hand.

    Args:
        fd: the open file.
        size: how much of it.
        copied: it is read into memory of its own, which needs no descriptor.

    Attributes:
        view: its bytes.
        copied: whether they are memory of this process alone.
    """

    __slots__ = ("copied", "view")

    def __init__(self, fd: int, size: int, *, copied: bool = False) -> None:
        self.copied = copied
        if copied:
            private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            memory = memoryview(SharedMap(-1, size, flags=private))
            read_all(fd, memory)
            self.view = memory.toreadonly()
            return
        mapped = SharedMap(fd, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        self.view = memoryview(mapped)


def _memfd() -> tuple[int, str]:
    first = os.memfd_create("covey", os.MFD_CLOEXEC)
    try:
        # The kernel counts who has a file open, but not the one who made a memfd.
        fd = os.open(f"/proc/self/fd/{first}", os.O_RDWR | os.O_CLOEXEC)
    finally:
        os.close(first)
    return fd, f"/proc/{os.getpid()}/fd/{fd}"


def payload_size(frames: Sequence[Buffer]) -> int:
    """Return how many bytes the payload of *frames* takes."""
    return layout_size([memoryview(frame).nbytes for frame in frames])


def _open_checked(place: str, size: int, flags: int) -> int:
    """Open a segment, if it is what somebody said it is.

    Who says so may be a worker that was taken over: no file that has a name is opened
    for it, neither to be read in its stead nor to be written.  Or it was right when it
    was said: what has another stamp, or is no segment any more, is another file that has
    got the number since.
    """
    path, _, stamp = place.partition("@")
    if _HAS_MEMFD and not _PLACE.fullmatch(path):
        raise PermissionError(f"{path!r:.100} is no segment: it is a file with a name")
    if size <= 0:
        raise ValueError(f"{path} was said to have {size} bytes")
    # Before it is opened: of a pipe that would wait until somebody writes there.
    status = os.stat(path)  # noqa: PTH116  # pathlib takes 5 ms to import
    fd = -1
    try:
        if not stat.S_ISREG(status.st_mode):
            raise PermissionError(f"{path} is no segment: it is not a regular file")
        fd = os.open(path, flags | os.O_CLOEXEC)
        length = _check(fd, path)
        if stamp and read_stamp(os.pread(fd, HEAD_BYTES, 0)) != int(stamp, 16):
            raise PermissionError(f"{path} holds another value")
        if length < size:
            raise ValueError(f"{path} has {length} bytes, not {size}")
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        if stamp and error.errno in _ANOTHER:
            raise FileNotFoundError(
                f"the value at {path} is gone; another one is there: {error}"
            ) from error
        raise
    except BaseException:
        os.close(fd)
        raise
    return fd


#: How it is told that there is no segment, or that it is not ours.
_ANOTHER: Final = frozenset({None, errno.EACCES, errno.EPERM, errno.ENXIO})


def _check(fd: int, path: str) -> int:
    """See that an open file may be a segment, and return its length.

    Raises:
        PermissionError: it is something else, or another user's.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise PermissionError(f"{path} is no segment: it is not a regular file")
    if _HAS_MEMFD and status.st_nlink and not _was_renamed(fd):
        raise PermissionError(f"{path} is no segment: it is a file with a name")
    if status.st_uid != os.getuid():
        raise PermissionError(
            f"{path} belongs to user {status.st_uid}, not to {os.getuid()}"
        )
    return status.st_size


def _was_renamed(fd: int) -> bool:
    """Whether a file was removed on a network's file system, which only renames it."""
    return os.path.basename(os.readlink(f"/proc/self/fd/{fd}")).startswith(".nfs")  # noqa: PTH115, PTH119  # pathlib takes 5 ms to import


def is_file(segment: Segment) -> bool:
    """Whether it is a file of another worker's spool, and no memory."""
    return _HAS_MEMFD and not os.readlink(f"/proc/self/fd/{segment.fd}").startswith(  # noqa: PTH115  # pathlib takes 5 ms to import
        "/memfd:"
    )


def open_segment(place: str, size: int) -> Mapped:
    """Map the segment at *place* read-only; copy it where descriptors are short.

    Raises:
        FileNotFoundError: it is gone, or something else is there by now.
        OSError: it belongs to somebody else, or no file descriptor is left.
        ValueError: it is shorter than *size*.
    """
    try:
        fd = _open_checked(place, size, os.O_RDONLY)
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        descriptors.raise_limit()
        try:
            fd = _open_checked(place, size, os.O_RDONLY)
        except OSError as again:
            if again.errno != errno.EMFILE:
                raise
            raise OSError(errno.EMFILE, descriptors.problem()) from None
    try:
        # A mapping has a descriptor of its own for as long as it is there.
        return Mapped(fd, size, copied=not descriptors.room_for_copy_of(fd))
    finally:
        os.close(fd)


def fill(place: str, frames: Sequence[Buffer]) -> str:
    """Write *frames* into a segment that somebody lends for it.

    Returns:
        The place at which readers find them.

    Raises:
        OSError: it was taken back, or there is no memory left.
        ValueError: it is too small.
    """
    path, _, offered = place.partition("@")
    fd = _open_checked(place, payload_size(frames), os.O_RDWR)
    try:
        stamp = write_frames(fd, frames)
    except BaseException:
        # As it was: nothing stands there, and who lent it can take it back.
        os.pwrite(fd, empty_head(int(offered or "0", 16)), 0)
        raise
    finally:
        os.close(fd)
    return f"{path}@{stamp:x}"


def adopt(place: str, size: int) -> Segment:
    """Open somebody's segment and hold it in their place.

    Afterwards the maker may close it, and must not write to it any more.

    Raises:
        OSError: it is gone, or belongs to somebody else.
        ValueError: it is shorter than *size*.
    """
    fd = _open_checked(place, size, os.O_RDWR)
    if sys.platform == "linux" and _HAS_MEMFD:
        segment = Segment(fd, size, f"/proc/{os.getpid()}/fd/{fd}", named=False)
    else:
        # A temporary file is held by its name: the maker removes the old one.
        path = place.partition("@")[0]
        own_path = f"{path}-{os.getpid()}"
        try:
            os.link(path, own_path)
        except BaseException:
            os.close(fd)
            raise
        segment = Segment(fd, size, own_path, named=True)
    segment.capacity = os.fstat(fd).st_size
    # What stands there was compared with it.
    segment._stamp = int(place.partition("@")[2] or "0", 16)  # noqa: SLF001  # of our own
    return segment
