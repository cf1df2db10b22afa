"""The scheduler's shell: listens, decodes, steps the core, sends what it says."""

from __future__ import annotations

import asyncio
import secrets
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from covey import clock, config
from covey.errors import RemoteProtocolError
from covey.net.addresses import Address
from covey.net.inproc import InprocLink, inproc_pair
from covey.net.link import Link
from covey.net.listen import Listener, listen
from covey.net.tls import Certificate
from covey.recording import Writer
from covey.scheduler.core import invariants
from covey.scheduler.core.machine import Joined, Left, Orders, Said, SchedulerCore
from covey.scheduler.sampling import Sampler
from covey.wire.client_link import Closing, FromClient
from covey.wire.introductions import (
    ClientIntroduction,
    Introduction,
    Refusal,
    Welcome,
    WorkerIntroduction,
)
from covey.wire.keys import Keys, Role
from covey.wire.worker_link import FromWorker

#: How often those who read the event stream are told what is new.
TELL_SECONDS: Final = 0.1

#: Who may speak how: the role that was proved in the handshake decides.
_UNION_OF: Final[dict[Role, Any]] = {Role.CLIENT: FromClient, Role.WORKER: FromWorker}
_INTRODUCTION_OF: Final[dict[Role, type[Any]]] = {
    Role.CLIENT: ClientIntroduction,
    Role.WORKER: WorkerIntroduction,
}


class SchedulerServer:
    """One scheduler, with its listeners and links."""

    def __init__(
        self,
        *,
        keys: Keys,
        version: str,
        on_closing: Callable[[str], None] = lambda _: None,
        check: bool = False,
    ) -> None:
        self.cluster = secrets.token_hex(8)
        self.core = SchedulerCore(
            cluster=self.cluster, events_kept=config.get().scheduler.events_kept
        )
        self._keys = keys
        self._version = version
        self._on_closing = on_closing
        self._check = check
        self._links: dict[int, Link | InprocLink] = {}
        self._strangers: set[Link] = set()
        self._listeners: list[Listener] = []
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._pacing: asyncio.TimerHandle | None = None
        self._recorder: Writer | None = None
        self._recorded = 0
        self._sampler = Sampler()

    async def listen(
        self, address: Address, certificate: Certificate | None = None
    ) -> Listener:
        """Listen at one more address.

        Raises:
            OSError: the address cannot be bound.
            UsageError: it is on a network, and there is no certificate.
        """
        listener = await listen(
            address,
            Introduction,
            role=Role.SCHEDULER,
            keys=self._keys,
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
        ours.on_messages = self._said
        ours.on_lost = self._on_lost
        ours.peer = self.core.next_peer()
        self._links[ours.peer] = ours
        self._step(Joined(ours.peer, introduction))
        return theirs

    async def close(self, reason: str = "it was told to end") -> None:
        """Close all links and listeners; clients are told the *reason*."""
        self._closed = True
        if self._pacing is not None:
            self._pacing.cancel()
        if self._recorder is not None:
            self._write_down()
            self._recorder.close()
            self._recorder = None
        for link in self._links.values():
            if isinstance(link, Link) and link.other_role is Role.CLIENT:
                link.send(Closing(reason))
        for listener in self._listeners:
            await listener.close()
        for link in [*self._links.values(), *self._strangers]:
            link.close()

    def _on_turned_away(self) -> None:
        self.core.count("strangers_turned_away")

    # News.

    def _on_messages(self, link: Link, batch: list[Any]) -> None:
        if link.peer is not None:
            self._said(link, batch)
            return
        first, *rest = batch or [None]
        role = link.other_role
        if role is None or not isinstance(first, _INTRODUCTION_OF.get(role, ())):
            link.fail(RemoteProtocolError("the peer did not present itself"))
            return
        if isinstance(first, ClientIntroduction) and self.core.knows_client(
            first.client
        ):
            link.send(Refusal("taken"))
            link.close()
            return
        self._strangers.discard(link)
        link.decode_as(_UNION_OF[role])
        link.peer = self.core.next_peer()
        self._links[link.peer] = link
        state = self.core.state
        workers = len(state.workers) if isinstance(first, ClientIntroduction) else 0
        link.send(Welcome(link.peer, self.cluster, state.epoch, self._version, workers))
        # In a frame of its own: the peer reads the next one with another union.
        link.flush()
        assert isinstance(first, ClientIntroduction | WorkerIntroduction)
        self._step(Joined(link.peer, first))
        if rest:
            link.fail(RemoteProtocolError("messages came before the welcome"))

    def _said(self, link: Link | InprocLink, batch: list[Any]) -> None:
        try:
            self._step(Said(link.peer, batch))
        except RemoteProtocolError as error:
            if isinstance(link, InprocLink):
                # A worker of ours broke the rules: the bug is in this process.
                self._break(error)
                return
            # Well-formed, yet senseless: a function never defined, a bad pack.
            link.fail(error)

    def _on_lost(self, link: Link | InprocLink, error: Exception | None) -> None:
        # Who never got in counts as a stranger.
        known = isinstance(link, Link) and link.other_role is not None
        if known and isinstance(error, RemoteProtocolError):
            self.core.count("protocol_errors")
        if isinstance(link, Link):
            self._strangers.discard(link)
        if link.peer is not None and self._links.pop(link.peer, None) is not None:
            self._step(Left(link.peer))

    # The core.

    def _step(self, event: Joined | Said | Left) -> None:
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
        links = self._links
        for peer, messages in orders.items():
            link = links.get(peer)
            if link is not None:
                link.send_all(messages)
