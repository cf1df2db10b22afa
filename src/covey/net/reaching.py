"""Reaching workers: straight, or else by way of the scheduler.

The way by the scheduler always exists, since worker and asker both have a link to it.  It
costs the scheduler's processor and network, so it is the second choice: when the worker
cannot be reached within a second, and then for as long as that stays so (see ``routes``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from covey import clock
from covey.errors import CoveyError, Disconnected, RemoteProtocolError
from covey.net.addresses import Address, parse_address
from covey.net.connect import open_link
from covey.net.link import Link, disconnected
from covey.net.routes import Routes
from covey.wire.data_link import FromKeeper
from covey.wire.introductions import PassedOn, PassOn, Refusal
from covey.wire.keys import Keys, Role

#: How long a port is tried; a socket file answers at once or never, and where there is
#: another way nothing is tried twice.
_TCP_SECONDS: Final = 5.0

#: How long the scheduler may take to have a worker call, with those before us in line.
_CALL_SECONDS: Final = 30.0


class Whom(NamedTuple):
    """A worker that is to be asked.

    Attributes:
        addresses: where it serves its data.
        host: the machine that it is on.
        number: by which the scheduler knows it; 0 if that is not known here.
    """

    addresses: tuple[str, ...]
    host: str
    number: int = 0


class Reach:
    """Makes connections to workers.

    Args:
        keys: what the process knows.
        version: its version of covey.
        name: what people call it.
        number: the client it speaks for, or 0 for a worker.
        host: the machine that it is on.
    """

    def __init__(
        self, keys: Keys, version: str, name: str, number: int, host: str
    ) -> None:
        self._keys = keys
        self._version = version
        self._name = name
        self._number = number
        self._host = host
        self.routes = Routes()
        #: Where the scheduler is now, if it can be called there.
        self.scheduler: Callable[[], Address | None] = lambda: None

    def has_detour(self, whom: Whom) -> bool:
        """Whether there is a way by the scheduler."""
        return whom.number > 0 and self.scheduler() is not None

    async def straight(
        self,
        whom: Whom,
        on_messages: Callable[[Link, list[Any]], None],
        on_lost: Callable[[Link, Exception | None], None],
    ) -> Link:
        """Connect to a worker where it serves its data.

        Raises:
            Disconnected: it is not to be reached there.
        """
        problem: Exception | None = None
        patient = not self.has_detour(whom)
        for address in _worth_trying(whom.addresses, whom.host == self._host):
            try:
                link = await self._call(
                    address,
                    FromKeeper,
                    on_messages=on_messages,
                    on_lost=on_lost,
                    timeout_seconds=_TCP_SECONDS if patient and address.host else 0.0,
                    what="worker's data plane",
                )
            except (OSError, CoveyError) as error:
                problem = error
                continue
            self.routes.forget(whom.addresses)
            return link
        self.routes.failed(whom.addresses, clock.monotonic())
        raise Disconnected(
            f"the data plane of a worker cannot be reached at any of "
            f"{', '.join(whom.addresses)}: {problem}"
        ) from problem

    async def by_scheduler(
        self,
        whom: Whom,
        on_messages: Callable[[Link, list[Any]], None],
        on_lost: Callable[[Link, Exception | None], None],
    ) -> Link:
        """Have the scheduler pass on what is said.

        Raises:
            CoveyError: it does not, or cannot be reached itself.
        """
        where = self.scheduler()
        if where is None:
            raise Disconnected("it is not known where the scheduler is")
        there: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def heard(link: Link, batch: list[Any]) -> None:
            if there.done():
                on_messages(link, batch)
            elif type(batch[0]) is PassedOn and len(batch) == 1:
                link.decode_as(FromKeeper)
                there.set_result(None)
            elif type(batch[0]) is Refusal:
                there.set_exception(Disconnected(batch[0].reason))
            else:
                raise RemoteProtocolError("it was not told that the worker is there")

        def lost(link: Link, error: Exception | None) -> None:
            if there.done():
                # Whoever was refused, or gave up, never got to see it.
                if not there.cancelled() and there.exception() is None:
                    on_lost(link, error)
            else:
                there.set_exception(disconnected("the scheduler", error))

        link: Link | None = None
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                link = await self._call(
                    where,
                    FromKeeper | PassedOn | Refusal,
                    on_messages=heard,
                    on_lost=lost,
                    timeout_seconds=_TCP_SECONDS,
                )
                link.passed_on = True
                link.send(PassOn(whom.number, self._name))
                await there
        except BaseException as error:
            if link is not None:
                there.cancel()
                link.abort()
            # The next time all is tried from the beginning.
            self.routes.forget(whom.addresses)
            if isinstance(error, TimeoutError):
                raise disconnected("the scheduler", error) from error
            raise
        return link

    async def _call(self, address: Address, union: Any, **how: Any) -> Link:
        return await open_link(
            address,
            union,
            role=Role.ASKER,
            keys=self._keys,
            number=self._number,
            version=self._version,
            **how,
        )


def _worth_trying(addresses: tuple[str, ...], same_host: bool) -> list[Address]:
    """Return the addresses worth trying: a socket file only on its own host."""
    known = [parse_address(text) for text in addresses]
    return [a for a in known if a.path and same_host] + [a for a in known if not a.path]
