"""Sessions over connections that break: both sides, without a loop or a clock.

The session itself (what is numbered, kept, acknowledged and sent again) is the real
one, and so are the greetings.  This room plays what ``net`` does around it: beats,
cutting silent links, and looking for the scheduler again.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final, Protocol

from covey.sim.network import End, Network, Node
from covey.sim.timeline import Timeline
from covey.wire.base import Message
from covey.wire.framing import FrameReader, batches, encode_frame
from covey.wire.introductions import (
    Gone,
    Reception,
    Refusal,
    Resume,
    Resumed,
    Welcome,
)
from covey.wire.session import Pulse, Session

BEAT_SECONDS: Final = 1.0
SILENT_BEATS: Final = 6
GREETING_SECONDS: Final = 5.0
FIRST_PAUSE_SECONDS: Final = 0.02
LONGEST_PAUSE_SECONDS: Final = 0.5


class Line:
    """One side of a session, over one connection after another."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.end: End | None = None
        #: Whatever the owner wants to remember of the other side.
        self.peer = 0
        self._outbox: list[Message] = []
        self._pulse = Pulse(SILENT_BEATS)

    def attach(self, end: End, received: int) -> None:
        """Go on over *end*, on whose other side so many frames have come."""
        again = self.session.resume(received)
        self.end = end
        self._pulse = Pulse(SILENT_BEATS)
        end.carry(self.session, self.flush)
        for frame in again:
            end.write(frame)
        self.flush()

    def detach(self) -> End | None:
        """The connection is gone, or another one takes its place; return it."""
        end, self.end = self.end, None
        return end

    def beat(self) -> None:
        """Say that we are alive; cut the connection if the other side is not."""
        end = self.end
        if end is None:
            return
        if self._pulse.beat(end.bytes_received):
            end.write(self.session.ack())
        else:
            end.cut(silent=True)

    def send(self, messages: list[Any]) -> None:
        """Send messages, now or when there is a connection."""
        self._outbox += messages
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the window has room."""
        outbox, self._outbox = self._outbox, []
        done = 0
        for batch in batches(outbox) if outbox else ():
            if not self.session.has_room:
                break
            frame = encode_frame(batch)
            self.session.push(frame)
            if self.end is not None:
                self.end.write(frame)
            done += len(batch)
        self._outbox = outbox[done:]

    def unheard(self, union: Any) -> list[Any]:
        """Return all messages that the other side may not have."""
        reader: FrameReader[Any] = FrameReader(union)
        messages: list[Any] = []
        for frame in self.session.kept():
            reader.feed(frame)
            messages += reader.next_batch() or ()
        return messages + self._outbox

    def close(self) -> None:
        """Close the connection; what was sent still arrives."""
        end = self.detach()
        if end is not None:
            end.close()


class Place(Protocol):
    """Where a scheduler is found, if it is there."""

    def door(self) -> End | None:
        """Return the scheduler's end of a new connection, or ``None``."""


class Owner(Protocol):
    """An edge: a worker or a client."""

    @property
    def node(self) -> Node:
        """The process."""

    def introduce(self, epoch: int) -> Message:
        """Return the introduction of this edge, which has seen *epoch*."""

    def on_welcome(self, line: Line, welcome: Welcome, old: Line | None) -> None:
        """The scheduler has taken us in; it knows nothing of what *old* said."""

    def on_batch(self, batch: list[Any]) -> None:
        """The scheduler said something."""

    def on_refused(self, reason: str) -> None:
        """The scheduler turns us away."""


class Uplink:
    """The way of an edge to its scheduler: found again whenever it was lost."""

    def __init__(
        self,
        owner: Owner,
        union: Any,
        place: Place,
        network: Network,
        timeline: Timeline,
        rng: Random,
    ) -> None:
        self._owner = owner
        self._union = union
        self._place = place
        self._network = network
        self._timeline = timeline
        self._rng = rng
        self.line: Line | None = None
        self.epoch = 0
        self.closed = False
        self._end: End | None = None
        self._greeted = True
        self._pause = FIRST_PAUSE_SECONDS
        self._tries = 0

    def start(self) -> None:
        """Look for the scheduler for the first time."""
        self._try()
        self._later(BEAT_SECONDS, self._beat)

    def close(self) -> None:
        """Say what is queued, and close."""
        self.closed = True
        if self.line is not None:
            self.line.close()
        elif self._end is not None:
            self._end.close()

    def _later(self, seconds: float, call: Callable[..., Any], *args: Any) -> None:
        self._timeline.after(seconds, self._owner.node.run, call, *args)

    def _beat(self) -> None:
        if not self.closed:
            if self.line is not None:
                self.line.beat()
            self._later(BEAT_SECONDS, self._beat)

    # Connecting.

    def _try_again(self) -> None:
        pause = self._pause * (0.5 + 0.5 * self._rng.random())
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        self._later(pause, self._try)

    def _try(self) -> None:
        if self.closed or self._end is not None:
            return
        door = self._place.door()
        if door is None:
            self._try_again()
            return
        end = self._end = End(self._owner.node, Reception, self._on_batch, self._lost)
        self._network.connect(end, door)
        self._greeted = False
        self._tries += 1
        self._greet(end)
        self._later(GREETING_SECONDS, self._give_up, self._tries)

    def _greet(self, end: End) -> None:
        line = self.line
        if line is not None:
            end.send([Resume(line.session.number, line.session.received)])
        else:
            end.send([self._owner.introduce(self.epoch)])

    def _give_up(self, number: int) -> None:
        """The greeting was not answered: try anew."""
        if number == self._tries and not self._greeted and self._end is not None:
            end, self._end = self._end, None
            end.cut()
            self._try_again()

    def _lost(self, end: End) -> None:
        if end is not self._end:
            return
        self._end = None
        if self.line is not None:
            self.line.detach()
        if not self.closed:
            self._try_again()

    def _on_batch(self, end: End, batch: list[Any]) -> None:
        if end is not self._end or self.closed:
            return
        if not self._greeted:
            self._on_reception(end, batch[0])
            batch = batch[1:]
        if batch and not self.closed:
            self._owner.on_batch(batch)

    def _on_reception(
        self, end: End, message: Welcome | Refusal | Resumed | Gone
    ) -> None:
        match message:
            case Refusal():
                self._greeted = True
                self._owner.on_refused(message.reason)
            case Gone():
                end.send([self._owner.introduce(self.epoch)])
            case Welcome() if message.epoch < self.epoch:
                end.cut()
            case Welcome():
                self._open()
                old, self.line = self.line, Line(Session(message.session))
                self.epoch = message.epoch
                end.reader.decode_as(self._union)
                self.line.attach(end, 0)
                self._owner.on_welcome(self.line, message, old)
            case Resumed():
                assert self.line is not None
                self._open()
                end.reader.decode_as(self._union)
                self.line.attach(end, message.received)

    def _open(self) -> None:
        self._greeted = True
        self._pause = FIRST_PAUSE_SECONDS
