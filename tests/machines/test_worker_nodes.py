"""Single tasks whose ends a slot tells of together."""

from __future__ import annotations

import pytest

from covey.errors import RemoteProtocolError
from covey.ids import ClientId, first_task_id
from covey.scheduler.core.machine import Joined, Said, SchedulerCore
from covey.scheduler.core.state import DONE, WAITING
from covey.wire import client_link
from covey.wire.introductions import ClientIntroduction, WorkerIntroduction
from covey.wire.worker_link import Define, RanNodes, Run, Stop
from covey.worker.core import invariants, orders
from covey.worker.core.machine import WorkerCore


class Worker:
    """A worker of one slot, which was sent three single tasks."""

    def __init__(self, **options):
        self.core = WorkerCore(1, 1)
        self.step(orders.RunnerReady(0))
        self.step(orders.Told([Define(1, "f", b"f")]))
        self.told = self.step(
            orders.Told(
                [self.asked(run, reply=run == 2, **options) for run in (1, 2, 3)]
            )
        )

    def asked(self, run, **options):
        return Run(
            run,
            1,
            100 * run,
            1,
            b"\1\0\0\0",
            b"x",
            (0, 0, run),
            seconds=1e-5,
            **options,
        )

    def step(self, event):
        found = self.core.step(event, 1.0)
        invariants.check(self.core.state)
        return found

    def ran(self, *rows):
        runs, tasks, sizes = zip(*rows, strict=True)
        seconds = [0.25] * len(rows)
        return self.step(orders.SlotRanNodes(0, runs, tasks, seconds, sizes, 50))


def test_all_are_told_of_in_one_message_and_those_waited_for_with_their_values():
    worker = Worker()
    assert sum(isinstance(order, orders.Dispatch) for order in worker.told) == 3
    found = worker.ran((1, 100, 7), (2, 200, 8), (3, 300, 9))
    assert found[0] == orders.StowNodes([0, 1, 2])
    assert orders.Report(2, 200, 1, 0.25, 0, False) in found
    (tell,) = [order for order in found if isinstance(order, orders.Tell)]
    assert tell.message == RanNodes((1, 3), (100, 300), (0.25, 0.25), (7, 9), 0)
    assert not worker.core.state.runs


def test_with_digests_they_are_one_order():
    worker = Worker(digests=True)
    found = worker.ran((1, 100, 7), (2, 200, 8), (3, 300, 9))
    assert orders.Report(2, 200, 1, 0.25, 0, True) in found
    rows = ((1, 3), (100, 300), (0.25, 0.25), (7, 9))
    assert orders.ReportNodes(*rows, 0) in found
    assert not any(isinstance(order, orders.Tell) for order in found)


def test_of_stopped_and_unknown_ones_nothing_is_kept_or_said():
    worker = Worker()
    worker.step(orders.Told([Stop(3, 300, 1)]))
    found = worker.ran((1, 100, 7), (9, 900, 1), (3, 300, 9))
    assert found[0] == orders.StowNodes([0])
    (tell,) = [order for order in found if isinstance(order, orders.Tell)]
    assert tell.message.runs == (1,)


@pytest.mark.parametrize(
    "rows", [[(1, 100, 7), (1, 100, 7)], [(1, 100, 7), (4, 401, 1)]]
)
def test_news_that_fit_nothing_are_refused_as_a_whole(rows):
    worker = Worker()
    many = Run(4, 1, 400, 3, b"\1\0\0\0" * 3, b"xxx", (0, 0, 9), seconds=1e-5)
    worker.step(orders.Told([many]))
    with pytest.raises(RemoteProtocolError):
        worker.ran(*rows)
    invariants.check(worker.core.state)
    assert len(worker.core.state.runs) == 4


def scheduler_with(nodes):
    core = SchedulerCore()
    client, worker = core.next_peer(), core.next_peer()
    core.step(Joined(client, ClientIntroduction(3, "a", "0", "3", "h")), 0.0)
    hello = WorkerIntroduction("w", 2, {}, (), "h", 0, "0", "3", 1)
    core.step(Joined(worker, hello), 0.0)
    base = first_task_id(ClientId(3))
    graph = client_link.SubmitGraph(
        base,
        (1,) * nodes,
        b"\1\0\0\0" * nodes,
        b"x" * nodes,
        tuple((base + i - 1,) if i else () for i in range(nodes)),
        tuple(range(nodes)),
        ((base, nodes),),
    )
    define = client_link.DefineFunction(1, b"digest", "f", b"f")
    sent = core.step(Said(client, [define, graph]), 0.0)
    runs = [m for m in sent[worker] if isinstance(m, Run)]
    return core, worker, runs


def test_the_scheduler_takes_each_of_them_in():
    core, worker, runs = scheduler_with(3)
    first = runs[0]
    late = RanNodes((first.run, 99), (first.base, first.base + 2), (0.5, 0.5), (4, 4))
    core.step(Said(worker, [late]), 1.0)
    spans = core.state.spans
    assert spans[first.base].state is DONE and spans[first.base].nbytes == 4
    # The other one is no attempt that anybody has ordered.
    assert spans[first.base + 2].state is not DONE
    assert spans[first.base].function.seconds == 0.5


def test_each_of_them_has_its_digest():
    core, worker, runs = scheduler_with(3)
    rows = [(run.run, run.base, 0.5, 4) for run in runs]
    news = RanNodes(
        *zip(*rows, strict=True), 0, b"".join([b"%4d" % r[0] for r in rows])
    )
    core.step(Said(worker, [news]), 1.0)
    for run in runs:
        span = core.state.spans[run.base]
        assert (span.state, span.digests) == (DONE, b"%4d" % run.run)
    with pytest.raises(RemoteProtocolError):
        core.step(
            Said(worker, [RanNodes((1, 2), (1, 2), (1, 1), (1, 1), 0, b"123")]), 2.0
        )


def test_columns_of_different_length_are_refused():
    core, worker, runs = scheduler_with(3)
    with pytest.raises(RemoteProtocolError):
        core.step(Said(worker, [RanNodes((runs[0].run,), (), (), ())]), 1.0)
    assert core.state.spans[runs[0].base].state is not WAITING
