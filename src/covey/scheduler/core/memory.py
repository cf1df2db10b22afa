"""Memory kept in hand: what frees values goes before what makes new ones.

A result stays until its last user has ended.  So the order of tasks decides how many
of them are there at a time, and three rules keep that low::

    load load load load ...        first come, first served: everything is there at once
    load sum load sum ...          here: a task that is the last to take what nobody else
                                   wants is ranked right before what made it; and so are
                                   several that make no more of it than it was
    ─── 60 % ─────────────────     so much of a worker's memory is used: it is given what
                                   takes its values first, and nothing new in advance
    ─── 80 % ─────────────────     nothing new at all, while it has such tasks in hand

What a worker uses is what it said last, and what has been stored there since then.  To
that comes, for the 60 %, what all that it was given will make of it, as large as results
of these functions usually are.
Tasks that take nothing lie with the scheduler until a worker has a slot for them: see
``placement``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from covey.scheduler.core.state import SchedulerState, Span, Worker

#: Parts of a worker's limit: see above.  It spills from 70 % on, and pauses at 85 %.
TIGHT: Final = 0.60
SHORT: Final = 0.80

#: What is made of a value is as much as that value, with what is around each of its parts.
_AS_MUCH: Final = 1.1

#: Before all of a submission, and not what anybody is ranked before once more.
_HASTENED: Final = -1

#: So many tasks in a worker's hands are looked at.
_LOOKED_MAX: Final = 64


def sampled(state: SchedulerState, worker: Worker, facts: dict[str, Any]) -> None:
    """Note what *worker* says of its memory, if it does."""
    told = facts.get("memory")
    total = told.get("total") if isinstance(told, dict) else None
    if isinstance(total, int) and total >= 0:
        worker.used_bytes, worker.stored_then = total, worker.stored_bytes
    if worker.withheld:
        reconsider(state, worker)


def stores(state: SchedulerState, worker: Worker, nbytes: int) -> None:
    """Values of so many bytes have come to *worker*; a negative number: they have gone."""
    worker.stored_bytes += nbytes
    state.stored_bytes += nbytes
    if worker.withheld and nbytes < 0:
        reconsider(state, worker)


def is_over(worker: Worker, part: float) -> bool:
    """Whether *worker* uses more than this part of its memory, as far as is known."""
    limit = worker.memory_limit_bytes
    if not limit:
        return False
    return used(worker) > part * limit


def used(worker: Worker) -> int:
    """Return how much memory *worker* uses, as far as is known."""
    return worker.used_bytes + worker.stored_bytes - worker.stored_then


def is_tight(worker: Worker) -> bool:
    """Whether *worker* uses much, or will, once all that it was given has ended."""
    limit = worker.memory_limit_bytes
    if not limit:
        return False
    used = worker.used_bytes + worker.stored_bytes - worker.stored_then
    left = TIGHT * limit - used
    if not worker.load or left < 0:
        return left < 0
    return left < sum(
        function.nbytes * n for function, n in worker.load.items() if function
    )


def some_of(worker: Worker, span: Span, k: int) -> int:
    """Return how many of *k* tasks *worker* may be given, for the memory they take.

    At least as many as it has idle slots.
    """
    function, limit = span.function, worker.memory_limit_bytes
    if function is None or not limit or function.nbytes < 1:
        return k
    coming = sum(f.nbytes * n for f, n in worker.load.items() if f)
    left = TIGHT * limit - used(worker) - coming
    return min(k, max(1, worker.idle_slots, int(left / function.nbytes)))


def may_begin(worker: Worker, span: Span, best: Span | None) -> bool:
    """Whether *worker* may be given *span*, where it could be given *best* as well.

    If not, and there is no *best*, it has tasks in hand, and may be asked again when one
    of them has ended, or when its memory is less tight: see ``reconsider``.
    """
    if not is_tight(worker) or span.inputs != ():
        return True
    if best is not None and not span.rank[0] < best.rank[0]:
        return False
    if worker.busy < worker.slots and not holds_back(worker):
        return True
    worker.withheld = True
    return False


def reconsider(state: SchedulerState, worker: Worker) -> None:
    """*worker* may be given something again: it has room, or uses less memory."""
    worker.withheld = False
    if worker not in state.hungry:
        enlist(state, worker)
    asked_for = state.special_count and any(demand.heap for demand in worker.demands)
    if asked_for or worker.queue or worker.asking:
        state.eager[worker] = None


def enlist(state: SchedulerState, worker: Worker) -> None:
    """Enter *worker* among those that may be served: it has idle slots, or some room."""
    if worker.count - len(worker.ahead) < worker.slots:
        if state.roomy:
            state.roomy.pop(worker, None)
        state.hungry[worker] = None
    elif worker not in state.hungry:  # Else it moves there when its turn comes.
        state.roomy[worker] = None


def takes_nothing(span: Span) -> bool:
    """Whether tasks make something of nothing: they need more memory, and free none."""
    return span.inputs == ()


def holds_back(worker: Worker) -> bool:
    """Whether *worker* shall be given nothing new before it has ended what it has.

    Tasks that wait for tasks of their own may wait for just that.
    """
    if not is_over(worker, SHORT) or worker.blocked:
        return False
    return not all(map(takes_nothing, islice(worker.assigned, _LOOKED_MAX)))


def hasten(span: Span, sources: Sequence[Span]) -> None:
    """Rank *span* before what was submitted later than its inputs, if it frees some."""
    unheld = [source for source in sources if not source.wanted]
    if any(source.pending == 1 for source in unheld):
        last = max(source.rank for source in sources)
        rank = (last[0], last[1], last[2] - 1)
    elif any(_helps_to_free(span, source) for source in unheld):
        last = max(source.rank for source in sources)
        rank = (last[0], last[1], _HASTENED)
    else:
        return
    # A priority is the user's word, and holds.
    if rank[0] == span.rank[0] and rank < span.rank:
        span.rank = rank


def _helps_to_free(span: Span, source: Span) -> bool:
    """Whether *span* is one of several tasks that turn a value into no more than it was.

    Not within one submission: whoever made a graph has put its nodes in order.  And not
    again for what such tasks make: a program that goes on and on would stay before all
    that came later than its beginning.
    """
    rank, function = source.rank, span.function
    if rank[1] == span.rank[1] or rank[2] < 0 or function is None:
        return False
    made = function.nbytes * source.pending
    return made <= _AS_MUCH * source.nbytes / source.n
