"""Asking workers for values, and bringing them some: the near end of the data plane.

Clients and workers use it alike.  There is one connection per keeper; requests
on it are answered one after the other, so raw bytes never mix with frames::

    Get(extents)  ─────►
                  ◄─────  Values | Lent | Raw + bytes ... GetDone
"""

from __future__ import annotations

import asyncio
import functools
import mmap
from dataclasses import dataclass, field
from typing import Any

from covey.errors import ClusterError, Disconnected
from covey.ids import TaskId
from covey.net.addresses import Address, host_identity, parse_address
from covey.net.connect import open_link
from covey.net.link import Link, disconnected
from covey.payload import Buffer, Pack
from covey.store.segments import Segment
from covey.wire.base import Extent
from covey.wire.data_link import (
    FromKeeper,
    Get,
    GetDone,
    Lent,
    PutLarge,
    PutSegment,
    Raw,
    Taken,
    Values,
)
from covey.wire.handshake import Role
from covey.wire.introductions import AskerIntroduction

#: Raw bytes are written in pieces of this size, so that other traffic gets a turn.
CHUNK_BYTES = 4 << 20


@dataclass
class Loot:
    """What a request brought.

    Attributes:
        packs: small values, ``(base, pack)``.
        lent: large values on this host: ``(task, path, nbytes)``.
        segments: large values that were sent: ``(task, segment)``.
        lacking: what the keeper did not have.
    """

    packs: list[tuple[TaskId, Pack]] = field(default_factory=list)
    lent: list[tuple[TaskId, str, int]] = field(default_factory=list)
    segments: list[tuple[TaskId, Segment]] = field(default_factory=list)
    lacking: tuple[Extent, ...] = ()


class _Request:
    def __init__(self) -> None:
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.loot = Loot()

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class _Keeper:
    """A connection to one worker's data plane."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self.requests: dict[int, _Request] = {}
        self.writing = asyncio.Lock()


class Asker:
    """Fetches values from workers, and brings values to them."""

    def __init__(self, secret: bytes, version: str, name: str) -> None:
        self._secret = secret
        self._version = version
        self._name = name
        self._host = host_identity()
        self._keepers: dict[tuple[str, ...], _Keeper] = {}
        self._opening: dict[tuple[str, ...], asyncio.Lock] = {}
        self._last_request = 0
        self._closed = False

    async def get(
        self, addresses: tuple[str, ...], extents: tuple[Extent, ...], host: str
    ) -> Loot:
        """Fetch values from the worker at *addresses*, on *host*.

        Raises:
            ClusterError: the worker cannot be reached, or the connection broke.
        """
        keeper = await self._keeper(addresses, host)
        number, request = self._new_request(keeper)
        same_host = host == self._host
        assert keeper.link is not None
        keeper.link.send(Get(number, extents, same_host))
        await request.done
        return request.loot

    async def put(
        self, addresses: tuple[str, ...], task: TaskId, frames: list[Buffer], host: str
    ) -> None:
        """Bring one large value to the worker at *addresses*.

        Raises:
            ClusterError: it cannot be reached, or could not take the value.
        """
        keeper = await self._keeper(addresses, host)
        segment = await asyncio.to_thread(Segment.of, frames)
        try:
            number, request = self._new_request(keeper)
            assert keeper.link is not None
            if host == self._host:
                keeper.link.send(PutSegment(number, task, segment.path, segment.size))
            else:
                async with keeper.writing:
                    keeper.link.send(PutLarge(number, task, segment.size))
                    await send_segment(keeper.link, segment)
            problem = await request.done
        finally:
            segment.close()
        if problem:
            raise ClusterError(f"the worker could not take the value: {problem}")

    def close(self) -> None:
        """Close all connections."""
        self._closed = True
        for keeper in self._keepers.values():
            if keeper.link is not None:
                keeper.link.close()
        self._keepers.clear()

    def _new_request(self, keeper: _Keeper) -> tuple[int, _Request]:
        self._last_request += 1
        request = keeper.requests[self._last_request] = _Request()
        return self._last_request, request

    async def _keeper(self, addresses: tuple[str, ...], host: str) -> _Keeper:
        lock = self._opening.setdefault(addresses, asyncio.Lock())
        async with lock:
            keeper = self._keepers.get(addresses)
            if keeper is None or keeper.link is None or keeper.link.lost:
                keeper = await self._open(addresses, host)
                self._keepers[addresses] = keeper
        return keeper

    async def _open(self, addresses: tuple[str, ...], host: str) -> _Keeper:
        problem: Exception | None = None
        for address in _reachable(addresses, host == self._host):
            keeper = _Keeper()
            try:
                keeper.link = await open_link(
                    address,
                    FromKeeper,
                    role=Role.ASKER,
                    secret=self._secret,
                    version=self._version,
                    on_messages=functools.partial(_on_messages, keeper),
                    on_lost=functools.partial(_on_lost, keeper),
                    timeout_seconds=0.0 if address.path else 5.0,
                    what="worker's data plane",
                )
            except (OSError, ClusterError) as error:
                problem = error
                continue
            keeper.link.send(AskerIntroduction(self._name, self._host))
            return keeper
        raise Disconnected(
            f"the data plane of a worker cannot be reached at any of "
            f"{', '.join(addresses)}: {problem}"
        ) from problem


def _reachable(addresses: tuple[str, ...], same_host: bool) -> list[Address]:
    """Return the addresses worth trying: a socket file only on its own host."""
    known = [parse_address(text) for text in addresses]
    return [a for a in known if a.path and same_host] + [a for a in known if not a.path]


def _on_messages(keeper: _Keeper, link: Link, batch: list[Any]) -> None:
    for message in batch:
        request = keeper.requests.get(message.request)
        if isinstance(message, Raw):
            _receive_raw(link, message, request)
        elif request is None:
            continue
        elif isinstance(message, Values):
            pack = Pack.from_wire(message.sizes, message.data)
            request.loot.packs.append((message.base, pack))
        elif isinstance(message, Lent):
            request.loot.lent.append((message.task, message.path, message.nbytes))
        elif isinstance(message, GetDone):
            request.loot.lacking = message.lacking
            del keeper.requests[message.request]
            request.done.set_result(None)
        elif isinstance(message, Taken):
            del keeper.requests[message.request]
            request.done.set_result(message.problem)


def _receive_raw(link: Link, message: Raw, request: _Request | None) -> None:
    def arrived(segment: Segment) -> None:
        if request is None:
            segment.close()
        else:
            request.loot.segments.append((message.task, segment))

    receive_segment(link, message.nbytes, arrived)


def receive_segment(link: Link, nbytes: int, arrived: Any) -> None:
    """Write the raw bytes that follow into a segment; call *arrived* with it."""
    segment = Segment.create(nbytes)
    mapped = mmap.mmap(segment.fd, nbytes)
    at = 0

    def sink(data: bytes | bytearray) -> None:
        nonlocal at
        mapped[at : at + len(data)] = data
        at += len(data)
        if at == nbytes:
            mapped.close()
            arrived(segment)

    link.expect_raw(nbytes, sink)


async def send_segment(link: Link, segment: Segment) -> None:
    """Write the bytes of *segment* behind the messages sent so far."""
    with mmap.mmap(segment.fd, segment.size, prot=mmap.PROT_READ) as mapped:
        for start in range(0, segment.size, CHUNK_BYTES):
            link.send_raw(mapped[start : start + CHUNK_BYTES])
            await link.drain()


def _on_lost(keeper: _Keeper, _: Link, error: Exception | None) -> None:
    requests, keeper.requests = keeper.requests, {}
    for request in requests.values():
        request.fail(disconnected("a worker's data plane", error))
