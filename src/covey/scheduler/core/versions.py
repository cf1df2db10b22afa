"""Values that come out otherwise when they are made again.

A task whose value was lost runs again.  What it gives then should be what it gave before;
the digests of both tell.  Where they differ, what was made of the earlier value does not
go with what will be made of this one::

          ┌──► b    made of the first a        a is lost, made again, and differs:
     a ───┤                                    b is made again, too, for d
          └──► c ──► d, which takes b and c

So all that was made of the earlier value, directly or by way of others, is *outdated*: it
is made again as far as somebody needs it, and what runs with it begins anew.  No task ever
takes values of two versions.  What clients have read stays as they have read it; they are
warned.

Of all copies of a value that workers tell of, those of an earlier one are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from covey.errors import RemoteProtocolError
from covey.ids import client_of
from covey.scheduler.core import dropping, history, transitions
from covey.scheduler.core.explain import key_of
from covey.scheduler.core.spans import covering
from covey.scheduler.core.state import (
    ASSIGNED,
    DONE,
    SchedulerState,
    Span,
    Worker,
)
from covey.wire.base import Extent
from covey.wire.client_link import Notice
from covey.wire.worker_link import Forget

#: Of each value.
BYTES: Final = 4


def check(digests: bytes, n: int) -> bytes:
    """Return *digests* if they are none, or those of *n* values.

    Raises:
        RemoteProtocolError: they are neither.
    """
    if digests and len(digests) != BYTES * n:
        raise RemoteProtocolError(f"{n:,} results came with other digests than theirs")
    return digests


def part(digests: bytes, lo: int, n: int) -> bytes:
    """Return the digests of *n* values from the *lo*-th on."""
    return digests[BYTES * lo : BYTES * (lo + n)]


def is_other(state: SchedulerState, span: Span, digests: bytes) -> bool:
    """Whether a copy is none of the values of *span* that are good, or will be."""
    return span in state.versions.outdated or _differ(span, digests)


def _differ(span: Span, digests: bytes) -> bool:
    return bool(digests and span.digests) and digests != span.digests


def is_usual(state: SchedulerState, span: Span, digests: bytes) -> bool:
    """Whether a value that was just made is no other than before; note what it is."""
    if state.versions.outdated or (span.digests and _differ(span, digests)):
        return False
    span.digests = digests or span.digests
    return True


def finish(
    state: SchedulerState, span: Span, worker: Worker, nbytes: int, digests: bytes
) -> None:
    """The values of *span* have been made, on *worker*, and have these digests."""
    outdated, before = state.versions.outdated, span.digests
    expected = bool(outdated) and outdated.pop(span, span) is None
    if not before or expected or not _differ(span, digests):
        if digests:
            span.digests = digests
        transitions.finish(state, span, worker, nbytes)
        return
    span.digests = digests
    _tell(state, span)
    made_of_it = _descendants([span])
    needed = _begin_anew(state, made_of_it)
    withdrawn = [made for made in made_of_it if made.state is DONE]
    for made in withdrawn:
        transitions.withdraw(state, made)
    _have_forgotten(state, (span, *made_of_it))
    transitions.finish(state, span, worker, nbytes)
    # Not before all is withdrawn may anything be sent to where an input was.
    for made in withdrawn:
        transitions.revert(state, made)
    for source in (*withdrawn, *needed):
        transitions.demand(state, source)


def made_of(state: SchedulerState, extents: Sequence[Extent]) -> dict[Span, None]:
    """Return all that was made, or is being made, of any of these, directly or not."""
    return _descendants([s for base, n in extents for s in covering(state, base, n)])


def _descendants(spans: Sequence[Span]) -> dict[Span, None]:
    """Return all that was made, or is being made, of any of *spans*, directly or not."""
    found: dict[Span, None] = {}
    todo = [*spans]
    while todo:
        more = [d for d in todo.pop().dependents or () if d not in found]
        found.update(dict.fromkeys(more))
        todo += more
    return found


def _begin_anew(state: SchedulerState, made_of_it: dict[Span, None]) -> list[Span]:
    """Stop what runs with outdated inputs; return those of them that have to be made.

    What was sent ahead of its inputs has not begun.
    """
    needed = []
    for made in made_of_it:
        state.versions.outdated[made] = None
        if made.state is ASSIGNED and not made.ahead:
            transitions.stop(state, made)
            needed += transitions.put_back(state, made)
    return needed


def _have_forgotten(state: SchedulerState, outdated: Sequence[Span]) -> None:
    """No worker may go on with a copy of an earlier value that nobody knows of.

    Where it has just been made, or is being made, there will be the new one.
    """
    for worker in state.workers.values():
        extents = tuple(span.extent for span in outdated if span.worker is not worker)
        if extents:
            worker.forgetting.append(extents)
            state.send(worker.peer, Forget(extents))


def forgot(worker: Worker, extents: tuple[Extent, ...]) -> None:
    """*worker* has done what it was told first."""
    # What another life of the scheduler told it counts no more.
    if worker.forgetting and worker.forgetting[0] == extents:
        worker.forgetting.popleft()


def forgets(worker: Worker, span: Span) -> bool:
    """Whether *worker* still has to read that its copy of *span* is outdated.

    What it said of one before it reads that is about to be no longer true.
    """
    return any(
        base < span.base + span.n and span.base < base + n
        for extents in worker.forgetting
        for base, n in extents
    )


def refuse(state: SchedulerState, span: Span, worker: Worker) -> None:
    """A copy on *worker* is outdated: it goes, and what began with it begins anew."""
    for dependent in list(span.dependents or ()):
        if dependent.state is ASSIGNED and dependent.worker is worker:
            transitions.stop(state, dependent)
            transitions.requeue(state, dependent)
    dropping.tell(state, worker, span.base, span.n)


def _tell(state: SchedulerState, span: Span) -> None:
    """Enter it into the stream, and warn clients, of each function once."""
    state.versions.count[span] = state.versions.count.get(span, 1) + 1
    state.counters["results_changed"] += span.n
    history.changed(state, span)
    function = span.function
    if function is None or function.unsteady:
        return
    function.unsteady = True
    text = (
        f"{key_of(state, span)} was computed again, since its value was lost, and gave "
        f"another value than before. What was made of the earlier one is made again as "
        f"well, so that nothing mixes the two; what you have read already stays as it "
        f"was. If that matters, let {function.label} return the same for the same "
        f"arguments: pass it a seed, or the time (a set of strings has another order in "
        f"each process)"
    )
    for client in state.clients.values():
        if client.number in span.wanted or client.number == client_of(span.base):
            state.send(client.peer, Notice(text))
