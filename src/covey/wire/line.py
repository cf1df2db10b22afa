"""A line: what one side of a session speaks through, whatever becomes of its links.

It has the face of a ``Link`` as far as sending goes.  While there is no link, what
is sent waits; when the next one stands, all goes on where it was::

    send(a) send(b) ──► outbox ──► [session: keeps frames] ──► link 1 ✂  link 2 ──►

The two ends take turns with ``beat``, once a second: it tells the other side what
has come, and finds out whether the other side is still alive.

There is no socket in here, no loop and no clock: the owner says what a link is, and
how something is done at the end of a turn.  The simulator drives the same lines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from covey.errors import CoveyError
from covey.wire.base import Message
from covey.wire.framing import FrameReader, batches, encode_frame
from covey.wire.keys import Role
from covey.wire.session import Pulse, Session

#: How often each side says that it is alive, and what has come.
BEAT_SECONDS: Final = 1.0

#: A link on which so many beats bring nothing is cut.
SILENT_BEATS: Final = 6


class Silence(CoveyError, ConnectionError):
    """Nothing has come from the peer for so long that the link was cut."""


class Link(Protocol):
    """A connection, as far as a line has to do with it."""

    #: All that ever came on it.
    bytes_received: int

    def carry(self, session: Session, on_ack: Callable[[], None]) -> None:
        """From now on all frames are those of *session*; *on_ack*: some have come."""

    def write(self, frame: bytes) -> None:
        """Send one encoded frame at once."""

    def fail(self, error: Exception) -> None:
        """End it at once, for this reason."""

    def close(self) -> None:
        """Send what is queued, then end it."""

    def abort(self) -> None:
        """End it at once."""


class Line:
    """One side of a session, over one link after another.

    Args:
        session: what is numbered, kept and sent again.
        role: what the other side is.
        on_failed: called when something was to be sent that cannot be said at all.
        soon: has something done at the end of this turn.
    """

    def __init__(
        self,
        session: Session,
        role: Role,
        on_failed: Callable[[Line, CoveyError], None],
        soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self.session = session
        self.role = role
        self._on_failed = on_failed
        self._soon = soon
        self._outbox: list[Message] = []
        self._flush_is_due = False
        #: Whether something was sent in this turn, before its end.
        self._hastened = False
        self._abandoned = False
        self._pulse = Pulse(SILENT_BEATS)
        self._appetite = Pulse(SILENT_BEATS)
        self.link: Link | None = None
        #: Anything the owner wants to remember about the peer.
        self.peer: Any = None

    @property
    def connected(self) -> bool:
        """Whether there is a link at the moment."""
        return self.link is not None

    # Lives.

    def attach(self, link: Link, received: int) -> None:
        """Go on over *link*, on whose other side *received* frames have come.

        Raises:
            RemoteProtocolError: that cannot be.
        """
        again = self.session.resume(received)
        self.link = link
        self._pulse = Pulse(SILENT_BEATS)
        self._appetite = Pulse(SILENT_BEATS)
        link.carry(self.session, self.flush)
        for frame in again:
            link.write(frame)
        self.flush()

    def detach(self) -> Link | None:
        """The link is gone, or another one takes its place; return it."""
        link, self.link = self.link, None
        return link

    def beat(self) -> None:
        """Say that we are alive; cut the link if the other side is not."""
        link = self.link
        if link is None:
            return
        seconds = SILENT_BEATS * BEAT_SECONDS
        if not self._pulse.beat(link.bytes_received):
            link.fail(Silence(f"nothing was heard for {seconds:g} s"))
        elif not self._takes_in():
            link.fail(Silence(f"the peer has taken nothing in for {seconds:g} s"))
        else:
            link.write(self.session.ack())

    def _takes_in(self) -> bool:
        """Whether the other side reads what it is told, if much of that waits.

        One that speaks and never reads would have us keep more and more for it.
        """
        if not self.overflows:
            self._appetite = Pulse(SILENT_BEATS)
            return True
        return self._appetite.beat(self.session.acked)

    # Sending.

    def send(self, message: Message) -> None:
        """Queue *message*; it leaves at the end of this turn of the loop."""
        self._outbox.append(message)
        if not self._flush_is_due:
            self._flush_is_due = True
            self._soon(self.flush)

    def send_all(self, messages: list[Message]) -> None:
        """Queue several messages."""
        self._outbox += messages
        if not self._flush_is_due:
            self._flush_is_due = True
            self._soon(self.flush)

    def send_first(self, messages: list[Message]) -> None:
        """Queue several messages; they leave at once, if they are the first of a turn.

        Where little is said nobody waits for the end of the turn, and where much is
        said, nearly all of it travels together.
        """
        self._outbox += messages
        if not self._flush_is_due:
            self._flush_is_due = True
            self._soon(self.flush)
        if not self._hastened:
            self.flush()
            self._hastened = True

    def hasten(self) -> None:
        """Send what is queued, if it is the first in this turn of the loop."""
        if self._flush_is_due and not self._hastened:
            self.flush()
            self._hastened = True

    def flush(self) -> None:
        """Send what is queued, as far as the window has room.

        Without a link it is kept for the next one, within the same bounds.
        """
        self._flush_is_due = self._hastened = False
        outbox = self._outbox
        if not outbox:
            return
        if self._abandoned:
            outbox.clear()
        link, session = self.link, self.session
        done, todo = 0, len(outbox)
        try:
            for batch in batches(outbox) if session.has_room else ():
                frame = encode_frame(batch)
                session.push(frame)
                if link is not None:
                    link.write(frame)
                done += len(batch)
                if done == todo or not session.has_room:
                    break
        except CoveyError as error:
            # What cannot be said is lost, and both sides shall know that it is.
            outbox.clear()
            self._on_failed(self, error)
            return
        del outbox[:done]

    @property
    def overflows(self) -> bool:
        """Whether more is to be told than is kept for a peer that does not listen."""
        return bool(self._outbox) and not self.session.has_room

    def abandon(self) -> None:
        """Tell nothing more: the session cannot be resumed."""
        self._abandoned = True
        self._outbox.clear()

    def unheard(self, union: Any) -> list[Any]:
        """Return all messages, of *union*, that the other side may not have."""
        reader: FrameReader[Any] = FrameReader(union)
        messages: list[Any] = []
        for frame in self.session.kept():
            reader.feed(frame)
            messages += reader.next_batch() or ()
        return messages + self._outbox

    def close(self) -> None:
        """Send what is queued, then close the link."""
        self.flush()
        link = self.detach()
        if link is not None:
            link.close()
