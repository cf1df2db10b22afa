"""The scheduler's shell: listens, decodes, steps the core, sends what it says.

Who is here, and who is away and waited for, is the business of ``core.attendance``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from covey import clock, config
from covey.errors import CoveyError, RemoteProtocolError, UsageError
from covey.net.addresses import Address
from covey.net.inproc import InprocLink, inproc_pair
from covey.net.link import Link
from covey.net.listen import Listener, Opening, listen
from covey.net.tls import Certificate
from covey.scheduler.collector import Collector
from covey.scheduler.core import invariants, journaling
from covey.scheduler.core.attendance import Attendance, Graces, Overtaken
from covey.scheduler.core.machine import (
    Event,
    Joined,
    Left,
    Orders,
    Said,
    SchedulerCore,
    Tick,
)
from covey.scheduler.passing import Passing, Speaker
from covey.scheduler.sampling import Sampler, SelfProfile
from covey.secret import Secret
from covey.wire import rotation
from covey.wire.client_link import Answer, Closing
from covey.wire.introductions import (
    ClientIntroduction,
    Introduction,
    Met,
    PassOn,
    Resume,
    WorkerIntroduction,
)
from covey.wire.keys import Keys, Role
from covey.wire.line import BEAT_SECONDS, Line
from covey.wire.session import Session
from covey.wire.worker_link import Leave

if TYPE_CHECKING:
    # Seldom needed, and somebody waits for this process to start.
    from covey.recording import Writer
    from covey.scheduler.journal import JournalFile
    from covey.snapshots import Question, Snapshots

#: How often those who read the event stream are told what is new.
TELL_SECONDS: Final = 0.1

#: How each role presents itself.
_INTRODUCTION_OF: Final[dict[Role, type[Any]]] = {
    Role.CLIENT: ClientIntroduction,
    Role.WORKER: WorkerIntroduction,
}

#: A worker whose connection was closed, rather than gone silent, has most likely
#: ended; if it lives, it is back within this time.
CLOSED_SECONDS: Final = 1.0

NOT_ROTATED: Final = (
    "this cluster belongs to a program, or to `covey start`, and its secrets end with "
    "it; only those of a cluster that `covey scheduler` runs can be exchanged"
)


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
        journal: where to write down what is to outlive its clients.
        own_process: nothing but the cluster is in this process.
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
        journal: JournalFile | None = None,
        own_process: bool = False,
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
        #: Has the files and listeners know other secrets; returns the fingerprint of
        #: the certificate that is shown then.  Set by who keeps them.
        self.renew: Callable[[Keys], str] | None = None
        self.attendance = Attendance(
            self.core,
            version=version,
            graces=_graces,
            new_number=lambda: secrets.randbits(63) | 1,
            new_line=self._new_line,
        )
        self._version = version
        self._on_closing = on_closing
        self._tell = tell
        self._check = check
        self._collector = Collector(ours=own_process)
        #: How the workers are called that are here, or waited for.
        self._names: dict[int, str] = {}
        self._strangers: set[Link] = set()
        self.passing = Passing(
            self._worker_here,
            self._name_of,
            lambda n: self.core.count("bytes_passed_on", n),
        )
        self._listeners: list[Listener] = []
        self._loop = asyncio.get_running_loop()
        self._closed = self._overtaken = False
        self._pacing: asyncio.TimerHandle | None = None
        self._recorder: Writer | None = None
        self._snapshots: Snapshots | None = None
        self._recorded = 0
        self._sampler = Sampler()
        self._profile = SelfProfile()
        self._wake: asyncio.TimerHandle | None = None
        self._wake_at = 0.0
        self._journal = journal
        self._rewriting: asyncio.Task[None] | None = None
        if journal is not None:
            self._go_on_with(journal)
        self._beat_timer = self._loop.call_later(BEAT_SECONDS, self._beat)
        self._rest()

    async def listen(
        self,
        address: Address,
        certificate: Certificate | None = None,
        opening: Opening = contextlib.nullcontext,
    ) -> Listener:
        """Listen at one more address; *opening* is around the opening of a port.

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
            opening=opening,
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
        self.attendance.speakers[ours.peer] = ours
        self._step(Joined(ours.peer, introduction))
        return theirs

    async def close(self, reason: str = "it was told to end") -> None:
        """Close all links and listeners; peers are told the *reason*.

        If a newer scheduler has taken over they are told nothing, and look for it.
        """
        self._closed = True
        self._beat_timer.cancel()
        for timer in (self._wake, self._pacing):
            if timer is not None:
                timer.cancel()
        if self._recorder is not None and self._snapshots is not None:
            self._tell_of_passages()
            self._write_down()
            self._look(self._snapshots.last())
            self._snapshots.write_profile(clock.monotonic())
            self._recorder.close()
            self._recorder = self._snapshots = None
        speakers = list(self.attendance.speakers.values())
        for speaker in speakers:
            if isinstance(speaker, Line) and not self._overtaken:
                is_client = speaker.role is Role.CLIENT
                speaker.send(Closing(reason) if is_client else Leave())
        for listener in self._listeners:
            await listener.close()
        self.passing.close()
        for speaker in speakers:
            speaker.close()
        for stranger in self._strangers:
            stranger.close()
        if self._rewriting is not None:
            self._rewriting.cancel()
            await asyncio.wait([self._rewriting])
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def step_aside(self) -> None:
        """End, for there is a newer scheduler: peers are to look for that one."""
        self._closed = self._overtaken = True
        self._on_closing("a newer scheduler has taken over")

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
        elif type(first) is PassOn and role is Role.ASKER:
            self.passing.asked(link, first)
        elif type(first) is Met and role is Role.KEEPER:
            self.passing.met(link, first)
        elif role is None or not isinstance(first, _INTRODUCTION_OF.get(role, ())):
            link.fail(RemoteProtocolError("the peer did not present itself"))
        else:
            assert isinstance(first, ClientIntroduction | WorkerIntroduction)
            self._introduce(link, first)

    def _resume(self, link: Link, message: Resume) -> None:
        """A peer takes up its session, if we know it."""
        event = self.attendance.resume(link, message)
        if isinstance(event, Left):
            self._leave(event)
        elif event is not None:
            self._strangers.discard(link)
            self._tell_of(event.peer, "is back")
            self._step(event)

    def _introduce(
        self, link: Link, hello: ClientIntroduction | WorkerIntroduction
    ) -> None:
        """Take a new peer in, or one that we have forgotten."""
        event = self.attendance.introduce(link, hello)
        if isinstance(event, Overtaken):
            # A worker's word ends no cluster: it looks for the newer one elsewhere.
            if isinstance(hello, ClientIntroduction):
                self.step_aside()
        elif event is not None:
            self._strangers.discard(link)
            self._step(event)
            if isinstance(hello, WorkerIntroduction):
                self._names[event.peer] = hello.name
                self._tell_of(event.peer, "is back" if hello.epoch else "joined")

    def _name_of(self, number: int) -> str:
        worker = self.core.state.workers.get(number)
        return worker.name if worker is not None else f"worker {number}"

    def _tell_of_passages(self) -> None:
        """Enter into the stream what was passed on, and between whom."""
        for (asker, worker), nbytes in self.passing.told().items():
            self.core.passed_on(clock.monotonic(), asker, worker, nbytes)

    def _worker_here(self, number: int) -> Speaker | None:
        """Return how a worker is spoken to, if it hears us now."""
        worker = self.core.state.workers.get(number)
        if worker is None or worker.away_since is not None:
            return None
        return self.attendance.speakers.get(number)

    def _is_leaving(self, peer: int) -> bool:
        """Whether it is a worker that has asked to go in good order."""
        worker = self.core.state.workers.get(peer)
        return worker is not None and worker.leaving

    def _tell_of(self, peer: int, what: str) -> None:
        """Let people know what became of a worker."""
        name = self._names.get(peer)
        if name is not None and not self._closed:
            self._tell(f"worker {name} {what}")

    def _new_line(self, session: Session, role: Role) -> Line:
        return Line(session, role, self._on_failed, self._loop.call_soon)

    def _on_failed(self, line: Line, error: CoveyError) -> None:
        """Something that *line* should say cannot be said: the peer must go."""
        self._expel(line, f"it has to tell what cannot be sent: {error}")

    # News.

    def _said(self, line: Line, batch: list[Any]) -> None:
        try:
            self._step(Said(line.peer, batch))
        except RemoteProtocolError as error:
            # Well-formed, yet senseless: a function never defined, a bad pack.
            self.core.count("protocol_errors")
            self._expel(line, str(error))

    def _expel(self, line: Line, why: str) -> None:
        """End the session of a peer that broke the rules, or cannot be told more."""
        is_client = line.role is Role.CLIENT
        line.send(Closing(why, refused=True) if is_client else Leave())
        line.close()
        self._leave(self.attendance.forget(line))

    def _said_inproc(self, link: InprocLink, batch: list[Any]) -> None:
        try:
            self._step(Said(link.peer, batch))
        except RemoteProtocolError as error:
            # A worker of ours broke the rules: the bug is in this process.
            self._break(error)

    def _on_inproc_lost(self, link: InprocLink, error: Exception | None) -> None:
        del error
        if self.attendance.speakers.pop(link.peer, None) is not None:
            self._step(Left(link.peer))

    # Coming and going.

    def _on_lost(self, link: Link, error: Exception | None) -> None:
        # Who never got in counts as a stranger.
        if link.other_role is not None and isinstance(error, RemoteProtocolError):
            self.core.count("protocol_errors")
        self._strangers.discard(link)
        self.passing.lost(link)
        line: Line | None = link.peer
        if line is None or line.link is not link:
            return
        event = self.attendance.lost(line, error)
        if event is None:
            self._tell_of(line.peer, "left")
            self._names.pop(line.peer, None)
            return
        if not self._is_leaving(line.peer):
            self._tell_of(line.peer, "lost its connection, and is waited for")
        self._step(event)

    def _beat(self) -> None:
        """Say that we are alive; see who is not, and who was away for too long."""
        if self._journal is not None:
            self._journal.sync()
        self._beat_timer = self._loop.call_later(BEAT_SECONDS, self._beat)
        self._collector.spare(len(self.core.state.spans))
        self._tell_of_passages()
        for line in self.attendance.beat():
            self._leave(self.attendance.forget(line))

    def _leave(self, event: Left) -> None:
        """A peer is not waited for any more."""
        peer = event.peer
        self._tell_of(peer, "left" if self._is_leaving(peer) else "is lost")
        self._names.pop(peer, None)
        self._step(event)

    # The core.

    def _step(self, event: Event) -> None:
        if self._closed:
            return
        try:
            orders = self.core.step(event, clock.monotonic())
            if self._journal is not None:
                self._note(self._journal)
            if self._check:
                invariants.check(self.core.state)
        except RemoteProtocolError:
            raise
        except Exception as error:
            self._break(error)
            return
        # Before all that nobody waits for.
        self._send(orders, at_once=type(event) is Said)
        if self._wake_at or not self.core.at_rest:
            self._look_around()

    def _look_around(self) -> None:
        """See to what the core wants besides speaking to peers."""
        core = self.core
        if self._pacing is None and core.watched:
            self._pace()
        if core.closing:
            self._on_closing("")
            return
        if core.state.rotation is not None:
            self._rotate(*core.state.rotation)
        if core.wake_at != self._wake_at:
            self._rest()

    # The journal.

    def _go_on_with(self, journal: JournalFile) -> None:
        before = journaling.essence(journal.before)
        journal.before = []
        journal.begin(before)
        self.core.restore(before, clock.monotonic())

    def _note(self, journal: JournalFile) -> None:
        """Write down what has come, before anybody hears what follows from it."""
        records = self.core.take_records()
        if not records or journal.problem:
            return
        problem = journal.write(records)
        if not problem and journal.is_due and self._rewriting is None:
            self._rewriting = self._loop.create_task(self._rewrite(journal))
        if problem:
            self._warn(problem)

    async def _rewrite(self, journal: JournalFile) -> None:
        """Write the journal anew, while all else goes on."""
        before = journal.problem
        pieces = journal.rewrite(journaling.Survey(self.core.state))
        with contextlib.closing(pieces), contextlib.suppress(OSError):
            for fd in pieces:
                if fd:
                    await asyncio.to_thread(os.fsync, fd)
                else:
                    await asyncio.sleep(0)
        self._rewriting = None
        if journal.problem != before:
            self._warn(journal.problem)

    def _warn(self, problem: str) -> None:
        self._tell(problem)
        self._send(self.core.notify(problem))

    def _rotate(self, peer: int, request: int) -> None:
        """Exchange the secrets, tell all who are here, and answer who asked for it."""
        self.core.state.rotation = None
        fresh = Keys.of_client(Secret.fresh())
        lines = [s for s in self.attendance.speakers.values() if isinstance(s, Line)]
        try:
            if self.renew is None:
                raise UsageError(NOT_ROTATED)
            message = rotation.sealed(self.keys, fresh, self.renew(fresh))
        except CoveyError as error:
            body: dict[str, Any] = {"error": str(error)}
        else:
            for line in lines:
                line.send(message)
            self.keys.become(fresh)
            clients = sum(line.role is Role.CLIENT for line in lines)
            body = {"clients": clients, "workers": len(lines) - clients}
        self._send({peer: [Answer(request, body)]})

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
        if self.core.profile_seconds:
            seen = self._profile.seen_if_due()
            if seen is not None:
                self.core.profiled(*seen)
        if self._snapshots is not None:
            self._look(self._snapshots.due(clock.monotonic()))
        self._send(self.core.tell_audience(clock.monotonic(), facts))
        self._write_down()
        if self.core.watched or self._recorder is not None:
            self._pace()

    def record(self, path: Path) -> None:
        """Keep a recording of what happens from now on.

        Raises:
            UsageError: the file cannot be written.
        """
        from covey.recording import Writer
        from covey.snapshots import Snapshots

        self._recorder = Writer(path)
        now = clock.monotonic()
        self._recorder.head(clock.wall(), self.core.overview(now))
        self._snapshots = Snapshots(self._recorder, now)
        self._recorded = self.core.state.events.next
        if self._pacing is None:
            self._pace()

    def _write_down(self) -> None:
        if self._recorder is None or self._snapshots is None:
            return
        while self._recorded < self.core.state.events.next:
            first, n, dropped, data, now = self.core.batch_since(self._recorded)
            self._recorder.batch(first, n, dropped, data, now)
            self._recorded = first + n
            self._look(self._snapshots.failures(data))

    def _look(self, questions: list[Question]) -> None:
        """Write down answers to questions that no event answers."""
        assert self._snapshots is not None
        now = clock.monotonic()
        for question in questions:
            topic, number, key = question
            answer = self.core.answer(now, topic, number, (key,) if key else ())
            self._snapshots.answered(question, now, answer)

    def _break(self, error: Exception) -> None:
        """Better a cluster that ends, and says why, than one that hangs."""
        traceback.print_exception(error)
        self._closed = True
        self._on_closing(f"the scheduler broke: {error!r}; please report this")

    def _send(self, orders: Orders, *, at_once: bool = False) -> None:
        """Tell peers what the core has ordered.

        If *at_once*, it need not wait for the end of the turn: a worker in this process
        acts on it before this returns.
        """
        speakers = self.attendance.speakers
        for peer, messages in orders.items():
            speaker = speakers.get(peer)
            if speaker is None:
                continue
            if at_once:
                speaker.send_first(messages)
            else:
                speaker.send_all(messages)


def _graces() -> Graces:
    """Return for how many beats peers are waited for, as it is set now."""
    settings = config.get().scheduler
    return Graces(
        round(settings.client_grace_seconds / BEAT_SECONDS),
        round(settings.worker_grace_seconds / BEAT_SECONDS),
        round(CLOSED_SECONDS / BEAT_SECONDS),
    )
