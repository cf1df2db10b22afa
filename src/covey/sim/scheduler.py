"""The scheduler: the real core and the real sessions, in a played shell."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

from covey.errors import RemoteProtocolError
from covey.ids import TaskId
from covey.scheduler.core import invariants, journaling
from covey.scheduler.core.attendance import Attendance, Graces, Overtaken
from covey.scheduler.core.machine import (
    Event,
    Left,
    Orders,
    Said,
    SchedulerCore,
    Tick,
)
from covey.settings import SchedulerSettings
from covey.sim.disk import Journal
from covey.sim.lines import new_line
from covey.sim.network import CLOCKS, End, Node
from covey.sim.oracle import Wrong
from covey.sim.timeline import Timeline
from covey.wire.client_link import Placed
from covey.wire.introductions import (
    ClientIntroduction,
    Introduction,
    Resume,
    WorkerIntroduction,
)
from covey.wire.keys import Role
from covey.wire.line import BEAT_SECONDS, SILENT_BEATS, Line, Silence
from covey.wire.worker_link import Leave

#: As it is set for people who set nothing; a worker whose connection was closed is
#: waited for a second, as in ``scheduler.server``.
GRACES: Final = Graces(
    round(SchedulerSettings().client_grace_seconds / BEAT_SECONDS),
    round(SchedulerSettings().worker_grace_seconds / BEAT_SECONDS),
    1,
)


def _promised(line: Line, why: Exception | None) -> float:
    """For how long who is away is waited for, at least."""
    settings = SchedulerSettings()
    if line.role is Role.CLIENT:
        return settings.client_grace_seconds
    if isinstance(why, Silence | TimeoutError):
        # It has been silent for a while already.
        return settings.worker_grace_seconds - SILENT_BEATS * BEAT_SECONDS
    return BEAT_SECONDS


#: In every how manieth beat it looks at its connection file.
LOOK_BEATS: Final = 5


class Scheduler(Node):
    """One life of a scheduler."""

    def __init__(
        self,
        timeline: Timeline,
        rng: Random,
        *,
        epoch: int,
        checks: int,
        journal: Journal | None = None,
    ) -> None:
        super().__init__("scheduler")
        self.timeline = timeline
        self.rng = rng
        self.ahead = rng.choice(CLOCKS)
        self.rearm.append(self._rest)
        self.core = SchedulerCore(
            cluster="simulated",
            epoch=epoch,
            now=timeline.now + self.ahead,
            events_kept=200,
        )
        # So little that simulated graphs, which are small, are let go of in steps, too.
        self.core.state.leftovers.at_once = 5
        self.attendance = Attendance(
            self.core,
            version="0",
            graces=lambda: GRACES,
            new_number=lambda: rng.getrandbits(62) | 1,
            new_line=new_line,
        )
        self._journal = journal
        if journal is not None:
            before = journaling.essence(journal.records())
            journal.begin(before)
            self._send(self.core.restore(before, timeline.now + self.ahead))
        self._checks = checks
        #: How many spans may be checked now: as many as the steps since have brought.
        self._unchecked = 0
        self._beats = 0
        #: When links were lost, and for how long their peers are to be waited for.
        self._lost_at: dict[Line, tuple[float, float]] = {}
        self._wake_at = 0.0
        self._wake = 0
        #: Called when a peer is given up.
        self.on_given_up: Callable[[], None] = lambda: None
        #: Called with a value that was brought too late to a worker that leaves, or that
        #: the last of all took along.
        self.on_late: Callable[[TaskId], None] = lambda _: None
        #: Called when a client has seen a later life than this one.
        self.on_overtaken: Callable[[Scheduler], None] = lambda _: None
        #: Says whether the connection file tells of a later life.
        self.is_overtaken: Callable[[Scheduler], bool] = lambda _: False
        timeline.after(BEAT_SECONDS, self.run, self._beat)
        self._rest()

    # Greetings.

    def accept(self) -> End:
        """Return our end of a connection that somebody makes."""
        return End(self, Introduction, self._on_batch, self._on_lost)

    def _on_batch(self, end: End, batch: list[Any]) -> None:
        line = end.peer
        if line is not None:
            if line.link is end:
                self._look_for_latecomers(batch)
                self._step(Said(line.peer, batch))
            return
        (hello,) = batch
        if isinstance(hello, Resume):
            event = self.attendance.resume(end, hello)
            if isinstance(event, Left):
                self._leave(event)
            elif event is not None:
                self._step(event)
            return
        assert isinstance(hello, ClientIntroduction | WorkerIntroduction)
        if self.core.peer_of(hello) in self.attendance.speakers and hello.epoch:
            self.on_given_up()
        joined = self.attendance.introduce(end, hello)
        if isinstance(joined, Overtaken):
            if isinstance(hello, ClientIntroduction):
                self.on_overtaken(self)
        elif joined is not None:
            self._step(joined)

    def _look_for_latecomers(self, batch: list[Any]) -> None:
        """Values may be brought to a worker that has been let go, as nobody knew yet."""
        state = self.core.state
        for message in batch:
            if isinstance(message, Placed):
                worker = state.workers.get(message.worker)
                if worker and worker.leaving and worker not in state.leaving:
                    self.on_late(message.task)

    # Coming and going.

    def _on_lost(self, end: End) -> None:
        line = end.peer
        if line is None or line.link is not end:
            return
        event = self.attendance.lost(line, end.why)
        if event is not None:
            self._lost_at[line] = (self.timeline.now, _promised(line, end.why))
            self._step(event)

    def _beat(self) -> None:
        self._beats += 1
        if self._journal is not None:
            self._journal.flush()
        if self._beats % LOOK_BEATS == 0 and self.is_overtaken(self):
            self.on_overtaken(self)
            return
        self.timeline.after(BEAT_SECONDS, self.run, self._beat)
        for line in self.attendance.beat():
            since, seconds = self._lost_at.pop(line)
            # Beats of its own are what it counts; more may pass, but not less.
            if self.timeline.now - since < seconds - BEAT_SECONDS:
                raise Wrong(f"{line.role} was not waited for: {seconds:g} s")
            self._leave(self.attendance.forget(line))

    def _leave(self, event: Left) -> None:
        """A peer is not waited for any more."""
        worker = self.core.state.workers.get(event.peer)
        if worker is None or not worker.leaving or worker in self.core.state.leaving:
            # One that was let go takes nothing along that anybody counts on.
            self.on_given_up()
        self._step(event)

    # The core.

    def _step(self, event: Event) -> None:
        try:
            orders = self.core.step(event, self.timeline.now + self.ahead)
        except RemoteProtocolError as error:
            # All peers here are our own code, so that this is a bug of ours.
            raise AssertionError(f"a peer broke the rules: {error}") from error
        if self._journal is not None:
            # Before anybody hears what follows from it.
            self._journal.note(self.core)
        for peer, messages in orders.items():
            if any(isinstance(message, Leave) for message in messages):
                self._check_leaver(peer)
        self._unchecked += self._checks
        if self._unchecked >= len(self.core.state.spans):
            self._unchecked = 0
            invariants.check(self.core.state)
        self._send(orders)
        if self.core.wake_at != self._wake_at:
            self._rest()

    def _check_leaver(self, peer: int) -> None:
        """Who is let go takes nothing along that somebody else could keep."""
        workers = self.core.state.workers
        leaver = workers[peer]
        nobody = all(w.leaving or w.peer in leaver.refused for w in workers.values())
        for span in leaver.holds:
            if not all(holder.leaving for holder in span.replicas):
                continue
            if not nobody:
                raise Wrong(f"{leaver.name} takes the last copy of {span} along")
            for task in range(span.base, span.base + span.n):
                self.on_late(task)

    def _rest(self) -> None:
        """Wake the core when it wants to be woken."""
        self._wake_at = self.core.wake_at
        self._wake += 1
        if self._wake_at:
            at = self.when(self._wake_at)
            self.timeline.at(at, self.run, self._tick, self._wake)

    def _tick(self, wake: int) -> None:
        if wake == self._wake:
            self._wake_at = 0.0
            self._step(Tick())

    def _send(self, orders: Orders) -> None:
        speakers = self.attendance.speakers
        for peer, messages in orders.items():
            speaker = speakers.get(peer)
            if speaker is not None:
                speaker.send_all(messages)
