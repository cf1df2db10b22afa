"""Turns: some may do something at a time, and the most urgent go first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from heapq import heappop, heappush
from itertools import count
from typing import TypeAlias

Urgency: TypeAlias = tuple[float, ...]
"""The lowest goes first."""


class Turns:
    """Who may bring something now: some at a time, one from each holder.

    Args:
        at_once: how many may at a time.
    """

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._busy: set[int] = set()
        self._waiting: list[tuple[Urgency, int, int, asyncio.Future[None]]] = []
        self._last = count()

    @asynccontextmanager
    async def turn(self, holder: int, urgency: Urgency) -> AsyncIterator[None]:
        """Wait for a turn, and have it."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (urgency, next(self._last), holder, turn))
        self._call()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._over(holder)
            raise
        try:
            yield
        finally:
            self._over(holder)

    def _over(self, holder: int) -> None:
        self._busy.discard(holder)
        self._free += 1
        self._call()

    def _call(self) -> None:
        """Let in whoever may go, the most urgent first."""
        passed = []
        while self._free and self._waiting:
            entry = heappop(self._waiting)
            _, _, holder, turn = entry
            if turn.done():
                continue  # Whoever waited was cancelled.
            if holder in self._busy:
                passed.append(entry)
                continue
            self._busy.add(holder)
            self._free -= 1
            turn.set_result(None)
        for entry in passed:
            heappush(self._waiting, entry)
