"""What workers report that come back, and which of it counts.

A worker that was given up goes on.  When it returns, what it holds and has in hand may
have been made anew elsewhere, and may have come out otherwise.  So its copies of such
values are refused, and with them all that it has made, or is making, of them::

    here, meanwhile     v ─► 2      k(v) is still to be made
    it comes back       v ─► 1      k(v) ─► 10       both are refused, whichever it told first

What is neither refused nor asked for yet is an orphan: see ``orphans``.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from covey.ids import TaskId
from covey.scheduler.core import (
    checks,
    dropping,
    occupancy,
    orphans,
    retrying,
    transitions,
    versions,
)
from covey.scheduler.core.spans import (
    covering,
    find,
    inputs_of,
    isolate,
    isolate_own,
)
from covey.scheduler.core.state import Orphan, SchedulerState, Span, State, Worker
from covey.wire.base import Message
from covey.wire.worker_link import Holds, Running, Stop

# Values.


def take_in(
    state: SchedulerState,
    worker: Worker,
    report: list[Message],
    in_hand: dict[Worker, list[Running]],
) -> None:
    """What *worker* holds is nobody's, until all is known that is wanted.

    What it runs is entered into *in_hand*.
    """
    in_hand[worker] = []
    for message in report:
        if isinstance(message, Holds):
            checks.extent(message.base, message.n)
            digests = versions.check(message.digests, message.n)
            told = (message.base, message.n, message.nbytes, digests)
            orphans.enter(state, worker, told)
        elif isinstance(message, Running):
            checks.extent(message.base, message.n)
            in_hand[worker].append(message)


def place(state: SchedulerState, in_hand: dict[Worker, list[Running]]) -> None:
    """Values that nobody had asked for are given to those who want them.

    Args:
        state: the scheduler.
        in_hand: what workers run.  What they are told to stop is taken out of it.
    """
    before, state.orphans = state.orphans, {}
    for worker, told in before.items():
        held = []
        for orphan in told:
            if any(True for _ in covering(state, *orphan[:2])):
                held.append(orphan)
            else:
                orphans.keep(state, worker, orphan)
        made_of_refused = _refuse(state, worker, held, in_hand.get(worker, []))
        if made_of_refused and worker in in_hand:
            # Before what it takes is dropped.
            left = _stop_outdated(state, worker, in_hand[worker], made_of_refused)
            in_hand[worker] = left
        for orphan in held:
            _turn_up(state, worker, orphan, made_of_refused)


def _refuse(
    state: SchedulerState,
    worker: Worker,
    held: Sequence[Orphan],
    in_hand: Sequence[Running],
) -> dict[Span, None]:
    """Note what *worker* holds of other versions; return all that is made of those.

    Before any of it turns up, since that may let go of what it was made of.
    """
    told = [orphan[:2] for orphan in held]
    told += [(message.base, message.n) for message in in_hand]
    for base, n in told:
        # Of what is cut later, only a part would be among what is made of them.
        isolate(state, base, n)
    for orphan in held:
        for span in isolate_own(state, *orphan[:2]):
            *_, digests = orphans.part(orphan, span.base, span.base + span.n)
            if _is_refused(state, span, worker, digests):
                state.versions.refused.setdefault(worker, []).append(span.extent)
    return versions.made_of(state, state.versions.refused.get(worker, ()))


def _is_refused(
    state: SchedulerState, span: Span, worker: Worker, digests: bytes
) -> bool:
    """Whether it holds, or may hold, another value than was made meanwhile, or before."""
    if versions.is_other(state, span, digests):
        return True
    if span.function is None or worker in span.replicas:
        return False
    # Without digests nobody can tell whether both came out the same.
    return not digests if span.digests else span.state is State.DONE


def _turn_up(
    state: SchedulerState,
    worker: Worker,
    orphan: Orphan,
    made_of_refused: dict[Span, None],
) -> None:
    """*worker* holds these values, whoever may want them."""
    base, n, _, _ = orphan
    at, end = base, base + n
    for span in isolate_own(state, base, n):
        if at < span.base:
            orphans.keep(state, worker, orphans.part(orphan, at, span.base))
        at = span.base + span.n
        _, _, nbytes, digests = orphans.part(orphan, span.base, at)
        refused = _is_refused(state, span, worker, digests)
        failed = span.failure is not None and span.failure.kind != "lost"
        if refused or span in made_of_refused:
            versions.refuse(state, span, worker)
        elif failed:
            # It was cancelled, or failed at its client: what has ended has ended.
            dropping.tell(state, worker, *span.extent)
        elif span.state is State.DONE:
            transitions.add_replica(state, span, worker)
        else:
            span.digests = digests or span.digests
            transitions.turn_up(state, span, worker, nbytes)
    if at < end:
        orphans.keep(state, worker, orphans.part(orphan, at, end))


# Runs.


def _stop_outdated(
    state: SchedulerState,
    worker: Worker,
    in_hand: Sequence[Running],
    made_of_refused: dict[Span, None],
) -> list[Running]:
    """What runs with other versions is stopped; return the rest."""
    left = []
    for message in in_hand:
        at, end = message.base, message.base + message.n
        for span in isolate_own(state, message.base, message.n):
            if span in made_of_refused:
                if at < span.base:
                    left.append(replace(message, base=at, n=span.base - at))
                # Nobody waits for what failed: it was cancelled.
                failed = span.state is State.FAILED
                _stop(state, worker, message.run, span.base, span.n, kill=failed)
                at = span.base + span.n
        if at < end:
            left.append(replace(message, base=at, n=end - at))
    return left


def take_runs(state: SchedulerState, worker: Worker, in_hand: list[Running]) -> None:
    """What *worker* has in hand runs on, if it is wanted."""
    for message in in_hand:
        _adopt(state, worker, message)


def _adopt(state: SchedulerState, worker: Worker, message: Running) -> None:
    """*worker* has these tasks in hand: they run on, if they are wanted."""
    at, end = message.base, message.base + message.n
    for span in isolate_own(state, message.base, message.n):
        if at < span.base:
            _stop_unknown(state, worker, message.run, at, span.base - at)
        at = span.base + span.n
        if retrying.has_counted(state, span, message.run):
            # It has failed: the client knew that before the worker could say so again.
            continue
        if (
            span.state in {State.WAITING, State.READY}
            and occupancy.affords(worker, span)
            and (
                not message.awaits or _comes_there(state, worker, span, message.awaits)
            )
        ):
            if not message.awaits:
                span.missing = 0
            occupancy.occupy(state, worker, span, message.run)
        elif worker in span.replicas or (
            span.worker is worker and span.run >= message.run
        ):
            # An older attempt, of which news was under way: to stop it would take
            # the value of the latest as well, which may have ended there by now.
            # Whatever is still said of it is stale.
            continue
        else:
            # Nobody waits for what failed: it was cancelled.
            _stop(
                state,
                worker,
                message.run,
                span.base,
                span.n,
                kill=span.state is State.FAILED,
            )
    if at < end:
        _stop_unknown(state, worker, message.run, at, end - at)


def _stop_unknown(
    state: SchedulerState, worker: Worker, run: int, base: TaskId, n: int
) -> None:
    """Nobody waits for these tasks; what an earlier attempt made of them may stay."""
    for start, count in orphans.gaps(state, worker, base, n):
        _stop(state, worker, run, start, count)


def _comes_there(
    state: SchedulerState, worker: Worker, span: Span, awaits: Sequence[TaskId]
) -> bool:
    """Whether *worker* is to make, or holds, all that *span* lacks: it was sent ahead."""
    if span.n > 1 or not all(
        source.state is State.DONE or source.worker is worker
        for source in inputs_of(state, span)
    ):
        return False
    sources = [find(state, task) for task in awaits]
    return all(
        source is not None and (source.worker is worker or worker in source.replicas)
        for source in sources
    )


def _stop(
    state: SchedulerState,
    worker: Worker,
    run: int,
    base: TaskId,
    n: int,
    *,
    kill: bool = False,
) -> None:
    state.send(worker.peer, Stop(run, base, n, kill))
