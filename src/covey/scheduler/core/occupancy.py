"""How many tasks a worker has, and how many of its slots are idle.

What was sent ahead of what it takes counts among its tasks, but takes no slot before it
can run: a worker that makes one value, for as long as it may take, and was sent all that
follows on it is as idle as one that makes the value alone::

    2 slots:  [ load ──────────────► ]  part part part part     sent ahead of load
              [ idle: something else begins here ]
"""

from __future__ import annotations

from covey.scheduler.core import memory
from covey.scheduler.core.functions import Function
from covey.scheduler.core.state import SchedulerState, Span, Worker


def count_out(
    state: SchedulerState, worker: Worker, function: Function | None, n: int
) -> None:
    """*n* tasks take no slot of *worker* any more."""
    slots, load, ahead = worker.slots, worker.load, len(worker.ahead)
    before = worker.count - ahead
    busy = before - n
    now = worker.count = busy + ahead
    if busy < slots and not worker.leaving:
        state.idle_slots += min(before, slots) - busy
    left = load.get(function, 0) - n
    if left:
        load[function] = left
    else:
        load.pop(function, None)
    if now <= slots:
        if worker in state.excess:
            del state.excess[worker]
        worker.handed_back.clear()
        worker.reluctant = 0.0
    memory.reconsider(state, worker)


def count_in(
    state: SchedulerState, worker: Worker, function: Function | None, n: int
) -> None:
    """*n* tasks take slots of *worker*."""
    slots, load, ahead = worker.slots, worker.load, len(worker.ahead)
    before = worker.count - ahead
    busy = before + n
    now = worker.count = busy + ahead
    if now == n:
        worker.stirred = state.now
    if before < slots and not worker.leaving:
        state.idle_slots -= min(busy, slots) - before
    load[function] = load.get(function, 0) + n
    if now > slots and not worker.leaving:
        state.excess[worker] = None


def send_ahead(state: SchedulerState, worker: Worker, span: Span) -> None:
    """*worker* was sent *span* ahead: it takes a slot when it can run."""
    worker.ahead[span] = None
    worker.count += 1
    load, function = worker.load, span.function
    load[function] = load.get(function, 0) + 1
    if worker.count > worker.slots and not worker.leaving:
        state.excess[worker] = None


def follow(state: SchedulerState, worker: Worker, span: Span) -> None:
    """*span* was sent ahead, and can run now."""
    del worker.ahead[span]
    if worker.busy <= worker.slots and not worker.leaving:
        state.idle_slots -= 1
