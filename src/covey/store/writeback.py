"""Whether the disk has taken what was left to the kernel to write.

What is written to a file lies in memory first, and the kernel writes it to the disk
later, or never, if the file is gone by then.  When the disk does not take it, nobody is
told: the page counts as written, and as soon as its memory is wanted for something else,
whoever reads there gets what the disk had before.

But the kernel remembers the error for everyone who had the file open, and can be asked
for it without anything being written::

    write ──► dirty page ──(the kernel, later)──► disk
                   │                      └─error─► remembered with the open file
              dropped before that: never written         ▲
                                           late_error ───┘
"""

from __future__ import annotations

import errno
import functools
import os
import sys
import threading
from collections.abc import Callable
from typing import Final

from covey.store.checksum import crc32

#: File systems that say while a file is written that they are full, and tell of late
#: errors when they are asked.  Those of a network are full only when the value has left
#: memory already; an overlay passes no such question on.
_TELLING: Final = frozenset({b"ext2", b"ext3", b"ext4", b"f2fs", b"tmpfs", b"xfs"})

#: ``sync_file_range``: wait for what is being written in the range.  Of a range
#: behind the end of all files nothing is, so it only returns the error there was.
_WAIT_BEFORE: Final = 1
_BEHIND_ALL: Final = 1 << 40

#: Files are read in pieces that stay in the processor's cache.
_PIECE_BYTES: Final = 1 << 20


class _Known:
    """What is known of a file, by whichever of its descriptors.

    The kernel tells an error once, to whoever asks first: nobody may believe that there
    is none while another thread is about to hear of it.
    """

    __slots__ = ("asking", "error", "lock")

    def __init__(self) -> None:
        self.error = 0
        self.asking = 0
        self.lock = threading.Lock()


class Unwritten:
    """A file that was left to the kernel to write.

    Args:
        fd: the file, as it was opened to be written.
        nbytes: how long it is.
        checksum: the CRC-32 of what was written; ``None`` if that is not known here.
        is_own: the descriptor is nobody else's, and is closed when this goes.
    """

    __slots__ = ("__weakref__", "_checksum", "_fd", "_is_own", "_known", "nbytes")

    def __init__(
        self, fd: int, nbytes: int, checksum: int | None, *, is_own: bool = False
    ) -> None:
        self.nbytes = nbytes
        self._fd = fd
        self._known = _Known()
        self._checksum = checksum
        self._is_own = is_own

    def again(self, fd: int) -> Unwritten:
        """Return the same for another number of its descriptor."""
        again = Unwritten(fd, self.nbytes, self._checksum)
        again._known = self._known
        return again

    @property
    def error(self) -> int:
        """The error with which the disk has refused it, as far as was asked; or 0."""
        return self._known.error

    def in_doubt(self) -> bool:
        """Whether the disk may have refused some of it, which is something else soon.

        Takes a microsecond or two.
        """
        known = self._known
        with known.lock:
            if not known.error and self._fd >= 0:
                known.error = late_error(self._fd)
            return known.error != 0 or known.asking > 0

    def flushed(self) -> bool:
        """Have it written; say whether the disk has taken all of it.  For a thread."""
        known = self._known
        with known.lock:
            known.asking += 1
        found = 0
        try:
            os.fsync(self._fd)
        except OSError as error:
            found = error.errno or errno.EIO
        finally:
            with known.lock:
                known.asking -= 1
                known.error = known.error or found
        return not self.in_doubt()

    def is_same(self, checksum: int | None) -> bool:
        """Whether that is the CRC-32 of what was written."""
        return checksum is not None and checksum == self._checksum

    def is_intact(self) -> bool:
        """Whether what can be read is what was written; it reads all of it.

        What has once left memory does not come back, so it was so until now.
        """
        if self._checksum is None or self._fd < 0:
            return False  # Nobody can tell.
        try:
            return self.is_same(read_whole(self._fd, self.nbytes)[1])
        except OSError:
            return False

    def content(self) -> bytes | None:
        """Return what was written, if that can be read."""
        try:
            data, checksum = read_whole(self._fd, self.nbytes, keep=True)
        except OSError:
            return None
        return data if self.is_same(checksum) else None

    def let_go(self) -> None:
        """The file is about to be closed; what is known of it by then is remembered."""
        self.in_doubt()
        fd, self._fd = self._fd, -1
        if self._is_own and fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        # Small values are let go of by and by, and nobody counts the last one.
        if self._is_own and self._fd >= 0:
            os.close(self._fd)


def can_be_asked(fd: int) -> bool:
    """Whether an open file may be left to the kernel to write.

    Its file system has said that there is room for what was written, and ``late_error``
    tells later on whether it has come to rest there.
    """
    asker = _asker()
    if asker is None or not _is_telling(os.fstat(fd).st_dev):
        return False
    # Some sandboxes have no such call.
    return not asker(fd, _BEHIND_ALL, 1, _WAIT_BEFORE)


def late_error(fd: int) -> int:
    """Return the error with which the disk refused what was written; 0 if there is none.

    Each error is told once for each time that the file was opened, and only to those
    who had it open then.
    """
    asker = _asker()
    if asker is None or not asker(fd, _BEHIND_ALL, 1, _WAIT_BEFORE):
        return 0
    import ctypes  # As below.

    return ctypes.get_errno()


def read_whole(fd: int, nbytes: int, *, keep: bool = False) -> tuple[bytes, int]:
    """Read a file, past any mapping: return its bytes, if they are to be kept, and CRC-32.

    Raises:
        OSError: it cannot be read, or is shorter.
    """
    kept = bytearray()
    checksum = done = 0
    while done < nbytes:
        piece = os.pread(fd, min(_PIECE_BYTES, nbytes - done), done)
        if not piece:
            raise OSError(f"a file ends at {done:,} bytes, not at {nbytes:,}")
        checksum = crc32(piece, checksum)
        done += len(piece)
        if keep:
            kept += piece
    return bytes(kept), checksum


@functools.cache
def _asker() -> Callable[[int, int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    import ctypes  # Seldom needed, and it takes 5 ms.

    function = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
    if function is None:
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    function.restype = ctypes.c_int
    return function  # type: ignore[no-any-return]  # a foreign function has no type


@functools.cache
def _is_telling(device: int) -> bool:
    """Whether the file system of a device is one of those."""
    number = f"{os.major(device)}:{os.minor(device)}".encode()
    from pathlib import Path  # It takes 5 ms to import, and runners start without it.

    try:
        # Bytes, since a mount may be called anything.
        mounts = Path("/proc/self/mountinfo").read_bytes().split(b"\n")
    except OSError:
        return False
    for mount in mounts:
        # ... device root place options ... - type source options
        fields, _, system = mount.partition(b" - ")
        if fields.split(b" ")[2:3] == [number]:
            return system.partition(b" ")[0] in _TELLING
    return False
