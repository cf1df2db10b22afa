"""``wait`` and ``as_completed``."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Generic, Literal, NamedTuple, TypeVar, overload

from covey import clock
from covey.client.checks import check_patience
from covey.client.core.ranges import Range, Status
from covey.client.fetching import Session
from covey.client.future import Future, Futures, Originals, check_told
from covey.client.nested import only_futures
from covey.errors import UsageError
from covey.ids import TaskId
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
        fs: futures, nested as they like; in a dict they are keys or values.
        timeout: seconds; ``None`` waits as long as it takes.
        return_when: ``ALL_COMPLETED``, ``FIRST_COMPLETED`` or ``FIRST_EXCEPTION``.

    Returns:
        The sets of those that have ended and those that have not.  Of futures that
        are equal, which are copies, one is in there.

    Raises:
        TimeoutError: not enough of them ended in time.
        Closed: one was released before it ended, by whomever.
        UsageError: there is something else among them.
    """
    check_patience(timeout)
    futures = fs if isinstance(fs, Futures) else only_futures(fs)
    if len(futures):
        session = _session_of(futures)
        if return_when == ALL_COMPLETED:
            session.wait(futures, timeout)
        elif return_when in {FIRST_COMPLETED, FIRST_EXCEPTION}:
            _wait_for_first(list(futures), timeout, return_when)
        else:
            raise UsageError(f"return_when= takes no {return_when!r}")
    done = {future for future in futures if future.done()}
    check_told(done)
    return DoneAndNotDone(done, {f for f in futures if f not in done})


def _wait_for_first(
    futures: list[Future[Any]], timeout: float | None, return_when: str
) -> None:
    def is_enough(future: Future[Any]) -> bool:
        if return_when == FIRST_COMPLETED:
            return future.done()
        return future.status in {"error", "cancelled"}

    if any(map(is_enough, futures)):
        return
    pending = [future for future in futures if not future.done()]
    coming = as_completed(pending, timeout=timeout)
    try:
        for future in coming:
            if is_enough(future):
                return
    except TimeoutError:
        raise TimeoutError(
            f"none of {len(futures)} futures came to the end that was waited for "
            f"within {timeout:g} s"
        ) from None
    finally:
        # The error would keep it.
        coming.clear()


def _session_of(futures: Any) -> Session:
    if isinstance(futures, Futures):
        return futures._session
    session: Session = futures[0].session
    return session


class _Map:
    """What is waited for of the futures of a map: a byte for each, until it is had.

    Args:
        futures: those of the map, whatever becomes of its list.
    """

    __slots__ = ("futures", "left", "waiting")

    def __init__(self, futures: Originals[Any]) -> None:
        self.futures = futures
        #: How many are waited for, and which.
        self.left = futures.range.n
        self.waiting = bytearray(b"\1" * self.left)

    def take_ended(self, lo: int, hi: int) -> list[_Stretch]:
        """Take out those between *lo* and *hi* that have ended."""
        waiting, status = self.waiting, self.futures.range.status
        if status.count(Status.PENDING, lo, hi) == hi - lo:
            return []
        found = []
        at = waiting.find(1, lo, hi)
        while at >= 0:
            end = at
            while end < hi and waiting[end] and status[end]:
                end += 1
            if end > at:
                found.append(_Stretch(self.futures, at, end))
                waiting[at:end] = bytes(end - at)
                self.left -= end - at
            at = waiting.find(1, max(end, at + 1), hi)
        return found


class _Stretch:
    """Futures of a map that can be yielded: made one after the other."""

    __slots__ = ("_futures", "hi", "lo")

    def __init__(self, futures: Originals[Any], lo: int, hi: int) -> None:
        self._futures = futures
        self.lo = lo
        self.hi = hi

    def first(self) -> Future[Any]:
        """Return the next one of these."""
        return self._futures.at(self.lo)


class _Watch:
    """Tells an ``as_completed`` of ends, and does not keep it alive.

    Who breaks out of the loop lets go of what it was about; the ranges that are watched
    would keep it to their end.

    Attributes:
        holds: the same ``as_completed``, while somebody waits for it in an event loop:
            nobody else may know of such a task, which is to be woken from here.
    """

    __slots__ = ("_owner", "holds")

    def __init__(self, owner: as_completed[Any]) -> None:
        self._owner = weakref.ref(owner)
        self.holds: as_completed[Any] | None = None

    def __call__(self, changed: Range, lo: int, n: int) -> None:
        owner = self._owner()
        if owner is not None:
            owner._ended(self, changed, lo, n)
        else:
            with contextlib.suppress(ValueError):
                changed.watchers.remove(self)

    def forget(
        self, waiting: dict[TaskId, list[Future[Any]]], maps: Iterable[Range]
    ) -> None:
        """Watch these no more; else who polls would leave one more at each time."""
        for futures in waiting.values():
            for future in futures:
                future._range.unwatch(future._index, self)
        for wish in list(maps):
            with contextlib.suppress(ValueError):
                wish.watchers.remove(self)


class as_completed(Generic[T]):  # noqa: N801  (the name users have in their fingers)
    """Iterate over futures in the order in which they end.

    Args:
        fs: futures to begin with, nested as they like (of ``{future: ...}`` the keys);
            ``add`` and ``update`` bring more on the way.
        with_results: yield ``(future, result)`` pairs.
        raise_errors: with results, raise what a task raised; else yield it.
        timeout: seconds that the whole iteration may take.

    Raises:
        UsageError: there is something else among the futures.

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
        self._ready: deque[Future[Any] | _Stretch] = deque()
        #: What has not ended: futures by the id of their task, and whole maps.
        self._waiting: dict[TaskId, list[Future[Any]]] = {}
        self._maps: dict[Range, _Map] = {}
        self._watch = _Watch(self)
        self._condition = threading.Condition()
        self._wakers: list[Any] = []
        #: Whose futures there are.
        self._sessions: set[Session] = set()
        self.update(fs)

    def add(self, future: Future[Any]) -> None:
        """Wait for one more future.

        Raises:
            Closed: it was released.
            UsageError: the process is a fork, where no news come.
        """
        session = future.session
        session.engine.check_process()
        self._sessions.add(session)
        wish, index = future._range, future._index
        watch = self._watch
        with self._condition:
            known = self._maps.get(wish)
            if known is not None and known.waiting[index] and known.futures.has(future):
                return
            if any(other is future for other in self._waiting.get(future.id, ())):
                return
            if not wish.status[index]:
                wish.watch(index, watch)
            self._waiting.setdefault(future.id, []).append(future)
        # It may have ended between the look and the watch.
        if wish.status[index]:
            self._ended(watch, wish, index, 1)

    def update(self, fs: Iterable[Any]) -> None:
        """Wait for more futures.

        Raises:
            UsageError: there is something else among them; none of them was added.
        """
        originals = fs.originals() if isinstance(fs, Futures) else None
        if originals is not None:
            self._add_map(originals)
            return
        for future in only_futures(fs):
            self.add(future)

    def _add_map(self, futures: Originals[Any]) -> None:
        """One watch for all futures of a map, none of which is made for it."""
        wish, watch = futures.range, self._watch
        if not wish.n:
            return
        futures.session.engine.check_process()
        self._sessions.add(futures.session)
        if watch not in wish.watchers:
            wish.watchers.append(watch)
        with self._condition:
            # Some of them may have been given one by one before.
            for task in common(self._waiting, range(wish.base, wish.base + wish.n)):
                self._waiting[task] = [
                    other for other in self._waiting[task] if not futures.has(other)
                ]
                if not self._waiting[task]:
                    del self._waiting[task]
            self._maps[wish] = _Map(futures)
        self._ended(watch, wish, 0, wish.n)

    def _ended(self, watch: _Watch, changed: Range, lo: int, n: int) -> None:
        """Tasks of a range have ended, or may have: those that did can be yielded."""
        with self._condition:
            if watch is not self._watch:
                return  # All that was watched then has been forgotten.
            self._move_map(changed, lo, lo + n)
            self._move_single(changed, lo, lo + n)
            wakers = self._awake()
        for wake in wakers:
            wake()

    def _move_map(self, changed: Range, lo: int, hi: int) -> None:
        known = self._maps.get(changed)
        if known is not None:
            self._ready += known.take_ended(lo, hi)
            if not known.left:
                del self._maps[changed]

    def _move_single(self, changed: Range, lo: int, hi: int) -> None:
        base, status = changed.base, changed.status
        for task in common(self._waiting, range(base + lo, base + hi)):
            if status[task - base]:
                others: list[Future[Any]] = []
                for future in self._waiting[task]:
                    # Another client may have a range of the same task.
                    mine = future._range is changed
                    (self._ready if mine else others).append(future)
                if others:
                    self._waiting[task] = others
                else:
                    del self._waiting[task]

    def _awake(self) -> list[Any]:
        """Let others look again; return what wakes the event loops of some."""
        self._condition.notify_all()
        wakers, self._wakers = self._wakers, []
        self._watch.holds = None
        return wakers

    # Looking.

    def count(self) -> int:
        """How many futures have not been yielded yet."""
        self._look()
        with self._condition:
            stretches = [item for item in self._ready if isinstance(item, _Stretch)]
            single = len(self._ready) - len(stretches)
            return single + sum(s.hi - s.lo for s in stretches) + self._late()

    def is_empty(self) -> bool:
        """Whether nothing is left to yield."""
        self._look()
        return not (self._ready or self._is_waiting)

    def has_ready(self) -> bool:
        """Whether a future can be had without waiting."""
        self._look()
        return bool(self._ready)

    @property
    def _is_waiting(self) -> bool:
        return bool(self._waiting or self._maps)

    def _late(self) -> int:
        """How many futures have not ended."""
        late = sum(map(len, self._waiting.values()))
        return late + sum(known.left for known in self._maps.values())

    def clear(self) -> None:
        """Forget all futures that were not yielded."""
        with self._condition:
            wakers = self._awake()
            old, self._watch = self._watch, _Watch(self)
            ready, self._ready = self._ready, deque()
            waiting, self._waiting = self._waiting, {}
            maps, self._maps = self._maps, {}
        for wake in wakers:
            wake()
        # Not under the lock: what is dropped may be all there was of it.
        ready.clear()
        old.forget(waiting, maps)

    def __del__(self) -> None:
        # No locks.  That it is watched no more is all that there is to do: Ctrl-C may
        # come anywhere, and brings itself again (see ``interrupts``).
        with contextlib.suppress(AttributeError):  # Making it had failed.
            waiting, self._waiting = self._waiting, {}
            self._watch.forget(waiting, self._maps)

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
        self._look()
        if block and not self._ready and self._is_waiting:
            self._check_free()
            # The slot is taken back when others can go on: not under the lock.
            with context.blocking(), self._condition:
                while not self._ready and self._is_waiting:
                    left = self._left()
                    pause = clock.LOOK_UP_SECONDS
                    if left is not None:
                        pause = min(pause, left)
                    if not self._condition.wait(pause) and pause == left:
                        raise TimeoutError(self._too_late())
                future, wakers = self._pop()
        else:
            with self._condition:
                future, wakers = self._pop()
        for wake in wakers:
            wake()
        return future

    def _check_free(self) -> None:
        """Raise if this thread must not wait; see ``Engine.check_free``."""
        for session in list(self._sessions):
            session.engine.check_free()

    def _look(self) -> None:
        """Have news read, if they are waited for here."""
        if self._ready or not self._is_waiting:
            return
        for session in list(self._sessions):
            session.engine.look()

    def _pop(self) -> tuple[Future[Any] | None, list[Any]]:
        """Take out what is ready; if it is the last of all, others need not wait."""
        future: Future[Any] | None = None
        if self._ready:
            first = self._ready[0]
            # Ctrl-C may come at a call only: before this one it is yielded next time.
            future = first.first() if isinstance(first, _Stretch) else first
            if isinstance(first, _Stretch) and first.hi - first.lo > 1:
                first.lo += 1
            else:
                del self._ready[0]
        return future, [] if self._ready or self._is_waiting else self._awake()

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

    def _too_late(self) -> str:
        return f"{self._late()} futures have not ended within {self._timeout:g} s"

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def _take_async(self) -> Future[Any] | None:
        loop = asyncio.get_running_loop()
        while True:
            with self._condition:
                over = not self._is_waiting
                future, wakers = self._pop()
                changed = loop.create_future()
                waker = _waker(loop, changed)
                if future is None and not over:
                    self._wakers.append(waker)
                    self._watch.holds = self
            for wake in wakers:
                wake()
            if future is not None or over:
                return future
            self._look()
            try:
                with context.blocking():
                    async with asyncio.timeout(self._left()):
                        await changed
            except TimeoutError:
                raise TimeoutError(self._too_late()) from None
            finally:
                self._wait_no_more(waker)

    def _wait_no_more(self, waker: Any) -> None:
        """Who was to be woken is awake, or was cancelled."""
        with self._condition:
            with contextlib.suppress(ValueError):
                self._wakers.remove(waker)
            if not self._wakers:
                self._watch.holds = None

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


def common(waiting: dict[TaskId, Any], tasks: range) -> list[TaskId]:
    """Return what of *tasks* is waited for, in order, at the cost of the smaller side."""
    if len(tasks) <= len(waiting):
        return [task for task in tasks if task in waiting]
    return sorted(task for task in waiting if task in tasks)


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
