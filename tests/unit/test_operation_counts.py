"""Costs that are counted, not timed: messages, spans, calls and bytes a task.

The same on every machine and under any load.  The limits stand a tenth above
what is true today; who breaks one has made something dearer that happens once
for each task, and should know why; who makes it cheaper lowers it.  ``pytest -rP``
shows the figures.
"""

from __future__ import annotations

import gc
from collections import Counter
from itertools import accumulate

import msgspec
import pytest
from counting import Cluster, bytes_of, calls_of, chain, lines_of, submit

from covey import payload
from covey.client.core.ranges import Range
from covey.payload import Pack
from covey.scheduler.core import placement
from covey.scheduler.core.machine import Left, Said, Tick
from covey.scheduler.core.state import Span
from covey.store.shelf import Shelf
from covey.wire import worker_link
from covey.wire.client_link import Cancel, Release, Submit, SubmitGraph
from covey.worker.core import orders
from covey.worker.core.machine import WorkerCore

TASKS = 100_000
NODES = 10_000


def test_a_map_is_few_messages_and_few_spans(figure):
    cluster = Cluster()
    cluster.say(submit(cluster.base, TASKS))
    total = sum(cluster.sent.values())
    figure(f"{TASKS:,} tasks: {total} messages, {cluster.spans_max} spans at most")
    assert cluster.core.state.counters["tasks_done"] == TASKS
    assert total < 171
    assert cluster.spans_max < 54


def test_a_map_costs_few_calls(figure):
    cluster = Cluster()
    calls = calls_of(lambda: cluster.say(submit(cluster.base, TASKS)))
    figure(f"{TASKS:,} tasks: {calls:,} calls, {calls / TASKS:.3f} each")
    assert calls < 0.031 * TASKS


def test_a_map_of_short_tasks_costs_no_more_with_many_workers(figure):
    def calls(workers):
        cluster = Cluster(workers, slots=16, seconds=1e-5)
        # The function is measured, and known to those who will be asked.
        cluster.say(submit(cluster.base, workers * 16))
        base = cluster.base + workers * 16
        before = cluster.sent["Run"]
        done = calls_of(
            lambda: [
                cluster.say(submit(base + at, 2048)) for at in range(0, TASKS, 2048)
            ]
        )
        return done / TASKS, cluster.sent["Run"] - before

    (few, _), (many, runs) = calls(10), calls(1000)
    figure(
        f"an element: {few:.3f} calls with 10 workers, {many:.3f} with 1,000: {runs}"
    )
    assert runs < 108
    assert few < 0.065
    assert many <= few * 1.05


def test_letting_go_of_a_map_is_few_messages(figure):
    cluster = Cluster()
    cluster.say(submit(cluster.base, TASKS))
    spans = len(cluster.core.state.spans)
    calls = calls_of(lambda: cluster.say(Release(((cluster.base, TASKS),))))
    figure(f"{TASKS:,} tasks in {spans} spans: {calls} calls to let go")
    assert cluster.sent["Drop"] <= spans / 10
    assert calls < 15 * spans + 50
    assert not cluster.core.state.spans


def test_each_of_many_workers_is_told_once_to_let_go_of_a_map(figure):
    """However many steps that takes, and though neighbours lie on different workers."""
    workers = 400
    cluster = Cluster(workers, slots=16, seconds=0.02)
    cluster.say(submit(cluster.base, TASKS))
    spans = len(cluster.core.state.spans)
    event = Said(cluster.client, [Release(((cluster.base, TASKS),))])
    told = 0
    while cluster.core.state.spans:
        orders = cluster.core.step(event, 1.0)
        told += sum(len(messages) for messages in orders.values())
        event = Tick()
    figure(f"{spans} spans on {workers} workers: {told} messages to let go")
    assert spans > 3 * workers
    assert told < 1.2 * workers


@pytest.mark.parametrize("way", ["released", "left", "failed"])
def test_no_step_is_longer_for_a_larger_graph(figure, way):
    """A graph that nobody needs any more goes in steps, and so does one that fails."""

    def longest_step(n):
        cluster = Cluster(workers=0)
        cluster.say(chain(cluster.base, n))
        if way == "released":
            first = Said(cluster.client, [Release(((cluster.base + n - 1, 1),))])
        elif way == "left":
            first = Left(cluster.client)
        else:
            first = Said(cluster.client, [Cancel(((cluster.base, 1),))])
        calls = [calls_of(lambda: cluster.core.step(first, 1.0))]
        while cluster.core.wake_at:
            calls.append(calls_of(lambda: cluster.core.step(Tick(), 1.0)))
        if way == "failed":
            assert cluster.core.state.spans[cluster.base + n - 1].failure
        else:
            assert not cluster.core.state.spans
        return max(calls), len(calls)

    (few, one), (many, steps) = longest_step(1_500), longest_step(6_000)
    figure(f"{way}: {few:,} calls in {one} steps, at most {many:,} in {steps}")
    assert steps > 2 * one
    assert many < 1.5 * few


def test_a_client_that_leaves_with_many_wishes_goes_in_steps():
    cluster = Cluster(workers=0)
    cluster.say(*(submit(cluster.base + 2 * i, 1) for i in range(5_000)))
    calls = [calls_of(lambda: cluster.core.step(Left(cluster.client), 1.0))]
    while cluster.core.wake_at:
        calls.append(calls_of(lambda: cluster.core.step(Tick(), 1.0)))
    assert len(calls) > 10 and max(calls) < 2 * calls[1]
    assert not cluster.core.state.spans


def test_a_map_of_long_tasks_is_cut_no_finer_than_it_is_dealt(figure):
    cluster = Cluster(seconds=10.0)
    cluster.say(submit(cluster.base, 2_000))
    figure(f"2,000 long tasks: {dict(cluster.sent)}")
    assert cluster.sent["Run"] <= 2_000
    assert cluster.sent["Finished"] <= cluster.sent["Run"]


def test_a_node_of_a_graph_costs_few_calls_and_messages(figure):
    cluster = Cluster()
    calls = calls_of(lambda: cluster.say(chain(cluster.base, NODES)))
    other = Cluster()
    lines = lines_of(lambda: other.say(chain(other.base, NODES))) / NODES
    each = calls / NODES
    figure(f"{NODES:,} nodes: {each:.1f} calls each, {dict(cluster.sent)}")
    figure(f"{lines:.1f} lines each")
    assert cluster.core.state.counters["tasks_done"] == NODES
    assert cluster.sent["Run"] == NODES
    assert cluster.sent["Finished"] == 1
    assert each < 44
    assert lines < 475


def level(base, n, source):
    """Return a level of a tree over the range *source*."""
    return msgspec.structs.replace(submit(base, n), groups=((source, 2),))


def test_a_task_of_a_tree_costs_as_little_as_one_of_a_range(figure):
    cluster = Cluster()
    at, n = cluster.base, 8_192
    levels = [submit(at, n)]
    while n > 1:
        n //= 2
        levels.append(level(at + 2 * n, n, at))
        at += 2 * n
    calls = calls_of(lambda: cluster.say(*levels))
    tasks = cluster.core.state.counters["tasks_done"]
    figure(f"{tasks:,} tasks: {calls / tasks:.2f} calls each, {dict(cluster.sent)}")
    figure(f"at most {cluster.spans_max} spans")
    assert tasks == 2 * 8_192 - 1
    assert calls / tasks < 1.68
    assert cluster.sent["Run"] < 261
    assert cluster.spans_max < 286


def test_an_element_of_a_range_is_a_few_bytes(figure):
    def waiting():
        cluster = Cluster(workers=0)
        cluster.say(submit(cluster.base, TASKS))
        return cluster

    def done():
        cluster = Cluster()
        cluster.say(submit(cluster.base, TASKS))
        return cluster

    own = 2 * 4  # Its arguments, and their size.
    before, after = bytes_of(waiting) / TASKS, bytes_of(done) / TASKS
    figure(f"{before:.1f} bytes a waiting task, {after:.1f} a finished one; {own} own")
    assert before < 9.3
    assert after < 18.8


def test_a_node_of_a_graph_with_two_inputs_is_less_than_700_bytes(figure):
    def waiting():
        cluster = Cluster(workers=0)
        cluster.say(chain(cluster.base, NODES))
        return cluster

    each = bytes_of(waiting) / NODES
    figure(f"{each:.0f} bytes a node")
    assert each < 700


def spans_kept_by(span):
    """Return the spans that one of them leads to, itself included."""
    seen = {id(span): span}
    todo = [span]
    while todo:
        for other in gc.get_referents(todo.pop()):
            if type(other) in {Span, tuple, dict} and id(other) not in seen:
                seen[id(other)] = other
                todo.append(other)
    return [one for one in seen.values() if type(one) is Span]


def test_what_is_forgotten_holds_on_to_nothing(figure):
    """A queue may still name it, and must not keep all that led to it in memory."""
    cluster = Cluster(workers=0)
    cluster.say(chain(cluster.base, 500))
    last = cluster.core.state.spans[cluster.base + 499]
    before = len(spans_kept_by(last))
    cluster.say(Release(((cluster.base + 499, 1),)))
    while cluster.core.wake_at:
        cluster.core.step(Tick(), 1.0)
    assert not cluster.core.state.spans
    figure(f"the last of 500 keeps {before} in memory, and itself when forgotten")
    assert before == 500
    assert spans_kept_by(last) == [last]


def test_many_submissions_cost_the_same_each(figure):
    """Nothing is searched through that grows with what was submitted before."""

    def some(cluster, first):
        for index in range(first, first + 500):
            cluster.say(submit(cluster.base + 10 * index, 3))

    cluster = Cluster(workers=0)
    early = calls_of(lambda: some(cluster, 0))
    some(cluster, 500)
    late = calls_of(lambda: some(cluster, 1000))
    figure(f"500 submissions: {early:,} calls at first, {late:,} later")
    assert early < 27 * 500
    assert late <= 1.05 * early


def test_an_idle_cluster_of_many_workers_costs_nothing_a_message(figure):
    """What one worker says must not cost a look at all the others."""

    def calls(workers):
        cluster = Cluster(workers=workers, slots=1)
        cluster.say(submit(cluster.base, 100))
        return calls_of(lambda: cluster.say(submit(cluster.base + 1_000, 1)))

    few, many = calls(10), calls(200)
    figure(f"one task: {few} calls with 10 workers, {many} with 200")
    assert few < 49
    assert many < few + 6


def test_a_node_costs_no_more_with_many_workers(figure):
    """Placing a task is no look at all the workers, though most of them idle."""

    def tree(base, n):
        needs = tuple(
            (base + 2 * i + 1, base + 2 * i + 2) if 2 * i + 2 < n else ()
            for i in range(n)
        )
        # Inputs come before their users.
        turned = tuple(
            tuple(base + n - 1 - (task - base) for task in these)
            for these in reversed(needs)
        )
        pack = Pack.of([b"data"] * n)
        sizes, data = pack.sizes_bytes(), bytes(pack.data)
        order = tuple(range(n))
        return SubmitGraph(
            base, (1,) * n, sizes, data, turned, order, ((base + n - 1, 1),)
        )

    def calls(workers):
        cluster = Cluster(workers=workers, slots=4)
        made = tree(cluster.base, 4_095)
        counted = calls_of(lambda: cluster.say(made))
        assert cluster.core.state.counters["tasks_done"] == 4_095
        return counted / 4_095

    few, many = calls(10), calls(500)
    figure(f"a node of a tree: {few:.0f} calls with 10 workers, {many:.0f} with 500")
    assert few < 54
    assert many < 1.6 * few


def test_a_task_costs_no_more_while_many_workers_are_busy(figure):
    """Who has no idle slot is not looked at for each task that another one takes."""

    def calls(workers):
        cluster = Cluster(workers=workers, slots=4)
        core, base = cluster.core, cluster.base
        held = []

        def hold(message):
            if isinstance(message, worker_link.Run):
                held.append(message)
            return ()

        cluster._answers = hold
        # All slots are taken, and half of the workers may take something ahead.
        cluster.say(submit(base, 6 * workers))
        assert core.state.idle_slots == 0
        (peer,) = list(cluster.workers)[-1:]
        worker = core.state.workers[peer]
        for span in list(worker.assigned)[:1]:
            run = next(run for run in held if run.base == span.base)
            ran = worker_link.Ran(
                run.run, run.base, run.n, 0.5 * run.n, run.sizes, run.data
            )
            core.step(Said(peer, [ran]), 1.0)
        assert worker.count < 4
        counted = calls_of(lambda: cluster.say(submit(base + 100_000, 1)))
        assert held[-1].base == base + 100_000
        return counted

    few, many = calls(10), calls(400)
    figure(f"one task: {few} calls with 10 busy workers, {many} with 400")
    # A bounded number of them is looked at for what they could hand back.
    assert few < 42
    assert many < few + placement.LOOKED_AT


def test_a_chain_goes_to_its_worker_in_one_go(figure):
    """A link is one message to the worker and one from it, and waits for neither."""
    cluster = Cluster(workers=1, slots=2)
    cluster.say(submit(cluster.base, 100))
    turns = cluster.turns
    n = 1_000
    base = cluster.base + 1_000
    links = [
        Submit(
            base + i,
            1,
            1,
            b"\4\0\0\0",
            b"data",
            aligned=(base + i - 1,) if i else (),
        )
        for i in range(n)
    ]
    calls = calls_of(lambda: cluster.say(*links)) / n
    turns = cluster.turns - turns
    figure(f"{n:,} links: {calls:.0f} calls each, {turns} turns")
    assert cluster.core.state.counters["tasks_done"] == n + 100
    assert turns < 5
    assert calls < 87


# The client.


def test_a_future_of_a_single_task_is_few_objects(figure):
    """A loop over ``submit`` makes as little work for the garbage collector as it can."""
    gc.collect()
    before = len(gc.get_objects())
    ranges = [Range(index, 1, "f", None) for index in range(1_000)]
    for wish in ranges:
        wish.finish_one(b"value")
    each = (len(gc.get_objects()) - before) / len(ranges)
    figure(f"a range of one: {each:.1f} objects that the collector looks at")
    assert each < 2.3


# The worker.


def test_dropping_one_of_many_small_values_is_no_look_at_all_of_them(monkeypatch):
    looks = []
    monkeypatch.setattr(
        payload, "accumulate", lambda sizes: looks.append(1) or accumulate(sizes)
    )
    shelf = Shelf()
    shelf.put(0, Pack.of([b"x"] * 1_000))
    for task in range(0, 1_000, 2):
        shelf.drop(task, 1)
    assert shelf.small_bytes == 500
    # Where each payload ends was found out once.
    assert len(looks) == 1


def test_single_tasks_cost_a_worker_few_calls_and_hardly_a_message(figure):
    """Nodes of a graph: each is a run of its own, and they end many at a time."""
    core = WorkerCore(1, 1)
    core.step(orders.RunnerReady(0), 1.0)
    core.step(orders.Told([worker_link.Define(1, "f", b"f")]), 1.0)
    n, told = 500, Counter()

    def live():
        asked = [
            worker_link.Run(
                run,
                1,
                1000 + run,
                1,
                b"\1\0\0\0",
                b"x",
                (0, 0, run),
                seconds=1e-5,
                reply=False,
                digests=True,
            )
            for run in range(1, n + 1)
        ]
        done = 0
        found = core.step(orders.Told(asked), 1.0)
        while done < n:
            parcels = [o for o in found if isinstance(o, orders.DispatchNodes)]
            sent = [node for parcel in parcels for node in parcel.nodes]
            told.update(type(order).__name__ for order in found)
            assert sent
            done += len(sent)
            runs, tasks = [d.run for d in sent], [d.base for d in sent]
            seconds, sizes = [1e-5] * len(sent), [10] * len(sent)
            event = orders.SlotRanNodes(0, runs, tasks, seconds, sizes, 2048)
            found = core.step(event, 1.0)
        told.update(type(order).__name__ for order in found)

    each = calls_of(live) / n
    figure(
        f"a single task on a worker: {each:.1f} calls, "
        f"{told['ReportNodes']} messages, {told['DispatchNodes']} parcels for {n}"
    )
    assert not core.state.runs
    assert told["ReportNodes"] == 1
    assert not {"Tell", "ReportStored", "Dispatch", "EndRun"} & told.keys()
    assert told["DispatchNodes"] < 13
    assert each < 8.9


def test_a_task_by_itself_costs_a_worker_few_calls(figure):
    """All that a worker's core does for what somebody waits for, one at a time."""
    core = WorkerCore(2, 1)
    for runner in range(2):
        core.step(orders.RunnerReady(runner), 1.0)
    core.step(orders.Told([worker_link.Define(1, "f", b"f")]), 1.0)

    def live(number):
        how = (number, 1, 1000 + number, 1, b"\1\0\0\0", b"x", (0, 0, number))
        found = core.step(orders.Told([worker_link.Run(*how, seconds=1e-5)]), 1.0)
        (sent,) = [order for order in found if hasattr(order, "slot")]
        ran = ((number,), (1000 + number,), (1e-5,), (10,), 2048)
        core.step(orders.SlotRanNodes(sent.slot, *ran), 1.0)
        core.step(orders.Told([worker_link.Drop(((1000 + number, 1),))]), 1.0)

    live(1)
    calls = calls_of(lambda: live(2))
    figure(f"a task by itself on a worker: {calls} calls")
    assert not core.state.runs
    assert calls < 38
    assert not core.state.alone


@pytest.mark.parametrize("core", [Cluster(workers=0).core, WorkerCore(1, 1)])
def test_each_table_of_a_core_is_found_in_its_place(core):
    """With a dict of more than thirty, Python would look for it each time."""
    assert not hasattr(core.state, "__dict__")
