"""A second hold on a connection, for threads other than the event loop's.

Nothing is buffered here: what the kernel does not take as a whole has failed.
"""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import AbstractContextManager


class Outlet:
    """Writes to the socket of a transport from any thread.

    Args:
        lock: held by whoever writes to the transport, or to this, so that nothing gets
            into the middle of anything.
    """

    def __init__(
        self, transport: asyncio.Transport, lock: AbstractContextManager[object]
    ) -> None:
        self.lock = lock
        self._transport = transport
        #: Our own: the loop may close its descriptor while a thread writes to this one.
        self._fd = os.dup(transport.get_extra_info("socket").fileno())

    def __del__(self) -> None:
        # Making it may have failed.
        if hasattr(self, "_fd"):
            os.close(self._fd)

    @property
    def is_free(self) -> bool:
        """Whether nothing that was written before waits for the loop."""
        transport = self._transport
        return not (transport.is_closing() or transport.get_write_buffer_size())

    def write(self, frame: bytes) -> None:
        """Write *frame* at once; the caller holds the lock.

        Raises:
            OSError: the kernel did not take all of it.
        """
        if os.write(self._fd, frame) < len(frame):
            raise BlockingIOError(errno.EAGAIN, "a part of a frame was not taken")


def outlet_of(
    transport: asyncio.Transport, lock: AbstractContextManager[object]
) -> Outlet | None:
    """Return a second hold on *transport*; nothing where threads cannot have one.

    What is encrypted is the loop's business, and descriptors of sockets can be written
    to on POSIX systems.
    """
    if os.name != "posix" or transport.get_extra_info("ssl_object"):
        return None
    return Outlet(transport, lock)
