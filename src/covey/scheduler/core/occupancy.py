"""How many tasks a worker has, and how many of its slots are idle.

What was sent ahead of what it takes counts among its tasks, but takes no slot before it
can run: a worker that makes one value, for as long as it may take, and was sent all that
follows on it is as idle as one that makes the value alone::

    2 slots:  [ load ──────────────► ]  part part part part     sent ahead of load
              [ idle: something else begins here ]
"""

from __future__ import annotations

from typing import Final

from covey.ids import RunId
from covey.scheduler.core import memory, transitions
from covey.scheduler.core.functions import Function
from covey.scheduler.core.state import SchedulerState, Span, Worker
from covey.wire.base import DEFAULT_OPTIONS

#: Amounts are added and subtracted as floats: so much they may be off.
AMOUNT_ERROR: Final = 1e-6


def affords(worker: Worker, span: Span) -> bool:
    """Whether *worker* has free what all tasks of *span* together ask for."""
    return all(
        worker.free.get(name, 0) + AMOUNT_ERROR >= need * span.n
        for name, need in span.options.resources.items()
        if need
    )


def occupy(state: SchedulerState, worker: Worker, span: Span, run: RunId) -> None:
    """Enter *span* into the books of *worker*, as its run *run*.

    What it lacks, *worker* is to make.
    """
    transitions.begin(state, span)
    span.run, span.worker = run, worker
    priority, assigned = span.rank[0], worker.assigned
    if priority > worker.lowest or not assigned:
        worker.lowest = priority
    assigned[span] = None
    if span.missing:
        send_ahead(state, worker, span)
    else:
        count_in(state, worker, span.function, span.n)
    if span.options is not DEFAULT_OPTIONS:
        for name, need in span.options.resources.items():
            if need:
                worker.free[name] -= need * span.n


def unassign(state: SchedulerState, span: Span) -> None:
    """Take *span* off its worker's books."""
    worker = span.worker
    assert worker is not None
    del worker.assigned[span]
    counted = span.n
    if worker.blocked:
        run, end = span.run, span.base + span.n
        here = {(r, t) for r, t in worker.blocked if r == run and span.base <= t < end}
        worker.blocked -= here
        counted -= len(here)
    if worker.ahead and span in worker.ahead:
        follow(state, worker, span)
    span.worker, span.run = None, 0
    if span.options is not DEFAULT_OPTIONS:
        for name, need in span.options.resources.items():
            if need:
                worker.free[name] += need * span.n
    count_out(state, worker, span.function, counted)


def count_out(
    state: SchedulerState, worker: Worker, function: Function | None, n: int
) -> None:
    """*n* tasks take no slot of *worker* any more."""
    load, slots = worker.load, worker.slots
    now = worker.count = worker.count - n
    idle = slots - now + len(worker.ahead)
    if idle > 0 and not worker.leaving:
        state.idle_slots += min(idle, n)
    left = load.get(function, 0) - n
    if left:
        load[function] = left
    elif n:
        del load[function]
    if now <= slots:
        if state.excess:
            state.excess.pop(worker, None)
        if worker.handed_back:
            worker.handed_back.clear()
        worker.reluctant = 0.0
    memory.reconsider(state, worker)


def count_in(
    state: SchedulerState, worker: Worker, function: Function | None, n: int
) -> None:
    """*n* tasks take slots of *worker*."""
    load, slots, before = worker.load, worker.slots, worker.count
    idle = slots - before + len(worker.ahead)
    if idle > 0:
        worker.stirred = state.now
        if not worker.leaving:
            state.idle_slots -= min(idle, n)
    load[function] = load.get(function, 0) + n
    now = worker.count = before + n
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
