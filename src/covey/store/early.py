"""Early words: a small result that goes straight from its runner to who waits for it.

An outcome goes from the runner by way of worker and scheduler to the client.  Where a thread
does nothing but wait for it, on the same machine and for the same user, the runner tells
that thread as well, once it has told its worker::

    client   ──── waits for task 7 ────► page ◄──── does anybody wait for 7? ──── runner
       ▲ ear ◄─────────────────────── 7, and its value ────────────────────────────┘
       └──────────── scheduler ◄──────────── worker ◄────────── outcome of 7 ──────┘

A word may be lost, or come too late: the scheduler tells of the end in any case, and it alone
keeps the books.  So nobody ever waits for one, nor fails for want of one.

All of this lies in the directory of a local cluster, which only its user can enter.  What
comes is held against what is waited for, and is as long as it may be, or is no word.  The
standard library is all this file needs, because runners import it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import struct
from typing import Final

from covey.ids import COUNTER_BITS, ClientId, TaskId

#: A value that is longer goes as it always does: no longer than what rides along on the
#: way through the scheduler, or it would not be here while that asks others for it.
VALUE_BYTES: Final = 2048

#: A page has a place for so many clients.  Two that share one overwrite each other's word,
#: and hear less that is early.
_PLACES: Final = 512
_PAGE_BYTES: Final = 8 * _PLACES

_PAGE: Final = "waits"
_EAR: Final = "early-"
_HEAD: Final = struct.Struct("<Q")


def make_page(directory: str) -> None:
    """Make the page of a cluster, or keep the one of its former life.

    Raises:
        OSError: there can be none.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    fd = os.open(f"{directory}/{_PAGE}", flags, 0o600)
    try:
        os.ftruncate(fd, _PAGE_BYTES)
    finally:
        os.close(fd)


def _open_page(directory: str) -> memoryview:
    """Return the words of a page, one for each place.

    Raises:
        OSError: there is no page.
    """
    fd = os.open(f"{directory}/{_PAGE}", os.O_RDWR | os.O_NOFOLLOW)
    try:
        return memoryview(mmap.mmap(fd, _PAGE_BYTES)).cast("Q")
    except ValueError as error:
        raise OSError(f"it is too short: {error}") from error
    finally:
        os.close(fd)


class _End:
    """One end of the way: the page, and a socket that is closed with this object."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._words = _open_page(directory)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def __del__(self) -> None:
        if hasattr(self, "_socket"):  # Else making it has failed.
            self._socket.close()


class Ear(_End):
    """Where a client hears early words.

    Args:
        directory: that of the cluster.
        client: the number of the client.

    Attributes:
        fd: readable when there may be a word.

    Raises:
        OSError: none can be told here.
    """

    def __init__(self, directory: str, client: ClientId) -> None:
        super().__init__(directory)
        _sweep(directory)
        self._place = client % _PLACES
        self._path = _ear_of(directory, client)
        self._socket.bind(self._path)
        self.fd = self._socket.fileno()

    def ask(self, task: TaskId) -> None:
        """Let runners know that *task* is waited for, and no other one."""
        self._words[self._place] = task

    def hear(self) -> tuple[TaskId, bytes] | None:
        """Return a task and its value, if there is a word."""
        try:
            word = self._socket.recv(_HEAD.size + VALUE_BYTES + 1)
        except OSError:
            return None
        if not _HEAD.size < len(word) <= _HEAD.size + VALUE_BYTES:
            return None
        return _HEAD.unpack_from(word)[0], word[_HEAD.size :]

    def close(self) -> None:
        """Be found by nobody any more; who waits here is told of no end by that."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)  # noqa: PTH108  # pathlib takes 5 ms to import


class Voice(_End):
    """How a runner tells early words.

    Args:
        directory: that of the cluster.

    Raises:
        OSError: none can be told here.
    """

    def tell(self, task: TaskId, value: bytes) -> None:
        """Tell of the value of *task*, if that is waited for; at once, or not at all."""
        client = task >> COUNTER_BITS
        if self._words[client % _PLACES] == task and len(value) <= VALUE_BYTES:
            ear = _ear_of(self._directory, client)
            try:
                self._socket.sendto(_HEAD.pack(task) + value, ear)
            except OSError:
                return  # It is full, or gone: all goes as it always does.


def _ear_of(directory: str, client: int) -> str:
    return f"{directory}/{_EAR}{client:x}"


def _sweep(directory: str) -> None:
    """Remove what clients have left behind that were killed."""
    for name in os.listdir(directory):  # noqa: PTH208  # the same
        if not name.startswith(_EAR):
            continue
        path = f"{directory}/{name}"
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe,
        ):
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)  # noqa: PTH108  # the same
