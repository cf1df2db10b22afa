"""Waiting until tasks have ended: what watches ranges, and what wakes a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from covey import clock
from covey.client.core.ranges import Range, Status
from covey.client.future import Future, Futures
from covey.ids import TaskId

#: How a task stands of which no end may be told any more.
_NO_END: Final = (Status.PENDING, Status.CANCELLED)


class Countdown:
    """Waits until some tasks have ended; fires once."""

    def __init__(self, on_done: Callable[[], None]) -> None:
        self._on_done = on_done
        self._lock = threading.Lock()
        self._left = 1
        #: What goes through tasks of other ranges.
        self._walks: list[_Walk] = []
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
        # The same future may have been given several times.
        if len(indices) >= wish.n and len(set(indices)) == wish.n:
            indices = range(wish.n)
        walk = _Walk(wish, indices, self._one_less)
        if walk.is_over():
            return
        with self._lock:
            self._left += 1
        self._walks.append(walk)
        walk.go_on()

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
        for wish in single:
            wish.unwatch(0, see)
        while self._walks:
            self._walks.pop().stop()


class _Walk:
    """Goes through tasks of one range, to each when the one before has ended.

    So it watches one task at a time, however many it waits for, and however many others
    wait for tasks of that range.

    Args:
        wish: the range.
        indices: of its tasks, of which some may be named twice; if they are a
            ``range``, all have to have ended at once: one may be pending again.
        over: called when all have ended.
    """

    __slots__ = ("_at", "_indices", "_lock", "_over", "_watched", "_wish")

    def __init__(
        self, wish: Range, indices: Sequence[int] | range, over: Callable[[], None]
    ) -> None:
        self._wish = wish
        self._indices = indices
        self._at = 0
        self._over: Callable[[], None] | None = over
        self._watched = -1
        self._lock = threading.Lock()

    def __call__(self, changed: Range, lo: int, n: int) -> None:
        """The task that is watched has ended; it may be said again."""
        del changed, lo, n
        self.go_on()

    def is_over(self) -> bool:
        """Whether all have ended."""
        return self._next() < 0

    def _next(self) -> int:
        """Return the next task that has not ended; -1 if there is none."""
        status, indices = self._wish.status, self._indices
        if isinstance(indices, range):
            lo, hi = indices.start, indices.stop
            index = status.find(Status.PENDING, lo + self._at, hi)
            if index < 0 and self._at and self._wish.pending:
                index = status.find(Status.PENDING, lo, hi)
            self._at = max(index - lo, 0)
            return index
        while self._at < len(indices):
            index = indices[self._at]
            if not status[index]:
                return index
            self._at += 1
        return -1

    def go_on(self) -> None:
        """Watch the next task that has not ended, or say that none is left."""
        while True:
            with self._lock:
                # Of two threads that see the last one end, one may say so.
                over = self._over
                if over is None:
                    return
                index = self._watched = self._next()
                if index < 0:
                    self._over = None
            if index < 0:
                over()
                return
            self._wish.watch(index, self)
            # It may have ended between the look and the watch.
            if not self._wish.status[index]:
                return

    def stop(self) -> None:
        """Watch no longer."""
        self._over = None
        if self._watched >= 0:
            self._wish.unwatch(self._watched, self)


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
        if wish.n == 1:
            wish.watchers.append(self)
        else:
            wish.watch(index, self)
        # It may have ended between the look and the watch.
        if wish.status[index]:
            self.fire()

    @property
    def alone(self) -> TaskId | None:
        """The task, if it was submitted by itself."""
        wish = self._wish
        return wish.base if wish.n == 1 else None

    def __call__(self, changed: Range, lo: int, n: int) -> None:
        """Some tasks of a range have ended; it may be said of the same ones again."""
        if lo <= self._index < lo + n and changed.status[self._index]:
            self.fire()

    def stop(self) -> None:
        """Watch no longer."""
        # Of a range of one that has ended nobody is told any more.
        if self._wish.watchers or self._wish.n > 1:
            self._wish.unwatch(self._index, self)


def all_done(futures: Sequence[Future[Any]]) -> bool:
    """Whether all of *futures* have ended."""
    if type(futures) is Futures:
        return futures.all_ended
    for future in futures:  # noqa: SIM110  # most often of one, for which all() is slow
        if not future._range.status[future._index]:
            return False
    return True
