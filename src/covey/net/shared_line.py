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
from covey.net.inlet import Aside, Waited, never
from covey.net.link import Link
from covey.wire import line
from covey.wire.base import Message
from covey.wire.framing import encode_frame
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

    def say(self, message: Message, said: list[Message]) -> bool:
        """Send a message from this thread, which holds the lock, if nothing waits.

        An interrupt may come at any time: what it leaves behind is whole.

        Args:
            message: what is to be said.
            said: it is put there before it leaves.

        Returns:
            Whether it was sent; else something waits that was said before.

        Raises:
            LocalProtocolError: no frame can hold it.
        """
        session, link = self.session, self.link
        # A handler of a signal may have interrupted this very thread in here.
        if self._saying or self._outbox or not session.has_room:
            return False
        if not isinstance(link, Link):
            return False
        outlet = link.outlet
        if outlet is None or not outlet.is_free:
            return False
        frame = encode_frame([message])
        # Not later: an interrupt may come behind any call.
        said.append(message)
        sent = session.sent
        try:
            self._saying = True
            session.push(frame)
            outlet.write(frame)
        except BaseException as error:
            if session.sent > sent:
                # The session has it, and sends it on the next link if it did not leave.
                self._cut_soon(link)
            if not isinstance(error, OSError):
                raise
        finally:
            self._saying = False
        return True

    def listen(
        self,
        waited: Waited,
        timeout: float | None,
        take: Callable[[list[Any]], bool],
        aside: Aside | None = None,
        may_wait: Callable[[], bool] = never,
    ) -> bool:
        """Wait, and read meanwhile if nobody else does; see ``Inlet.wait``."""
        link = self.link
        inlet = link.inlet if isinstance(link, Link) else None
        if inlet is None:
            return waited.wait(timeout)
        return inlet.wait(waited, timeout, take, aside, may_wait)

    @property
    def is_heard(self) -> bool:
        """Whether a thread listens."""
        link = self.link
        return isinstance(link, Link) and link.inlet is not None and link.inlet.is_led

    def look(self) -> None:
        """Somebody waits for what comes, and does not listen; see ``Inlet.look``."""
        link = self.link
        if isinstance(link, Link) and link.inlet is not None:
            link.inlet.look()

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
