"""Values that workers have brought back and that nobody has asked for yet.

Whoever wants them may still come back: ``recovery`` says until when they are kept.
Those of each worker are disjoint and in order, so that some of many are soon found.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence

from covey.ids import TaskId, client_of
from covey.scheduler.core import submitting, transitions, versions
from covey.scheduler.core.spans import covering, find
from covey.scheduler.core.state import ORPHAN_SECONDS, Orphan, SchedulerState, Worker
from covey.wire.base import Extent
from covey.wire.extents import without
from covey.wire.worker_link import Drop


def enter(state: SchedulerState, worker: Worker, orphan: Orphan) -> None:
    """*worker* holds these values, and nobody is known yet who wants them."""
    strike(state, worker, (orphan[:2],))
    insort(state.orphans.setdefault(worker, []), orphan)


def keep(state: SchedulerState, worker: Worker, orphan: Orphan) -> None:
    """Nobody has asked for these values of *worker* yet; drop them if it is late."""
    base, n, _, _ = orphan
    client = state.client_numbers.get(client_of(base))
    # What a client brings lies by itself, and it tells of it afterwards.
    brought = n == 1 and client is not None
    if brought and client is not None and client.away_since is not None:
        # That may have to wait until it is back.
        state.orphans_until = max(state.orphans_until, state.now + ORPHAN_SECONDS)
    if state.now < state.orphans_until:
        enter(state, worker, orphan)
        return
    if brought:
        worker.given_up.add(base)
    state.send(worker.peer, Drop(((base, n),)))


def part(orphan: Orphan, lo: TaskId, hi: TaskId) -> Orphan:
    """Return what *orphan* has of the tasks *lo* to *hi* (exclusive)."""
    base, n, nbytes, digests = orphan
    k = hi - lo
    return lo, k, nbytes * k // n, versions.part(digests, lo - base, k)


def claim(state: SchedulerState, base: TaskId, n: int) -> None:
    """Somebody takes values that are here, though nobody knows how they were made."""
    if n == 1 and find(state, base) is not None:
        return
    for worker, held in list(state.orphans.items()):
        for orphan in held[_overlap(held, base, n)]:
            start, count, _, _ = orphan
            lo, hi = max(base, start), min(base + n, start + count)
            if not any(True for _ in covering(state, lo, hi - lo)):
                span = submitting.found_value(state, lo, hi - lo)
                _, _, nbytes, span.digests = part(orphan, lo, hi)
                strike(state, worker, (span.extent,))
                transitions.finish(state, span, worker, nbytes)


def gaps(
    state: SchedulerState, worker: Worker, base: TaskId, n: int
) -> Iterator[Extent]:
    """Yield what is no orphan of *worker*, of some tasks."""
    held = state.orphans.get(worker, [])
    return without([(base, n)], [o[:2] for o in held[_overlap(held, base, n)]])


def strike(state: SchedulerState, worker: Worker, extents: Sequence[Extent]) -> None:
    """*worker* does not hold these any more, or it is known who wants them."""
    held = state.orphans.get(worker)
    if held is None:
        return
    for base, n in extents:
        there = _overlap(held, base, n)
        left = []
        for orphan in held[there]:
            start, count, _, _ = orphan
            if start < base:
                left.append(part(orphan, start, base))
            if start + count > base + n:
                left.append(part(orphan, base + n, start + count))
        held[there] = left
    if not held:
        del state.orphans[worker]


def settle(state: SchedulerState) -> None:
    """Forget what was refused of workers of which all is known by now."""
    refused = state.versions.refused
    for worker in [worker for worker in refused if worker not in state.orphans]:
        del refused[worker]


def _overlap(held: list[Orphan], base: TaskId, n: int) -> slice:
    """Return where in *held*, which is in order, any of some tasks are."""
    first = bisect_left(held, (base,))
    if first and held[first - 1][0] + held[first - 1][1] > base:
        first -= 1
    return slice(first, bisect_left(held, (base + n,)))
