"""Large values on their way in: raw bytes that go straight into a segment.

Where nothing else sees to it that what comes is what was sent, a checksum follows the
bytes: on a connection between machines that does not speak TLS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from covey.errors import RemoteProtocolError
from covey.net.bulk import CHECKSUM_BYTES
from covey.net.link import Link
from covey.payload import Buffer
from covey.store.checksum import crc32
from covey.store.segments import Segment


class Memory(Protocol):
    """Where the bytes of large values go that come in."""

    def lend(self, nbytes: int) -> Segment:
        """Return a segment to write *nbytes* bytes into.

        Raises:
            OSError: there is no room.
        """
        ...

    def take_back(self, segment: Segment) -> None:
        """Nobody wants what was, or was to be, written there."""
        ...


class FreshMemory:
    """A new segment for each value."""

    def lend(self, nbytes: int) -> Segment:
        """Return a new segment."""
        return Segment.create(nbytes)

    def take_back(self, segment: Segment) -> None:
        """Let go of it."""
        segment.close()


class Arrival:
    """Writes raw bytes into a segment as they come.

    Args:
        nbytes: how many there are.
        memory: where segments come from.
        arrived: called with the segment when it is full.
        failed: called with the reason when there is no room for it.
        garbled: called when what has come is not what was sent; without it no
            checksum follows.
    """

    def __init__(
        self,
        nbytes: int,
        memory: Memory,
        arrived: Callable[[Segment], None],
        failed: Callable[[str], None],
        garbled: Callable[[], None] | None = None,
    ) -> None:
        self.nbytes = nbytes
        self._memory = memory
        self._at = 0
        self._arrived = arrived
        self._failed = failed
        self._garbled = garbled
        self._checksum = 0
        #: The checksum of the other side, as far as it has come.
        self._theirs = bytearray()
        self._segment: Segment | None = None
        try:
            self._segment = memory.lend(nbytes)
        except (OSError, OverflowError) as error:
            self._refuse(error)

    @property
    def total_bytes(self) -> int:
        """How many raw bytes come, the checksum included."""
        return self.nbytes + (CHECKSUM_BYTES if self._garbled is not None else 0)

    def take(self, data: Buffer) -> None:
        """Take the next bytes."""
        left = self.nbytes - self._at
        if left:
            self._write(data[:left])
        self._theirs += data[left:]
        if self._at == self.nbytes and (
            self._garbled is None or len(self._theirs) == CHECKSUM_BYTES
        ):
            self._end()

    def _write(self, data: Buffer) -> None:
        at = self._at
        self._at += len(data)
        if self._segment is None:
            return
        try:
            self._segment.write_at(at, data)
        except OSError as error:
            self._refuse(error)
            return
        if self._garbled is not None:
            self._checksum = crc32(data, self._checksum)

    def _end(self) -> None:
        segment, self._segment = self._segment, None
        if segment is None:
            return  # It was refused.
        theirs = int.from_bytes(self._theirs, "little")
        if self._garbled is None or theirs == self._checksum:
            self._arrived(segment)
        else:
            self._memory.take_back(segment)
            self._garbled()

    def give_up(self) -> None:
        """The connection ended before all bytes had come."""
        if self._segment is not None:
            self._memory.take_back(self._segment)
            self._segment = None

    def _refuse(self, error: Exception) -> None:
        """Let go of the bytes that came, and of those that still come."""
        self.give_up()
        self._failed(f"a value of {self.nbytes:,} bytes cannot be held here: {error}")


def receive(link: Link, arrival: Arrival) -> None:
    """Give the raw bytes that follow on *link* to *arrival*.

    Raises:
        RemoteProtocolError: no bytes were announced.
    """
    if not arrival.nbytes:
        raise RemoteProtocolError("a value of no bytes was announced")
    link.expect_raw(arrival.total_bytes, arrival)
