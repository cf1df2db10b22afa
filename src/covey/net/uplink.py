"""An edge's way to its scheduler: found again whenever it was lost.

Clients and workers are edges.  When the link breaks, for whatever reason, the edge
looks for the scheduler again, with pauses that grow and differ, and takes up its
session.  Where that is not known any more (the scheduler was started anew, or has
waited too long) the edge presents itself again, with the highest epoch it has seen,
and its owner tells all that it has and wants::

    ┌────────┐  link lost   ┌──────┐  connected   ┌──────────┐  Resumed
    │  open  │─────────────►│ away │─────────────►│ greeting │──────────► open
    └────────┘              └──────┘◄─────────────└──────────┘  Welcome (a report
                                │       lost                     follows) ──► open
                                └── patience over, or refused ──► ended
"""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final

from covey import clock
from covey.errors import (
    Closed,
    CoveyError,
    Disconnected,
    InternalError,
    NoScheduler,
    Refused,
    StartFailed,
)
from covey.net.connect import open_link
from covey.net.join_string import Connection
from covey.net.line import BEAT_SECONDS, Line
from covey.net.link import Link
from covey.wire.base import Message
from covey.wire.introductions import (
    Gone,
    Reception,
    Refusal,
    Resume,
    Resumed,
    Welcome,
)
from covey.wire.keys import Role
from covey.wire.session import Session

FIRST_PAUSE_SECONDS: Final = 0.02
LONGEST_PAUSE_SECONDS: Final = 0.5

#: A scheduler that is just starting may not have written its secret yet.
REFUSED_SECONDS: Final = 3.0

#: How long the answer to a greeting may take before another try.
GREETING_SECONDS: Final = 5.0


class Owner:
    """What an edge does about its way to the scheduler; to be filled in."""

    def find(self) -> Connection:
        """Return where the scheduler is; asked before every try.

        Raises:
            CoveyError: that is not known at the moment.
        """
        raise NotImplementedError

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

    def on_away(self, error: Exception | None) -> None:
        """The link is gone; it is looked for."""

    def on_back(self) -> None:
        """The session goes on."""

    def on_end(self, error: CoveyError) -> None:
        """The scheduler was not found again, or refuses us."""
        raise NotImplementedError


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
    ) -> None:
        self._owner = owner
        self._union = union
        self._role = role
        self._version = version
        self._patience_seconds = patience_seconds
        self._loop = asyncio.get_running_loop()
        self.line: Line | None = None
        #: The highest epoch that was seen.
        self.epoch = 0
        self.closed = False
        self._link: Link | None = None
        #: Done when the greeting of the present link was answered; ``None`` after.
        self._greeted: asyncio.Future[None] | None = None
        self._search: asyncio.Task[None] | None = None
        self._beat_timer: asyncio.TimerHandle | None = None
        self._place: Connection | None = None

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
        self._link = await self._open_link(self._find(), timeout_seconds)
        self._greeted = self._loop.create_future()

    async def greet(self) -> None:
        """Present this edge, and wait until it was taken in.

        Raises:
            Refused: it was not.
            Disconnected: the connection broke meanwhile.
        """
        link, greeted = self._link, self._greeted
        if link is None or greeted is None:
            raise InternalError("there is no link to send a greeting over")
        self._send_greeting(link)
        await greeted
        self._beat()

    def close(self) -> None:
        """Say what is queued, and close."""
        self.closed = True
        if self._beat_timer is not None:
            self._beat_timer.cancel()
        if self._search is not None:
            self._search.cancel()
        if self.line is not None:
            self.line.close()
        elif self._link is not None:
            self._link.close()

    def cut(self) -> None:
        """End the present link at once; the session goes on over the next one."""
        if self._link is not None:
            self._link.abort()

    # Links.

    def _find(self) -> Connection:
        self._place = self._owner.find()
        return self._place

    async def _open_link(self, place: Connection, timeout_seconds: float) -> Link:
        return await open_link(
            place.address,
            Reception,
            role=self._role,
            keys=place.keys,
            version=self._version,
            on_messages=self._on_messages,
            on_lost=self._on_lost,
            timeout_seconds=timeout_seconds,
        )

    def _send_greeting(self, link: Link) -> None:
        line = self.line
        if line is not None:
            link.send(Resume(line.session.number, line.session.received))
        else:
            link.send(self._owner.introduce(self.epoch))

    def _on_messages(self, link: Link, batch: list[Any]) -> None:
        if link is not self._link:
            return
        if self._greeted is not None:
            self._on_reception(link, batch[0])
            batch = batch[1:]
        if batch and not self.closed:
            self._owner.on_messages(link, batch)

    def _on_reception(
        self, link: Link, message: Welcome | Refusal | Resumed | Gone
    ) -> None:
        match message:
            case Refusal():
                self._answered(Refused(message.reason))
            case Gone():
                # Should it be an old scheduler that knows of no newer one, then this
                # tells it.
                link.send(self._owner.introduce(self.epoch))
            case Welcome() if message.epoch < self.epoch:
                link.abort()
            case Welcome():
                old, self.line = self.line, self._new_line(message.session)
                self.epoch = message.epoch
                link.decode_as(self._union)
                self.line.attach(link, 0)
                self._answered(None)
                self._owner.on_welcome(self.line, message, old)
            case Resumed():
                assert self.line is not None
                link.decode_as(self._union)
                self.line.attach(link, message.received)
                self._answered(None)
                self._owner.on_back()

    def _new_line(self, session: int) -> Line:
        return Line(Session(session), Role.SCHEDULER, lambda _, error: self._end(error))

    def _answered(self, error: Exception | None) -> None:
        greeted, self._greeted = self._greeted, None
        if greeted is None or greeted.done():
            return
        if error is None:
            greeted.set_result(None)
        else:
            greeted.set_exception(error)

    def _on_lost(self, link: Link, error: Exception | None) -> None:
        if link is not self._link:
            return
        self._link = None
        if self.line is not None:
            self.line.detach()
        if self._greeted is not None:
            self._answered(
                Disconnected(
                    f"the connection to {self._place and self._place.address.shown} broke"
                    + (f" ({error})" if error is not None else "")
                )
            )
            return  # Whoever waits for the greeting goes on from here.
        if self.closed or self.line is None:
            return
        self._owner.on_away(error)
        if self._search is None and not self.closed:
            self._search = self._loop.create_task(self._look_for_it())

    # Looking for it.

    async def _look_for_it(self) -> None:
        try:
            await self._try_until_found()
        except CoveyError as error:
            self._end(error)
        finally:
            self._search = None

    async def _try_until_found(self) -> None:
        start = clock.monotonic()
        refused_since: float | None = None
        pause = FIRST_PAUSE_SECONDS
        while True:
            # Many edges lose one scheduler at once; they shall not return at once.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            try:
                await self._try_once()
                if self.connected or self.closed:
                    return
                last: CoveyError = Disconnected("the connection broke at once")
            except (Closed, StartFailed):
                raise  # There is nothing to be found any more.
            except Refused as error:
                now = clock.monotonic()
                refused_since = refused_since or now
                if now - refused_since > REFUSED_SECONDS:
                    raise
                last = error
            except CoveyError as error:
                refused_since = None
                last = error
            if clock.monotonic() - start > self._patience_seconds:
                raise NoScheduler(
                    f"the scheduler was not found again within "
                    f"{self._patience_seconds:g} s; last: {last}"
                )

    async def _try_once(self) -> None:
        link = await self._open_link(self._find(), 0.0)
        if self.closed:
            link.abort()
            return
        self._link = link
        greeted = self._greeted = self._loop.create_future()
        self._send_greeting(link)
        try:
            async with asyncio.timeout(GREETING_SECONDS):
                await greeted
        except TimeoutError:
            self._greeted = None
            self._link = None
            link.abort()
            raise Disconnected("the scheduler does not answer a greeting") from None

    def _end(self, error: CoveyError) -> None:
        if self.closed:
            return
        self.close()
        self._owner.on_end(error)

    def _beat(self) -> None:
        if self.closed:
            return
        if self.line is not None:
            self.line.beat()
        self._beat_timer = self._loop.call_later(BEAT_SECONDS, self._beat)
