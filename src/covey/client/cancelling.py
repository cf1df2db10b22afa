"""Cancelling: the scheduler says what came of it.

A task may end at the very moment at which its future is cancelled, and what takes its
result has it already.  So nothing is cancelled here before the scheduler has said so:
what it says of the future is what it says to all that take it::

    client      cancel ──►          ◄── finished: what takes it has its value
    scheduler     (it has ended)
    client      cancel ──►          ◄── cancelled: what takes it fails with it
    scheduler     (it has not)

A question that follows on the heels of a ``Cancel`` is answered behind all that comes of
it.  Whoever waits for the answer finds each of the futures ended.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from covey.errors import CoveyError
from covey.wire.base import Message
from covey.wire.client_link import Cancel


class Cancels:
    """What was cancelled, and is not known to have come to anything yet.

    Used in the client's loop only.

    Args:
        ask: asks the scheduler a question, and waits for the answer.
    """

    def __init__(self, ask: Callable[[str], Awaitable[Any]]) -> None:
        self._ask = ask
        self._open: dict[int, Cancel] = {}

    async def settle(self, message: Cancel) -> None:
        """Wait until the scheduler has said what comes of *message*, which was sent.

        Or until it is known that it never will: then the client is at its end, and all
        futures that were pending have ended with it.
        """
        self._open[id(message)] = message
        try:
            with contextlib.suppress(CoveyError):
                await self._ask("who_has")
        finally:
            del self._open[id(message)]

    def open(self) -> list[Message]:
        """Return what another life of the scheduler must be told again."""
        return list(self._open.values())
