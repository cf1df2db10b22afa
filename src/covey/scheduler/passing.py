"""Passing on what askers say to workers that they cannot reach, and what these answer.

Who is joined with whom is decided in ``core.passages``; here are the connections.  The
scheduler opens none: it has the worker call, which can reach the scheduler in any
case.  It looks into nothing that it passes on, and keeps none of it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from covey import clock
from covey.errors import RemoteProtocolError
from covey.net.link import Link
from covey.net.splice import Ration, splice
from covey.scheduler.core.passages import Passages
from covey.wire.base import Message
from covey.wire.introductions import Met, PassedOn, PassOn, Refusal
from covey.wire.worker_link import Meet

#: So often it is looked whether somebody has waited for too long.
_LOOK_SECONDS: Final = 0.5


#: So much of the name is kept that somebody gives himself.
_NAME_SHOWN: Final = 100


class Pair(NamedTuple):
    """Who is joined with whom.

    Attributes:
        asker: the name of the client, or worker, that asks.
        worker: the name of the worker that is called for it.
    """

    asker: str
    worker: str


class Speaker(Protocol):
    """How a worker is spoken to."""

    def send(self, message: Message) -> None:
        """Queue a message."""


class Passing:
    """Joins askers with workers.

    Args:
        worker: returns how a worker is spoken to, or ``None`` if it is not there.
        name: returns what people call a worker.
        passed: told how many bytes were passed on.
    """

    def __init__(
        self,
        worker: Callable[[int], Speaker | None],
        name: Callable[[int], str],
        passed: Callable[[int], None],
    ) -> None:
        self._worker = worker
        self._name = name
        self._passed = passed
        #: Those who have asked: their names, and the workers they speak with.
        self._asked: dict[Link, Pair] = {}
        #: The bytes between each two since ``told``.
        self._between: dict[Pair, int] = {}
        self._passages: Passages[Link] = Passages()
        self._ration = Ration()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._passages)

    def asked(self, link: Link, message: PassOn) -> None:
        """Somebody wants to be joined with a worker.

        Raises:
            RemoteProtocolError: he has asked before.
        """
        if self._passages.knows(link):
            raise RemoteProtocolError(
                "an asker wants to speak with two workers at once"
            )
        if not self._passages.asked(link, message.worker, clock.monotonic()):
            _refuse(link, "too many wait for the scheduler to pass something on")
            return
        self._asked[link] = Pair(message.name[:_NAME_SHOWN], self._name(message.worker))
        self._call()
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)

    def told(self) -> dict[Pair, int]:
        """Return how many bytes were passed on since the last call, and between whom."""
        told, self._between = self._between, {}
        return told

    def _call(self) -> None:
        """Have workers call, for those who are the next in line."""
        now = clock.monotonic()
        while (idle := self._passages.idle(now)) is not None:
            idle.close()
        ticket = secrets.randbits(63)
        while (found := self._passages.call(ticket, now)) is not None:
            link, number = found
            worker = self._worker(number)
            if worker is None:
                self._passages.lost(link)
                _refuse(link, "the scheduler does not reach it either, at the moment")
            else:
                worker.send(Meet(ticket, link.other_number))
            ticket = secrets.randbits(63)

    def met(self, link: Link, message: Met) -> None:
        """A worker has called, as it was told to."""
        asker = self._passages.met(message.ticket, link, clock.monotonic())
        if asker is None:
            link.close()  # Who wanted it has gone, or had to.
            return
        asker.send(PassedOn())
        asker.flush()
        pair = self._asked[asker]

        def note(end: Link, nbytes: int) -> None:
            self._passages.said(end, clock.monotonic())
            self._passed(nbytes)
            self._between[pair] = self._between.get(pair, 0) + nbytes

        splice(asker, link, self._ration, note)

    def lost(self, link: Link) -> None:
        """A link has ended; what was joined with it ends, too."""
        self._asked.pop(link, None)
        other = self._passages.lost(link)
        if other is not None:
            other.close()
        if self._passages.waits:
            self._call()

    def close(self) -> None:
        """End them all."""
        if self._timer is not None:
            self._timer.cancel()
        for link in self._passages.ends():
            link.close()

    def _look(self) -> None:
        """Send those away who have waited for too long."""
        self._timer = None
        for link in self._passages.late(clock.monotonic()):
            _refuse(
                link, "it has not called the scheduler in time, or others went first"
            )
        if self._passages.waits:
            self._call()
            self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)


def _refuse(link: Link, reason: str) -> None:
    link.send(Refusal(reason))
    link.close()
