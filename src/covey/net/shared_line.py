"""A line through which other threads than that of the event loop may speak, and listen.

What they say goes to the kernel at once, and only where nothing waits in any buffer, so
that all stays in order.  How they listen is told by ``inlet``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from covey.errors import CoveyError, Disconnected
from covey.net.inlet import Waited
from covey.net.link import Link
from covey.wire import line
from covey.wire.keys import Role
from covey.wire.session import Session


class SharedLine(line.Line):
    """A line of one event loop that lets other threads speak.

    Attributes:
        lock: held by who writes, or exchanges what is to be written.
    """

    def __init__(
        self,
        session: Session,
        role: Role,
        on_failed: Callable[[line.Line, CoveyError], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        def failed(which: line.Line, error: CoveyError) -> None:
            # Not under the lock: it ends the line.
            loop.call_soon(on_failed, which, error)

        super().__init__(session, role, failed, loop.call_soon)
        self.lock = threading.RLock()
        self._loop = loop
        #: Whether a thread is in the middle of ``say``.
        self._saying = False

    @property
    def is_idle(self) -> bool:
        """Whether a thread that holds the lock can say something at once."""
        # A handler of a signal may have interrupted this very thread in ``say``.
        if self._saying or self._outbox or not self.session.has_room:
            return False
        link = self.link
        outlet = link.outlet if isinstance(link, Link) else None
        return outlet is not None and outlet.is_free

    def say(self, frame: bytes) -> None:
        """Send a frame from this thread, which holds the lock and found us idle.

        An interrupt may come at any time: what it leaves behind is whole.
        """
        session, link = self.session, self.link
        assert isinstance(link, Link) and link.outlet is not None
        sent = session.sent
        try:
            self._saying = True
            session.push(frame)
            link.outlet.write(frame)
        except BaseException as error:
            if session.sent > sent:
                # The session has it, and sends it on the next link if it did not leave.
                self._cut_soon(link)
            if not isinstance(error, OSError):
                raise
        finally:
            self._saying = False

    def listen(
        self,
        waited: Waited,
        timeout: float | None,
        take: Callable[[list[Any]], bool],
    ) -> bool:
        """Wait, and read meanwhile if nobody else does; see ``Inlet.wait``."""
        link = self.link
        inlet = link.inlet if isinstance(link, Link) else None
        if inlet is None:
            return waited.wait(timeout)
        return inlet.wait(waited, timeout, take)

    def _cut_soon(self, link: Link) -> None:
        why = Disconnected("a message did not leave as a whole")
        try:
            self._loop.call_soon_threadsafe(link.fail, why)
        except RuntimeError:
            return  # The loop has ended, and the link with it.

    # What the loop does.

    def attach(self, link: line.Link, received: int) -> None:
        """Go on over *link*; see ``Line``."""
        with self.lock:
            super().attach(link, received)
            if isinstance(link, Link):
                link.share(self.lock)

    def detach(self) -> line.Link | None:
        """The link is gone, or another one takes its place; return it."""
        with self.lock:
            return super().detach()

    def flush(self) -> None:
        """Send what is queued, as far as the window has room."""
        with self.lock:
            super().flush()
