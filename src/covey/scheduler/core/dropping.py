"""Values that no worker is to hold any more."""

from __future__ import annotations

from typing import Final

from covey.ids import TaskId
from covey.scheduler.core import memory
from covey.scheduler.core.state import SchedulerState, Span, Worker
from covey.wire.base import Extent
from covey.wire.worker_link import Drop

#: So many extents are dropped by one message.
DROPPED_AT_ONCE: Final = 64


def drop_replicas(
    state: SchedulerState, span: Span, dropped: dict[Worker, list[Extent]]
) -> None:
    """No worker holds these values any more, as soon as all *dropped* are told so."""
    for worker in span.replicas:
        del worker.holds[span]
        if worker.moving:
            worker.moving.pop(span, None)
        memory.stores(state, worker, -span.nbytes)
        if worker in dropped:
            dropped[worker].append((span.base, span.n))
        else:
            dropped[worker] = [(span.base, span.n)]
    span.replicas = ()


def tell_all(state: SchedulerState, dropped: dict[Worker, list[Extent]]) -> None:
    """Tell all workers what they are to drop."""
    for worker, extents in dropped.items():
        if len(extents) == 1:
            tell(state, worker, *extents[0])
            continue
        for at in range(0, len(extents), DROPPED_AT_ONCE):
            some = (*extents[at : at + DROPPED_AT_ONCE],)
            state.send(worker.peer, Drop(some))


def tell(state: SchedulerState, worker: Worker, base: TaskId, n: int) -> None:
    """Tell *worker* to drop values, in one message with what it was just told to."""
    queue = state.outgoing.get(worker.peer)
    if queue:
        last = queue[-1]
        if type(last) is Drop and len(last.extents) < DROPPED_AT_ONCE:
            queue[-1] = Drop((*last.extents, (base, n)))
            return
    state.send(worker.peer, Drop(((base, n),)))
