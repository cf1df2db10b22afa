"""What comes alone begins at once where a slot idles, and never before its turn."""

from __future__ import annotations

import pytest

from covey.ids import ClientId, first_task_id
from covey.scheduler.core import invariants, queues
from covey.scheduler.core.machine import Away, Joined, Said, SchedulerCore
from covey.wire import worker_link
from covey.wire.base import Options
from covey.wire.client_link import DefineFunction, Submit
from covey.wire.introductions import ClientIntroduction, WorkerIntroduction
from covey.worker.core import invariants as worker_invariants
from covey.worker.core import orders
from covey.worker.core.machine import WorkerCore

CLIENT = ClientId(3)
BASE = first_task_id(CLIENT)


class Scheduler:
    """A scheduler's core with one client, and workers of one slot each."""

    def __init__(self, workers=1):
        self.core = SchedulerCore()
        self.state = self.core.state
        self.client = self.core.next_peer()
        self.step(
            Joined(self.client, ClientIntroduction(CLIENT, "c", "0", "3.11", "here"))
        )
        self.workers = [self.core.next_peer() for _ in range(workers)]
        for number, peer in enumerate(self.workers):
            hello = WorkerIntroduction(
                f"w{number}", 1, {}, (), "here", 0, "0", "3.11", 1
            )
            self.step(Joined(peer, hello))
        self.say(DefineFunction(1, b"digest", "f", b"code"))

    def step(self, event):
        found = self.core.step(event, 1.0)
        invariants.check(self.state)
        return found

    def say(self, *messages):
        """Return the tasks that workers are given: by worker, in order."""
        found = self.step(Said(self.client, messages))
        return {
            peer: [m.base for m in told if isinstance(m, worker_link.Run)]
            for peer, told in found.items()
            if peer in self.workers
        }


def submit(number, **options):
    return Submit(BASE + number, 1, 1, b"\1\0\0\0", b"x", options=Options(**options))


@pytest.fixture
def lined_up(monkeypatch):
    """Return a list that gets every span that lies ready in a queue."""
    found = []
    before = queues.put

    def put(span, queue, rank):
        found.append(span.base)
        before(span, queue, rank)

    monkeypatch.setattr(queues, "put", put)
    return found


def test_a_task_that_comes_alone_goes_straight_to_a_worker_that_idles(lined_up):
    scheduler = Scheduler()
    (worker,) = scheduler.workers
    assert scheduler.say(submit(0)) == {worker: [BASE]}
    assert not lined_up
    scheduler.say(submit(1), submit(2))
    assert lined_up == [BASE + 1, BASE + 2]


def test_of_tasks_that_come_together_the_more_urgent_one_begins():
    scheduler = Scheduler()
    (worker,) = scheduler.workers
    given = scheduler.say(submit(0), submit(1, priority=1))
    assert given[worker][0] == BASE + 1


def test_workers_get_what_comes_alone_in_turns():
    scheduler = Scheduler(workers=3)
    given = [list(scheduler.say(submit(number))) for number in range(3)]
    assert given == [[peer] for peer in scheduler.workers]


def test_what_asks_for_a_worker_is_given_to_no_other_one():
    scheduler = Scheduler(workers=2)
    first, second = scheduler.workers
    assert scheduler.say(submit(0, workers=("w1",))) == {second: [BASE]}
    assert scheduler.say(submit(1)) == {first: [BASE + 1]}


def test_who_is_on_the_way_out_is_given_nothing():
    scheduler = Scheduler(workers=2)
    first, second = scheduler.workers
    scheduler.step(Said(first, [worker_link.Leaving()]))
    assert scheduler.say(submit(0)) == {second: [BASE]}


def test_who_is_away_is_given_nothing():
    scheduler = Scheduler(workers=2)
    first, second = scheduler.workers
    scheduler.step(Away(first))
    assert scheduler.say(submit(0)) == {second: [BASE]}


def test_what_comes_alone_lines_up_where_no_slot_is_free(lined_up):
    scheduler = Scheduler()
    (worker,) = scheduler.workers
    scheduler.step(Said(worker, [worker_link.Engaged(1)]))
    scheduler.say(submit(0))
    assert lined_up == [BASE]


# On the worker.


def run(number, seconds=1e-5, awaits=(), fn=1):
    return worker_link.Run(
        number,
        fn,
        100 + number,
        1,
        b"\1\0\0\0",
        b"x",
        (0, 0, number),
        aligned=awaits,
        awaits=awaits,
        seconds=seconds,
        digests=True,
    )


class Worker:
    """A worker's core with one slot."""

    def __init__(self):
        self.core = WorkerCore(1, 1)
        self.step(orders.RunnerReady(0))
        self.told(*(worker_link.Define(fn, "f", b"code") for fn in (1, 2)))

    def step(self, event):
        found = self.core.step(event, 1.0)
        worker_invariants.check(self.core.state)
        return [
            order
            for order in found
            if isinstance(order, orders.Dispatch | orders.DispatchNodes)
        ]

    def told(self, *messages):
        return self.step(orders.Told(messages))


def test_a_run_that_comes_alone_goes_straight_to_a_slot_that_idles():
    worker = Worker()
    (sent,) = worker.told(run(1))
    assert (sent.run, sent.base, sent.n) == (1, 101, 1)
    assert worker.core.state.last_entry == 0, "it has not been queued"


def test_nothing_begins_at_once_while_memory_becomes_free():
    worker = Worker()
    worker.step(orders.MemoryShort(True, hold=True))
    assert not worker.told(run(1))
    (sent,) = worker.step(orders.MemoryShort(False))
    assert sent.run == 1


@pytest.mark.parametrize("seconds", [1e-5, 1.0])
def test_what_takes_the_value_of_a_short_one_that_came_alone_is_a_parcel(seconds):
    """It was not looked at when it came: whether it is short, who follows asks."""
    worker = Worker()
    assert worker.told(run(1, seconds, fn=2))
    worker.told(run(2, awaits=(101,)), run(3, awaits=(102,)))
    together = worker.core.state.parcels.keys()
    assert together == ({2, 3} if seconds < 1e-3 else set())
