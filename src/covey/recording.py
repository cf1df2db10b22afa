"""A run in a file: what the event stream said, to be looked at later.

A file begins with ``MAGIC`` and goes on with records, each a length (u32) and as many
bytes of msgpack::

    ["head", wall, overview]                    how everything stood, and the time of day
    ["events", first, n, dropped, now, bytes]   n events from number first, as msgpack
    ["seen", now, trees]                        what code ran, by worker and function
    ["told", topic, key, now, answer]           what the scheduler answered when asked

The last two are looks, taken now and then: see ``covey.snapshots``.

A record that is cut short (the writer was killed) ends the file.  Whoever reads one needs
no cluster and no pickle.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec

from covey.errors import UsageError

MAGIC: Final = b"covey recording 1\n"

#: No record is longer.
_RECORD_BYTES_MAX: Final = 64 << 20

_LENGTH: Final = struct.Struct("<I")
_encode: Final = msgspec.msgpack.Encoder().encode


class Batch(NamedTuple):
    """Consecutive events as they were sent.

    Attributes:
        first: the number of the first one.
        dropped: how many were missed before it.
        now: the clock of the scheduler, which also stamps the events.
        events: tuples, as ``covey.scheduler.core.history`` describes them.
    """

    first: int
    dropped: int
    now: float
    events: list[Any]


class Seen(NamedTuple):
    """What code was seen to run since the record of this kind before.

    Attributes:
        now: the clock of the scheduler.
        trees: worker, function, names and nodes, as ``covey.stacks.Tree.flat`` has them.
    """

    now: float
    trees: list[Any]


class Told(NamedTuple):
    """What the scheduler answered to a question.

    Attributes:
        topic: what it was about: ``graph``, ``memory`` or ``task``.
        key: the task, if it was about one.
        now: the clock of the scheduler.
        answer: as ``covey.scheduler.core.questions`` gives it.
    """

    topic: str
    key: str
    now: float
    answer: dict[str, Any]


class Writer:
    """Writes a recording.  What is printed in tasks may be private: mode 0600."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        except OSError as error:
            raise UsageError(
                f"{self.path} cannot be written: {error.strerror}"
            ) from error
        self._file: BinaryIO = os.fdopen(fd, "wb")
        self._file.write(MAGIC)

    def head(self, wall: float, overview: dict[str, Any]) -> None:
        """Write how everything stands."""
        self._record(["head", wall, overview])

    def batch(self, first: int, n: int, dropped: int, data: bytes, now: float) -> None:
        """Write a batch of events that were encoded already."""
        self._record(["events", first, n, dropped, now, data])

    def seen(self, now: float, trees: list[Any]) -> None:
        """Write what code was seen to run."""
        self._record(["seen", now, trees])

    def told(self, topic: str, key: str, now: float, answer: dict[str, Any]) -> None:
        """Write what the scheduler said when it was asked."""
        self._record(["told", topic, key, now, answer])

    def _record(self, fields: list[Any]) -> None:
        data = _encode(fields)
        self._file.write(_LENGTH.pack(len(data)) + data)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Head(NamedTuple):
    """How a recording begins: the time of day, and how everything stood."""

    wall: float
    overview: dict[str, Any]


Record = Head | Batch | Seen | Told


def read(path: str | Path) -> Iterator[Record]:
    """Yield what a recording says: a ``Head`` first, then the rest as it came.

    Raises:
        UsageError: it cannot be read, or is no recording.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(Path(path).open("rb"))
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        if file.read(len(MAGIC)) != MAGIC:
            raise UsageError(
                f"{path} is no recording; covey.record(path) and `covey scheduler "
                f"--record FILE` write one"
            )
        while True:
            head = file.read(_LENGTH.size)
            if len(head) < _LENGTH.size:
                return
            (length,) = _LENGTH.unpack(head)
            if length > _RECORD_BYTES_MAX:
                raise UsageError(f"{path} is damaged: a record of {length:,} bytes")
            data = file.read(length)
            if len(data) < length:
                return
            yield _parse(path, data)


def _parse(path: str | Path, data: bytes) -> Record:
    try:
        match msgspec.msgpack.decode(data):
            case ["head", float() as wall, dict() as overview]:
                return Head(wall, overview)
            case [
                "events",
                int() as first,
                int(),
                int() as dropped,
                float() as now,
                bytes() as events,
            ]:
                return Batch(first, dropped, now, msgspec.msgpack.decode(events))
            case ["seen", float() as now, list() as trees]:
                return Seen(now, trees)
            case [
                "told",
                str() as topic,
                str() as key,
                float() as now,
                dict() as answer,
            ]:
                return Told(topic, key, now, answer)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: {error}") from error
    raise UsageError(f"{path} is damaged, or was written by a later version of covey")
