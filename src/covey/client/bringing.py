"""Bringing values from the workers where they rest, wherever these are by now."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from covey import clock
from covey.client.core.ranges import Range, Status
from covey.client.countdown import Countdown
from covey.client.decoding import Lazy, attempt
from covey.client.engine import Engine
from covey.client.extents import extents_of
from covey.errors import Closed, ClusterError
from covey.ids import TaskId
from covey.net.answers import Loot
from covey.payload import Pack
from covey.units import counted
from covey.wire.client_link import Want

#: After each vain try to fetch a value there is a pause.  A holder that has died is
#: asked for until its grace is over and the scheduler counts its values as lost.
FETCH_PAUSES_SECONDS: Final = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8)


class Bringer:
    """Brings the values of one client, in its I/O thread.

    Args:
        engine: the client's.
        plain: refuse values and exceptions that pickle wrote.
    """

    def __init__(self, engine: Engine, *, plain: bool) -> None:
        self._engine = engine
        self._plain = plain

    def check(self, stored: list[tuple[Range, int]]) -> None:
        """Raise if nothing can be brought any more.

        Args:
            stored: the values that are wanted, with at least one of them.

        Raises:
            Closed: the client was closed; says which values went with it.
            CoveyError: as ``Engine.check``.
        """
        try:
            self._engine.check()
        except Closed:
            (wish, index), *others = stored
            more = f" and of {counted(len(others), 'other task')}" if others else ""
            raise Closed(
                f"this client has been closed, and the value of {wish.key(index)}{more} "
                f"is gone with it: what is not small stays on the workers until it is "
                f"asked for. Take results before the client is closed, or make them again with a "
                f"new one; what publish_dataset has kept on a cluster that goes on is there"
            ) from None

    async def fetch(
        self, stored: list[tuple[Range, int]], deadline: float | None = None
    ) -> None:
        """Bring values from workers, a few times over if places turn out stale.

        What was lost with its worker, and is pending again, is waited for first.
        """
        for pause in FETCH_PAUSES_SECONDS:
            by_worker: dict[int, list[int]] = {}
            placed = 0
            for wish, index in stored:
                place = wish.place(index)
                if place is not None and wish.status[index] == Status.STORED:
                    by_worker.setdefault(place[2], []).append(wish.base + index)
                    placed += 1
            if (
                len(by_worker) == 1
            ):  # As most often: no task of the loop is made for it.
                ((worker, tasks),) = by_worker.items()
                complete = await self._fetch_from(worker, tasks)
            else:
                outcomes = await asyncio.gather(
                    *(self._fetch_from(w, tasks) for w, tasks in by_worker.items())
                )
                complete = all(outcomes)
            if complete and placed == len(stored):
                return
            stored = self._missing(stored)
            if not stored:
                return
            # Somewhere else by now, or being computed again: ask, and wait.
            await self._locate(stored, deadline)
            if any(wish.status[i] == Status.STORED for wish, i in stored):
                left = _left(deadline)
                await asyncio.sleep(pause if left is None else min(pause, left))

    def _missing(self, stored: list[tuple[Range, int]]) -> list[tuple[Range, int]]:
        """Return what has not come and may come yet.

        What was let go of meanwhile is told no end of: who asked for it is told that.
        """
        return [
            (wish, index)
            for wish, index in stored
            if wish.lacks(index) and self._holds(wish, index)
        ]

    async def _locate(
        self, missing: list[tuple[Range, int]], deadline: float | None
    ) -> None:
        self.check(missing)  # Nothing is told once this client is at its end.
        countdown_done = asyncio.Event()
        countdown = Countdown(countdown_done.set)
        for wish, index in missing:
            wish.revert(index, 1)
            countdown.add(wish, [index])
        countdown.armed()
        self._engine.post(Want(extents_of(w.base + i for w, i in missing)))
        try:
            async with asyncio.timeout(_left(deadline)):
                await countdown_done.wait()
        except TimeoutError:
            wish, index = missing[0]
            raise TimeoutError(
                f"{wish.key(index)} has ended, but its value was lost, or has moved, and "
                f"was not there again in time; future.explain() tells what it waits for"
            ) from None
        finally:
            countdown.stop()

    def _holds(self, wish: Range, index: int) -> bool:
        """Whether anybody here holds a task still."""
        known = self._engine.wishes.find(wish.base + index)
        return known is wish and not wish.is_let_go(index)

    async def _fetch_from(self, worker: int, tasks: list[TaskId]) -> bool:
        seen = self._engine.workers.get(worker)
        if seen is None:
            return False
        # What the worker calls a shared task, and by which ids it is known here.
        kept_as = self._engine.kept_as
        ours: dict[TaskId, list[TaskId]] = {}
        shared: dict[TaskId, bytes] = {}
        for task in tasks:
            if task in kept_as:
                source, token = kept_as[task]
                ours.setdefault(source, []).append(task)
                shared[source] = token
        wanted = tasks
        if ours:
            wanted = [kept_as[task][0] if task in kept_as else task for task in tasks]
        try:
            extents = extents_of(wanted)
            tokens = self._engine.tokens_for(extents, shared)
            loot = await self._engine.asker.get(
                seen.addresses, extents, seen.host, tokens, worker=worker
            )
        except ClusterError:
            return False
        return self._stow(loot, ours) and not loot.lacking

    def _stow(self, loot: Loot, ours: dict[TaskId, list[TaskId]]) -> bool:
        """Keep what came; false if something was lent and has moved since."""
        complete = True
        for base, pack in loot.packs:
            # Views: what is copied is copied once, when somebody looks at it.
            views = Pack(pack.sizes, memoryview(pack.data))
            for task, payload in enumerate(views, base):
                self._put(task, Lazy(payload), ours)
        for task, place, nbytes in loot.lent:
            try:
                self._put(task, attempt(place, nbytes, self._plain), ours)
            except FileNotFoundError:
                complete = False
        for task, segment in loot.segments:
            try:
                value = attempt(segment.place, segment.size, self._plain)
                self._put(task, value, ours)
            finally:
                segment.close()
        return complete

    def _put(self, task: TaskId, value: Any, ours: dict[TaskId, list[TaskId]]) -> None:
        for known in (task, *ours.get(task, ())):
            wish = self._engine.wishes.find(known)
            if wish is not None:
                wish.values[known - wish.base] = value


def _left(deadline: float | None) -> float | None:
    """Return how many seconds are left until *deadline*, if there is one."""
    return None if deadline is None else max(0.0, deadline - clock.monotonic())
