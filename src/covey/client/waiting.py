"""``wait`` and ``as_completed``."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Generic, Literal, NamedTuple, TypeVar, overload

from covey import clock
from covey.client.checks import check_patience
from covey.client.countdown import Countdown, Signal
from covey.client.fetching import Session
from covey.client.future import Future, Futures
from covey.client.nested import futures_in
from covey.errors import UsageError
from covey.runner import context

R = TypeVar("R")
T = TypeVar("T")

ALL_COMPLETED = "ALL_COMPLETED"
FIRST_COMPLETED = "FIRST_COMPLETED"
FIRST_EXCEPTION = "FIRST_EXCEPTION"

ReturnWhen = Literal["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"]


class DoneAndNotDone(NamedTuple):
    """What ``wait`` returns."""

    done: set[Future[Any]]
    not_done: set[Future[Any]]


def wait(
    fs: Any, timeout: float | None = None, return_when: ReturnWhen = "ALL_COMPLETED"
) -> DoneAndNotDone:
    """Wait for futures.

    Args:
        fs: futures, nested as they like.
        timeout: seconds; ``None`` waits as long as it takes.
        return_when: ``ALL_COMPLETED``, ``FIRST_COMPLETED`` or ``FIRST_EXCEPTION``.

    Returns:
        The sets of those that have ended and those that have not.

    Raises:
        TimeoutError: not enough of them ended in time.
    """
    check_patience(timeout)
    futures = fs if isinstance(fs, Futures) else list(futures_in(fs))
    if len(futures):
        session = _session_of(futures)
        if return_when == ALL_COMPLETED:
            session.wait(futures, timeout)
        elif return_when in {FIRST_COMPLETED, FIRST_EXCEPTION}:
            _wait_for_first(session, list(futures), timeout, return_when)
        else:
            raise UsageError(f"return_when= takes no {return_when!r}")
    done = {future for future in futures if future.done()}
    return DoneAndNotDone(done, {f for f in futures if f not in done})


def _wait_for_first(
    session: Session,
    futures: list[Future[Any]],
    timeout: float | None,
    return_when: str,
) -> None:
    def enough() -> bool:
        if all(future.done() for future in futures):
            return True
        if return_when == FIRST_COMPLETED:
            return any(future.done() for future in futures)
        return any(future.status in {"error", "cancelled"} for future in futures)

    one_more = Signal()
    countdowns = [
        session.countdown([f], one_more.fire) for f in futures if not f.done()
    ]
    deadline = None if timeout is None else clock.monotonic() + timeout
    try:
        with context.blocking():
            while not enough():
                left = None if deadline is None else deadline - clock.monotonic()
                if not one_more.wait(left):
                    raise TimeoutError(
                        f"none of {len(futures)} futures came to the end that was "
                        f"waited for within {timeout:g} s"
                    )
    finally:
        for countdown in countdowns:
            countdown.stop()


def _session_of(futures: Any) -> Session:
    if isinstance(futures, Futures):
        return futures._session
    session: Session = futures[0].session
    return session


class as_completed(Generic[T]):  # noqa: N801  (the name users have in their fingers)
    """Iterate over futures in the order in which they end.

    Args:
        fs: futures to begin with; ``add`` and ``update`` bring more on the way.
        with_results: yield ``(future, result)`` pairs.
        raise_errors: with results, raise what a task raised; else yield it.
        timeout: seconds that the whole iteration may take.

    Works with ``for`` and with ``async for``.
    """

    @overload
    def __init__(
        self: as_completed[Future[R]],
        fs: Iterable[Future[R]] = ...,
        *,
        with_results: Literal[False] = ...,
        raise_errors: bool = ...,
        timeout: float | None = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: as_completed[tuple[Future[R], R]],
        fs: Iterable[Future[R]] = ...,
        *,
        with_results: Literal[True],
        raise_errors: bool = ...,
        timeout: float | None = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: as_completed[Any],
        fs: Any = ...,
        *,
        with_results: bool = ...,
        raise_errors: bool = ...,
        timeout: float | None = ...,
    ) -> None: ...
    def __init__(
        self,
        fs: Any = (),
        *,
        with_results: bool = False,
        raise_errors: bool = True,
        timeout: float | None = None,
    ) -> None:
        check_patience(timeout)
        self._with_results = with_results
        self._raise_errors = raise_errors
        self._timeout = timeout
        self._deadline = None if timeout is None else clock.monotonic() + timeout
        self._ready: deque[Future[Any]] = deque()
        self._waiting: dict[int, tuple[Future[Any], Countdown | None]] = {}
        self._condition = threading.Condition()
        self._wakers: list[Any] = []
        self.update(fs)

    def add(self, future: Future[Any]) -> None:
        """Wait for one more future."""
        ident = id(future)
        with self._condition:
            self._waiting[ident] = (future, None)
        session = future.session
        countdown = session.countdown([future], lambda: self._ended(ident))
        with self._condition:
            if ident in self._waiting:
                self._waiting[ident] = (future, countdown)

    def update(self, fs: Iterable[Any]) -> None:
        """Wait for more futures."""
        if isinstance(fs, Futures) and fs.whole is not None:
            self._add_range(fs)
            return
        for future in futures_in(fs):
            self.add(future)

    def _add_range(self, futures: Futures[Any]) -> None:
        """One watch for all futures of a map."""
        wish = futures.whole
        assert wish is not None
        futures._session.engine.check_process()
        status = wish.status
        lock = threading.Lock()
        seen = bytearray(wish.n)
        with self._condition:
            for future in futures:
                self._waiting[id(future)] = (future, None)

        def watcher(_: Any, lo: int, n: int) -> None:
            with lock:
                fresh = [i for i in range(lo, lo + n) if status[i] and not seen[i]]
                for index in fresh:
                    seen[index] = 1
            self._ended(*(id(futures[index]) for index in fresh))

        wish.watchers.append(watcher)
        watcher(wish, 0, wish.n)

    def _ended(self, *idents: int) -> None:
        with self._condition:
            for ident in idents:
                entry = self._waiting.pop(ident, None)
                if entry is not None:
                    self._ready.append(entry[0])
            self._condition.notify_all()
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    # Looking.

    def count(self) -> int:
        """How many futures have not been yielded yet."""
        with self._condition:
            return len(self._ready) + len(self._waiting)

    def is_empty(self) -> bool:
        """Whether nothing is left to yield."""
        return not self.count()

    def has_ready(self) -> bool:
        """Whether a future can be had without waiting."""
        return bool(self._ready)

    def clear(self) -> None:
        """Forget all futures that were not yielded."""
        with self._condition:
            waiting = list(self._waiting.values())
            self._ready.clear()
            self._waiting.clear()
            wakers = self._nothing_is_left()
        for _, countdown in waiting:
            if countdown is not None:
                countdown.stop()
        for wake in wakers:
            wake()

    def _nothing_is_left(self) -> list[Any]:
        """Let others go that wait; return what wakes the event loops of some."""
        self._condition.notify_all()
        wakers, self._wakers = self._wakers, []
        return wakers

    # Iterating.

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        future = self._take()
        if future is None:
            raise StopIteration
        item: T = self._shape(future)
        return item

    def _take(self, block: bool = True) -> Future[Any] | None:
        """Return the next one; nothing if none is left, or none is ready yet."""
        if block and not self._ready and self._waiting:
            # The slot is taken back when others can go on: not under the lock.
            with context.blocking(), self._condition:
                while not self._ready and self._waiting:
                    left = self._left()
                    pause = clock.LOOK_UP_SECONDS
                    if left is not None:
                        pause = min(pause, left)
                    if not self._condition.wait(pause) and pause == left:
                        raise TimeoutError(self._late())
                future, wakers = self._pop()
        else:
            with self._condition:
                future, wakers = self._pop()
        for wake in wakers:
            wake()
        return future

    def _pop(self) -> tuple[Future[Any] | None, list[Any]]:
        """Take out what is ready; if it is the last of all, others need not wait."""
        future = self._ready.popleft() if self._ready else None
        return future, [] if self._ready or self._waiting else self._nothing_is_left()

    def _shape(self, future: Future[Any]) -> Any:
        if not self._with_results:
            return future
        errors: Any = "raise" if self._raise_errors else "return"
        return future, future.session.values([future], errors)[0]

    def next_batch(self, block: bool = True) -> list[T]:
        """Return all that can be had now; with *block*, wait for the first one."""
        batch: list[T] = []
        future = self._take(block)
        while future is not None:
            batch.append(self._shape(future))
            future = self._take(block=False)
        return batch

    def batches(self) -> Iterator[list[T]]:
        """Iterate over batches of what has ended together."""
        while batch := self.next_batch():
            yield batch

    def _left(self) -> float | None:
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - clock.monotonic())

    def _late(self) -> str:
        return f"{len(self._waiting)} futures have not ended within {self._timeout:g} s"

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def _take_async(self) -> Future[Any] | None:
        loop = asyncio.get_running_loop()
        while True:
            with self._condition:
                over = not self._waiting
                future, wakers = self._pop()
                changed = loop.create_future()
                if future is None and not over:
                    self._wakers.append(_waker(loop, changed))
            for wake in wakers:
                wake()
            if future is not None or over:
                return future
            try:
                with context.blocking():
                    async with asyncio.timeout(self._left()):
                        await changed
            except TimeoutError:
                raise TimeoutError(self._late()) from None

    async def __anext__(self) -> T:
        future = await self._take_async()
        if future is None:
            raise StopAsyncIteration
        item: Any = future
        if self._with_results:
            errors: Any = "raise" if self._raise_errors else "return"
            values = await future.session.values_async([future], errors)
            item = future, values[0]
        ended: T = item
        return ended


def _waker(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> Any:
    def set_it() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(set_it)
        except RuntimeError:
            return  # The loop was closed: nobody waits any more.

    return wake
