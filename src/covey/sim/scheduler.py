"""The scheduler: the real core in a played shell."""

from __future__ import annotations

from typing import Any

from covey.errors import RemoteProtocolError
from covey.scheduler.core import invariants
from covey.scheduler.core.machine import Joined, Left, Orders, Said, SchedulerCore
from covey.sim.network import End, Node
from covey.sim.timeline import Timeline
from covey.wire.client_link import FromClient
from covey.wire.introductions import (
    ClientIntroduction,
    Introduction,
    Refusal,
    Welcome,
    WorkerIntroduction,
)
from covey.wire.worker_link import FromWorker


class Scheduler(Node):
    """One life of a scheduler."""

    def __init__(self, timeline: Timeline, *, check_every: int = 1) -> None:
        super().__init__("scheduler")
        self.timeline = timeline
        self.core = SchedulerCore(cluster="simulated", events_kept=200)
        self.ends: dict[int, End] = {}
        self._check_every = check_every
        self._steps = 0

    def accept(self) -> End:
        """Return our end of a connection that somebody makes."""
        return End(self, Introduction, self._on_batch, self._on_lost)

    def _on_batch(self, end: End, batch: list[Any]) -> None:
        if end.peer:
            try:
                self._step(Said(end.peer, batch))
            except RemoteProtocolError as error:
                # All peers here are our own code, so that this is a bug of ours.
                raise AssertionError(f"a peer broke the rules: {error}") from error
            return
        (hello,) = batch
        if isinstance(hello, ClientIntroduction):
            if self.core.knows_client(hello.client):
                end.send([Refusal("taken")])
                end.close()
                return
            end.reader.decode_as(FromClient)
        else:
            assert isinstance(hello, WorkerIntroduction)
            end.reader.decode_as(FromWorker)
        end.peer = self.core.next_peer()
        self.ends[end.peer] = end
        end.send([Welcome(end.peer, "simulated", 1, "0")])
        self._step(Joined(end.peer, hello))

    def _on_lost(self, end: End) -> None:
        if end.peer and self.ends.pop(end.peer, None) is not None:
            self._step(Left(end.peer))

    def _step(self, event: Joined | Said | Left) -> None:
        orders = self.core.step(event, self.timeline.now)
        self._steps += 1
        if self._steps % self._check_every == 0:
            invariants.check(self.core.state)
        self._send(orders)

    def _send(self, orders: Orders) -> None:
        for peer, messages in orders.items():
            end = self.ends.get(peer)
            if end is not None:
                end.send(messages)
