"""The ledger: what a client has asked for and still holds, so that it can ask again.

A scheduler that dies takes nothing along that its clients do not know.  The ledger
sees every message on its way out and keeps the submissions of tasks that are held,
or that something kept takes as input: what could be needed to make a lost value
anew::

    a = submit(f)        kept: b takes it
    b = submit(g, a)     kept: held
    del a                a's entry stays until b's goes

Pure.  An entry is one message, however many tasks it is about.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from typing import Final, TypeAlias

from covey.client.core.ranges import Range, Status, Wishes
from covey.ids import TaskId
from covey.wire.base import Extent, Message
from covey.wire.client_link import (
    Cancel,
    DefineFunction,
    Detach,
    Ended,
    ForgetFunction,
    Held,
    Over,
    Placed,
    Publish,
    Recall,
    Recalled,
    Release,
    Rewrite,
    Scatter,
    Submit,
    SubmitGraph,
    Tried,
    Unpublish,
    taken_by,
)

Making: TypeAlias = Submit | SubmitGraph | Scatter | Placed

#: So many extents go into one message, at most.
EXTENTS_MAX: Final = 4096


def untold(unheard: Iterable[Message]) -> list[Message]:
    """Return those of *unheard* messages that must come there, and are in no ledger."""
    return [
        message
        for message in unheard
        if isinstance(message, Publish | Unpublish)
        or (isinstance(message, Cancel) and not message.running)
    ]


class Entry:
    """The tasks that one message has made."""

    __slots__ = (
        "_detached",
        "base",
        "detached",
        "flags",
        "held",
        "inputs",
        "message",
        "n",
        "refused",
        "tried",
        "users",
    )

    def __init__(self, message: Making, base: TaskId, n: int) -> None:
        self.message = message
        self.base = base
        self.n = n
        #: How many of the tasks are held, and which; ``None`` means all of them.
        self.held = n
        self.flags: bytearray | None = None
        #: How many entries take something of this one, and what it takes itself.
        self.users = 0
        self.inputs: tuple[Entry, ...] = ()
        #: How many of the tasks are to run to their end in any case, and which.
        self.detached = 0
        self._detached: bytearray | None = None
        #: Whether the scheduler has refused it: then it is not to be said again.
        self.refused = False
        #: What was tried of these tasks in vain, by what it is about, the latest last.
        self.tried: dict[Extent, Tried] | None = None

    def hold_only(self, extents: Iterable[Extent]) -> None:
        """Of these tasks, only those in *extents* are held from the beginning."""
        self.flags = bytearray(self.n)
        for base, n in extents:
            lo = base - self.base
            self.flags[lo : lo + n] = b"\1" * n
        self.held = self.flags.count(1)

    def let_go(self, lo: int, n: int) -> None:
        """The tasks *lo* to ``lo + n - 1`` are not held any more."""
        if self.flags is None:
            if n == self.n:
                self.held = 0
                self.flags = bytearray(self.n)
                return
            self.flags = bytearray(b"\1" * self.n)
        self.held -= self.flags.count(1, lo, lo + n)
        self.flags[lo : lo + n] = bytes(n)

    def holds(self, task: TaskId) -> bool:
        """Whether *task*, which is one of these, is held."""
        return self.flags is None or bool(self.flags[task - self.base])

    def held_extents(self) -> Iterator[Extent]:
        """Yield what is held."""
        if self.flags is None:
            yield (self.base, self.n)
            return
        yield from self._extents(self.flags)

    def detach(self, lo: int, n: int, *, over: bool = False) -> None:
        """The tasks *lo* to ``lo + n - 1`` are to run to their end, or have ended."""
        flags = self._detached
        if flags is None:
            flags = self._detached = bytearray(self.n)
        before = flags.count(1, lo, lo + n)
        flags[lo : lo + n] = bytes(n) if over else b"\1" * n
        self.detached += (0 if over else n) - before

    def detached_extents(self) -> Iterator[Extent]:
        """Yield what is to run to its end in any case."""
        return self._extents(self._detached or bytearray())

    def _extents(self, flags: bytearray) -> Iterator[Extent]:
        at = flags.find(1)
        while at >= 0:
            end = flags.find(0, at)
            end = self.n if end < 0 else end
            yield (self.base + at, end - at)
            at = flags.find(1, end)


class Ledger:
    """All entries, in the order in which they were made."""

    def __init__(self) -> None:
        self._functions: dict[int, DefineFunction] = {}
        #: How many entries are of each function, and which the client is done with.
        self._uses: Counter[int] = Counter()
        self._done: set[int] = set()
        #: A task that came alone and takes nothing is its message, until there is more
        #: to be said of it: most are let go before that.
        self._entries: dict[TaskId, Entry | Submit] = {}
        #: The bases of entries of more than one task, in order.
        self._starts: list[TaskId] = []

    def __len__(self) -> int:
        return len(self._entries)

    # Keeping it.

    def note(self, message: Message) -> None:
        """Take note of a message that is on its way to the scheduler."""
        kind = type(message)
        if kind is Submit:
            assert isinstance(message, Submit)
            self._add_calls(message)
        elif kind is Release:
            assert isinstance(message, Release)
            self._release(message.extents)
        elif kind is SubmitGraph:
            assert isinstance(message, SubmitGraph)
            self._add_graph(message)
        elif kind is DefineFunction:
            assert isinstance(message, DefineFunction)
            self._functions[message.fn] = message
        elif kind is ForgetFunction:
            assert isinstance(message, ForgetFunction)
            self._done.add(message.fn)
            self._drop_function(message.fn)
        elif kind is Rewrite:
            assert isinstance(message, Rewrite)
            self._rewrite(message.made)
        elif kind is Scatter:
            assert isinstance(message, Scatter)
            self._add(message, message.base, message.n)
        elif kind is Placed:
            assert isinstance(message, Placed)
            if message.task not in self._entries:
                self._add(message, message.task, 1)
        elif kind is Detach:
            assert isinstance(message, Detach)
            self._detach(message.extents)

    def _add(self, message: Making, base: TaskId, n: int) -> Entry:
        entry = self._entries[base] = Entry(message, base, n)
        for fn in _functions_of(message):
            self._uses[fn] += 1
        if n > 1:
            starts = self._starts
            if not starts or starts[-1] < base:
                starts.append(base)
            else:
                insort(starts, base)
        return entry

    def _add_calls(self, message: Submit) -> None:
        takes = message.aligned or message.whole or message.groups
        if message.n == 1 and not takes:
            self._entries[message.base] = message
            self._uses[message.fn] += 1
            return
        entry = self._add(message, message.base, message.n)
        if takes:
            self._tie(entry, self._covering(taken_by(message)))

    def _rewrite(self, made: Submit) -> None:
        """Tasks are what they were, written in another way."""
        entry = self._find(made.base)
        if (
            entry is None
            or entry.base != made.base
            or entry.n != made.n
            or not isinstance(entry.message, Submit)
        ):
            return  # They were let go meanwhile.
        before, entry.message = entry.message.fn, made
        self._uses[made.fn] += 1
        self._uses[before] -= 1
        self._drop_function(before)

    def _add_graph(self, message: SubmitGraph) -> None:
        base, n = message.base, len(message.fns)
        if not n:
            return
        entry = self._add(message, base, n)
        # What later messages take is held like what the user holds, until it is
        # released; by then those who take it are entries, too.
        entry.hold_only((*message.wanted, *message.coming))
        outside = {
            need
            for needs in message.needs
            for need in needs
            if not base <= need < base + n
        }
        self._tie(entry, self._those_of(outside))
        self._drop_unused(entry)

    def _tie(self, entry: Entry, sources: Iterable[Entry]) -> None:
        inputs = dict.fromkeys(sources)
        inputs.pop(entry, None)
        entry.inputs = tuple(inputs)
        for source in inputs:
            source.users += 1

    def _covering(self, extents: Iterable[Extent]) -> Iterator[Entry]:
        """Yield the entries that hold any of these tasks."""
        for base, n in extents:
            for entry, _, _ in self._parts(base, n):
                yield entry

    def _those_of(self, tasks: Iterable[TaskId]) -> Iterator[Entry]:
        """Yield the entries of single tasks, each once: many tasks are of few entries."""
        end = 0
        for task in sorted(tasks):
            if task >= end:
                entry = self._find(task)
                if entry is not None:
                    yield entry
                    end = entry.base + entry.n

    def _detach(self, extents: Iterable[Extent]) -> None:
        for base, n in extents:
            for entry, lo, count in self._parts(base, n):
                entry.detach(lo, count)

    def _release(self, extents: Iterable[Extent]) -> None:
        for base, n in extents:
            alone = self._drop_alone(base, n)
            for entry, lo, count in list(self._parts(base + alone, n - alone)):
                entry.let_go(lo, count)
                if not entry.held:
                    self._drop_unused(entry)

    def _drop_alone(self, base: TaskId, n: int) -> int:
        """Strike out tasks of which there is but a message, up to the first that is not."""
        entries = self._entries
        for task in range(base, base + n):
            message = entries.get(task)
            if type(message) is not Submit:
                return task - base
            del entries[task]
            self._use_less(message.fn)
        return n

    def _drop_unused(self, entry: Entry) -> None:
        todo = [entry]
        while todo:
            current = todo.pop()
            if current.held or current.users or current.detached:
                continue
            if self._entries.pop(current.base, None) is None:
                continue
            if current.n > 1:
                del self._starts[bisect_left(self._starts, current.base)]
            for fn in _functions_of(current.message):
                self._use_less(fn)
            for source in current.inputs:
                source.users -= 1
                todo.append(source)

    def _use_less(self, fn: int) -> None:
        left = self._uses[fn] = self._uses[fn] - 1
        if not left:
            self._drop_function(fn)

    def _drop_function(self, fn: int) -> None:
        """Strike a function out that no entry is of, and that no later one will be."""
        if not self._uses[fn]:
            del self._uses[fn]
            if fn in self._done:
                self._done.discard(fn)
                self._functions.pop(fn, None)

    def _parts(self, base: TaskId, n: int) -> Iterator[tuple[Entry, int, int]]:
        """Yield the entries that hold any of these tasks: (entry, lo in it, n)."""
        at, end = base, base + n
        while at < end:
            entry = self._find(at)
            if entry is None:
                at = self._next(at, end)
                continue
            stop = min(end, entry.base + entry.n)
            yield entry, at - entry.base, stop - at
            at = stop

    def _next(self, task: TaskId, end: TaskId) -> TaskId:
        """Return the first id after *task* that may be known, at most *end*."""
        index = bisect_right(self._starts, task)
        stop = self._starts[index] if index < len(self._starts) else end
        stop = min(stop, end)
        if stop - task > len(self._entries):
            return min((t for t in self._entries if task < t < stop), default=stop)
        return next((t for t in range(task + 1, stop) if t in self._entries), stop)

    def _find(self, task: TaskId) -> Entry | None:
        entry = self._entries.get(task)
        if entry is None:
            index = bisect_right(self._starts, task) - 1
            if index < 0:
                return None
            entry = self._entries[self._starts[index]]
        if isinstance(entry, Submit):
            entry = self._entries[entry.base] = Entry(entry, entry.base, 1)
        return entry if task < entry.base + entry.n else None

    def hear(self, message: Tried | Over) -> None:
        """Take note of what the scheduler tells for the next one to know."""
        if isinstance(message, Over):
            self._over(message.extents)
            return
        entry = self._find(message.base)
        if entry is not None:
            if entry.tried is None:
                entry.tried = {}
            # A stretch may have been cut since: what was said of all of it still counts.
            entry.tried.pop((message.base, message.n), None)
            entry.tried[message.base, message.n] = message

    def refuse(self, task: TaskId) -> None:
        """The scheduler has refused to enter *task*: its key names another one.

        Another life of the scheduler might take it for the one that is meant.
        """
        entry = self._find(task)
        if entry is not None and entry.base == task:
            entry.refused = True

    def _over(self, extents: Iterable[Extent]) -> None:
        """Tasks that were detached have ended: they are not to be run again."""
        for base, n in extents:
            for entry, lo, count in list(self._parts(base, n)):
                entry.detach(lo, count, over=True)
                self._drop_unused(entry)

    def not_ours(self, wishes: Wishes, taken: Container[TaskId]) -> list[Extent]:
        """Return what of *taken* is held, but not by any entry.

        Others submitted it; or we did, let go of it, and had it back from others: then
        there is still an entry if the task was detached, or another one takes it.
        What has been submitted just now may have no entry yet, and will.

        Args:
            wishes: all that is held.
            taken: what was taken over from others, one by one.
        """
        return [
            (wish.base, wish.n)
            for wish in wishes.all()
            if wish.base in taken and not self._holds(wish.base)
        ]

    def _holds(self, task: TaskId) -> bool:
        entry = self._find(task)
        return entry is not None and entry.holds(task)

    def made(self, task: TaskId) -> tuple[Submit, DefineFunction] | None:
        """Return how *task* was submitted, with others, if it calls one function."""
        entry = self._find(task)
        if entry is None or not isinstance(entry.message, Submit):
            return None
        function = self._functions.get(entry.message.fn)
        return None if function is None else (entry.message, function)

    # Names.

    def key_of(self, task: TaskId) -> str | None:
        """Return the key of *task*, if it is known and calls a function."""
        entry = self._find(task)
        message = None if entry is None else entry.message
        if isinstance(message, SubmitGraph):
            number = message.fns[task - message.base]
        elif isinstance(message, Submit):
            number = message.fn
        else:
            return None
        function = self._functions.get(number)
        return None if function is None else f"{function.label}-{task:x}"

    # Asking again.

    def recall(
        self,
        wishes: Wishes,
        foreign: Iterable[Extent],
        tokens: Iterable[bytes] = (),
    ) -> list[Message]:
        """Return all that a scheduler must be told that knows nothing.

        Args:
            wishes: how the tasks stand here.
            foreign: what is held of other clients' tasks.
            tokens: what lets us hold them, in turn.
        """
        report: list[Message] = [Recall(), *self._functions.values()]
        known = [self._find(task) for task in self._entries]
        entries = [entry for entry in known if entry is not None and not entry.refused]
        report += [entry.message for entry in entries]
        report += [ForgetFunction(fn) for fn in sorted(self._done)]
        wanted: list[Extent] = []
        had: list[Extent] = []
        for entry in entries:
            for base, n in entry.held_extents():
                at = base
                for wish, lo, count, offset in wishes.parts(base, n):
                    if at < base + offset:
                        wanted.append((at, base + offset - at))
                    at = base + offset + count
                    report += _sort(wish, lo, count, wanted, had)
                if at < base + n:
                    # Nobody has a future of it: a later message will take it.
                    wanted.append((at, base + n - at))
        detached = [e for entry in entries for e in entry.detached_extents()]
        report += [Held(wanted=part) for part in _chunks(wanted)]
        report += [Held(had=part) for part in _chunks(had)]
        report += [Held(detached=part) for part in _chunks(detached)]
        for entry in entries:
            report += (entry.tried or {}).values()
        report.append(_recalled(wishes, list(foreign), tokens))
        return report


def _functions_of(message: Making) -> Iterable[int]:
    """Return the functions that a message is of, each once."""
    if isinstance(message, Submit):
        return (message.fn,)
    return set(message.fns) if isinstance(message, SubmitGraph) else ()


def _recalled(
    wishes: Wishes, foreign: list[Extent], tokens: Iterable[bytes]
) -> Recalled:
    """Tell of other clients' tasks: waited for, or with their values here already."""
    lots: tuple[list[Extent], list[Extent]] = ([], [])
    for base, n in foreign:
        at = base
        tasks = range(base, base + n)
        for here, same in itertools.groupby(tasks, lambda t: _is_here(wishes, t)):
            count = sum(1 for _ in same)
            lots[here].append((at, count))
            at += count
    waited, had = lots
    named = (task for base, n in foreign for task in range(base, base + n))
    token_of = dict(zip(named, tokens, strict=False))
    sorted_tokens = (
        token_of.get(task, b"")
        for base, n in (*waited, *had)
        for task in range(base, base + n)
    )
    return Recalled(tuple(waited), tuple(sorted_tokens) if token_of else (), tuple(had))


def _is_here(wishes: Wishes, task: TaskId) -> bool:
    wish = wishes.find(task)
    return wish is not None and wish.status[task - wish.base] == Status.FINISHED


def _sort(
    wish: Range, lo: int, n: int, wanted: list[Extent], had: list[Extent]
) -> Iterator[Ended]:
    """Sort tasks by how they stand; yield those that have failed."""
    at = lo
    for kind, same in itertools.groupby(wish.status[lo : lo + n], _KINDS.__getitem__):
        count = sum(1 for _ in same)
        if kind is Status.ERROR:
            yield from _failures(wish, at, count)
        else:
            lot = wanted if kind is Status.PENDING else had
            lot.append((wish.base + at, count))
        at += count


#: A value that rests on a worker has not come here yet.
_KINDS: Final[dict[int, Status]] = {
    Status.PENDING: Status.PENDING,
    Status.STORED: Status.PENDING,
    Status.FINISHED: Status.FINISHED,
    Status.ERROR: Status.ERROR,
    Status.CANCELLED: Status.ERROR,
}


def _failures(wish: Range, lo: int, n: int) -> Iterator[Ended]:
    at = lo
    while at < lo + n:
        failure = wish.failure(at)
        end = at + 1
        while end < lo + n and wish.failure(end) is failure:
            end += 1
        if failure is not None:
            yield Ended(wish.base + at, end - at, failure)
        at = end


def _chunks(extents: list[Extent]) -> Iterator[tuple[Extent, ...]]:
    for start in range(0, len(extents), EXTENTS_MAX):
        yield tuple(extents[start : start + EXTENTS_MAX])
