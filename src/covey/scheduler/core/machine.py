"""The door of the scheduler's core: events in, messages out.

``step`` takes one event and the time, and returns what is to be said to whom.
It reads no clock, opens no socket, and holds no value: the same machine runs a
cluster and a simulation of one.  News is taken in a batch at a time; planning
happens once, at the end of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from covey.errors import RemoteProtocolError
from covey.ids import ClientId
from covey.scheduler.core import (
    clients,
    history,
    journaling,
    later,
    listening,
    overview,
    pauses,
    placement,
    profiling,
    questions,
    recovery,
    report,
    watching,
    workers,
)
from covey.scheduler.core.books import Record
from covey.scheduler.core.state import Client, SchedulerState, Worker
from covey.wire.base import Message
from covey.wire.client_link import Ask, Notice
from covey.wire.introductions import ClientIntroduction, WorkerIntroduction
from covey.wire.keys import Keys

# Events: what may happen.


class Joined(msgspec.Struct, frozen=True):
    """A peer has connected and presented itself."""

    peer: int
    introduction: ClientIntroduction | WorkerIntroduction


class Said(msgspec.Struct, frozen=True):
    """A peer sent a batch of messages."""

    peer: int
    messages: Sequence[Any]


class Left(msgspec.Struct, frozen=True):
    """A peer is gone for good."""

    peer: int


class Away(msgspec.Struct, frozen=True):
    """A peer's connection broke; it is waited for."""

    peer: int


class Back(msgspec.Struct, frozen=True):
    """A peer that was away goes on, with nothing lost in between."""

    peer: int


class Tick(msgspec.Struct, frozen=True):
    """Time has passed."""


Event: TypeAlias = Joined | Said | Left | Away | Back | Tick
Orders: TypeAlias = dict[int, list[Message]]


class SchedulerCore:
    """The scheduler, without its sockets."""

    def __init__(
        self,
        *,
        cluster: str = "",
        epoch: int = 1,
        now: float = 0.0,
        events_kept: int = 100_000,
        keys: Keys | None = None,
    ) -> None:
        self.state = SchedulerState(
            cluster=cluster, epoch=epoch, now=now, events_kept=events_kept
        )
        self.state.keys = keys

    def next_peer(self) -> int:
        """Return the number for a peer that is about to join."""
        self.state.last_peer += 1
        return self.state.last_peer

    def step(self, event: Event, now: float) -> Orders:
        """Take in one event; return the messages to send, by peer.

        Raises:
            RemoteProtocolError: the peer said what makes no sense.  The tables are
                sound, whatever of that message was taken in: close the peer's link
                and report it as ``Left``.
        """
        state = self.state
        state.now = now
        leftovers = state.leftovers
        leftovers.allowance = leftovers.at_once
        if type(event) is Said:
            self._said(event.peer, event.messages)
        elif type(event) is Joined:
            self._joined(event)
        elif type(event) is Left:
            self._left(event.peer)
        elif type(event) is Away:
            self._away(event.peer, state.now)
        elif type(event) is Back:
            self._away(event.peer, None)
        if state.window is not None or state.orphans:
            recovery.pass_time(state)
        if state.pauses:
            pauses.end(state)
        if leftovers.any:
            later.work_off(state)
        if state.window is None:
            state.look_again = 0.0
            if state.ready_count or state.excess:
                placement.plan(state)
            if state.leaving:
                workers.see_off(state)
        outgoing, state.outgoing = state.outgoing, {}
        return outgoing

    def tell_audience(self, now: float, facts: dict[str, Any] | None = None) -> Orders:
        """Return what those who read the event stream are told at this moment.

        Args:
            now: the time.
            facts: how the scheduler's process is, to be entered into the stream.
        """
        state = self.state
        state.now = now
        if facts is not None:
            facts = {"ready": state.ready_count, **state.counters, **facts}
            state.events.append((now, "scheduler", facts))
        watching.answer(state)
        listening.answer(state)
        profiling.end(state)
        outgoing, state.outgoing = state.outgoing, {}
        return outgoing

    def passed_on(self, now: float, asker: str, worker: str, nbytes: int) -> None:
        """Enter into the stream that so many bytes went between these two through us."""
        self.state.now = now
        history.passed_on(self.state, asker, worker, nbytes)

    @property
    def profile_seconds(self) -> float:
        """For how long yet somebody wants to know what code runs."""
        return max(0.0, self.state.profile.until - self.state.now)

    def profiled(self, names: list[str], nodes: list[int]) -> None:
        """The scheduler's own process was seen to do this: see ``covey.stacks``."""
        profiling.own(self.state, names, nodes)

    def restore(self, records: list[Record], now: float) -> Orders:
        """Go on with what a journal tells of an earlier life; keep one from now on."""
        state = self.state
        state.now = now
        journaling.remember(state, records)
        if state.window is None:
            recovery.take_in(state, [])
            placement.plan(state)
        outgoing, state.outgoing = state.outgoing, {}
        return outgoing

    def notify(self, text: str) -> Orders:
        """Return what tells all clients something that their users should know."""
        return {peer: [Notice(text)] for peer in self.state.clients}

    def take_records(self) -> list[Record]:
        """Return what has come for the journal since the last time."""
        journal = self.state.journal
        records, journal.records = journal.records, []
        return records

    def overview(self, now: float) -> dict[str, Any]:
        """Return how everything stands, for one who begins to read the stream."""
        self.state.now = now
        return overview.overview(self.state)

    def answer(
        self, now: float, topic: str, number: int = 0, names: tuple[str, ...] = ()
    ) -> Any:
        """Return what a client would be answered that asks about *topic*."""
        self.state.now = now
        return questions.answer(self.state, Ask(0, topic, (), number, names))

    def batch_since(self, number: int) -> watching.Batch:
        """Return encoded events from *number* on, as those who look on get them."""
        return watching.batch(self.state, number)

    @property
    def at_rest(self) -> bool:
        """Whether there is nothing to do before the next news.

        Nobody reads along, the core need not be woken, and the cluster goes on.
        """
        state = self.state
        return not (
            state.audience
            or state.listeners
            or state.profile.until > state.now
            or state.look_again
            or state.closing
            or state.rotation
            or state.pauses
            or state.orphans
            or state.window
            or state.leftovers.any
        )

    @property
    def watched(self) -> bool:
        """Whether somebody reads along: events, prints, or what code runs."""
        state = self.state
        if state.audience or state.profile.until > state.now:
            return True
        return bool(state.listeners) and listening.awaited(state)

    @property
    def closing(self) -> bool:
        """Whether a client has asked for the whole cluster to end."""
        return self.state.closing

    @property
    def wake_at(self) -> float:
        """When the core wants a ``Tick`` at the latest; 0 if it needs none."""
        state = self.state
        if state.leftovers.any:
            return state.now
        if state.window is None and not state.orphans and not state.pauses:
            return state.look_again
        times = (recovery.wake_at(state), pauses.wake_at(state), state.look_again)
        return min((time for time in times if time), default=0.0)

    def _said(self, peer: int, messages: Sequence[Any]) -> None:
        state = self.state
        if state.returning and peer in state.returning:
            recovery.hear(state, peer, list(messages))
        elif peer in state.workers:
            worker, handlers = state.workers[peer], workers.handlers.table
            for message in messages:
                handlers[type(message)](state, worker, message)
        elif peer in state.clients:
            clients.hear(state, state.clients[peer], messages)

    def _joined(self, event: Joined) -> None:
        state = self.state
        hello = event.introduction
        if hello.epoch:
            recovery.expect(state, event.peer)
        if isinstance(hello, WorkerIntroduction):
            known = state.workers.get(event.peer)
            if known is not None:
                workers.lose(state, known)
            workers.join(
                state,
                Worker(
                    event.peer,
                    self._free_name(hello.name),
                    hello.slots,
                    hello.resources,
                    hello.addresses,
                    hello.host,
                    hello.memory_limit_bytes,
                    hello.runner_python or hello.python,
                    hello.pythons,
                    hello.cloudpickle,
                ),
            )
            return
        client = state.client_numbers.get(ClientId(hello.client))
        if client is None and hello.client:
            clients.forget_at_once(state, ClientId(hello.client))
            client = Client(event.peer, ClientId(hello.client), hello.name)
            state.clients[event.peer] = client
            state.client_numbers[client.number] = client
        elif client is None or not hello.epoch or client.peer != event.peer:
            raise RemoteProtocolError(f"client {hello.client:x} is there already")
        client.away_since = None
        client.workers_told.clear()
        for worker in state.workers.values():
            report.introduce_worker(state, client, worker)

    def _free_name(self, name: str) -> str:
        taken = {worker.name for worker in self.state.workers.values()}
        number = 2
        free = name
        while free in taken:
            free = f"{name}-{number}"
            number += 1
        return free

    def _left(self, peer: int) -> None:
        state = self.state
        state.returning.pop(peer, None)
        worker = state.workers.get(peer)
        if worker is not None:
            workers.lose(state, worker)
        client = state.clients.get(peer)
        if client is not None:
            clients.leave(state, client)

    def count(self, name: str, n: int = 1) -> None:
        """Count something that happened to the shell."""
        self.state.counters[name] += n

    def _away(self, peer: int, since: float | None) -> None:
        state = self.state
        worker = state.workers.get(peer)
        if worker is not None:
            worker.away_since = since
            worker.distance.interrupted()
            placement.welcome(state, worker)
        client = state.clients.get(peer)
        if client is not None:
            client.away_since = since

    # Who is who.

    def knows_peer(self, peer: int) -> bool:
        """Whether a peer of that number is there, or waited for."""
        return peer in self.state.clients or peer in self.state.workers

    def peer_of(self, hello: ClientIntroduction | WorkerIntroduction) -> int | None:
        """Return the number of the peer that presents itself, if it is known."""
        if isinstance(hello, ClientIntroduction):
            client = self.state.client_numbers.get(ClientId(hello.client))
            return client.peer if client is not None else None
        return hello.number if hello.number in self.state.workers else None

    def peer_for(self, hello: ClientIntroduction | WorkerIntroduction) -> int:
        """Return the number for the peer that presents itself.

        A worker keeps the one it had in another life of the scheduler, since others
        know its data by it.

        Raises:
            RemoteProtocolError: it claims one that it never got.
        """
        known = self.peer_of(hello)
        if known is not None:
            return known
        if isinstance(hello, WorkerIntroduction) and hello.epoch and hello.number:
            # Lives number their peers apart, and later ones higher.
            if (
                hello.number > self.state.last_peer
                or hello.number in self.state.clients
            ):
                raise RemoteProtocolError(
                    f"a worker says that it was peer {hello.number}, and nobody of "
                    f"that number was ever let in"
                )
            return hello.number
        return self.next_peer()
