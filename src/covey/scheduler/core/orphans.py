"""Values that workers have brought back and that nobody has asked for yet.

Whoever wants them may still come back: ``recovery`` says until when they are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from covey.ids import TaskId, client_of
from covey.scheduler.core import submitting, transitions, versions
from covey.scheduler.core.spans import covering
from covey.scheduler.core.state import ORPHAN_SECONDS, Orphan, SchedulerState, Worker
from covey.wire.base import Extent
from covey.wire.extents import without
from covey.wire.worker_link import Drop


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
        state.orphans.setdefault(worker, []).append(orphan)
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
    for worker, held in state.orphans.items():
        for orphan in held:
            start, count, _, _ = orphan
            lo, hi = max(base, start), min(base + n, start + count)
            if lo < hi and not any(True for _ in covering(state, lo, hi - lo)):
                span = submitting.found_value(state, lo, hi - lo)
                _, _, nbytes, span.digests = part(orphan, lo, hi)
                transitions.finish(state, span, worker, nbytes)


def gaps(
    state: SchedulerState, worker: Worker, base: TaskId, n: int
) -> Iterator[Extent]:
    """Yield what is no orphan of *worker*, of some tasks."""
    held = [orphan[:2] for orphan in state.orphans.get(worker, ())]
    return without([(base, n)], held)


def strike(state: SchedulerState, worker: Worker, extents: Sequence[Extent]) -> None:
    """*worker* does not hold these any more."""
    for base, n in extents:
        kept = []
        for orphan in state.orphans.get(worker, ()):
            start, count, _, _ = orphan
            lo = min(max(base, start), start + count)
            hi = max(min(base + n, start + count), lo)
            for at, end in ((start, lo), (hi, start + count)):
                if at < end:
                    kept.append(part(orphan, at, end))
        if kept:
            state.orphans[worker] = kept
        else:
            state.orphans.pop(worker, None)
