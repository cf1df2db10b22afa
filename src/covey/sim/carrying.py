"""Large values on their way, and on disks: both may garble them.

What comes is taken in by what real workers and clients take it in with
(``net.arrivals``), which compares its checksum with that of what was sent.
"""

from __future__ import annotations

import zlib
from typing import Any, cast

from covey.net.arrivals import Arrival
from covey.net.bulk import CHECKSUM_BYTES
from covey.payload import Buffer
from covey.store.segments import Segment


class _Memory:
    """Where the bytes of one value go."""

    def __init__(self) -> None:
        self.data = b""

    def lend(self, nbytes: int) -> Segment:
        """Return this itself, as a segment to write into."""
        del nbytes
        return cast("Segment", self)

    def take_back(self, segment: Segment) -> None:
        """What was written is no good."""

    def write_at(self, at: int, data: Buffer) -> None:
        """Write into it."""
        self.data = self.data[:at] + bytes(data)


def garbled(value: bytes) -> bytes:
    """Return a value of which one bit is another."""
    return bytes((value[0] ^ 1,)) + value[1:]


def sent(value: bytes) -> bytes:
    """Return the bytes that carry a value: itself, and its checksum."""
    return value + zlib.crc32(value).to_bytes(CHECKSUM_BYTES, "little")


def taken_in(carried: bytes) -> bytes | None:
    """Return the value that has come, or nothing if it is not what was sent."""
    memory = _Memory()
    whole: list[Any] = []
    arrival = Arrival(
        len(carried) - CHECKSUM_BYTES, memory, whole.append, _refused, _dropped
    )
    arrival.take(carried)
    return memory.data if whole else None


def _refused(why: str) -> None:
    raise AssertionError(why)


def _dropped() -> None:
    """It is not there, then: whoever asked hears that."""
