"""A call from a user's thread into the I/O thread, and what came of it.

``run_coroutine_threadsafe`` makes a future for each side and ties the two together, with a
condition and callbacks in both directions.  Here one lock is released when all is known::

    user's thread   begin ──► waits ─────────────────────────► result
                      │                                  ▲
    I/O thread        └──► a task of the loop runs it ───┘ fire
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from covey.client.countdown import Signal

T = TypeVar("T")


class Call(Generic[T]):
    """Work for the I/O thread, for which one other thread waits.

    Args:
        work: what to run there, once.
        loop: the loop of that thread.

    Attributes:
        ended: fired when it has ended.
    """

    __slots__ = ("_loop", "_task", "_work", "ended")

    def __init__(
        self, work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.ended = Signal()
        self._work = work
        self._loop = loop
        self._task: asyncio.Task[T] | None = None

    def begin(self) -> None:
        """Have it run.

        Raises:
            RuntimeError: the loop was closed.
        """
        self._loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        # Kept, for the loop keeps no task that waits.
        self._task = self._loop.create_task(self._work)
        # Not a ``finally`` around the work: what is stopped at once never comes to that.
        self._task.add_done_callback(self._fire)

    def _fire(self, _: object) -> None:
        self.ended.fire()

    def result(self) -> T:
        """Return what it came to, or raise what it has raised.

        Raises:
            TimeoutError: it has not ended.
            CancelledError: it was stopped: that of ``concurrent.futures``, for whoever
                waits in another thread is not to stop for it.
        """
        task = self._task
        if task is None or not task.done():
            raise TimeoutError
        self._task = None
        try:
            return task.result()
        except asyncio.CancelledError:
            raise concurrent.futures.CancelledError from None
        finally:
            # Else an error, and the frame that it has gone through, keep each other.
            del task

    def cancel(self) -> None:
        """Nobody waits any more: stop it, if it has not ended."""
        try:
            self._loop.call_soon_threadsafe(self._stop)
        except RuntimeError:
            pass  # The loop was closed, and all that ran in it has ended.

    def _stop(self) -> None:
        # Begun before, and in this order.
        if self._task is not None:
            self._task.cancel()
