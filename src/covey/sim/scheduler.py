"""The scheduler: the real core and the real sessions, in a played shell."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

from covey.errors import RemoteProtocolError
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
from covey.settings import SchedulerSettings
from covey.sim.lines import BEAT_SECONDS, SILENT_BEATS, Line
from covey.sim.network import End, Node
from covey.sim.timeline import Timeline
from covey.wire.client_link import FromClient
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
from covey.wire.session import Session
from covey.wire.worker_link import FromWorker

#: A worker whose connection was closed is waited for so long.
CLOSED_SECONDS: Final = 1.0

_SETTINGS: Final = SchedulerSettings()


class Scheduler(Node):
    """One life of a scheduler."""

    def __init__(
        self, timeline: Timeline, rng: Random, *, epoch: int, check_every: int = 1
    ) -> None:
        super().__init__("scheduler")
        self.timeline = timeline
        self.rng = rng
        self.core = SchedulerCore(
            cluster="simulated", epoch=epoch, now=timeline.now, events_kept=200
        )
        self._lines: dict[int, Line] = {}
        self._sessions: dict[int, Line] = {}
        #: For how many more beats those that are away are waited for.
        self._graces: dict[int, int] = {}
        self._check_every = check_every
        self._steps = 0
        self._wake_at = 0.0
        self._wake = 0
        #: Called when a peer is given up.
        self.on_given_up: Callable[[], None] = lambda: None
        timeline.after(BEAT_SECONDS, self.run, self._beat)
        self._rest()

    # Greetings.

    def accept(self) -> End:
        """Return our end of a connection that somebody makes."""
        return End(self, Introduction, self._on_batch, self._on_lost)

    def _on_batch(self, end: End, batch: list[Any]) -> None:
        line = end.peer
        if line is not None:
            if line.end is end:
                self._step(Said(line.peer, batch))
            return
        (hello,) = batch
        if isinstance(hello, Resume):
            self._resume(end, hello)
        else:
            assert isinstance(hello, ClientIntroduction | WorkerIntroduction)
            self._introduce(end, hello)

    def _resume(self, end: End, hello: Resume) -> None:
        line = self._sessions.get(hello.session)
        if line is None or not line.session.can_resume(hello.received):
            if line is not None:
                self._forget(line)
            end.send([Gone(self.core.state.epoch)])
            return
        old = line.detach()
        if old is not None:
            old.cut()
        is_client = line.peer in self.core.state.clients
        end.reader.decode_as(FromClient if is_client else FromWorker)
        end.peer = line
        end.send([Resumed(line.session.received)])
        self._graces.pop(line.peer, None)
        line.attach(end, hello.received)
        self._step(Back(line.peer))

    def _introduce(
        self, end: End, hello: ClientIntroduction | WorkerIntroduction
    ) -> None:
        state = self.core.state
        known = self.core.peer_of(hello)
        if known is not None:
            line = self._lines.get(known)
            if not hello.epoch:
                end.send([Refusal("taken")])
                end.close()
                return
            if line is not None:
                self.on_given_up()
                self._retire(line)
        is_client = isinstance(hello, ClientIntroduction)
        end.reader.decode_as(FromClient if is_client else FromWorker)
        peer = self.core.peer_for(hello)
        line = Line(Session(self.rng.getrandbits(62) | 1))
        line.peer = peer
        self._lines[peer] = self._sessions[line.session.number] = line
        end.peer = line
        welcome = Welcome(peer, "simulated", state.epoch, "0", 0, line.session.number)
        end.send([welcome])
        line.attach(end, 0)
        self._step(Joined(peer, hello))

    # Coming and going.

    def _on_lost(self, end: End) -> None:
        line = end.peer
        if line is None or line.end is not end:
            return
        line.detach()
        if not self.core.knows_peer(line.peer):
            self._retire(line)  # It has said goodbye.
            return
        self._graces[line.peer] = self._grace(line, silent=end.silent)
        self._step(Away(line.peer))

    def _grace(self, line: Line, *, silent: bool) -> int:
        """Return for how many beats a peer is waited for."""
        if line.peer in self.core.state.clients:
            return round(_SETTINGS.client_grace_seconds / BEAT_SECONDS)
        beats = round(_SETTINGS.worker_grace_seconds / BEAT_SECONDS)
        if silent:
            return max(0, beats - SILENT_BEATS)
        return min(beats, round(CLOSED_SECONDS / BEAT_SECONDS))

    def _beat(self) -> None:
        self.timeline.after(BEAT_SECONDS, self.run, self._beat)
        for line in list(self._sessions.values()):
            line.beat()
        for peer, beats in list(self._graces.items()):
            if beats <= 0:
                self._forget(self._lines[peer])
            else:
                self._graces[peer] = beats - 1

    def _forget(self, line: Line) -> None:
        """A peer is not waited for any more."""
        worker = self.core.state.workers.get(line.peer)
        if worker is None or not worker.leaving or worker in self.core.state.leaving:
            # One that was let go takes nothing along that anybody counts on.
            self.on_given_up()
        self._retire(line)
        self._step(Left(line.peer))

    def _retire(self, line: Line) -> None:
        self._sessions.pop(line.session.number, None)
        self._graces.pop(line.peer, None)
        if self._lines.get(line.peer) is line:
            del self._lines[line.peer]
        old = line.detach()
        if old is not None:
            old.close()

    # The core.

    def _step(self, event: Event) -> None:
        try:
            orders = self.core.step(event, self.timeline.now)
        except RemoteProtocolError as error:
            # All peers here are our own code, so that this is a bug of ours.
            raise AssertionError(f"a peer broke the rules: {error}") from error
        self._steps += 1
        if self._steps % self._check_every == 0:
            invariants.check(self.core.state)
        self._send(orders)
        if self.core.wake_at != self._wake_at:
            self._rest()

    def _rest(self) -> None:
        """Wake the core when it wants to be woken."""
        self._wake_at = self.core.wake_at
        self._wake += 1
        if self._wake_at:
            self.timeline.at(self._wake_at, self.run, self._tick, self._wake)

    def _tick(self, wake: int) -> None:
        if wake == self._wake:
            self._wake_at = 0.0
            self._step(Tick())

    def _send(self, orders: Orders) -> None:
        for peer, messages in orders.items():
            line = self._lines.get(peer)
            if line is not None:
                line.send(messages)
