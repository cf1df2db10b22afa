"""What is entered into the event stream, and in which shape.

An event is a plain tuple: the time, a word, and facts in a fixed order.  Appending one is
all that it costs while nobody reads along.  ``covey.dashboard`` reads the same shapes, and
so does whoever reads a recording::

    submitted      base n label client
    ran            base n label worker seconds nbytes slot
    erred          base label worker seconds slot
    failed         base n label worker kind type message origin
    retried        base n label worker why
    lost           base n label
    found          base n label worker
    changed        base n label
    moved          base n source target nbytes seconds
    passed-on      asker worker nbytes
    printed        task label worker stream text left_out
    worker-joined  name slots host resources memory_limit_bytes
    worker-left    name slots
    paused         worker
    unpaused       worker
    spilled        worker nbytes
    recovered      peers
    sample         worker facts
    scheduler      facts
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from covey.ids import TaskId
from covey.scheduler.core.functions import Function
from covey.scheduler.core.spans import find
from covey.scheduler.core.state import Client, SchedulerState, Span, Worker
from covey.wire.base import Failure
from covey.wire.worker_link import Printed

Ended: TypeAlias = tuple[Function, TaskId, float, int]
"""A single task that ran: its function, its number, seconds, bytes."""

#: So much of an error's message goes into the stream; all of it to who asks.
_MESSAGE_SHOWN: Final = 2000

#: Workers that left are remembered by name, for those who wait for one of them.
_DEPARTED_MAX: Final = 1000


def label_of(span: Span) -> str:
    """Return the name of the function, or what stands for one."""
    return span.function.label if span.function is not None else "data"


# Tasks.


def submitted(
    state: SchedulerState, client: Client, base: TaskId, n: int, function: Function
) -> None:
    """*client* wishes for tasks."""
    function.submitted += n
    event = (state.now, "submitted", base, n, function.label, client.name)
    state.events.append(event)


def ran(
    state: SchedulerState,
    span: Span,
    worker: Worker,
    seconds: float,
    nbytes: int,
    slot: int,
) -> None:
    """*span* ran on *worker*; the news of it has just come."""
    function = span.function
    if function is None:
        return
    function.done += span.n
    state.events.append(
        (
            state.now,
            "ran",
            span.base,
            span.n,
            function.label,
            worker.name,
            seconds,
            nbytes,
            slot,
        )
    )


def ran_all(
    state: SchedulerState, ended: Sequence[Ended], worker: Worker, slot: int
) -> None:
    """Single tasks ran on *worker*; the news of all of them has just come."""
    now, name = state.now, worker.name
    told = []
    for function, task, seconds, nbytes in ended:
        function.done += 1
        told.append((now, "ran", task, 1, function.label, name, seconds, nbytes, slot))
    state.events.extend(told)


def failed(state: SchedulerState, span: Span, failure: Failure) -> None:
    """*span* has failed for good."""
    if span.function is not None:
        span.function.failed += span.n
    state.events.append(
        (
            state.now,
            "failed",
            span.base,
            span.n,
            label_of(span),
            failure.details.get("worker") or "",
            failure.kind,
            failure.type_name,
            failure.message[:_MESSAGE_SHOWN],
            failure.origin,
        )
    )


def erred(
    state: SchedulerState, span: Span, worker: Worker, seconds: float, slot: int
) -> None:
    """A run of *span* ended badly on *worker*; what follows is another event."""
    event = (
        state.now,
        "erred",
        span.base,
        label_of(span),
        worker.name,
        seconds,
        slot,
    )
    state.events.append(event)


def retried(
    state: SchedulerState, span: Span, worker: Worker, failure: Failure
) -> None:
    """*span* has failed on *worker*, and will be tried again."""
    why = f"{failure.type_name}: {failure.message[:_MESSAGE_SHOWN]}"
    event = (state.now, "retried", span.base, span.n, label_of(span), worker.name, why)
    state.events.append(event)


def lost(state: SchedulerState, span: Span) -> None:
    """The values of *span* are gone, and are made again."""
    state.events.append((state.now, "lost", span.base, span.n, label_of(span)))


def found(state: SchedulerState, span: Span, worker: Worker) -> None:
    """*worker* has values that an earlier life of us, or another run, has made."""
    if span.function is not None:
        span.function.done += span.n
        event = (state.now, "found", span.base, span.n, label_of(span), worker.name)
        state.events.append(event)


def changed(state: SchedulerState, span: Span) -> None:
    """*span* was made again, and gave another value than before."""
    state.events.append((state.now, "changed", span.base, span.n, label_of(span)))


def printed(state: SchedulerState, worker: Worker, message: Printed) -> None:
    """A task wrote to a standard stream on *worker*."""
    span = find(state, message.task)
    event = (
        state.now,
        "printed",
        message.task,
        label_of(span) if span is not None else "",
        worker.name,
        message.stream,
        message.text,
        message.left_out,
    )
    state.prints.enter(event)


# Workers.


def moved(
    state: SchedulerState,
    base: TaskId,
    n: int,
    source: Worker,
    target: Worker,
    nbytes: int,
    seconds: float,
) -> None:
    """A value was copied from worker to worker."""
    event = (
        state.now,
        "moved",
        base,
        n,
        source.name,
        target.name,
        nbytes,
        seconds,
    )
    state.events.append(event)


def passed_on(state: SchedulerState, asker: str, worker: str, nbytes: int) -> None:
    """The scheduler has passed that on between two who do not reach each other."""
    state.events.append((state.now, "passed-on", asker, worker, nbytes))


def sampled(state: SchedulerState, worker: Worker, facts: dict[str, Any]) -> None:
    """*worker* said how it is."""
    state.events.append((state.now, "sample", worker.name, facts))


def strained(state: SchedulerState, worker: Worker, facts: dict[str, Any]) -> None:
    """Enter what *facts* tell of memory that is short, against what was known before."""
    before, after = _memory_of(worker.facts), _memory_of(facts)
    if bool(before.get("paused")) != bool(after.get("paused")):
        word = "paused" if after.get("paused") else "unpaused"
        state.events.append((state.now, word, worker.name))
    more = after.get("spilled", 0) - before.get("spilled", 0)
    if more > 0:
        state.events.append((state.now, "spilled", worker.name, more))


def _memory_of(facts: Mapping[str, object]) -> dict[str, Any]:
    memory = facts.get("memory")
    return memory if isinstance(memory, dict) else {}


def worker_joined(state: SchedulerState, worker: Worker) -> None:
    """*worker* is there."""
    for name in worker.names:
        state.departed.pop(name, None)
    state.events.append(
        (
            state.now,
            "worker-joined",
            worker.name,
            worker.slots,
            worker.host.partition("/")[0],
            worker.resources,
            worker.memory_limit_bytes,
        )
    )


def worker_left(state: SchedulerState, worker: Worker) -> None:
    """*worker* is gone; those who wait for it want to know."""
    state.events.append((state.now, "worker-left", worker.name, worker.slots))
    for name in worker.names:
        state.departed[name] = state.now
    while len(state.departed) > _DEPARTED_MAX:
        state.departed.popitem(last=False)


def recovered(state: SchedulerState, peers: int) -> None:
    """Another life of the scheduler has heard so many that were there before."""
    state.events.append((state.now, "recovered", peers))
