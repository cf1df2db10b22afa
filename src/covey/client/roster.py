"""The workers that a client knows of, and who waits for some to come or to go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from covey.errors import UsageError
from covey.net.addresses import Address
from covey.units import counted
from covey.wire.client_link import WorkerSeen


class Roster:
    """What an engine knows of its cluster's workers; used in the I/O thread.

    Attributes:
        address: of the cluster.
        broken: why no more news come, if none do.
        workers: all that are there, by number.
    """

    address: Address
    broken: Exception | None

    def __init__(self) -> None:
        self.workers: dict[int, WorkerSeen] = {}
        self._worker_watchers: list[Callable[[], None]] = []

    async def ask(self, topic: str, **fields: Any) -> Any:
        """Ask the scheduler a question and return the answer."""
        raise NotImplementedError

    def look(self) -> None:
        """Somebody waits for news, and does not listen for them."""
        raise NotImplementedError

    async def wait_for_workers(self, count: int, timeout_seconds: float | None) -> None:
        """Wait until *count* slots' worth of workers are there.

        Raises:
            TimeoutError: they did not come in time.
        """
        try:
            await self._workers_until(
                lambda: len(self.workers) >= count, timeout_seconds
            )
        except TimeoutError:
            raise TimeoutError(
                f"{len(self.workers)} of {counted(count, 'worker')} joined within "
                f"{timeout_seconds:g} s; the cluster is {self.address.shown}"
            ) from None

    async def retire_workers(
        self, names: tuple[str, ...], timeout_seconds: float | None
    ) -> list[str]:
        """Let workers leave in good order; return their names when they are gone.

        Raises:
            UsageError: one of *names* is no worker's.
            TimeoutError: they have not gone in time; they go on leaving.
        """
        retired, unknown = await self.ask("retire", names=names)
        if unknown:
            there = ", ".join(seen.name for seen in self.workers.values()) or "none"
            raise UsageError(
                f"there is no worker {', '.join(unknown)}; there are: {there}. None was "
                f"asked to leave"
            )
        try:
            await self._workers_until(
                lambda: not set(retired) & {w.name for w in self.workers.values()},
                timeout_seconds,
            )
        except TimeoutError:
            raise TimeoutError(
                f"{', '.join(retired)}: not all have gone within {timeout_seconds:g} s; "
                f"they finish what they began, and their data is being moved"
            ) from None
        return list(retired)

    async def _workers_until(
        self, condition: Callable[[], bool], timeout_seconds: float | None
    ) -> None:
        async with asyncio.timeout(timeout_seconds):
            while not condition():
                if self.broken is not None:
                    raise self.broken
                changed = asyncio.Event()
                self._worker_watchers.append(changed.set)
                self.look()
                try:
                    await changed.wait()
                finally:
                    self._worker_watchers.remove(changed.set)

    def _tell_worker_watchers(self) -> None:
        for watcher in list(self._worker_watchers):
            watcher()
