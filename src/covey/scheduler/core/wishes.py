"""Workers that a task would rather run on: ``workers=`` with ``allow_other_workers``.

Such a task lies ready for the workers that it names, and they take it as they take
anything.  Others look on for half a second, for it is worth that much to have the task, and
what it makes, where it was wished for::

    ready ──► 0.5 s: for those that were named ──► then for whoever idles as well
          └── if none of them is here: for everybody at once

A worker that looked on need not look again with each message: it is roused when the time
is up, and then once in half a second at most.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from covey.scheduler.core import balance
from covey.scheduler.core.demand import Demand
from covey.scheduler.core.queues import is_here, top
from covey.scheduler.core.state import SchedulerState, Span, Worker

#: So long a task waits for one of the workers that it names.
WISH_SECONDS: Final = 0.5


def is_for(state: SchedulerState, demand: Demand, worker: Worker) -> bool:
    """Whether *worker*, which may run such tasks, is one to run them at once."""
    named = demand.named
    return not named or worker in named or not _any_here(state, demand)


def may_take(state: SchedulerState, demand: Demand, span: Span, worker: Worker) -> bool:
    """Whether *worker* may take *span*, which is ready and asks for *demand*, now.

    If it is not to yet, it is roused when it may: others may be served before it then,
    and find nothing, and nobody else would look.
    """
    if is_for(state, demand, worker):
        return True
    if worker.busy >= worker.slots:
        return False
    due = span.since + WISH_SECONDS
    if due <= state.now:
        return True
    balance.look_again(state, state.wishes.setdefault(demand, due))
    return False


def lookers(
    state: SchedulerState, demand: Demand, span: Span | None = None
) -> dict[Worker, None]:
    """Return those that have to look at what asks for *demand*, since there is more.

    *span* is a first one that lies in the queue of a worker, if it is about that.
    """
    if not demand.named or not _any_here(state, demand):
        return demand.able
    first = span or top(demand.heap)
    if first is not None and first.since + WISH_SECONDS <= state.now:
        return demand.able
    due = state.wishes.setdefault(demand, state.now + WISH_SECONDS)
    # Nobody else looks before, who would have that time kept.
    balance.look_again(state, due)
    return demand.named


def rouse(state: SchedulerState) -> None:
    """Let others look at what has waited for long for those that it names."""
    for demand, due in list(state.wishes.items()):
        first = top(demand.heap)
        if first is None:
            del state.wishes[demand]
            continue
        if due <= state.now:
            due = first.since + WISH_SECONDS
            if due <= state.now or not _any_here(state, demand):
                due = state.now + WISH_SECONDS
                for worker in demand.able:
                    if worker in state.hungry:
                        state.eager[worker] = None
            state.wishes[demand] = due
        balance.look_again(state, due)


def _any_here(state: SchedulerState, demand: Demand) -> bool:
    """Whether one of those that *demand* names is here, of the first ones."""
    some = islice(demand.named, balance.LOOKED_AT)
    return any(is_here(state, worker) for worker in some)
