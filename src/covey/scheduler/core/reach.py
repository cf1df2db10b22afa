"""Workers that cannot reach each other, though the scheduler reaches both.

A task came back, since an input could not be had from its holder.  Mostly another copy is
there, or the holder has died, which will soon be known.  If neither, one of both places has to
do without the other, and it must be the same one each time, or data would be made
here and there in turns::

    w2 cannot reach w3       what w3 has and w2 lacks is made again, not on w3
    w3 cannot reach w2       what lacks it there runs elsewhere, not on w3

So the one with the lower number keeps what it has.  A worker that reaches both serves
as well as the other one.  Nothing of this is remembered beyond the tasks at hand: when the
network is whole again, nobody has to be told.
"""

from __future__ import annotations

from typing import Final

from covey.scheduler.core import dropping, pauses, queues, transitions, tries
from covey.scheduler.core.spans import inputs_of, isolate_own
from covey.scheduler.core.state import SchedulerState, Span, Worker
from covey.wire.base import Extent

#: After so many tries the copy goes in any case.
_PATIENCE: Final = 3


def undelivered(
    state: SchedulerState,
    worker: Worker,
    extent: Extent,
    number: int,
    *,
    may_move: bool = False,
) -> tuple[bool, Worker | None]:
    """A holder did not deliver to *worker*.

    Its copies count as lost, unless it is *worker* that has to do without, and what lacks
    them may move elsewhere.  What a client placed and nobody can make again stays, for
    it may be within the reach of others; and so does what tasks on the holder count on.

    Returns:
        Whether the holder is there and should have; and which of both places what
        lacks the input is to avoid.
    """
    holder = state.workers.get(number)
    if holder is None:
        return False, None
    held = False
    avoid = holder
    for source in isolate_own(state, *extent):
        if holder not in source.replicas:
            continue
        held = True
        keeps = may_move and holder.number < worker.number
        if keeps or not _can_do_without(source, holder):
            avoid = worker
            continue
        if len(source.replicas) == 1:
            state.shy[source] = holder
        dropping.tell(state, holder, source.base, source.n)
        transitions.lose_replica(state, source, holder)
    return held, avoid


def count(state: SchedulerState, span: Span) -> bool:
    """Count a try of *span* that came to nothing; say whether there may be another one.

    All within the time of one pause count as one.  There is no such pause where what did
    not come is made anew, and each may tell of another of many inputs that one holder had:
    they would be used up before it is noticed that it has died.  And where all of them lie
    together, it can run at last, however long others try in vain.
    """
    if pauses.due_in(state, 0.0) < span.uncounted_until:
        return True
    if tries.exhausted(span):
        return _lie_together(state, span)
    span.unreached += 1
    span.uncounted_until = pauses.due_in(state, tries.pause_seconds(span))
    return True


def _lie_together(state: SchedulerState, span: Span) -> bool:
    """Whether a worker that may run *span* has all that it takes."""
    sources, demand = inputs_of(state, span), queues.demand_of(state, span)
    return any(
        all(worker in source.replicas for source in sources)
        and not worker.leaving
        and demand.admits(worker)
        for worker in state.workers.values()
    )


def may_move(state: SchedulerState, span: Span, worker: Worker) -> bool:
    """Whether *span* could as well run elsewhere than on *worker*, for a few times."""
    if span.unreached >= _PATIENCE:
        return False
    demand = queues.demand_of(state, span)
    return any(
        other is not worker and not other.leaving and demand.admits(other)
        for other in state.workers.values()
    )


def _can_do_without(source: Span, holder: Worker) -> bool:
    """Whether nothing is lost for good, or at once, with the copy that *holder* has."""
    if source.pack is None and len(source.replicas) == 1:
        return False
    return not any(d.worker is holder for d in source.dependents or ())
