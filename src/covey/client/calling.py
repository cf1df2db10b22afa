"""A call from a user's thread into the I/O thread, and what came of it.

``run_coroutine_threadsafe`` makes a future for each side and ties the two together, with a
condition and callbacks in both directions.  Here one lock is released when all is known::

    user's thread   begin ──► waits ─────────────────────────► result
                      │                                  ▲
    I/O thread        └──► a task of the loop runs it ───┘ fire

A loop that ends goes on with no task, and tells nobody: so all calls are known, and what is
open behind its end is fired then.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

from covey.client.countdown import Signal
from covey.errors import Closed

T = TypeVar("T")

#: How long what is stopped with its loop may take to its end.
STOPPING_SECONDS: Final = 1.0


class Call(Generic[T]):
    """Work for the I/O thread, and somebody who waits for it in another one.

    Args:
        work: what to run there, once.
        loop: the loop of that thread.

    Attributes:
        ended: fired when it has ended.
    """

    __slots__ = ("_loop", "_over", "_task", "_work", "ended")

    def __init__(
        self, work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.ended = Signal()
        self._work = work
        self._loop = loop
        self._task: asyncio.Task[T] | None = None
        #: Whether the loop has ended, or is about to.
        self._over = False

    def begin(self) -> None:
        """Have it run.

        Raises:
            Closed: the loop was closed.
        """
        try:
            self._loop.call_soon_threadsafe(self._start)
        except RuntimeError:
            self._work.close()
            raise _closed() from None

    def _start(self) -> None:
        if self._over:
            return
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
            Closed: nor will it, for its loop has.
            CancelledError: it was stopped: that of ``concurrent.futures``, for whoever
                waits in another thread is not to stop for it.
        """
        task = self._task
        if self._over and (task is None or not task.done() or task.cancelled()):
            self._task = None
            raise _closed()
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

    # What the loop's thread does at its end.

    def stop(self) -> asyncio.Task[T] | None:
        """The loop is about to end: stop it; return what is stopped, if it has begun."""
        self._over = True
        self._stop()
        return self._task

    def abandon(self) -> None:
        """The loop was closed: let nobody wait for it any more."""
        self._over = True
        if self._task is None:
            self._work.close()
        self.ended.fire()


class Calls:
    """The calls of all threads into one I/O thread, which waits for none at its end.

    Args:
        loop: the loop of that thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open: set[Call[Any]] = set()

    def wait_for(self, work: Coroutine[Any, Any, T], timeout: float | None) -> T:
        """Run *work* in the I/O thread and return its result.

        Args:
            work: what to run there.
            timeout: seconds; ``None`` waits as long as it takes.

        Raises:
            TimeoutError: it has not ended in time, and was stopped.
            Closed: the loop ended before.
        """
        call = Call(work, self._loop)
        # Before it begins, so that who closes the loop knows of all that have begun.
        self._open.add(call)
        try:
            call.begin()
            call.ended.wait(timeout)
            return call.result()
        except BaseException:
            call.cancel()
            raise
        finally:
            self._open.discard(call)

    def start(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run *work* in the I/O thread, and do not wait.

        Returns:
            The future of its result; who cancels that stops it.

        Raises:
            Closed: the loop was closed.
        """
        call = Call(work, self._loop)
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def settle() -> None:
            call.ended.bell = None
            self._open.discard(call)
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(call.result())
            except BaseException as error:
                # Without this frame, which knows the future that is to keep the error.
                here = error.__traceback__
                error.__traceback__ = here and here.tb_next
                future.set_exception(error)

        def stop(settled: concurrent.futures.Future[T]) -> None:
            if settled.cancelled():
                call.cancel()

        call.ended.bell = settle
        future.add_done_callback(stop)
        self._open.add(call)
        try:
            call.begin()
        except Closed:
            self._open.discard(call)
            raise
        return future

    def end(self, close: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        """End the loop, which has stopped, and with it all that is open.

        Args:
            close: closes it.
        """
        try:
            begun = [task for call in list(self._open) if (task := call.stop())]
            if begun:
                self._loop.run_until_complete(
                    asyncio.wait(begun, timeout=STOPPING_SECONDS)
                )
        finally:
            try:
                close(self._loop)
            finally:
                # From now on none begins.
                for call in list(self._open):
                    call.abandon()


def _closed() -> Closed:
    return Closed("this client was closed before the answer came")
