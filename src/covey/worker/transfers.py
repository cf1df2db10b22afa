"""Values that come from other workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from covey import clock
from covey.errors import ClusterError
from covey.net.asking import Asker, Loot
from covey.wire.base import Extent
from covey.worker.core import orders
from covey.worker.storage import Storage

#: What was lent may have moved before it was opened: then it is asked for again.
_TRIES: Final = 3

#: So many workers send at a time, each large values of so many bytes and the one
#: that goes beyond; and all together about this part of the memory limit.
_PEERS_MAX: Final = 4
_BUDGET_BYTES: Final = 64 << 20
_IN_FLIGHT_PART: Final = 8


class Transfers:
    """Fetches what the core orders, and tells it what came of that.

    Args:
        storage: where the values go.
        asker: who asks other workers.
        step: takes events to the core.
        run: runs a coroutine beside everything else.
        room_for: waits until so many bytes fit, if waiting helps.
    """

    def __init__(
        self,
        storage: Storage,
        asker: Asker,
        step: Callable[[orders.AnyEvent], None],
        run: Callable[[Coroutine[Any, Any, None]], None],
        room_for: Callable[[int], Awaitable[str]],
    ) -> None:
        self._storage = storage
        self._asker = asker
        self._step = step
        self._run = run
        self._room_for = room_for
        share = storage.limit_bytes // _IN_FLIGHT_PART // _PEERS_MAX
        self._budget = max(1, min(_BUDGET_BYTES, share))
        self._turns = asyncio.Semaphore(_PEERS_MAX)
        self._loop = asyncio.get_running_loop()
        self._peers: dict[int, tuple[tuple[str, ...], str]] = {}
        #: What is to be asked of each worker at the end of this turn.
        self._due: dict[int, list[Extent]] = {}

    def know_peer(self, order: orders.KnowPeer) -> None:
        """Remember where another worker serves its data."""
        self._peers[order.worker] = (order.addresses, order.host)

    def fetch(self, order: orders.FetchFrom) -> None:
        """Fetch values, together with what else this turn wants from that worker."""
        due = self._due.get(order.worker)
        if due is None:
            self._due[order.worker] = [order.extent]
            self._loop.call_soon(self._begin, order.worker)
        else:
            due.append(order.extent)

    def _begin(self, worker: int) -> None:
        self._run(self._fetch(worker, tuple(self._due.pop(worker))))

    async def _fetch(self, worker: int, extents: tuple[Extent, ...]) -> None:
        began = clock.monotonic()
        try:
            lacking = await self._bring(worker, extents)
        except ClusterError:
            # The scheduler is told of each; it knows what else can be done.
            for extent in extents:
                self._step(orders.FetchFailed(extent, worker))
            return
        seconds = clock.monotonic() - began
        for base, n in extents:
            if any(b < base + n and base < b + m for b, m in lacking):
                self._step(orders.FetchFailed((base, n), worker))
                continue
            found = self._storage.find(base, n)
            nbytes = sum(
                stretch.segment.size
                if stretch.segment is not None
                else stretch.part(start, count).nbytes
                for start, count, stretch in found
            )
            self._step(orders.Fetched((base, n), nbytes, worker, seconds))

    async def _bring(
        self, worker: int, extents: tuple[Extent, ...]
    ) -> tuple[Extent, ...]:
        """Bring values into the store; return those that the worker lacks."""
        addresses, host = self._peers[worker]
        lacking: tuple[Extent, ...] = ()
        moved = 0
        while extents and moved < _TRIES:
            # Others have their turn between two parts, and memory has a limit.
            async with self._turns:
                await self._room_for(self._budget)
                loot = await self._asker.get(
                    addresses, extents, host, budget=self._budget
                )
            lacking += loot.lacking
            again = self._take_in(loot)
            moved = moved + 1 if again else moved
            extents = loot.rest + again
        return lacking + extents

    def _take_in(self, loot: Loot) -> tuple[Extent, ...]:
        """Keep what came; return what was lent and is not there any more."""
        for base, pack in loot.packs:
            self._storage.put(base, pack)
        for task, segment in loot.segments:
            self._storage.keep(task, segment)
        moved: list[Extent] = []
        for task, place, nbytes in loot.lent:
            try:
                self._storage.adopt(task, place, nbytes)
            except (OSError, ValueError):
                moved.append((task, 1))
        return tuple(moved)
