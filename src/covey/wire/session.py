"""A session: a stream of frames that survives its connections.

Sans-IO.  Each side counts the frames that it sends and those that it receives,
keeps what it has sent until the other side says that it came, and sends the rest
again when a new connection takes up where the last one broke::

    life 1   ──[1][2][3][4]──✂          received 1, 2; the others died on the way
    life 2   resume: "I have 2"  ──[3][4][5]──►

So, over any number of connections, what is delivered is a prefix of what was sent:
no gap, nothing twice.  The numbers are never sent: a frame's number is its place.
An **acknowledgement** is a frame of its own kind that tells how many frames have
come; it is not counted, and also says that its sender is alive.

What is kept is bounded.  When the window is full the owner holds its messages
back (``has_room``), and nothing is ever dropped.  A side that has forgotten the
session (a scheduler that was started anew) says so, and both exchange what they
know instead; see ``Gone`` in ``introductions``.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from covey.errors import RemoteProtocolError
from covey.wire.framing import encode_ack

#: So many bytes may be on their way before the sender waits for word of them.
WINDOW_BYTES: Final = 32 << 20

#: After so many bytes or frames the receiver says that they have come.
ACK_BYTES: Final = 256 << 10
ACK_FRAMES: Final = 64


class Session:
    """One side of a session."""

    __slots__ = (
        "_acked_bytes",
        "_kept",
        "_owed_bytes",
        "_sent_bytes",
        "_told",
        "acked",
        "number",
        "received",
        "sent",
        "window_bytes",
    )

    def __init__(self, number: int, *, window_bytes: int = WINDOW_BYTES) -> None:
        #: The name under which both sides know the session.
        self.number = number
        self.window_bytes = window_bytes
        #: How many frames were sent, and how many of them are known to have come.
        self.sent = 0
        self.acked = 0
        #: How many frames have come, and how many of them the sender knows of.
        self.received = 0
        self._told = 0
        self._owed_bytes = 0
        self._kept: deque[bytes] = deque()
        #: Who sends and who hears may be two threads: each counts by itself.
        self._sent_bytes = 0
        self._acked_bytes = 0

    def __repr__(self) -> str:
        return (
            f"<Session {self.number:x} sent {self.sent} (acked {self.acked}), "
            f"received {self.received}>"
        )

    # Sending.

    @property
    def has_room(self) -> bool:
        """Whether another frame may be sent now."""
        return self._sent_bytes - self._acked_bytes < self.window_bytes

    @property
    def kept_bytes(self) -> int:
        """How many bytes are not known to have come."""
        return self._sent_bytes - self._acked_bytes

    def push(self, frame: bytes) -> None:
        """Note that *frame* is sent; it is kept until it is known to have come."""
        nbytes = len(frame)
        # No call stands between these, so that no interrupt can: all or nothing.
        self.sent += 1
        self._sent_bytes += nbytes
        self._kept.append(frame)

    def on_ack(self, received: int) -> None:
        """The other side has received so many frames.

        Raises:
            RemoteProtocolError: more than were sent, or fewer than it said before.
        """
        if not self.acked <= received <= self.sent:
            raise RemoteProtocolError(
                f"the peer says that it has received {received:,} frames, where "
                f"{self.sent:,} were sent and it had {self.acked:,} before"
            )
        kept = self._kept
        for _ in range(received - self.acked):
            self._acked_bytes += len(kept.popleft())
        self.acked = received

    # Receiving.

    def take(self, nbytes: int) -> bool:
        """Note that a frame of *nbytes* has come, before it is acted on.

        Returns:
            As ``ack_is_due``.
        """
        self.received += 1
        self._owed_bytes += nbytes
        return self._owed_bytes >= ACK_BYTES or self.received - self._told >= ACK_FRAMES

    @property
    def ack_is_due(self) -> bool:
        """Whether the sender should be told what has come, for its window's sake."""
        return self._owed_bytes >= ACK_BYTES or self.received - self._told >= ACK_FRAMES

    def ack(self) -> bytes:
        """Return the frame that tells the other side what has come."""
        self._told = self.received
        self._owed_bytes = 0
        return encode_ack(self.received)

    # The next life.

    def can_resume(self, received: int) -> bool:
        """Whether the stream can go on where the other side has *received* frames."""
        return self.acked <= received <= self.sent

    def resume(self, received: int) -> list[bytes]:
        """A new connection stands; return the frames to be sent again on it.

        Raises:
            RemoteProtocolError: the other side tells of another session than this.
        """
        self.on_ack(received)
        # The other side is told by the greeting how far we are.
        self._told = self.received
        self._owed_bytes = 0
        return list(self._kept)

    def kept(self) -> list[bytes]:
        """Return the frames that are not known to have come."""
        return list(self._kept)


class Pulse:
    """Whether the other side is alive, judged by one's own heartbeats.

    Time is counted in beats of our own that brought nothing from the peer.  A
    process that was itself stopped, or a machine that slept, has had no beats
    meanwhile, so it does not accuse others of its own silence.
    """

    __slots__ = ("_heard", "beats_allowed", "silent_beats")

    def __init__(self, beats_allowed: int) -> None:
        self.beats_allowed = beats_allowed
        self.silent_beats = 0
        self._heard = -1

    def beat(self, bytes_received: int) -> bool:
        """Another beat; say whether the peer counts as alive.

        Args:
            bytes_received: all that ever came on this connection, or another number
                that grows for as long as it is.
        """
        if bytes_received != self._heard:
            self._heard = bytes_received
            self.silent_beats = 0
        else:
            self.silent_beats += 1
        return self.silent_beats < self.beats_allowed
