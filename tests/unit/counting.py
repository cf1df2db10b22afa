"""What counts operations: a scheduler with workers that answer at once, and counters."""

from __future__ import annotations

import contextlib
import gc
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import covey
from covey.ids import ClientId, first_task_id
from covey.payload import Pack
from covey.scheduler.core.machine import Joined, Said, SchedulerCore
from covey.wire import worker_link
from covey.wire.client_link import DefineFunction, Submit, SubmitGraph
from covey.wire.introductions import ClientIntroduction, WorkerIntroduction

SOURCE = str(Path(covey.__file__).parent)
TESTS = str(Path(__file__).parent)


class Cluster:
    """A scheduler's core and workers that answer every run at once."""

    def __init__(self, workers=4, slots=4, seconds=1e-4):
        self.core = SchedulerCore()
        self.seconds = seconds
        self.sent = Counter()
        self.spans_max = 0
        #: How often the core was told something.
        self.turns = 0
        self.client = self.core.next_peer()
        number = ClientId(3)
        self.base = first_task_id(number)
        hello = ClientIntroduction(number, "a", "0", "3", "h")
        self._take_in(Joined(self.client, hello))
        self.workers = set()
        for _ in range(workers):
            peer = self.core.next_peer()
            self.workers.add(peer)
            hello = WorkerIntroduction("w", slots, {}, (), "h", 0, "0", "3", 1)
            self._take_in(Joined(peer, hello))
        self.say(DefineFunction(1, b"digest", "f", b"bytes"))

    def say(self, *messages):
        self._take_in(Said(self.client, messages))

    def _take_in(self, event):
        todo = [event]
        while todo:
            replies = {}
            self.turns += 1
            for peer, messages in self.step(todo.pop()).items():
                for message in messages:
                    self.note(message)
                    if peer in self.workers:
                        replies.setdefault(peer, []).extend(self._answers(message))
            self.spans_max = max(self.spans_max, len(self.core.state.spans))
            todo += [Said(peer, said) for peer, said in replies.items() if said]

    def step(self, event):
        return self.core.step(event, 1.0)

    def note(self, message):
        self.sent[type(message).__name__] += 1

    def _answers(self, message):
        if isinstance(message, worker_link.Run):
            seconds = self.seconds * message.n
            sizes, data = message.sizes, message.data
            ran = worker_link.Ran(
                message.run, message.base, message.n, seconds, sizes, data
            )
            self.note(ran)
            yield ran
        elif isinstance(message, worker_link.Return):
            yield worker_link.ReturnDone()


def submit(base, n):
    return Submit(base, n, 1, b"\4\0\0\0" * n, b"data" * n)


def chain(base, n):
    """Return a graph of which every node takes the one before and three before."""
    needs = tuple(
        tuple(base + i - back for back in (1, 3) if i >= back) for i in range(n)
    )
    pack = Pack.of([b"data"] * n)
    return SubmitGraph(
        base,
        (1,) * n,
        pack.sizes_bytes(),
        bytes(pack.data),
        needs,
        tuple(range(n)),
        ((base + n - 1, 1),),
    )


@contextlib.contextmanager
def _no_garbage():
    """Let none be collected meanwhile: that of other tests calls functions as it goes."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def calls_of(work):
    """Return how many functions in Python *work* calls, without those of the tests."""
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        if event == "call":
            count += not frame.f_code.co_filename.startswith(TESTS)

    with _no_garbage():
        sys.setprofile(profile)
        try:
            work()
        finally:
            sys.setprofile(None)
    return count


def bytes_of(work):
    """Return how many bytes more are held after *work* than before."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = work()
        gc.collect()
        current, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    del kept
    return current


def lines_of(work):
    """Return how many lines of covey were run by *work*: a round of a loop is one."""
    count = 0

    def within(frame, event, argument):
        nonlocal count
        count += event == "line"
        return within

    def trace(frame, event, argument):
        return within if frame.f_code.co_filename.startswith(SOURCE) else None

    before = sys.gettrace()
    with _no_garbage():
        sys.settrace(trace)
        try:
            work()
        finally:
            sys.settrace(before)
    return count


def peak_of(work):
    """Return how many bytes more than before were in use at most while *work* ran."""
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    kept = work()
    _, peak = tracemalloc.get_traced_memory()
    return peak - before, kept
