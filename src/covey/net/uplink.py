"""An edge's way to its scheduler, over real connections.

What to do and when is decided by ``wire.edge``; this room dials, sets the timer, and
tells the owner, a client or a worker, what has become of it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

from covey import clock
from covey.errors import CoveyError, Disconnected
from covey.net.addresses import Address
from covey.net.connect import open_link
from covey.net.join_string import Connection
from covey.net.link import Link
from covey.wire import edge
from covey.wire.base import Message
from covey.wire.introductions import Reception, Welcome
from covey.wire.keys import Keys, Role
from covey.wire.line import BEAT_SECONDS, Line
from covey.wire.rotation import Rotated, opened
from covey.wire.session import Session


class Owner:
    """What an edge does about its way to the scheduler; to be filled in.

    Attributes:
        keys: what it knows; changed in place when the cluster gets other secrets.
        place: where the scheduler was reached last.
    """

    keys: Keys
    place: Connection | None = None

    def find(self) -> Connection:
        """Return where the scheduler is; asked before every try.

        Raises:
            CoveyError: that is not known at the moment.
        """
        raise NotImplementedError

    def where(self) -> Address | None:
        """Return where the scheduler was reached last."""
        return self.place.address if self.place is not None else None

    def introduce(self, epoch: int) -> Message:
        """Return the introduction of this edge, which has seen *epoch*."""
        raise NotImplementedError

    def on_welcome(self, line: Line, welcome: Welcome, old: Line | None) -> None:
        """The scheduler has taken us in, over *line*.

        *old* is what we spoke through before; what it still had is lost unless it
        is said again.
        """
        raise NotImplementedError

    def on_messages(self, link: Any, batch: list[Any]) -> None:
        """The scheduler said something."""
        raise NotImplementedError

    def on_new_keys(self, fingerprint: str) -> None:
        """The cluster has other secrets, and shows another certificate."""

    def on_away(self, error: Exception | None) -> None:
        """The link is gone; it is looked for."""

    def on_back(self) -> None:
        """The session goes on."""

    def on_end(self, error: CoveyError) -> None:
        """The scheduler was not found again, or refuses us."""
        raise NotImplementedError


MakeLine: TypeAlias = Callable[
    [Session, Role, Callable[[Line, CoveyError], None], asyncio.AbstractEventLoop], Line
]


def _plain_line(
    session: Session,
    role: Role,
    on_failed: Callable[[Line, CoveyError], None],
    loop: asyncio.AbstractEventLoop,
) -> Line:
    return Line(session, role, on_failed, loop.call_soon)


class Uplink:
    """The way of one edge to its scheduler."""

    def __init__(
        self,
        owner: Owner,
        union: Any,
        *,
        role: Role,
        version: str,
        patience_seconds: float,
        make_line: MakeLine = _plain_line,
    ) -> None:
        self._owner = owner
        self._union = union | Rotated
        #: The certificate that the scheduler shows since the secrets were exchanged.
        self._fingerprint = ""
        self._role = role
        self._version = version
        self._make_line = make_line
        self._loop = asyncio.get_running_loop()
        self._edge = edge.Edge(patience_seconds, random.random)
        self.line: Line | None = None
        self.closed = False
        self._link: Link | None = None
        #: Done when the first greeting was answered.
        self._greeted: asyncio.Future[None] = self._loop.create_future()
        self._dialing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._beat_timer: asyncio.TimerHandle | None = None

    @property
    def connected(self) -> bool:
        """Whether the scheduler can be reached at the moment."""
        return self.line is not None and self.line.connected

    @property
    def own_host(self) -> str:
        """The address of this machine that the scheduler sees, if any."""
        return self._link.own_host if self._link is not None else ""

    async def connect(self, timeout_seconds: float) -> None:
        """Reach the scheduler for the first time, without a greeting yet.

        Raises:
            ClusterError: nobody answers, or we are refused.
        """
        self._link = await self._open_link(timeout_seconds)

    async def greet(self) -> None:
        """Present this edge, and wait until it was taken in.

        Raises:
            Refused: it was not.
            Disconnected: the connection broke meanwhile.
        """
        if self._link is None:
            raise Disconnected(f"the connection to {self._where()} broke")
        self._do(self._edge.connected(clock.monotonic()))
        await self._greeted
        self._beat()

    def close(self) -> None:
        """Say what is queued, and close."""
        self.closed = True
        self._edge.close()
        for timer in (self._beat_timer, self._timer):
            if timer is not None:
                timer.cancel()
        if self._dialing is not None:
            self._dialing.cancel()
        if self.line is not None:
            self.line.close()
        elif self._link is not None:
            self._link.close()

    def cut(self) -> None:
        """End the present link at once; the session goes on over the next one."""
        if self._link is not None:
            self._link.abort()

    # Links.

    async def _open_link(self, timeout_seconds: float) -> Link:
        owner = self._owner
        place = owner.find()
        if self._fingerprint and place.keys == owner.keys:
            # Who was told by a join string is told no more by that.
            now = place.address._replace(fingerprint=self._fingerprint)
            place = place._replace(address=now)
        owner.place = place
        link = await open_link(
            place.address,
            Reception,
            role=self._role,
            keys=place.keys,
            version=self._version,
            on_messages=self._on_messages,
            on_lost=self._on_lost,
            timeout_seconds=timeout_seconds,
        )
        if place.keys != owner.keys:
            # They were exchanged while we were away, and a file told of it.
            self._take_over(place.keys, place.address.fingerprint)
        return link

    def _take_over(self, fresh: Keys, fingerprint: str) -> None:
        """The secrets of the cluster are others now."""
        owner = self._owner
        owner.keys.become(fresh)
        self._fingerprint = fingerprint
        if owner.place is not None:
            now = owner.place.address._replace(fingerprint=fingerprint)
            owner.place = owner.place._replace(address=now)
        owner.on_new_keys(fingerprint)

    def _where(self) -> str:
        place = self._owner.place
        return place.address.shown if place is not None else "the scheduler"

    def _on_messages(self, link: Link, batch: list[Any]) -> None:
        if link is not self._link:
            return
        if self._edge.phase is edge.Phase.GREETING:
            self._do(self._edge.heard(batch[0], clock.monotonic()))
            batch = batch[1:]
        if Rotated in map(type, batch):
            for message in [m for m in batch if type(m) is Rotated]:
                fresh = opened(self._owner.keys, message)
                self._take_over(fresh, message.fingerprint)
            batch = [m for m in batch if type(m) is not Rotated]
        if batch and not self.closed:
            self._owner.on_messages(link, batch)

    def _on_lost(self, link: Link, error: Exception | None) -> None:
        if link is not self._link:
            return
        self._link = None
        if self.line is not None:
            self.line.detach()
        self._do(self._edge.lost(error, clock.monotonic()))

    async def _dial(self) -> None:
        try:
            link = await self._open_link(0.0)
        except CoveyError as error:
            self._dialing = None
            self._do(self._edge.not_found(error, clock.monotonic()))
            return
        self._dialing = None
        if self.closed:
            link.abort()
            return
        self._link = link
        self._do(self._edge.connected(clock.monotonic()))

    def _beat(self) -> None:
        if self.closed:
            return
        if self.line is not None:
            self.line.beat()
        self._beat_timer = self._loop.call_later(BEAT_SECONDS, self._beat)

    # What the edge orders.

    def _do(self, orders: list[edge.Order]) -> None:
        for order in orders:
            self._EXECUTE[type(order)](self, order)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._edge.wake_at:
            delay = max(0.0, self._edge.wake_at - clock.monotonic())
            self._timer = self._loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        # Timers of loops may be a little early: then this one is set again.
        self._do(self._edge.tick(clock.monotonic()))

    def _start_dialing(self, order: edge.Dial) -> None:
        del order
        self._dialing = self._loop.create_task(self._dial())

    def _greet(self, order: edge.Greet) -> None:
        assert self._link is not None
        self._link.send(order.words)

    def _introduce(self, order: edge.Introduce) -> None:
        assert self._link is not None
        self._link.send(self._owner.introduce(order.epoch))

    def _hang(self, order: edge.Hang) -> None:
        del order
        link, self._link = self._link, None
        if link is not None:
            link.abort()

    def _open(self, order: edge.Open) -> None:
        session, link = self._edge.session, self._link
        assert session is not None and link is not None
        old = self.line
        line = self.line = self._make_line(
            session,
            Role.SCHEDULER,
            lambda _, error: self._end(edge.End(error)),
            self._loop,
        )
        link.decode_as(self._union)
        line.attach(link, 0)
        if not self._greeted.done():
            self._greeted.set_result(None)
        self._owner.on_welcome(line, order.welcome, old)

    def _go_on(self, order: edge.GoOn) -> None:
        line, link = self.line, self._link
        assert line is not None and link is not None
        link.decode_as(self._union)
        line.attach(link, order.received)
        self._owner.on_back()

    def _search(self, order: edge.Search) -> None:
        self._owner.on_away(order.why)

    def _end(self, order: edge.End) -> None:
        if self.closed:
            return
        if self.line is None:
            # Whoever waits for the first welcome goes on from here.
            if not self._greeted.done():
                self._greeted.set_exception(self._explained(order.why))
            return
        self.close()
        self._owner.on_end(order.why)

    def _explained(self, why: CoveyError) -> CoveyError:
        if isinstance(why, Disconnected):
            return Disconnected(f"{self._where()}: {why}")
        return why

    #: What carries out each kind of order.
    _EXECUTE: ClassVar[dict[type, Callable[[Uplink, Any], None]]] = {
        edge.Dial: _start_dialing,
        edge.Greet: _greet,
        edge.Introduce: _introduce,
        edge.Hang: _hang,
        edge.Open: _open,
        edge.GoOn: _go_on,
        edge.Search: _search,
        edge.End: _end,
    }
