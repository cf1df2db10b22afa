"""Machines to which nothing happens: they do as those do to which anything may."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import chain
from random import Random

import pytest

from covey.ids import ClientId, first_task_id
from covey.scheduler.core.machine import Joined, Said, SchedulerCore
from covey.sim import trial
from covey.sim.network import Network, Weather
from covey.sim.tasks import Recipe
from covey.sim.timeline import Trace
from covey.sim.trial import Graph, Machines, independent, layered, try_out
from covey.sim.worker import Worker
from covey.worker.core.machine import WorkerCore

FIRST = first_task_id(ClientId(1))


class PlayedTasks:
    """The tasks of a graph, as the runners of the simulator of faults run them."""

    def __init__(self, graph):
        self.recipes = [
            Recipe(place, "large" if nbytes > 2048 else "plain", seconds)
            for place, (seconds, nbytes) in enumerate(
                zip(graph.seconds, graph.nbytes, strict=True)
            )
        ]

    def begin(self, payload, task):
        return self.recipes[task - FIRST]

    def fails(self, recipe):
        return ""

    def lasted(self, recipe, seconds):
        pass

    def value(self, payload, recipe, run, task, inputs):
        return b""


class Upstream:
    """The link from a worker to the scheduler."""

    def __init__(self, world, peer):
        self.world = world
        self.peer = peer

    def send_all(self, messages):
        said = Said(self.peer, messages)
        self.world.timeline.after(self.world.latency, self.world.step, said)


class PlayedTrial(trial._Trial):
    """A trial on the workers of the simulator of faults, without any."""

    network = None

    def _add_worker(self, index, slots):
        if self.network is None:
            weather = Weather(self.latency, 0.0, self.bandwidth)
            self.network = Network(self.timeline, Random(0), weather, Trace())
            self.work = PlayedTasks(self._graph)
        address = f"tcp://m{index}:1"
        how = {"runners": slots, "threads": 1, "address": address}
        worker = Worker(self, f"m{index}", **how)
        peer = self.core.next_peer()
        worker.upstream = Upstream(self, peer)
        self._workers[peer] = self._by_address[address] = worker
        self.step(Joined(peer, worker.introduce(0)))


def short(rng):
    return min(0.4, 0.02 * rng.lognormvariate(-0.5, 1.0))


def very_short(rng):
    return 0.0005 * rng.lognormvariate(-0.5, 1.0)


@pytest.mark.parametrize(
    ("graph", "most_apart"),
    [
        (independent(2_000, duration=short), 0.05),
        (independent(20_000, duration=very_short), 0.05),
        (layered(8, 300, duration=short), 0.05),
        (layered(8, 300, duration=very_short), 0.05),
        (layered(6, 60, inputs=2, nbytes=200_000), 0.05),
    ],
    ids=["independent", "very short", "layers", "very short layers", "large values"],
)
def test_a_graph_takes_as_long_as_where_faults_are_played(
    graph, most_apart, monkeypatch
):
    machines = Machines(workers=5, slots=4)
    ours = try_out(graph, machines)
    monkeypatch.setattr(trial, "_Trial", PlayedTrial)
    played = try_out(graph, machines)
    assert ours.makespan_seconds == pytest.approx(
        played.makespan_seconds, rel=most_apart
    )
    assert ours.moved_bytes == pytest.approx(played.moved_bytes, rel=0.25)
    assert ours.peak_bytes == pytest.approx(played.peak_bytes, rel=0.1)


def test_what_a_slot_has_not_begun_can_be_had_back():
    """The first task is so long that all the others must get away from behind it."""
    graph = Graph([0.005] * 40 + [5.0] + [0.005] * 400, [()] * 441)
    result = try_out(graph, Machines(workers=2, slots=2))
    assert result.makespan_seconds < 5.4


def counted(monkeypatch, graph, machines):
    """Try a graph; return how many orders, messages and calls on the timeline there were."""
    found = Counter()

    def count(core, entries):
        step = core.step

        def counting(self, event, *args, **more):
            out = step(self, event, *args, **more)
            found.update(type(entry).__name__ for entry in entries(event, out))
            return out

        monkeypatch.setattr(core, "step", counting)

    count(WorkerCore, lambda event, orders: [event, *orders])
    count(SchedulerCore, lambda event, orders: chain(*orders.values()))
    timelines = []
    new = trial.Timeline

    def kept():
        timelines.append(new())
        return timelines[-1]

    monkeypatch.setattr(trial, "Timeline", kept)
    result = try_out(graph, machines)
    found["calls"] = timelines[0].asked
    return result, found


def test_tasks_of_some_milliseconds_are_moved_about_little(monkeypatch):
    """25 of them for each slot: few go to a second slot, and they come in slices."""
    n = 8_000
    graph = independent(n, duration=short)
    result, found = counted(monkeypatch, graph, Machines(workers=20, slots=16))
    sys.stdout.write(f"{result.efficiency:.2f} {dict(found)}\n")
    assert found["Dispatch"] < n
    assert found["SlotReturned"] < 0.06 * n
    assert found["Run"] < 0.09 * n
    assert found["WakeAt"] < 0.4 * n
    assert found["calls"] < 2.9 * n


def test_long_tasks_come_in_slices_too(monkeypatch):
    n = 2_000
    graph = independent(n)
    result, found = counted(monkeypatch, graph, Machines(workers=5, slots=16))
    sys.stdout.write(f"{result.efficiency:.2f} {dict(found)}\n")
    assert found["Dispatch"] < 1.01 * n
    assert found["Run"] < 0.2 * n
    assert found["calls"] < 2.5 * n
