"""Raw bytes behind a message: on their way out in pieces, and what takes them in."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from covey.payload import Buffer
from covey.store.checksum import crc32
from covey.wire.base import Message

#: Raw bytes are written in pieces of this size, so that other traffic gets a turn.  A
#: piece is still in the cache of its core when its checksum is taken, and the kernel has
#: something left to send until then: pieces of 4 MiB took twice the time for that.
PIECE_BYTES: Final = 512 << 10

#: Raw bytes may end with their CRC-32.  Of what the standard library has, nothing
#: quicker is as good; what comes by TLS needs none.
CHECKSUM_BYTES: Final = 4


class RawSink(Protocol):
    """What takes the raw bytes behind a message."""

    def take(self, data: Buffer) -> None:
        """Take the next bytes, at once: what they lie in is used again."""

    def give_up(self) -> None:
        """The connection ended before all bytes had come."""


class Bulk:
    """Raw bytes on their way out, and the messages before them."""

    __slots__ = ("at", "checked", "checksum", "done", "messages", "parts")

    def __init__(
        self,
        messages: list[Message],
        parts: Sequence[memoryview],
        done: asyncio.Future[None],
        *,
        checked: bool,
    ) -> None:
        self.messages = messages
        self.parts = deque(parts)
        self.at = 0
        self.done = done
        self.checked = checked
        self.checksum = 0

    def next_piece(self) -> memoryview:
        """Return what is to be written next."""
        part = self.parts[0]
        piece = part[self.at : self.at + PIECE_BYTES]
        self.at += len(piece)
        if self.at == len(part):
            self.parts.popleft()
            self.at = 0
        return piece

    def check(self, piece: memoryview) -> None:
        """Take a piece into account that was written just now, if it is checked."""
        # While the kernel sends it: taken before, that would wait.
        if self.checked:
            self.checksum = crc32(piece, self.checksum)
            if not self.parts:
                self.checked = False
                tail = self.checksum.to_bytes(CHECKSUM_BYTES, "little")
                self.parts.append(memoryview(tail))
