"""What each element of a map costs: client, scheduler and worker, there and back.

Exact counts of messages, bytes, calls, lines of Python that are run, and memory, so that an
operation for each element is noticed wherever it is made and however quick it is.  No
load changes them, and versions of Python hardly do: the limits are a tenth above what is
true.  Who breaks one has made something dearer, and should know why; who makes something
cheaper lowers it.  ``pytest -rP`` shows the figures.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from types import SimpleNamespace

import pytest
from counting import Cluster, bytes_of, calls_of, lines_of, peak_of

from covey.client.core.ranges import Range, Wishes
from covey.client.decoding import decode_all
from covey.client.fetching import Session
from covey.client.mapping import Mapper
from covey.client.writing import Writing
from covey.scheduler.core.machine import Said
from covey.serde.packing import Packer
from covey.wire.base import DEFAULT_OPTIONS
from covey.wire.client_link import Release, Submit
from covey.wire.framing import encode_frame
from covey.wire.worker_link import Run
from covey.worker.core import orders
from covey.worker.core.machine import WorkerCore

TASKS = 50_000

#: Memory is counted so often, and the least is taken: other threads may use some, such as
#: those of a client that the tests of another folder share.
THRICE = 3

#: As many elements has a pack of results.
PACK = 2_000


def inc(number):
    return number + 1


@pytest.fixture
def traced():
    """Let memory be counted, and no garbage be collected meanwhile."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


class Desk:
    """A client's side of a map, without a cluster."""

    def __init__(self, base=1000):
        self.posted = []
        self.engine = SimpleNamespace(
            post=self.posted.append,
            wishes=Wishes(),
            workers={1: None},
            check=lambda: None,
            new_tasks=lambda n: base,
            closed=True,  # What is dropped is told to nobody.
            lull_is_coming=False,
            look=lambda: None,
            outbox=SimpleNamespace(catch_up=None),
        )
        session = Session(self.engine)
        self.mapper = Mapper(session, Writing(self.engine, functions="value"))

    def map(self, *columns):
        return self.mapper.map(inc, columns, {}, DEFAULT_OPTIONS)


#: Arguments, and for each element of them: bytes on the wire, calls, lines that are
#: run, and bytes in use at most.
KINDS = {
    "whole numbers": ([range(TASKS)], 13.03, 0.0077, 0.041, 16.6),
    "texts": ([[f"{i:05}" for i in range(TASKS)]], 26.03, 0.067, 4.77, 36.6),
    "pairs": (
        [range(TASKS), [float(i) for i in range(TASKS)]],
        *(30.03, 0.126, 4.96, 41.2),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_to_map_is_few_operations(figure, kind):
    columns, nbytes_most, calls_most, lines_most, _ = KINDS[kind]
    Desk().map(*[column[:100] for column in columns])  # What is loaded once is.
    desk = Desk()
    calls = calls_of(lambda: desk.map(*columns)) / TASKS
    lines = lines_of(lambda: Desk().map(*columns)) / TASKS
    sent = Counter(type(message).__name__ for message in desk.posted)
    nbytes = sum(len(encode_frame([message])) for message in desk.posted) / TASKS
    figure(f"{kind}: {dict(sent)}, {nbytes:.2f} bytes on the wire an element")
    figure(f"{calls:.4f} calls, {lines:.3f} lines an element")
    assert sent == {"DefineFunction": 1, "Submit": 26}
    assert nbytes < nbytes_most
    assert calls < calls_most
    assert lines < lines_most


@pytest.mark.parametrize("kind", KINDS)
def test_to_map_takes_no_more_memory_than_its_messages(figure, kind, traced):
    columns, *_, peak_most = KINDS[kind]
    Desk().map(*[column[:100] for column in columns])
    peak = min(peak_of(lambda: Desk().map(*columns))[0] for _ in range(THRICE))
    figure(f"{kind}: at most {peak / TASKS:.1f} bytes an element")
    assert peak / TASKS < peak_most


def packs():
    """Return the results of a map."""
    found = []
    for first in range(0, TASKS, PACK):
        packer = Packer()
        assert packer.add_numbers(range(first, first + PACK))
        found.append(packer.take())
    return found


class Ended:
    """The core of a client, to which results of one map come."""

    def __init__(self):
        self.wishes = Wishes()
        self.range = Range(1000, TASKS, "f", None)
        self.wishes.add(self.range)

    def come(self, packs):
        for at, pack in enumerate(packs):
            self.wishes.finished(1000 + PACK * at, pack)
        return self


def test_results_of_a_map_come_with_few_operations(figure):
    made = packs()
    one, two = Ended(), Ended()
    calls = calls_of(lambda: one.come(made)) / len(made)
    lines = lines_of(lambda: two.come(made)) / len(made)
    figure(
        f"{PACK:,} results: {calls:.1f} calls, {lines:.1f} lines in the client's core"
    )
    assert not one.range.pending
    assert calls < 17
    assert lines < 59


def test_results_of_a_map_take_the_client_no_memory_but_their_bytes(figure, traced):
    made = packs()

    def peak():
        ended = Ended()
        return max(
            peak_of(lambda at=at: ended.wishes.finished(1000 + PACK * at, made[at]))[0]
            for at in range(len(made))
        )

    most = min(peak() for _ in range(THRICE))
    tracemalloc.stop()
    kept = min(bytes_of(lambda: Ended().come(made)) for _ in range(THRICE)) / TASKS
    figure(f"{PACK:,} results: at most {most:,} bytes more in the client's core")
    figure(f"{kept:.2f} bytes more are kept for each")
    assert most < 5_700
    assert kept < 1.2


def test_to_gather_a_map_is_few_operations(figure):
    ended = Ended().come(packs())
    calls = calls_of(lambda: decode_all(ended.range, plain=False))
    lines = lines_of(lambda: decode_all(ended.range, plain=False))
    figure(f"{TASKS:,} results: {calls} calls, {lines} lines to gather them")
    assert decode_all(ended.range, plain=False) == [(n,) for n in range(TASKS)]
    assert calls < 34
    assert lines < 315


class Watched(Cluster):
    """Takes note of the bytes of messages, and of the memory that steps take."""

    def __init__(self, **keywords):
        self.peaks, self.nbytes = Counter(), Counter()
        super().__init__(**keywords)

    def step(self, event):
        peak, told = peak_of(lambda: super(Watched, self).step(event))
        if type(event) is Said:
            kind = type(event.messages[0]).__name__
            self.peaks[kind] = max(self.peaks[kind], peak)
        return told

    def note(self, message):
        super().note(message)
        self.nbytes[type(message).__name__] += len(encode_frame([message]))


def asked(base):
    """Return what a client says of a map."""
    desk = Desk(base)
    desk.map(range(TASKS))
    return [message for message in desk.posted if type(message) is Submit]


def passed_through():
    """Return a scheduler that a map has passed through, and was let go of again."""
    cluster = Watched()
    cluster.say(*asked(cluster.base))
    assert cluster.core.state.counters["tasks_done"] == TASKS
    cluster.say(Release(((cluster.base, TASKS),)))
    return cluster


def test_a_map_passes_through_the_scheduler_with_few_operations(figure, traced):
    clusters = [passed_through() for _ in range(THRICE)]
    sent, nbytes = clusters[0].sent, clusters[0].nbytes
    each = {kind: round(nbytes[kind] / TASKS, 2) for kind in ("Run", "Ran", "Finished")}
    peaks = {kind: min(c.peaks[kind] for c in clusters) for kind in clusters[0].peaks}
    figure(f"{TASKS:,} tasks: {dict(sent)}")
    figure(f"{each} bytes an element; {peaks} bytes at most in a step")
    assert sent["Run"] == sent["Ran"] < 54
    assert sent["Finished"] <= sent["Run"]
    assert sent.total() < 176
    assert max(each.values()) < 13.2
    assert peaks["Submit"] < 266_000
    assert peaks["Ran"] < 51_800
    assert peaks["Release"] < 5_400


def test_a_map_is_few_lines_of_the_scheduler(figure):
    cluster = Cluster()
    messages = asked(cluster.base)
    lines = lines_of(lambda: cluster.say(*messages)) / TASKS
    figure(f"{lines:.3f} lines an element")
    assert lines < 0.52


def through_a_worker(step):
    """Let a run pass through a worker; return what its core said."""
    for runner in range(4):
        step(orders.RunnerReady(runner))
    sizes, data = b"\1\0\0\0" * TASKS, b"x" * TASKS
    run = Run(1, 1, 1000, TASKS, sizes, data, (0, 1, 0), seconds=1e-5)
    told, todo = Counter(), [orders.Told([run])]
    while todo:
        for order in step(todo.pop(0)):
            told[type(order).__name__] += 1
            if isinstance(order, orders.Dispatch):
                n = order.n
                how = (order.slot, order.run, order.base, n, 1e-5 * n, 8 * n)
                todo.append(orders.SlotRan(*how, inline=True))
    return told


def most_of_a_step():
    """Return how many bytes a step of a worker takes at most."""
    core, peaks = WorkerCore(4, 1), []

    def step(event):
        peak, told = peak_of(lambda: core.step(event, 0.0))
        peaks.append(peak)
        return told

    through_a_worker(step)
    return max(peaks)


def test_a_run_passes_through_a_worker_with_few_operations(figure):
    cores = [WorkerCore(4, 1), WorkerCore(4, 1), WorkerCore(4, 1)]
    told = through_a_worker(lambda event: cores[0].step(event, 0.0))
    calls = calls_of(lambda: through_a_worker(lambda e: cores[1].step(e, 0.0))) / TASKS
    lines = lines_of(lambda: through_a_worker(lambda e: cores[2].step(e, 0.0))) / TASKS
    figure(f"{TASKS:,} tasks: {dict(told)}")
    figure(f"{calls:.4f} calls, {lines:.3f} lines an element")
    assert told["EndRun"] == 1
    assert told.total() < 171
    assert calls < 0.049
    assert lines < 0.272


def test_a_run_takes_a_worker_no_memory_for_each_element(figure, traced):
    most = min(most_of_a_step() for _ in range(THRICE))
    figure(f"{TASKS:,} tasks: at most {most:,} bytes in a step")
    assert most < 4_130
