"""Waiting until tasks have ended: what watches ranges, and what wakes a thread."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from covey import clock
from covey.client.core.ranges import Range, Status, Watcher
from covey.client.future import Future, Futures

#: How a task stands of which no end may be told any more.
_NO_END: Final = (Status.PENDING, Status.CANCELLED)


class Countdown:
    """Waits until some tasks have ended; fires once."""

    def __init__(self, on_done: Callable[[], None]) -> None:
        self._on_done = on_done
        self._lock = threading.Lock()
        self._left = 1
        self._watched: list[tuple[Range, Watcher]] = []
        #: The ranges of one that have not ended.
        self._single: set[Range] = set()

    def add_single(self, wishes: Iterable[Range]) -> None:
        """Wait for these ranges of one, too, all of which differ.

        There may be very many, so nothing is made for each: what is made together, the
        garbage collector looks through, with all else that the user's program has.
        """
        waiting = [wish for wish in wishes if not wish.status[0]]
        with self._lock:
            self._single.update(waiting)
            self._left += len(waiting)
        see = self._see_single
        for wish in waiting:
            wish.watchers.append(see)
            # It may have ended between the look and the watch.
            if wish.status[0]:
                see(wish, 0, 1)

    def _see_single(self, changed: Range, lo: int, n: int) -> None:
        del lo, n
        with self._lock:
            # Of two threads that see it end, one may say so.
            if changed not in self._single:
                return
            self._single.remove(changed)
        self._one_less()

    def add_futures(self, futures: Iterable[Future[Any]]) -> None:
        """Wait for these futures, too, as far as they have not ended.

        Raises:
            Closed: one that has not ended was released, and is told no more.
        """
        single: dict[Range, None] = {}
        indices: dict[Range, list[int]] = {}
        for future in futures:
            wish = future._range
            status = wish.status[future._index]
            if status in _NO_END and future.given_up:
                raise future._closed()
            if not status:
                if wish.n == 1:
                    single[wish] = None
                else:
                    indices.setdefault(wish, []).append(future._index)
        self.add_single(single)
        for wish, chosen in indices.items():
            self.add(wish, chosen)

    def add(self, wish: Range, indices: Sequence[int] | range) -> None:
        """Wait for these tasks of a range, too."""
        status = wish.status
        # The same future may have been given several times.
        if len(indices) >= wish.n and len(set(indices)) == wish.n:
            waiting: Any = None
            if not wish.pending:
                return
        else:
            waiting = {i for i in indices if not status[i]}
            if not waiting:
                return
        with self._lock:
            self._left += 1
        done = False

        def watcher(changed: Range, lo: int, n: int) -> None:
            nonlocal done
            # Of two threads that see the last one end, one may say so.
            with self._lock:
                if done:
                    return
                if waiting is None:
                    done = not changed.pending
                else:
                    waiting.difference_update(range(lo, lo + n))
                    done = not waiting
                if not done:
                    return
            self._one_less()

        wish.watchers.append(watcher)
        self._watched.append((wish, watcher))
        # It may have ended between the look and the watch.
        if waiting is None:
            if not wish.pending:
                watcher(wish, 0, 0)
        else:
            for index in list(waiting):
                if status[index]:
                    watcher(wish, index, 1)

    def armed(self) -> None:
        """All have been added."""
        self._one_less()

    def _one_less(self) -> None:
        with self._lock:
            self._left -= 1
            fire = self._left == 0
        if fire:
            self._on_done()

    def stop(self) -> None:
        """Watch no longer."""
        with self._lock:
            single, self._single = self._single, set()
        see = self._see_single
        watched: list[tuple[Range, Watcher]] = [(wish, see) for wish in single]
        watched += self._watched
        self._watched = []
        for wish, watcher in watched:
            try:
                wish.watchers.remove(watcher)
            except ValueError:
                continue


class Signal:
    """Something that one thread waits for and another makes happen.

    Who has waited for it can wait for the next time.

    A bare lock: an ``Event`` costs several times as much, and every ``result()``
    makes one of these.
    """

    __slots__ = ("_lock", "bell")

    def __init__(self) -> None:
        #: Called when it has happened, for a thread that waits elsewhere.
        self.bell: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._lock.acquire()

    @property
    def fired(self) -> bool:
        """Whether it has happened, and nobody has waited for it."""
        return not self._lock.locked()

    def fire(self) -> None:
        """Let the waiting thread go on."""
        try:
            self._lock.release()
        except RuntimeError:
            pass  # Two threads have seen that it happened.
        bell = self.bell
        if bell is not None:
            bell()

    def wait(self, timeout: float | None) -> bool:
        """Wait; false if it has not happened within *timeout* seconds."""
        left = threading.TIMEOUT_MAX if timeout is None else max(0.0, timeout)
        until = clock.monotonic() + left
        while not self._lock.acquire(timeout=min(left, clock.LOOK_UP_SECONDS)):
            left = until - clock.monotonic()
            if left <= 0.0:
                return False
        return True


class End(Signal):
    """The end of one task: what a ``Countdown`` does, for the many who wait for one.

    It watches the range of that task by itself.
    """

    __slots__ = ("_index", "_wish")

    def __init__(self, wish: Range, index: int) -> None:
        super().__init__()
        self._wish = wish
        self._index = index
        wish.watchers.append(self)
        # It may have ended between the look and the watch.
        if wish.status[index]:
            self.fire()

    def __call__(self, changed: Range, lo: int, n: int) -> None:
        """Some tasks of a range have ended; it may be said of the same ones again."""
        if lo <= self._index < lo + n and changed.status[self._index]:
            self.fire()

    def stop(self) -> None:
        """Watch no longer."""
        watchers = self._wish.watchers
        if watchers:  # Else all of the range has ended, and is watched no more.
            with contextlib.suppress(ValueError):
                watchers.remove(self)


def all_done(futures: Sequence[Future[Any]]) -> bool:
    """Whether all of *futures* have ended."""
    if type(futures) is Futures:
        return futures.all_ended
    for future in futures:  # noqa: SIM110  # most often of one, for which all() is slow
        if not future._range.status[future._index]:
            return False
    return True
