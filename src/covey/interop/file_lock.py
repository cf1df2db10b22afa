"""A lock among processes: a file that one of them at a time has locked.

It travels by its path, so it guards the same thing wherever it arrives.  The kernel
opens it when its holder dies.  Between machines it holds as far as the file system that they
share has locks (NFS and the file systems of clusters have, unless mounted without).

The runners import this room: nothing but the standard library.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class FileLock:
    """What a ``threading.Lock`` is to threads, to whoever can open *path*.

    Args:
        path: of a file that is there while somebody holds the lock, or waits for it.

    Raises:
        OSError: when it is acquired, and the file cannot be made or locked.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).absolute()
        self._descriptor: int | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return (FileLock, (str(self._path),))

    def __repr__(self) -> str:
        return f"FileLock({str(self._path)!r})"

    def acquire(self, blocking: bool = True) -> bool:
        """Take the lock; unless *blocking*, return ``False`` if another has it."""
        how = fcntl.LOCK_EX if blocking else fcntl.LOCK_EX | fcntl.LOCK_NB
        while True:
            # One descriptor each: threads of one process exclude each other as well.
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o666)
            try:
                fcntl.flock(descriptor, how)
                if self._is(descriptor):
                    self._descriptor = descriptor
                    return True
            except BlockingIOError:
                os.close(descriptor)
                return False
            except BaseException:
                os.close(descriptor)
                raise
            # Who had it before has removed this file; others wait at a new one.
            os.close(descriptor)

    def _is(self, descriptor: int) -> bool:
        """Say whether the file that we have locked is the one that others will find."""
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(os.fstat(descriptor), there)

    def release(self) -> None:
        """Give the lock back.

        Raises:
            RuntimeError: it was not acquired by means of this object.
        """
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            raise RuntimeError("release of a lock that was not acquired")
        # While it is ours, so that nobody's file is removed but our own.
        self._path.unlink(missing_ok=True)
        os.close(descriptor)

    def locked(self) -> bool:
        """Say whether somebody has the lock."""
        if self._descriptor is not None:
            return True
        if self.acquire(blocking=False):
            self.release()
            return False
        return True

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
