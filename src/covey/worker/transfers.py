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
from covey.worker.core.extents import Extents
from covey.worker.core.state import WorkerState
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
        state: what the core knows of the values that are here.
    """

    def __init__(
        self,
        storage: Storage,
        asker: Asker,
        step: Callable[[orders.AnyEvent], None],
        run: Callable[[Coroutine[Any, Any, None]], None],
        room_for: Callable[[int], Awaitable[str]],
        state: WorkerState,
    ) -> None:
        self._storage = storage
        self._asker = asker
        self._step = step
        self._run = run
        self._room_for = room_for
        self._state = state
        share = storage.limit_bytes // _IN_FLIGHT_PART // _PEERS_MAX
        self._budget = max(1, min(_BUDGET_BYTES, share))
        self._turns = asyncio.Semaphore(_PEERS_MAX)
        self._loop = asyncio.get_running_loop()
        self._peers: dict[int, tuple[tuple[str, ...], str]] = {}
        #: What is to be asked of each worker at the end of this turn.
        self._due: dict[int, list[Extent]] = {}
        #: What has been asked for, one entry for each worker at work.
        self._under_way: list[tuple[Extent, ...]] = []
        #: What has come, of extents that have not come whole yet.
        self._loose = Extents()

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
        self._under_way.append(extents)
        try:
            lacking = await self._bring(worker, extents)
        except ClusterError:
            # The scheduler is told of each; it knows what else can be done.
            lacking = extents
        finally:
            self._under_way.remove(extents)
        seconds = clock.monotonic() - began
        failed: list[Extent] = []
        for base, n in extents:
            if any(b < base + n and base < b + m for b, m in lacking):
                failed.append((base, n))
                continue
            self._loose.discard(base, n)
            found = self._storage.find(base, n)
            nbytes = sum(
                stretch.segment.size
                if stretch.segment is not None
                else stretch.part(start, count).nbytes
                for start, count, stretch in found
            )
            self._step(orders.Fetched((base, n), nbytes, worker, seconds))
        if failed:
            self._let_go()
        for extent in failed:
            self._step(orders.FetchFailed(extent, worker))

    def _let_go(self) -> None:
        """Drop what came of extents that will not come whole: nobody else would."""
        under_way = Extents()
        for extents in self._under_way:
            for extent in extents:
                under_way.add(*extent)
        state = self._state
        for stretch in list(self._loose):
            for part in list(under_way.gaps(*stretch)):
                self._loose.discard(*part)
                for base, n in state.copies.gaps(*part):
                    for lost in state.made.gaps(base, n):
                        self._storage.drop(*lost)

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
            self._loose.add(base, len(pack))
        large = [task for task, _ in loot.segments] + [task for task, _, _ in loot.lent]
        for task in large:
            # A client may have put it here; the core does not hear of that.
            if self._storage.shelf.segment(task) is None:
                self._loose.add(task, 1)
        for task, segment in loot.segments:
            self._storage.keep(task, segment)
        moved: list[Extent] = []
        for task, place, nbytes in loot.lent:
            try:
                self._storage.adopt(task, place, nbytes)
            except (OSError, ValueError):
                moved.append((task, 1))
        return tuple(moved)
