"""How long a graph would take on a cluster that you do not have.

The real scheduler's core places the tasks of a graph on the real cores of any
number of workers; what runs them is played, so that a day of a thousand machines
takes a minute here.  What comes out can be held against two bounds: no schedule is
shorter than the longest path, nor than all work shared evenly; and against a list
schedule by b-level, which knows all durations and moves data for nothing::

    graph = layered(layers=50, width=400)
    result = try_out(graph, Machines(workers=100, slots=16))
    result.makespan_seconds, result.list_seconds
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from heapq import heapify, heappop, heappush, heapreplace
from random import Random
from typing import Any, Final

import msgspec

from covey.errors import InternalError
from covey.ids import ClientId, TaskId, first_task_id
from covey.scheduler.core.machine import Joined, Orders, Said, SchedulerCore
from covey.sim.fair_weather import FairWorker
from covey.sim.timeline import Timeline
from covey.wire.client_link import (
    DefineFunction,
    Failed,
    Finished,
    Stored,
    Submit,
    SubmitGraph,
)
from covey.wire.introductions import ClientIntroduction

#: So many nodes of a graph go into one message, and so many calls of a map, as a
#: client would send them.
_CHUNK: Final = 20_000
_MAP_CHUNK: Final = 2048

#: Fewer calls than this may be parts of a graph in the order of a client.
_MAP_LEAST: Final = 64

#: So many calls are made before it is seen whether all has ended.
_AT_ONCE: Final = 256

_CLIENT: Final = ClientId(1)


class Graph:
    """Tasks that depend on each other, inputs before their users.

    Attributes:
        seconds: how long each task runs.
        needs: the tasks that each takes, by their places.
        nbytes: how large each result is; small ones ride along.
        functions: which function each task is of.  The scheduler learns from the
            first tasks of a function how long the others will take.
    """

    def __init__(
        self,
        seconds: Sequence[float],
        needs: Sequence[tuple[int, ...]],
        nbytes: Sequence[int] | None = None,
        functions: Sequence[int] | None = None,
    ) -> None:
        self.seconds = seconds
        self.needs = needs
        self.nbytes = nbytes if nbytes is not None else [16] * len(seconds)
        self.functions = functions if functions is not None else [1] * len(seconds)

    def __len__(self) -> int:
        return len(self.seconds)

    def levels(self) -> list[float]:
        """Return the b-level of each task: the longest way from its start to the end."""
        levels = list(self.seconds)
        for task in range(len(levels) - 1, -1, -1):
            for needed in self.needs[task]:
                # All that take it come after it, so that its users are done.
                level = self.seconds[needed] + levels[task]
                levels[needed] = max(levels[needed], level)
        return levels


class Machines(msgspec.Struct, frozen=True):
    """A cluster.

    Attributes:
        workers: how many there are, each with ``slots`` slots in as many runners.
        latency: of a message, in seconds.
        bandwidth: between two workers, in bytes a second.
    """

    workers: int = 100
    slots: int = 16
    latency: float = 2e-4
    bandwidth: float = 1e9


class Result(msgspec.Struct, frozen=True):
    """What came of a trial.

    Attributes:
        tasks: how many there were.
        makespan_seconds: how long it took, in virtual time.
        path_seconds: the longest path; nothing can be faster.
        work_seconds: all work shared by all slots; nothing can be faster either.
        list_seconds: a list schedule by b-level, with data moved for nothing.
        moved_bytes: what was fetched by one worker from another.
        peak_bytes: the most that all workers held at a time.
    """

    tasks: int
    makespan_seconds: float
    path_seconds: float
    work_seconds: float
    list_seconds: float
    moved_bytes: int
    peak_bytes: int

    @property
    def efficiency(self) -> float:
        """The list schedule's time as a share of ours: 1 is as good as it."""
        return self.list_seconds / self.makespan_seconds


class _Trial:
    """A scheduler, machines, and one client that wants the ends of a graph."""

    def __init__(self, graph: Graph, machines: Machines) -> None:
        self.timeline = Timeline()
        self.rng = Random(0)
        self.latency = machines.latency
        self.bandwidth = machines.bandwidth
        self._graph = graph
        self._first = first_task_id(_CLIENT)
        self.core = SchedulerCore(cluster="trial", events_kept=1)
        self._workers: dict[int, FairWorker] = {}
        self._by_address: dict[str, FairWorker] = {}
        self.left = 0
        self.ended_at = 0.0
        self.peak_bytes = 0
        for index in range(machines.workers):
            self._add_worker(index, machines.slots)
        self.timeline.run(1.0)
        self.client = self.core.next_peer()
        hello = ClientIntroduction(_CLIENT, "user", "0", "3", "here")
        self.step(Joined(self.client, hello))

    def _add_worker(self, index: int, slots: int) -> None:
        address = f"tcp://m{index}:1"
        peer = self.core.next_peer()
        worker = FairWorker(self, peer, slots, address)
        self._workers[peer] = self._by_address[address] = worker
        self.step(Joined(peer, worker.introduce(f"m{index}")))

    def seconds(self, task: TaskId) -> float:
        """Return how long a task runs."""
        return self._graph.seconds[task - self._first]

    def nbytes(self, task: TaskId) -> int:
        """Return how large a value is."""
        return self._graph.nbytes[task - self._first]

    def worker_at(self, address: str) -> FairWorker:
        """Return the worker that serves its data at an address."""
        return self._by_address[address]

    def step(self, event: Joined | Said) -> None:
        """Let the scheduler take an event in, and send what it says."""
        orders: Orders = self.core.step(event, self.timeline.now)
        stored = self.core.state.stored_bytes
        self.peak_bytes = max(self.peak_bytes, stored)
        for peer, messages in orders.items():
            worker = self._workers.get(peer)
            if worker is not None:
                time = self.timeline.now + self.latency
                self.timeline.at(time, worker.hear_scheduler, messages)
            else:
                self._hear(messages)

    def _hear(self, messages: list[Any]) -> None:
        for message in messages:
            if isinstance(message, Finished | Stored):
                self.left -= message.n
                self.ended_at = self.timeline.now
                continue
            if isinstance(message, Failed):
                why = message.failure.message
                raise InternalError(f"a task of the trial failed: {why}")

    def submit(
        self, graph: Graph, order: Sequence[int] | None, levels: Sequence[float]
    ) -> None:
        """Wish for the ends of *graph*; *order* says what had better run first."""
        maps = order is None
        used = {needed for needs in graph.needs for needed in needs}
        for function in sorted(set(graph.functions)):
            digest = b"%16d" % function
            define = DefineFunction(function, digest, f"f{function}", b"")
            self.step(Said(self.client, [define]))
        start = 0
        while start < len(graph):
            end = _end_of_map(graph, start) if maps else start
            if end - start >= _MAP_LEAST:
                message: Submit | SubmitGraph = self._map(graph, start, end)
            else:
                end = min(start + _CHUNK, len(graph))
                order = _by_level(levels) if order is None else order
                message = self._nodes(graph, order, used, start, end)
            self.step(Said(self.client, [message]))
            start = end

    def _map(self, graph: Graph, start: int, end: int) -> Submit:
        first = first_task_id(_CLIENT)
        n = end - start
        self.left += n
        return Submit(first + start, n, graph.functions[start], b"\0" * 4 * n, b"")

    def _nodes(
        self, graph: Graph, order: Sequence[int], used: set[int], start: int, end: int
    ) -> SubmitGraph:
        first = first_task_id(_CLIENT)
        wanted = tuple(
            (first + place, 1)
            # What later parts take must be held until they have come.
            for place in range(start, end)
            if place not in used or end < len(graph)
        )
        self.left += len(wanted)
        return SubmitGraph(
            first + start,
            tuple(graph.functions[start:end]),
            b"\0" * 4 * (end - start),
            b"",
            tuple(
                tuple([first + needed for needed in graph.needs[place]])
                for place in range(start, end)
            ),
            tuple(order[start:end]),
            wanted,
        )


def _end_of_map(graph: Graph, start: int) -> int:
    """Return where calls of one function that take nothing end: a client maps them."""
    end, last = start, min(start + _MAP_CHUNK, len(graph))
    function = graph.functions[start]
    while end < last and not graph.needs[end] and graph.functions[end] == function:
        end += 1
    return end


def try_out(
    graph: Graph, machines: Machines, *, order: Sequence[int] | None = None
) -> Result:
    """Run *graph* on *machines*, and say how long it took.

    Args:
        graph: the tasks.
        machines: the cluster.
        order: what had better run first, as dask's own order says it; by default
            the tasks in the order of their b-levels, but for many calls of one function
            that take nothing: those come as the maps of a client.
    """
    levels = graph.levels()
    with _without_collector():
        trial = _Trial(graph, machines)
        began = trial.timeline.now
        trial.submit(graph, order, levels)
        while trial.left > 0:
            if not trial.timeline.steps(_AT_ONCE):
                raise InternalError(f"{trial.left} tasks of the trial never ended")
    slots = machines.workers * machines.slots
    return Result(
        tasks=len(graph),
        makespan_seconds=trial.ended_at - began,
        path_seconds=max(levels, default=0.0),
        work_seconds=sum(graph.seconds) / slots,
        list_seconds=list_schedule(graph, slots, levels),
        moved_bytes=trial.core.state.counters["bytes_moved"],
        peak_bytes=trial.peak_bytes,
    )


def _by_level(levels: Sequence[float]) -> list[int]:
    """Return which one each task is in the order of their b-levels."""
    ranks = [0] * len(levels)
    places = sorted(range(len(levels)), key=lambda task: -levels[task])
    for rank, task in enumerate(places):
        ranks[task] = rank
    return ranks


@contextmanager
def _without_collector() -> Iterator[None]:
    """Let Python look for circles afterwards: what comes and goes here are none.

    It would look at a million records of tasks, and at all the machines, again and
    again; a scheduler is spared that by ``covey.scheduler.collector``.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def list_schedule(
    graph: Graph, slots: int, levels: Sequence[float] | None = None
) -> float:
    """Return the makespan of a list schedule: the highest b-level goes first."""
    levels = graph.levels() if levels is None else levels
    if not any(graph.needs):
        return _all_at_once(graph.seconds, slots)
    users: list[list[int]] = [[] for _ in range(len(graph))]
    missing = [0] * len(graph)
    for task, needs in enumerate(graph.needs):
        missing[task] = len(set(needs))
        for needed in set(needs):
            users[needed].append(task)
    ready = [(-levels[task], task) for task in range(len(graph)) if not missing[task]]
    heapify(ready)
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < slots:
            _, task = heappop(ready)
            heappush(running, (now + graph.seconds[task], task))
        now, task = heappop(running)
        for user in users[task]:
            missing[user] -= 1
            if not missing[user]:
                heappush(ready, (-levels[user], user))
    return now


def _all_at_once(seconds: Sequence[float], slots: int) -> float:
    """The same of tasks that wait for nothing: the longest goes to who is free first."""
    free = [0.0] * slots
    for each in sorted(seconds, reverse=True):
        heapreplace(free, free[0] + each)
    return max(free, default=0.0)


# Graphs to try.

Duration = Callable[[Random], float]


def uneven(rng: Random) -> float:
    """Return about a second: mostly less, at times much more."""
    return min(20.0, rng.lognormvariate(-0.5, 1.0))


def independent(n: int, *, duration: Duration = uneven, seed: int = 0) -> Graph:
    """Return tasks that have nothing to do with each other."""
    rng = Random(seed)
    return Graph([duration(rng) for _ in range(n)], [()] * n)


def layered(
    layers: int,
    width: int,
    *,
    inputs: int = 3,
    nbytes: int = 16,
    duration: Duration = uneven,
    seed: int = 0,
) -> Graph:
    """Return layers of tasks, each of which takes some of the layer before."""
    rng = Random(seed)
    needs: list[tuple[int, ...]] = []
    for layer in range(layers):
        before = (layer - 1) * width
        for _ in range(width):
            some = {
                before + rng.randrange(width) for _ in range(inputs if layer else 0)
            }
            needs.append(tuple(sorted(some)))
    n = layers * width
    functions = [1 + place // width for place in range(n)]
    return Graph([duration(rng) for _ in range(n)], needs, [nbytes] * n, functions)


def tree(leaves: int, *, arity: int = 4, nbytes: int = 16, seed: int = 0) -> Graph:
    """Return a reduction: leaves, and sums of sums of them."""
    rng = Random(seed)
    needs: list[tuple[int, ...]] = [()] * leaves
    level = list(range(leaves))
    while len(level) > 1:
        above = []
        for at in range(0, len(level), arity):
            above.append(len(needs))
            needs.append(tuple(level[at : at + arity]))
        level = above
    n = len(needs)
    functions = [1 if not taken else 2 for taken in needs]
    return Graph([uneven(rng) for _ in range(n)], needs, [nbytes] * n, functions)
