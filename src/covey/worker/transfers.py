"""Values that come from other workers.

What the core orders within one turn of one holder is an *errand*.  It is done in parts,
each of which is credit for so many bytes: the holder sends no more before it is asked
again.  Parts take turns::

    errands ──► waiting, the most urgent first ──► at most four at a time, one a holder
                      ▲                                     │ what is whole is told
                      └──────────── what is left ───────────┘
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final

from covey import clock
from covey.errors import ClusterError
from covey.net.answers import Loot
from covey.net.asking import Asker
from covey.store import digests
from covey.wire.base import Extent
from covey.worker.core import orders
from covey.worker.core.extents import Extents
from covey.worker.core.state import WorkerState
from covey.worker.storage import Storage
from covey.worker.turns import Turns, Urgency

#: What was lent may have moved before it was opened: then it is asked for again.
_TRIES: Final = 3

#: So many workers send at a time, each large values of so many bytes and the one
#: that goes beyond; and all together about this part of the memory limit.
_PEERS_MAX: Final = 4
_BUDGET_BYTES: Final = 64 << 20
_IN_FLIGHT_PART: Final = 8


def urgency_of(order: orders.FetchFrom) -> Urgency:
    """Return when the order is to have its turn: what no run waits for comes last."""
    return (0, *order.rank) if order.rank else (1,)


class _Errand:
    """What one holder is asked for.

    Attributes:
        holder: its number.
        todo: extents that have not come whole, the most urgent first.
        left: what is still to be asked for: parts of those.
    """

    def __init__(self, holder: int, wanted: list[tuple[Urgency, Extent]]) -> None:
        self.holder = holder
        self.todo = {extent: urgency for urgency, extent in sorted(wanted)}
        self.left = tuple(self.todo)
        self.began = clock.monotonic()
        self._lacking = Extents()

    @property
    def urgency(self) -> Urgency:
        """How urgent the most urgent extent is that is left."""
        return next(iter(self.todo.values()))

    def came(self, left: tuple[Extent, ...], lacking: Iterable[Extent]) -> list[Extent]:
        """A part has come; return the extents that will bring nothing more.

        Args:
            left: what is still to come.
            lacking: what the holder does not have.
        """
        self.left = left
        for extent in lacking:
            self._lacking.add(*extent)
        coming = Extents()
        for extent in left:
            coming.add(*extent)
        ended = [extent for extent in self.todo if not _touches(coming, extent)]
        for extent in ended:
            del self.todo[extent]
        return ended

    def lacks(self, extent: Extent) -> bool:
        """Whether some of an extent is not where it was said to be."""
        return _touches(self._lacking, extent)


def _touches(extents: Extents, extent: Extent) -> bool:
    return list(extents.gaps(*extent)) != [extent]


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
        self._turns = Turns(_PEERS_MAX)
        self._loop = asyncio.get_running_loop()
        self._peers: dict[int, tuple[tuple[str, ...], str]] = {}
        #: What is to be asked of each worker at the end of this turn.
        self._due: dict[int, list[tuple[Urgency, Extent]]] = {}
        self._under_way: set[_Errand] = set()
        #: What has come, of extents that have not come whole yet.
        self._loose = Extents()

    def know_peer(self, order: orders.KnowPeer) -> None:
        """Remember where another worker serves its data."""
        self._peers[order.worker] = (order.addresses, order.host)

    def fetch(self, order: orders.FetchFrom) -> None:
        """Fetch values, together with what else this turn wants from that worker."""
        due = self._due.get(order.worker)
        if due is None:
            due = self._due[order.worker] = []
            self._loop.call_soon(self._begin, order.worker)
        due.append((urgency_of(order), order.extent))

    def _begin(self, worker: int) -> None:
        self._run(self._go(_Errand(worker, self._due.pop(worker))))

    async def _go(self, errand: _Errand) -> None:
        self._under_way.add(errand)
        try:
            await self._bring(errand)
        except ClusterError:
            pass  # The core knows who else has it, and the scheduler what else to do.
        finally:
            self._under_way.remove(errand)
        self._tell(errand, [], list(errand.todo))

    async def _bring(self, errand: _Errand) -> None:
        """Bring values into the store, and tell of those that are there."""
        addresses, host = self._peers[errand.holder]
        moved = 0
        while errand.left and moved < _TRIES:
            # Others have their turn between two parts, and memory has a limit.
            async with self._turns.turn(errand.holder, errand.urgency):
                await self._room_for(self._budget)
                loot = await self._asker.get(
                    addresses,
                    errand.left,
                    host,
                    budget=self._budget,
                    worker=errand.holder,
                )
            again = self._take_in(loot)
            moved = moved + 1 if again else moved
            ended = errand.came(loot.rest + again, loot.lacking)
            failed = [extent for extent in ended if errand.lacks(extent)]
            whole = [extent for extent in ended if extent not in failed]
            self._tell(errand, whole, failed)

    def _tell(self, errand: _Errand, whole: list[Extent], failed: list[Extent]) -> None:
        seconds = clock.monotonic() - errand.began
        for base, n in whole:
            self._loose.discard(base, n)
            nbytes = self._nbytes(base, n)
            known = digests.of_stored(self._storage.shelf, base, n)
            how = (nbytes, errand.holder, seconds, known)
            self._step(orders.Fetched((base, n), *how))
        if failed:
            self._let_go()
        for extent in failed:
            self._step(orders.FetchFailed(extent, errand.holder))

    def _nbytes(self, base: int, n: int) -> int:
        return sum(
            stretch.segment.size
            if stretch.segment is not None
            else stretch.view(start, count).nbytes
            for start, count, stretch in self._storage.find(base, n)
        )

    def _let_go(self) -> None:
        """Drop what came of extents that will not come whole: nobody else would."""
        under_way = Extents()
        for errand in self._under_way:
            for extent in errand.todo:
                under_way.add(*extent)
        state = self._state
        for stretch in list(self._loose):
            for part in list(under_way.gaps(*stretch)):
                self._loose.discard(*part)
                for base, n in state.copies.gaps(*part):
                    for lost in state.made.gaps(base, n):
                        self._storage.drop(*lost)

    def _take_in(self, loot: Loot) -> tuple[Extent, ...]:
        """Keep what came; return what was lent and is not there any more."""
        for base, pack in loot.packs:
            self._storage.put(base, pack)
            self._loose.add(base, len(pack))
        large = [task for task, _ in loot.segments] + [task for task, _, _ in loot.lent]
        for task in large:
            # A client may have put it here; the core does not hear of that.
            if self._storage.shelf.at(task) is None:
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
