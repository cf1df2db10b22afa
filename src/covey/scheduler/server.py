"""The scheduler's shell: listens, decodes, steps the core, sends what it says.

A peer speaks over a *line*, which survives its links.  When a link breaks the peer
is away; it is waited for, and forgotten only when its grace is over::

    link lost ──► Away ──► resumed in time ──► Back
                    │
                    └────► grace over ───────► Left
"""

from __future__ import annotations

import asyncio
import secrets
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from covey import clock, config
from covey.errors import CoveyError, RemoteProtocolError
from covey.net.addresses import Address
from covey.net.inproc import InprocLink, inproc_pair
from covey.net.line import BEAT_SECONDS, SILENT_BEATS, Line, Silence
from covey.net.link import Link
from covey.net.listen import Listener, listen
from covey.net.tls import Certificate
from covey.recording import Writer
from covey.scheduler.core import invariants
from covey.scheduler.core.machine import (
    Away,
    Back,
    Event,
    Joined,
    Left,
    Orders,
    Said,
    SchedulerCore,
    Tick,
)
from covey.scheduler.sampling import Sampler
from covey.wire.client_link import Closing, FromClient
from covey.wire.introductions import (
    ClientIntroduction,
    Gone,
    Introduction,
    Refusal,
    Resume,
    Resumed,
    Welcome,
    WorkerIntroduction,
)
from covey.wire.keys import Keys, Role
from covey.wire.session import Session
from covey.wire.worker_link import FromWorker, Leave

#: How often those who read the event stream are told what is new.
TELL_SECONDS: Final = 0.1

#: Who may speak how: the role that was proved in the handshake decides.
_UNION_OF: Final[dict[Role, Any]] = {Role.CLIENT: FromClient, Role.WORKER: FromWorker}
_INTRODUCTION_OF: Final[dict[Role, type[Any]]] = {
    Role.CLIENT: ClientIntroduction,
    Role.WORKER: WorkerIntroduction,
}

#: A worker whose connection was closed, rather than gone silent, has most likely
#: ended; if it lives, it is back within this time.
CLOSED_SECONDS: Final = 1.0


class SchedulerServer:
    """One scheduler, with its listeners and the lines of its peers.

    Args:
        keys: what peers must know.
        version: what peers are told.
        cluster: the name of the cluster, the same in all its lives; default: new.
        epoch: the number of this life.  Above 1, peers of earlier lives are waited
            for before anything is dealt out.
        on_closing: called with the reason when the cluster is to end.
        tell: called with a line for people whenever a worker comes or goes.
        check: check the invariants after every step; dear.
    """

    def __init__(
        self,
        *,
        keys: Keys,
        version: str,
        cluster: str = "",
        epoch: int = 1,
        on_closing: Callable[[str], None] = lambda _: None,
        tell: Callable[[str], None] = lambda _: None,
        check: bool = False,
    ) -> None:
        self.cluster = cluster or secrets.token_hex(8)
        self.core = SchedulerCore(
            cluster=self.cluster,
            epoch=epoch,
            now=clock.monotonic(),
            events_kept=config.get().scheduler.events_kept,
            keys=keys,
        )
        self.keys = keys
        self._version = version
        self._on_closing = on_closing
        self._tell = tell
        self._check = check
        self._lines: dict[int, Line | InprocLink] = {}
        self._sessions: dict[int, Line] = {}
        #: How the workers are called that are here, or waited for.
        self._names: dict[int, str] = {}
        #: For how many more beats peers that are away are waited for.
        self._graces: dict[Line, int] = {}
        self._strangers: set[Link] = set()
        self._listeners: list[Listener] = []
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._pacing: asyncio.TimerHandle | None = None
        self._recorder: Writer | None = None
        self._recorded = 0
        self._sampler = Sampler()
        self._wake: asyncio.TimerHandle | None = None
        self._wake_at = 0.0
        self._beat_timer = self._loop.call_later(BEAT_SECONDS, self._beat)
        self._rest()

    async def listen(
        self, address: Address, certificate: Certificate | None = None
    ) -> Listener:
        """Listen at one more address.

        Raises:
            OSError: the path cannot be made.
            UsageError: the address cannot be bound, or it is on a network, and there
                is no certificate.
        """
        listener = await listen(
            address,
            Introduction,
            role=Role.SCHEDULER,
            keys=self.keys,
            version=self._version,
            on_open=self._strangers.add,
            on_messages=self._on_messages,
            on_lost=self._on_lost,
            on_turned_away=self._on_turned_away,
            certificate=certificate,
        )
        self._listeners.append(listener)
        return listener

    def attach_worker(
        self,
        introduction: WorkerIntroduction,
        on_messages: Callable[[Any, list[Any]], None],
    ) -> InprocLink:
        """Take in a worker of the same process; return its end of the link."""
        ours, theirs = inproc_pair()
        theirs.on_messages = on_messages
        ours.on_messages = self._said_inproc
        ours.on_lost = self._on_inproc_lost
        ours.peer = self.core.next_peer()
        self._lines[ours.peer] = ours
        self._step(Joined(ours.peer, introduction))
        return theirs

    async def close(self, reason: str = "it was told to end") -> None:
        """Close all links and listeners; peers are told the *reason*."""
        self._closed = True
        self._beat_timer.cancel()
        for timer in (self._wake, self._pacing):
            if timer is not None:
                timer.cancel()
        if self._recorder is not None:
            self._write_down()
            self._recorder.close()
            self._recorder = None
        for line in self._lines.values():
            if isinstance(line, Line):
                is_client = line.role is Role.CLIENT
                line.send(Closing(reason) if is_client else Leave())
        for listener in self._listeners:
            await listener.close()
        for end in [*self._lines.values(), *self._strangers]:
            end.close()

    def _on_turned_away(self) -> None:
        self.core.count("strangers_turned_away")

    # Greetings.

    def _on_messages(self, link: Link, batch: list[Any]) -> None:
        line = link.peer
        if line is not None:
            if line.link is link:
                self._said(line, batch)
            return
        first, *rest = batch or [None]
        role = link.other_role
        if rest:
            link.fail(RemoteProtocolError("messages came before the welcome"))
        elif type(first) is Resume:
            self._resume(link, first)
        elif role is None or not isinstance(first, _INTRODUCTION_OF.get(role, ())):
            link.fail(RemoteProtocolError("the peer did not present itself"))
        else:
            assert isinstance(first, ClientIntroduction | WorkerIntroduction)
            self._introduce(link, first)

    def _resume(self, link: Link, message: Resume) -> None:
        """A peer takes up its session, if we know it."""
        line = self._sessions.get(message.session)
        if (
            line is None
            or line.role is not link.other_role
            or not line.session.can_resume(message.received)
        ):
            if line is not None:
                self._forget(line)
            link.send(Gone(self.core.state.epoch))
            return
        old = line.detach()
        if old is not None:
            old.abort()
        self._strangers.discard(link)
        link.decode_as(_UNION_OF[line.role])
        link.peer = line
        link.send(Resumed(line.session.received))
        # In a frame of its own: the peer reads the next one with another union.
        link.flush()
        self._graces.pop(line, None)
        line.attach(link, message.received)
        self._tell_of(line, "is back")
        self._step(Back(line.peer))

    def _introduce(
        self, link: Link, hello: ClientIntroduction | WorkerIntroduction
    ) -> None:
        """Take a new peer in, or one that we have forgotten."""
        state = self.core.state
        if hello.epoch > state.epoch:
            # A worker's word ends no cluster: it looks for the newer one elsewhere.
            if isinstance(hello, ClientIntroduction):
                self._closed = True
                self._on_closing("a newer scheduler has taken over")
            link.close()
            return
        known = self.core.peer_of(hello)
        if known is not None:
            line = self._lines.get(known)
            if not hello.epoch or isinstance(line, InprocLink):
                link.send(Refusal("taken"))
                link.close()
                return
            if line is not None:
                self._retire(line)
        self._strangers.discard(link)
        role = link.other_role
        assert role is not None
        link.decode_as(_UNION_OF[role])
        peer = self.core.peer_for(hello)
        line = self._new_line(peer, role)
        link.peer = line
        workers = len(state.workers) if isinstance(hello, ClientIntroduction) else 0
        link.send(
            Welcome(
                peer,
                self.cluster,
                state.epoch,
                self._version,
                workers,
                line.session.number,
            )
        )
        link.flush()
        line.attach(link, 0)
        self._step(Joined(peer, hello))
        if isinstance(hello, WorkerIntroduction):
            self._names[peer] = hello.name
            self._tell_of(line, "is back" if hello.epoch else "joined")

    def _is_leaving(self, line: Line) -> bool:
        """Whether it is a worker that has asked to go in good order."""
        worker = self.core.state.workers.get(line.peer)
        return worker is not None and worker.leaving

    def _tell_of(self, line: Line, what: str) -> None:
        """Let people know what became of a worker."""
        name = self._names.get(line.peer)
        if name is not None and not self._closed:
            self._tell(f"worker {name} {what}")

    def _new_line(self, peer: int, role: Role) -> Line:
        session = Session(secrets.randbits(63) | 1)
        line = Line(session, role, self._on_failed)
        line.peer = peer
        self._lines[peer] = self._sessions[session.number] = line
        return line

    def _on_failed(self, line: Line, error: CoveyError) -> None:
        """Something that *line* should say cannot be said: the peer must go."""
        line.send(Closing(f"the scheduler cannot tell it: {error}"))
        line.close()
        self._forget(line)

    # News.

    def _said(self, line: Line, batch: list[Any]) -> None:
        try:
            self._step(Said(line.peer, batch))
        except RemoteProtocolError as error:
            # Well-formed, yet senseless: a function never defined, a bad pack.
            self.core.count("protocol_errors")
            self._expel(line, error)

    def _expel(self, line: Line, error: RemoteProtocolError) -> None:
        """End the session of a peer that broke the rules, and tell it so."""
        is_client = line.role is Role.CLIENT
        line.send(Closing(f"it refuses us: {error}") if is_client else Leave())
        line.close()
        self._forget(line)

    def _said_inproc(self, link: InprocLink, batch: list[Any]) -> None:
        try:
            self._step(Said(link.peer, batch))
        except RemoteProtocolError as error:
            # A worker of ours broke the rules: the bug is in this process.
            self._break(error)

    def _on_inproc_lost(self, link: InprocLink, error: Exception | None) -> None:
        del error
        if self._lines.pop(link.peer, None) is not None:
            self._step(Left(link.peer))

    # Coming and going.

    def _on_lost(self, link: Link, error: Exception | None) -> None:
        # Who never got in counts as a stranger.
        if link.other_role is not None and isinstance(error, RemoteProtocolError):
            self.core.count("protocol_errors")
        self._strangers.discard(link)
        line: Line | None = link.peer
        if line is None or line.link is not link:
            return
        line.detach()
        if not self.core.knows_peer(line.peer):
            self._tell_of(line, "left")
            self._retire(line)  # It has said goodbye.
            return
        self._graces[line] = self._grace(line, error)
        if not self._is_leaving(line):
            self._tell_of(line, "lost its connection, and is waited for")
        self._step(Away(line.peer))

    def _grace(self, line: Line, error: Exception | None) -> int:
        """Return for how many beats a peer is waited for."""
        settings = config.get().scheduler
        if line.role is Role.CLIENT:
            return round(settings.client_grace_seconds / BEAT_SECONDS)
        beats = round(settings.worker_grace_seconds / BEAT_SECONDS)
        if isinstance(error, Silence | TimeoutError):
            return max(0, beats - SILENT_BEATS)
        return min(beats, round(CLOSED_SECONDS / BEAT_SECONDS))

    def _beat(self) -> None:
        """Say that we are alive; see who is not, and who was away for too long.

        All is counted in beats: if this process was stopped, nobody is to blame.
        """
        self._beat_timer = self._loop.call_later(BEAT_SECONDS, self._beat)
        for line in list(self._sessions.values()):
            line.beat()
        for line, beats in list(self._graces.items()):
            if beats <= 0:
                self._forget(line)
                continue
            self._graces[line] = beats - 1
            if line.overflows:
                # Should it come back, it is told anew all that it then wants.
                self._sessions.pop(line.session.number, None)
                line.abandon()

    def _forget(self, line: Line) -> None:
        """A peer is not waited for any more."""
        self._tell_of(line, "left" if self._is_leaving(line) else "is lost")
        self._retire(line)
        self._step(Left(line.peer))

    def _retire(self, line: Line) -> None:
        """A session is over, whatever becomes of its peer."""
        self._sessions.pop(line.session.number, None)
        self._graces.pop(line, None)
        if self._lines.get(line.peer) is line:
            del self._lines[line.peer]
            self._names.pop(line.peer, None)
        old = line.detach()
        if old is not None:
            old.close()

    # The core.

    def _step(self, event: Event) -> None:
        if self._closed:
            return
        try:
            self._send(self.core.step(event, clock.monotonic()))
            if self._check:
                invariants.check(self.core.state)
        except RemoteProtocolError:
            raise
        except Exception as error:
            self._break(error)
            return
        if self._pacing is None and self.core.watched:
            self._pace()
        if self.core.closing:
            self._on_closing("")
        elif self.core.wake_at != self._wake_at:
            self._rest()

    def _rest(self) -> None:
        """Wake the core when it wants to be woken."""
        self._wake_at = self.core.wake_at
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if self._wake_at:
            delay = max(0.0, self._wake_at - clock.monotonic())
            self._wake = self._loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        # Timers of loops may be a little early: then this one is set again.
        self._wake_at = 0.0
        self._step(Tick())

    # Who reads the event stream along.

    def _pace(self) -> None:
        self._sampler.expect(TELL_SECONDS)
        self._pacing = self._loop.call_later(TELL_SECONDS, self._tell_audience)

    def _tell_audience(self) -> None:
        """Let out what has happened; go on for as long as somebody looks on."""
        self._pacing = None
        if self._closed:
            return
        facts = self._sampler.facts_if_due()
        self._send(self.core.tell_audience(clock.monotonic(), facts))
        self._write_down()
        if self.core.watched or self._recorder is not None:
            self._pace()

    def record(self, path: Path) -> None:
        """Keep a recording of what happens from now on.

        Raises:
            UsageError: the file cannot be written.
        """
        self._recorder = Writer(path)
        self._recorder.head(clock.wall(), self.core.overview(clock.monotonic()))
        self._recorded = self.core.state.events.next
        if self._pacing is None:
            self._pace()

    def _write_down(self) -> None:
        if self._recorder is None:
            return
        while self._recorded < self.core.state.events.next:
            first, n, dropped, data, now = self.core.batch_since(self._recorded)
            self._recorder.batch(first, n, dropped, data, now)
            self._recorded = first + n

    def _break(self, error: Exception) -> None:
        """Better a cluster that ends, and says why, than one that hangs."""
        traceback.print_exception(error)
        self._closed = True
        self._on_closing(f"the scheduler broke: {error!r}; please report this")

    def _send(self, orders: Orders) -> None:
        lines = self._lines
        for peer, messages in orders.items():
            line = lines.get(peer)
            if line is not None:
                line.send_all(messages)
