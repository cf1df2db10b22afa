"""What is to be said to the scheduler, and who says it.

In the midst of many messages they gather, and the I/O thread sends all of them in one
write.  When all is quiet there is nothing to gather, and who has something to say
writes it by himself, which saves the machine two changes of threads::

    busy    user threads ──► outbox ──► [I/O thread] ──► socket
    quiet   user thread ───────────────────────────────► socket

It is quiet when something has come since the last time that anything was sent to which news
may come: so there is no timer, and of many that say something in a row only the first one
writes.  To letting go of results nobody says anything.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final

from covey.client.core.ledger import Ledger
from covey.client.merging import merge
from covey.net.shared_line import SharedLine
from covey.wire.base import Extent, Message
from covey.wire.client_link import Release, Submit

#: Among so many messages that were sent last it is looked for the one that asked for a task.
RECENT: Final = 16


class Outbox:
    """The messages of one client that have not been sent.

    Any thread may post; all else is done by the I/O thread.

    Args:
        loop: of the I/O thread.
        ledger: takes note of all that is sent.  Only the I/O thread writes into it.

    Attributes:
        quiet: whether something has come since anything was sent to which news may come.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ledger: Ledger) -> None:
        self._loop = loop
        self._ledger = ledger
        self._thread: threading.Thread | None = None
        self._messages: list[Message] = []
        #: What user threads have sent, of which the ledger does not know yet.
        self._unnoted: list[Message] = []
        self._wake_is_due = False
        self.quiet = False
        self._line: SharedLine | None = None
        #: Posts what was put off; called before all that the I/O thread sends.
        self.catch_up: Callable[[], None] = _nothing
        #: Has the loop read what comes, since there will be answers.
        self.look: Callable[[], None] = _nothing

    def served_by(self, thread: threading.Thread) -> None:
        """Name the I/O thread."""
        self._thread = thread

    def post(self, message: Message) -> None:
        """Send *message* with whatever else is posted in the meantime."""
        self._messages.append(message)
        if not self._wake_is_due:
            self._wake_is_due = True
            try:
                if threading.current_thread() is self._thread:
                    self._loop.call_soon(self.send)
                else:
                    self._loop.call_soon_threadsafe(self.send)
            except RuntimeError:
                return  # The loop has ended: there is nobody to tell.
            except BaseException:
                # An interrupt: perhaps the loop was not woken, so that others must.
                self._wake_is_due = False
                raise

    def say(self, message: Message) -> None:
        """Send *message* from this thread if all is quiet, or else as ``post`` does.

        What was put off need not come before it.

        Raises:
            LocalProtocolError: no frame can hold it.
        """
        line = self._line
        if self.quiet and line is not None:
            with line.lock:
                if not self._messages:
                    self.quiet = False
                    if line.say(message, self._unnoted):
                        return
        self.post(message)

    def part(self, release: Release) -> None:
        """Send it from this thread if nothing gathers, or else as ``post`` does.

        Of what was asked for and let go of before it was noted there is nothing to note:
        else the I/O thread would have as much to do with it as the thread that asked.
        """
        line, unnoted = self._line, self._unnoted
        if line is None or self._messages:
            self.post(release)
            return
        with line.lock:
            if self._messages or not line.say(release, unnoted):
                self.post(release)
                return
            asked: dict[Extent, Submit] = {}
            for message in unnoted[-RECENT:]:
                if type(message) is Submit:
                    if message.aligned or message.whole or message.groups:
                        # In another life of the scheduler it needs what it takes.
                        asked.clear()
                    if message.n == 1:
                        asked[message.base, 1] = message
            if asked.keys() >= {*release.extents}:
                for extent in release.extents:
                    unnoted.remove(asked[extent])
                unnoted.remove(release)

    def send(self) -> None:
        """Send what has gathered."""
        self.catch_up()
        self.look()
        # Cleared first: a message posted from now on wakes the loop again.
        self._wake_is_due = False
        line = self._line
        if line is None:
            return
        with line.lock:
            self.note()
            messages, self._messages = self._messages, []
            if messages:
                if not all(type(message) is Release for message in messages):
                    self.quiet = False
                messages = merge(messages)
                for message in messages:
                    self._ledger.note(message)
                line.send_all(messages)

    def note(self) -> None:
        """Let the ledger know what user threads have sent."""
        line = self._line
        if line is None:
            return  # Nothing was sent.
        with line.lock:
            unnoted, self._unnoted[:] = self._unnoted[:], []
            for message in unnoted:
                self._ledger.note(message)

    def speak_through(self, line: SharedLine) -> None:
        """The scheduler is reached through *line* from now on."""
        self._line = line


def _nothing() -> None:
    """Until a session sets it, there is nothing to catch up on."""
