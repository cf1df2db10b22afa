"""The journal in a file: what is written down, when it is on the disk, and how it stays small.

Records are handed to the system before anything that follows from them is told to
anybody, so they survive the death of the process.  They are flushed to the disk within
``SYNC_SECONDS``, and what was detached or published is flushed before its client hears
of it: so they survive the machine, too.  Where writing fails, the cluster goes on and says
that it has no journal any more; what was written remains a valid journal.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

from covey.errors import RemoteProtocolError, UsageError
from covey.ids import ClientId
from covey.scheduler.core.books import Record
from covey.scheduler.core.journaling import Survey
from covey.wire import records as wire
from covey.wire.client_link import Detach, Publish, Unpublish

#: What is not worth waiting for is on the disk after this time.
SYNC_SECONDS: Final = 1.0

#: A journal is written anew when it has grown by this, and to so many times its size.
_GROWN_BYTES: Final = 64 << 20
_GROWN_TIMES: Final = 4

#: So much of it is looked at, or copied, at a time: about a millisecond's work.
_PIECE_BYTES: Final = 256 << 10

_AT_ONCE: Final = (Detach, Publish, Unpublish)


class JournalFile:
    """One journal, which belongs to one scheduler at a time.

    Attributes:
        problem: why nothing is written any more; empty while all is well.
        before: what it said when it was opened.

    Raises:
        UsageError: it cannot be used; says why, and what to do.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        self._dirty = False
        self._fd = self._open()
        self.before = self._read()
        self._size = self._least = 0

    def _open(self) -> int:
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise UsageError(
                f"the journal {self.path} cannot be opened: {error.strerror}"
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise UsageError(
                f"the journal {self.path} is in use by another scheduler; give each its "
                f"own"
            ) from None
        return fd

    def _read(self) -> list[Record]:
        try:
            contents = wire.decode(self.path.read_bytes())
        except (OSError, RemoteProtocolError) as error:
            os.close(self._fd)
            raise UsageError(
                f"the journal {self.path} cannot be read: {error}. Nothing was changed. "
                f"Move it away to begin without it; or, to go on with what stands before "
                f"the damage, cut it there (truncate -s BYTE)"
            ) from error
        return [(ClientId(number), message) for number, message in contents.records]

    def begin(self, records: list[Record]) -> str:
        """Write the journal anew: it says *records*, and what comes from now on.

        Returns:
            Why that is not possible, or nothing.
        """
        fresh = self.path.with_name(self.path.name + ".new")
        data = wire.MAGIC + wire.encode(records)
        try:
            fd = _create(fresh)
            try:
                _write(fd, data)
                os.fsync(fd)
                fresh.replace(self.path)
                _sync_folder(self.path.parent)
            except OSError:
                os.close(fd)
                raise
        except OSError as error:
            return self._give_up(error)
        os.close(self._fd)
        self._fd = fd
        self._size = self._least = len(data)
        return ""

    def write(self, records: list[Record]) -> str:
        """Write *records* behind the others.

        Returns:
            Why that is not possible, or nothing.
        """
        if self.problem:
            return self.problem
        data = wire.encode(records)
        try:
            _write(self._fd, data)
        except OSError as error:
            self._cut()
            return self._give_up(error)
        self._size += len(data)
        self._dirty = True
        if any(isinstance(message, _AT_ONCE) for _, message in records):
            self.sync()
        return self.problem

    def sync(self) -> None:
        """Let all that was written be on the disk."""
        if not self._dirty or self.problem:
            return
        self._dirty = False
        try:
            os.fsync(self._fd)
        except OSError as error:
            # Nobody knows what has arrived: to try again would prove nothing.
            self._give_up(error)

    @property
    def is_due(self) -> bool:
        """Whether it has grown so much that it should be written anew."""
        grown = self._size - self._least
        return grown > _GROWN_BYTES and self._size > _GROWN_TIMES * self._least

    def rewrite(self, survey: Survey) -> Generator[int, None, None]:
        """Write it anew, a piece at a time, while more is written behind the old one.

        ::

            old   [ what it says when this begins                  | what comes meanwhile ]
            new   [ what of that is still wanted | its last words  | the same             ]

        If that fails, the old one goes on.

        Yields:
            0 after each piece, or a file whose bytes the caller is to bring to the disk
            aside, before it goes on.
        """
        until = self._size
        fresh = self.path.with_name(self.path.name + ".new")
        try:
            fd = _create(fresh)
        except OSError:
            # It has had its time; the next is when it has grown as much again.
            self._least = self._size
            return
        try:
            for place, record in self._read_pieces(until):
                if record is not None:
                    survey.look(place, record)
                else:
                    yield 0
            _write(fd, wire.MAGIC)
            for start, end in _joined(survey.places()):
                yield from self._copy(fd, start, end)
            _write(fd, wire.encode(survey.last_words()))
            while until < self._size:
                end = self._size
                yield from self._copy(fd, until, end)
                until = end
                # What has come is little now; the rest waits for no disk.
                yield fd
            if not self.problem:
                os.fsync(fd)
                fresh.replace(self.path)
                self._fd, fd = fd, self._fd
                self._size = os.fstat(self._fd).st_size
                self._sync_place()
        except RemoteProtocolError as error:
            self._give_up(str(error))
        except OSError:
            pass  # The old one is as good as it was.
        finally:
            os.close(fd)
            fresh.unlink(missing_ok=True)  # It is there only if it was not taken.
            self._least = self._size

    def _read_pieces(
        self, until: int
    ) -> Iterator[tuple[tuple[int, int], Record | None]]:
        """Yield what lies where, and ``None`` after each piece of the file."""
        at, size = len(wire.MAGIC), _PIECE_BYTES
        while at < until:
            data = os.pread(self._fd, min(size, until - at), at)
            start = 0
            for end, (number, message) in wire.whole(data):
                yield (at + start, at + end), (ClientId(number), message)
                start = end
            # A record that is larger than a piece takes a larger one.
            needed = wire.length_at(data, start)
            if not start and needed <= len(data):
                raise RemoteProtocolError(f"the record at byte {at:,} is damaged")
            if len(data) < min(size, until - at):
                raise RemoteProtocolError("somebody has cut it short")
            size = max(_PIECE_BYTES, needed)
            at += start
            yield (at, at), None

    def _copy(self, fd: int, start: int, end: int) -> Iterator[int]:
        while start < end:
            data = os.pread(self._fd, min(_PIECE_BYTES, end - start), start)
            if not data:
                raise RemoteProtocolError("somebody has cut it short")
            _write(fd, data)
            start += len(data)
            yield 0

    def close(self) -> None:
        """Let go of the file."""
        self.sync()
        os.close(self._fd)

    def _sync_place(self) -> None:
        """Let it be on the disk which file is the journal now."""
        try:
            _sync_folder(self.path.parent)
        except OSError as error:
            self._give_up(error)

    def _cut(self) -> None:
        """What was written in part only is taken back."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            return  # Then it stays, and is cut off by whoever reads it.

    def _give_up(self, error: OSError | str) -> str:
        why = error if isinstance(error, str) else error.strerror
        self.problem = (
            f"the journal {self.path} cannot be written any more ({why}): what "
            f"is detached or published from now on does not survive the scheduler"
        )
        return self.problem


def _create(path: Path) -> int:
    """Make the file that is to take the place of the journal; it is ours alone."""
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    fd = os.open(path, flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _joined(places: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield *places*, those that touch as one."""
    while places:
        start, end = places[0]
        n = 1
        while n < len(places) and places[n][0] == end:
            end = places[n][1]
            n += 1
        del places[:n]
        yield start, end


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
