"""Files for values that do not fit into memory.

A spilled value is a file without a name: as soon as it is open, no path leads to it,
so that the kernel takes it away with the last process that has it open.  Nothing
is left behind, however a worker ends.  Readers open it through ``/proc`` and map
it, exactly as they do with a segment in memory.

Where a nameless file cannot be opened again (macOS), it keeps its name, in a
directory of mode 0700, for as long as the value is there.

What was written stays in the kernel's cache of files for a while, if memory beside the
worker's is not short: what is read again soon, or dropped, need not wait for a disk.
Such a file is *unwritten*: the kernel can be asked whether the disk has refused it
(``writeback``).
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from covey.payload import Buffer
from covey.store.checksum import crc32
from covey.store.files import copy, write_joined
from covey.store.segments import Mapped, Segment
from covey.store.writeback import Unwritten, can_be_asked

_NAMELESS: Final = sys.platform == "linux"
_O_TMPFILE: Final = getattr(os, "O_TMPFILE", 0)


def default_directory() -> str:
    """Return where spilled values go: to a disk, if it can be told where one is."""
    # /tmp is memory on many systems; /var/tmp never is.
    known = "/var/tmp"  # noqa: S108  # what is opened there has no name, or its own directory
    if os.access(known, os.W_OK):
        return known
    import tempfile  # Seldom needed, and a start would wait for it.

    return tempfile.gettempdir()


class Spool:
    """The spill files of one worker.

    Args:
        directory: where they are; empty for the default.
    """

    def __init__(self, directory: str = "") -> None:
        self.directory = directory or default_directory()
        self._own: str | None = None

    def write(self, segment: Segment, *, through: bool) -> Segment:
        """Copy what *segment* holds into a file.  Takes long: for an IO thread.

        Args:
            segment: the value.
            through: have it leave memory at once, and wait for that.

        Raises:
            OSError: the disk is full, or there is none.
        """
        fd, path = self._open()
        file = Segment(fd, segment.size, path, named=not _NAMELESS, on_disk=True)
        try:
            checksum = file.checksum = copy(segment.fd, fd, segment.size)
            if self._may_wait(fd, through):
                file.unwritten = Unwritten(fd, file.size, checksum)
        except BaseException:
            file.close()
            raise
        return file

    def write_small(
        self, parts: Sequence[Buffer], *, through: bool
    ) -> tuple[list[memoryview], Unwritten | None]:
        """Write *parts* into one file; return them as they are mapped from there.

        The file is there as long as one of them is.  Takes long: for an IO thread.

        Returns:
            Them, and the file, if it was left to the kernel to write.

        Args:
            parts: the values.
            through: have them leave memory at once, and wait for that.

        Raises:
            OSError: the disk is full, or there is none.
        """
        fd, path = self._open()
        unwritten: Unwritten | None = None
        try:
            if not _NAMELESS:
                Path(path).unlink()
            end = write_joined(fd, parts)
            waits = self._may_wait(fd, through)
            whole = Mapped(fd, end).view
            if waits:
                checksum = functools.reduce(lambda c, part: crc32(part, c), parts, 0)
                unwritten = Unwritten(fd, end, checksum, is_own=True)
        finally:
            if unwritten is None:
                os.close(fd)
        views = []
        at = 0
        for part in parts:
            views.append(whole[at : at + len(part)])
            at += len(part)
        return views, unwritten

    def _may_wait(self, fd: int, through: bool) -> bool:
        """A file is complete; have it leave memory, or say that it can be left as it is."""
        if not through and can_be_asked(fd):
            return True
        # Only what has reached the disk can be dropped from memory.
        os.fsync(fd)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return False

    def _open(self) -> tuple[int, str]:
        flags = os.O_RDWR | os.O_CLOEXEC
        if _NAMELESS:
            try:
                fd = os.open(self.directory, flags | _O_TMPFILE, 0o600)
            except OSError:
                # This file system knows no nameless files.
                fd = self._open_named()[0]
            return fd, f"/proc/{os.getpid()}/fd/{fd}"
        return self._open_named()

    def _open_named(self) -> tuple[int, str]:
        import tempfile  # As above.

        if self._own is None:
            self._own = tempfile.mkdtemp(prefix="covey-spill-", dir=self.directory)
        fd, path = tempfile.mkstemp(dir=self._own)
        if _NAMELESS:
            Path(path).unlink()
        return fd, path

    def close(self) -> None:
        """Remove the directory, if one had to be made."""
        if self._own is not None:
            Path(self._own).rmdir()
            self._own = None
