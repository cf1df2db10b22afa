"""Ranges: the tasks of one call, and how each of them stands.

A range is one ``map`` (or one ``submit``: a range of one).  It costs one byte
per task until results come; results come as packs for stretches of tasks and
stay packed until somebody asks for a value.

The I/O thread writes, user threads read.  A value is in place before the status
byte says so, which is all the ordering that readers need under the GIL.
"""

from __future__ import annotations

import contextlib
import enum
from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeAlias

from covey.client.core.ends import Ends
from covey.ids import TaskId
from covey.payload import Buffer, Pack
from covey.wire.base import Failure

Watcher: TypeAlias = "Callable[[Range, int, int], None]"
"""Called with a range and a stretch of it (lo, n) that has come to an end."""


class Status(enum.IntEnum):
    """How one task stands, as far as this client knows."""

    PENDING = 0
    FINISHED = 1
    STORED = 2
    ERROR = 3
    CANCELLED = 4


_FINISHED: Final = int(Status.FINISHED)

#: Its value has not come, and may still.
_NOT_HERE: Final = frozenset({int(Status.PENDING), int(Status.STORED)})


#: What is known of a task that nobody here holds any more, if it had not ended before.
RELEASED: Final = Failure(
    "cancelled", "TaskCancelled", "released by this client before it ended"
)

#: So many ranges are looked at without much ado.
FEW: Final = 16

#: What is never watched task by task.
_NONE: Final[dict[int, Any]] = {}


class End(Protocol):
    """A watcher of a range of one that only wants to know that it has ended."""

    def fire(self) -> None:
        """It has; it may be said again."""


class Range:
    """The tasks ``base`` to ``base + n - 1``."""

    __slots__ = (
        "_ends",
        "_first",
        "_others",
        "_payload",
        "base",
        "held",
        "holds",
        "label",
        "n",
        "name",
        "pending",
        "status",
        "values",
        "watchers",
    )

    def __init__(self, base: TaskId, n: int, label: str, name: str | None) -> None:
        self.base = base
        self.n = n
        self.label = label
        #: The key, if the user gave one.
        self.name = name
        self.status = bytearray(n)
        #: How many tasks have not ended.
        self.pending = n
        #: How many handles there are of its tasks: one for each, to begin with.
        self.held = n
        #: Futures that must live as long as this range: large arguments.
        self.holds: Sequence[object] = ()
        #: Any thread may add to these, which is why they are there from the start.
        self.watchers: list[Watcher] = []
        #: Who watches single tasks, by index: the first for each, and those after it.
        self._first: dict[int, Watcher] = _NONE if n == 1 else {}
        self._others: dict[int, list[Watcher]] = _NONE if n == 1 else {}
        #: Decoded values, by index, once somebody asked.
        self.values: dict[int, object] = {}
        #: The value of a range of one, and the outcomes of any other: a future made
        #: by ``submit`` costs no container that stays empty.
        self._payload: Buffer | None = None
        self._ends: Ends | None = None

    # Watching.  Whoever comes to watch looks at the status after that: what ended
    # just before may have been told already.

    def watch(self, index: int, watcher: Watcher) -> None:
        """Have *watcher* told once, when a task ends; what watches it already, does.

        All who watch single tasks cost no more than these tasks: a stretch that ends
        finds those that watch it.  What is to be told of every stretch is in
        ``watchers``.
        """
        if self.n == 1:
            self.watchers.append(watcher)
        elif self._first.setdefault(index, watcher) is not watcher:
            self._others.setdefault(index, []).append(watcher)

    def unwatch(self, index: int, watcher: Watcher) -> None:
        """Tell *watcher* of that task no more."""
        if self._first.get(index) is watcher:
            self._first.pop(index, None)
            return
        others = self.watchers if self.n == 1 else self._others.get(index, [])
        with contextlib.suppress(ValueError):
            others.remove(watcher)

    @property
    def watched(self) -> bool:
        """Whether anybody is to be told of an end."""
        return bool(self.watchers or self._first) or any(self._others.values())

    def hold(self, holds: Sequence[object]) -> None:
        """Let futures live as long as this range does."""
        self.holds = [*self.holds, *holds]

    # Written by the I/O thread.  What has ended stays as it ended, until it is
    # reverted: news that crossed a cancellation come too late.

    def finish(self, lo: int, pack: Pack) -> None:
        """The values of a stretch have come."""
        for start, n in self._unended(lo, len(pack)):
            self._finish(start, pack.cut(start - lo, start - lo + n))

    def finish_one(self, payload: Buffer) -> None:
        """The value of a range of one has come; all is told again if it comes again."""
        if not self.status[0]:
            # No call stands between these, so that no interrupt can: all or nothing.
            self._payload = payload
            self.status[0] = _FINISHED
            self.pending = 0
        if self.watchers:
            self._tell(0, 1)

    def finish_alone(self, payload: Buffer, kind: type[End]) -> bool:
        """The same, but only watchers of this *kind* are told.

        Returns:
            Whether there are no others.  If there are, or if an interrupt comes, then
            ``finish_one`` goes on where this ended.
        """
        if not self.status[0]:
            # As above.
            self._payload = payload
            self.status[0] = _FINISHED
            self.pending = 0
        watchers: list[Any] = self.watchers
        for watcher in list(watchers):
            if type(watcher) is not kind:
                return False
            watcher.fire()
        watchers.clear()
        return True

    def _outcomes(self) -> Ends:
        ends = self._ends
        if ends is None:
            ends = self._ends = Ends()
        return ends

    def _finish(self, lo: int, pack: Pack) -> None:
        if self.n == 1:
            self._payload = pack[0]
        else:
            self._outcomes().packs.put(lo, pack)
        self._set(lo, len(pack), Status.FINISHED)

    def store(self, lo: int, n: int, worker: int, nbytes: int) -> None:
        """The values of a stretch rest on a worker."""
        for start, count in self._unended(lo, n):
            self._store(start, count, worker, nbytes * count // n)

    def _store(self, lo: int, n: int, worker: int, nbytes: int) -> None:
        self._outcomes().stored.put(lo, (n, worker, nbytes))
        self._set(lo, n, Status.STORED)

    def fail(self, lo: int, n: int, failure: Failure) -> None:
        """A stretch has failed."""
        cancelled = failure.kind == "cancelled"
        status = Status.CANCELLED if cancelled else Status.ERROR
        for start, count in self._unended(lo, n):
            self._outcomes().failures.put(start, (count, failure))
            self._set(start, count, status)

    def _unended(self, lo: int, n: int) -> list[tuple[int, int]]:
        """Return the parts of a stretch that are pending."""
        status, hi = self.status, lo + n
        if status.count(Status.PENDING, lo, hi) == n:
            return [(lo, n)]
        parts = []
        at = status.find(Status.PENDING, lo, hi)
        while at >= 0:
            end = at
            while end < hi and not status[end]:
                end += 1
            parts.append((at, end - at))
            at = status.find(Status.PENDING, end, hi)
        return parts

    def revert(self, lo: int, n: int) -> None:
        """A stretch is pending again.

        Values that were brought stay: somebody may be about to take one.
        """
        hi = lo + n
        self.pending += n - self.status.count(Status.PENDING, lo, hi)
        self.status[lo:hi] = bytes(n)
        self._payload = None
        ends = self._ends
        if ends is not None:
            ends.revert(lo, hi)

    def let_go(self, lo: int, n: int) -> None:
        """Nobody here holds these tasks any more, but others of the range."""
        hi = lo + n
        values = self.values
        few = range(lo, hi) if n <= len(values) else list(values)
        for index in few if values else ():
            if lo <= index < hi:
                values.pop(index, None)
        self._outcomes().let_go(lo, hi, self.n)

    def give_up(self, lo: int, n: int) -> None:
        """How these tasks end is told no more: who waits for them is told that instead."""
        for start, count in self._unended(lo, n) if self.pending else ():
            self._outcomes().give_up(start, start + count, self.n)
            self._set(start, count, Status.CANCELLED)

    def is_let_go(self, index: int) -> bool:
        """Whether nobody here holds a task any more."""
        return self._ends is not None and index in self._ends

    def _set(self, lo: int, n: int, status: Status) -> None:
        hi = lo + n
        before = self.status.count(Status.PENDING, lo, hi)
        self.status[lo:hi] = bytes((status,)) * n
        self.pending -= before
        if self.watchers or self._first or self._others:
            self._tell(lo, n)

    def _tell(self, lo: int, n: int) -> None:
        watchers = list(self.watchers)
        if self._first or self._others:
            watchers += self._watchers_of(lo, n)
        for watcher in watchers:
            watcher(self, lo, n)
        if not self.pending:
            # All have been told.  A watcher that came just now has looked
            # at the status after it came; keeping it, and the futures that
            # it knows, would keep this range alive by itself.
            self.watchers.clear()
            self._first.clear()
            self._others.clear()

    def _watchers_of(self, lo: int, n: int) -> Iterable[Watcher]:
        """Take out who watches single tasks of a stretch; each is told once of all."""
        found: dict[Watcher, None] = {}
        for index in _keys_between(self._first, lo, lo + n):
            watcher = self._first.pop(index, None)
            if watcher is not None:
                found[watcher] = None
        for index in _keys_between(self._others, lo, lo + n):
            found.update(dict.fromkeys(self._others.pop(index, ())))
        return found

    # Read by anybody.

    def payload(self, index: int) -> Buffer | None:
        """Return the bytes of a value that has come."""
        if self._ends is None:
            return self._payload if index == 0 else None
        found = self._ends.packs.at(index)
        if found is None:
            return self._payload if index == 0 else None
        lo, pack = found
        return pack[index - lo] if index - lo < len(pack) else None

    def packs(self) -> list[tuple[int, Pack]]:
        """Return all packs that have come, in order."""
        if self._payload is not None:
            return [(0, Pack.of([bytes(self._payload)]))]
        return self._ends.packs.all() if self._ends is not None else []

    def place(self, index: int) -> tuple[int, int, int, int] | None:
        """Return where a value rests: (lo, n, worker, nbytes) of its stretch."""
        found = self._ends.stored.at(index) if self._ends is not None else None
        if found is None:
            return None
        lo, (n, worker, nbytes) = found
        return (lo, n, worker, nbytes) if index - lo < n else None

    def lacks(self, index: int) -> bool:
        """Whether a value is to be waited for, or rests elsewhere, and was not brought."""
        status = self.status[index]
        return status in _NOT_HERE and index not in self.values

    def failure(self, index: int) -> Failure | None:
        """Return how a task failed."""
        ends = self._ends
        if ends is None:
            return None
        if ends.given_up and ends.given_up[index]:
            return RELEASED
        found = ends.failures.at(index)
        if found is None:
            return None
        lo, (n, failure) = found
        return failure if index - lo < n else None

    def stretches(self) -> Iterator[tuple[int, int, Status]]:
        """Yield the stretches of which something is here, and what they came to."""
        for lo, pack in self.packs():
            yield lo, len(pack), Status.FINISHED
        if self._ends is None:
            return
        for lo, (n, _, _) in self._ends.stored.all():
            yield lo, n, Status.STORED
        for lo, (n, failure) in self._ends.failures.all():
            cancelled = failure.kind == "cancelled"
            yield lo, n, Status.CANCELLED if cancelled else Status.ERROR
        for lo, n in self._ends.stretches_given_up():
            yield lo, n, Status.CANCELLED

    def key(self, index: int) -> str:
        """Return the key of a task: a text for humans, the same everywhere."""
        if self.name is not None:
            return self.name
        return f"{self.label}-{self.base + index:x}"


def _keys_between(by_index: dict[int, Any], lo: int, hi: int) -> list[int]:
    """Return the keys from *lo* to *hi*, in order, at the cost of the smaller side."""
    if hi - lo <= len(by_index):
        return [index for index in range(lo, hi) if index in by_index]
    # Copied in one go: other threads add to it.
    return sorted(index for index in list(by_index) if lo <= index < hi)


class Wishes:
    """All ranges of a client, by task id.

    Whoever adds or removes holds a lock meanwhile (``Session.enter``); who looks for one
    does not, and may miss a range that is being removed.
    """

    def __init__(self) -> None:
        self._ranges: dict[TaskId, Range] = {}
        self._starts: list[TaskId] = []
        #: Tasks that ended by an early word, and whose end the scheduler has yet to tell.
        #: Until it does, nobody lets go of them: it would cancel what has ended.
        self.untold: set[TaskId] = set()
        #: Called when there are none left; by whoever has the turn to act on news.
        self.when_all_told: Callable[[], None] = _nothing

    def __len__(self) -> int:
        return len(self._ranges)

    def add(self, wish: Range) -> None:
        """Enter a range."""
        self._ranges[wish.base] = wish
        if wish.n > 1:
            insort(self._starts, wish.base)

    def remove(self, wish: Range) -> None:
        """Strike a range out."""
        if self._ranges.pop(wish.base, None) is not None and wish.n > 1:
            at = bisect_right(self._starts, wish.base) - 1
            if at >= 0 and self._starts[at] == wish.base:
                del self._starts[at]

    def find(self, task: TaskId) -> Range | None:
        """Return the range that *task* is in."""
        wish = self._ranges.get(task)
        if wish is not None:
            return wish
        starts = self._starts
        at = bisect_right(starts, task) - 1
        if at < 0:
            return None
        # Another thread may have taken some out since.
        for start in starts[at : at + 1]:
            wish = self._ranges.get(start)
            if wish is not None and wish.base <= task < wish.base + wish.n:
                return wish
        return None

    def parts(self, base: TaskId, n: int) -> list[tuple[Range, int, int, int]]:
        """Return the known parts of some tasks: (range, lo in it, n, offset)."""
        found = []
        task, end = base, base + n
        while task < end:
            wish = self.find(task)
            if wish is None:
                task += 1
                continue
            stop = min(end, wish.base + wish.n)
            found.append((wish, task - wish.base, stop - task, task - base))
            task = stop
        return found

    @property
    def few_and_ended(self) -> bool:
        """Whether all that was wished for has ended; false if that is long to look at."""
        ranges = self._ranges
        if len(ranges) > FEW:
            return False
        for wish in list(ranges.values()):  # noqa: SIM110  # any() is slow for so few
            if wish.pending:
                return False
        return True

    def all(self) -> list[Range]:
        """Return every range."""
        return list(self._ranges.values())

    # News from runners.

    def ends_early(self, task: TaskId) -> Range | None:
        """Return the range of a task that ended unknown here, if it came by itself."""
        wish = self._ranges.get(task)
        untold = self.untold
        if wish is None or wish.n > 1 or not wish.pending or task in untold:
            return None
        # Before its end, lest an interrupt come between: that is still to be told.
        untold.add(task)
        if wish.status[0]:
            untold.discard(task)
            return None
        return wish

    def _told(self, base: TaskId, n: int) -> None:
        """The scheduler has told how tasks stand, and that is entered here.

        In this order: a thread that leads over a lost link enters first that a task is
        untold, and looks then whether it has ended.  So one sees what the other did.
        """
        untold = self.untold
        untold.difference_update([t for t in list(untold) if base <= t < base + n])
        if not untold:
            self.when_all_told()

    def all_told(self) -> None:
        """No more is told of what has ended before."""
        self.untold.clear()
        self.when_all_told()

    # News from the scheduler.

    def finished(self, base: TaskId, pack: Pack) -> None:
        """Values have come."""
        first = self._ranges.get(base)
        if first is None or first.n > 1:
            self._finished(base, pack)
        elif len(pack.sizes) == 1:
            first.finish_one(pack.data)
        else:
            self._finished_singly(base, pack)
        if self.untold:
            self._told(base, len(pack))

    def _finished_singly(self, base: TaskId, pack: Pack) -> None:
        """Of what was submitted one by one each is found by its own id."""
        for offset, payload in enumerate(pack):
            wish = self._ranges.get(base + offset)
            if wish is None or wish.n > 1:
                self._finished(base + offset, pack.cut(offset, len(pack)))
                return
            wish.finish_one(payload)

    def ended_alone(self, base: TaskId, payload: Buffer, kind: type[End]) -> bool:
        """The value of a task has come; true if all is done about it.

        That can be if it was submitted by itself: see ``Range.finish_alone``.
        """
        wish = self._ranges.get(base)
        done = wish is not None and wish.n == 1 and wish.finish_alone(payload, kind)
        if self.untold:
            self._told(base, 1)
        return done

    def _finished(self, base: TaskId, pack: Pack) -> None:
        for wish, lo, n, offset in self.parts(base, len(pack)):
            wish.finish(lo, pack.cut(offset, offset + n))

    def stored(self, base: TaskId, n: int, worker: int, nbytes: int) -> None:
        """Values rest on a worker."""
        for wish, lo, count, _ in self.parts(base, n):
            wish.store(lo, count, worker, nbytes * count // n)
        if self.untold:
            self._told(base, n)

    def failed(self, base: TaskId, n: int, failure: Failure) -> None:
        """Tasks have failed."""
        for wish, lo, count, _ in self.parts(base, n):
            wish.fail(lo, count, failure)
        if self.untold:
            self._told(base, n)

    def reverted(self, base: TaskId, n: int) -> None:
        """Tasks are pending again."""
        for wish, lo, count, _ in self.parts(base, n):
            wish.revert(lo, count)


def _nothing() -> None:
    """Until somebody sets it, nobody waits for that."""
