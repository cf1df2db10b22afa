"""Who is here, who is away, and for how long those are waited for.

A peer speaks over a *line*, which survives its links.  When a link breaks the peer
is away; it is waited for, and forgotten only when its grace is over::

    link lost ──► Away ──► resumed in time ──► Back
                    │
                    └────► grace over ───────► Left

What comes of it is returned, for the core to be told.  Links are whatever has the
face of one: those of ``net``, or those of the simulator's network.  All time is
counted in beats of our own, so that a scheduler that was stopped accuses nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from covey.errors import RemoteProtocolError
from covey.scheduler.core.machine import Away, Back, Joined, Left, SchedulerCore
from covey.wire import line as lines
from covey.wire.base import Message
from covey.wire.client_link import FromClient
from covey.wire.introductions import (
    ClientIntroduction,
    Gone,
    Refusal,
    Resume,
    Resumed,
    Welcome,
    WorkerIntroduction,
)
from covey.wire.keys import Role
from covey.wire.line import SILENT_BEATS, Line, Silence
from covey.wire.session import Session
from covey.wire.worker_link import FromWorker

#: Who may speak how: the role that was proved in the handshake decides.
_UNION_OF: Final[dict[Role, Any]] = {Role.CLIENT: FromClient, Role.WORKER: FromWorker}


class Link(lines.Link, Protocol):
    """A connection, as far as greetings have to do with it."""

    #: What the other side has proved to be.
    other_role: Role | None
    #: The line that it belongs to, once there is one.
    peer: Any

    def send(self, message: Message) -> None:
        """Send a message that belongs to no session."""

    def flush(self) -> None:
        """Send all that is queued in a frame of its own."""

    def decode_as(self, union: Any) -> None:
        """From now on only messages of *union* are allowed to come in."""


class Speaker(Protocol):
    """What a peer is spoken to through: a line, or a link within the process."""

    def send(self, message: Message) -> None:
        """Send a message."""

    def send_all(self, messages: list[Any]) -> None:
        """Send several."""

    def send_first(self, messages: list[Any]) -> None:
        """Send several at once, if they are the first in this turn of the loop."""

    def close(self) -> None:
        """Send what is queued, and end it."""


class Graces(NamedTuple):
    """For how many beats who is away is waited for.

    ``closed`` is for a worker whose connection was closed, rather than gone silent:
    it has most likely ended.
    """

    client: int
    worker: int
    closed: int


class Overtaken(NamedTuple):
    """Somebody has seen a later life of the scheduler than this one."""


class Attendance:
    """The peers of one life of a scheduler, as far as they speak over sessions.

    Args:
        core: knows who is known.
        version: what peers are told that this side has.
        graces: says how long peers are waited for.
        new_number: draws the number of a session.
        new_line: makes a line for a session with a peer of a role.
    """

    def __init__(
        self,
        core: SchedulerCore,
        *,
        version: str,
        graces: Callable[[], Graces],
        new_number: Callable[[], int],
        new_line: Callable[[Session, Role], Line],
    ) -> None:
        self._core = core
        self._version = version
        self._graces_now = graces
        self._new_number = new_number
        self._new_line = new_line
        #: How each peer is spoken to.
        self.speakers: dict[int, Speaker] = {}
        #: What can be taken up, by the number of the session.
        self.sessions: dict[int, Line] = {}
        #: For how many more beats peers that are away are waited for.
        self._graces: dict[Line, int] = {}
        #: Behind how many frames of a line one stands that cannot be read, and why.
        self._misread: dict[Line, int] = {}
        self._refused: dict[Line, str] = {}

    # Greetings.

    def resume(self, link: Link, message: Resume) -> Back | Left | None:
        """A peer takes up its session, if we know it."""
        line = self.sessions.get(message.session)
        if (
            line is None
            or line.role is not link.other_role
            or not line.session.can_resume(message.received)
        ):
            link.send(Gone(self._core.state.epoch))
            return self.forget(line) if line is not None else None
        if line in self._refused:
            link.send(Refusal(self._refused[line]))
            link.close()
            return None
        old = line.detach()
        if old is not None:
            old.abort()
        link.decode_as(_UNION_OF[line.role])
        link.peer = line
        link.send(Resumed(line.session.received))
        # In a frame of its own: the peer reads the next one with another union.
        link.flush()
        self._graces.pop(line, None)
        line.attach(link, message.received)
        return Back(line.peer)

    def introduce(
        self, link: Link, hello: ClientIntroduction | WorkerIntroduction
    ) -> Joined | Overtaken | None:
        """Take a new peer in, or one that was forgotten; or turn it away."""
        core = self._core
        if hello.epoch > core.state.epoch:
            link.close()
            return Overtaken()
        known = core.peer_of(hello)
        if known is not None:
            speaker = self.speakers.get(known)
            if not hello.epoch or (speaker and not isinstance(speaker, Line)):
                link.send(Refusal("taken"))
                link.close()
                return None
            if isinstance(speaker, Line):
                self.retire(speaker)
        role = link.other_role
        assert role is not None
        link.decode_as(_UNION_OF[role])
        peer = core.peer_for(hello)
        line = self._new_line(Session(self._new_number()), role)
        line.peer = peer
        self.speakers[peer] = self.sessions[line.session.number] = line
        link.peer = line
        is_client = isinstance(hello, ClientIntroduction)
        link.send(
            Welcome(
                peer,
                core.state.cluster,
                core.state.epoch,
                self._version,
                len(core.state.workers) if is_client else 0,
                line.session.number,
            )
        )
        link.flush()
        line.attach(link, 0)
        return Joined(peer, hello)

    # Coming and going.

    def lost(self, line: Line, error: Exception | None) -> Away | None:
        """The link of *line* is gone; ``None`` if its peer had said goodbye."""
        line.detach()
        if not self._core.knows_peer(line.peer):
            self.retire(line)
            return None
        self._graces[line] = self._grace(line, error)
        if isinstance(error, RemoteProtocolError):
            self._misunderstood(line, error)
        return Away(line.peer)

    def _misunderstood(self, line: Line, error: RemoteProtocolError) -> None:
        """A frame could not be read.  It is sent again; if that is no better, refuse it.

        It may have been damaged on its way.  If it was made so, it would come again and
        again, and what is behind it never.
        """
        place = line.session.received
        if self._misread.get(line) == place:
            self._refused[line] = f"what was sent cannot be read: {error}"
        self._misread[line] = place

    def _grace(self, line: Line, error: Exception | None) -> int:
        graces = self._graces_now()
        if line.role is Role.CLIENT:
            return graces.client
        if isinstance(error, Silence | TimeoutError):
            return max(0, graces.worker - SILENT_BEATS)
        return min(graces.worker, graces.closed)

    @property
    def waits(self) -> bool:
        """Whether anybody who is away is waited for."""
        return bool(self._graces)

    def beat(self) -> list[Line]:
        """Say that we are alive; return those that are to be forgotten."""
        for line in list(self.sessions.values()):
            line.beat()
        over = []
        for line, beats in list(self._graces.items()):
            if beats <= 0:
                over.append(line)
                continue
            self._graces[line] = beats - 1
            if line.overflows:
                # Should it come back, it is told anew all that it then wants.
                self.sessions.pop(line.session.number, None)
                line.abandon()
        return over

    def forget(self, line: Line) -> Left:
        """A peer is not waited for any more."""
        self.retire(line)
        return Left(line.peer)

    def retire(self, line: Line) -> None:
        """A session is over, whatever becomes of its peer."""
        self.sessions.pop(line.session.number, None)
        self._graces.pop(line, None)
        self._misread.pop(line, None)
        self._refused.pop(line, None)
        if self.speakers.get(line.peer) is line:
            del self.speakers[line.peer]
        old = line.detach()
        if old is not None:
            old.close()
