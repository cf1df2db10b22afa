"""How a connection ends: who hangs up listens until the other side does so, too.

Who writes to a socket that was closed at its other end is answered with an error, and
with that loses what it has not read yet: the last word, perhaps, that told it why all this
ends.  So who closes says that nothing more comes, and lets go of whatever comes still::

    last word, end ──────────────────────────────────────────────► read, acted on
              (let go of) ◄────── what was on its way, end ─────── closed
    closed

TLS has such an end of its own.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Final

#: How long the other side may take to agree that a connection ends.
PARTING_SECONDS: Final = 1.0


class Parting:
    """The end of a connection, from when this side has closed it.

    Args:
        transport: what has been written to it is sent first.
        loop: whose connection it is.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._transport = transport
        self._ended: asyncio.Future[None] = loop.create_future()
        self._deadline = loop.call_later(PARTING_SECONDS, transport.abort)
        _here.parting[self] = self._ended
        if not transport.can_write_eof():
            transport.close()
            return
        try:
            transport.write_eof()
            transport.resume_reading()
        except OSError:
            transport.abort()  # It was cut, and nobody has told us yet.

    def cut_short(self) -> None:
        """Wait no longer."""
        self._transport.abort()

    def is_over(self) -> None:
        """The connection has ended."""
        self._deadline.cancel()
        del _here.parting[self]
        if not self._ended.done():
            self._ended.set_result(None)


class _Here(threading.local):
    """The connections of one thread that were closed, each until it has ended."""

    def __init__(self) -> None:
        self.parting: dict[Parting, asyncio.Future[None]] = {}


_here: Final = _Here()


async def part() -> None:
    """Let connections that were closed end, before the loop does."""
    if _here.parting:
        await asyncio.wait(_here.parting.values(), timeout=PARTING_SECONDS)
    for each in list(_here.parting):
        each.cut_short()
