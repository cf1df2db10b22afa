"""Values that workers have brought back and that nobody has asked for yet.

Whoever wants them may still come back: ``recovery`` says until when they are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from covey.ids import TaskId, client_of
from covey.scheduler.core import submitting, transitions
from covey.scheduler.core.spans import covering
from covey.scheduler.core.state import ORPHAN_SECONDS, SchedulerState, Worker
from covey.wire.base import Extent
from covey.wire.extents import without
from covey.wire.worker_link import Drop


def keep(
    state: SchedulerState, worker: Worker, base: TaskId, n: int, nbytes: int
) -> None:
    """Nobody has asked for these values of *worker* yet; drop them if it is late."""
    client = state.client_numbers.get(client_of(base))
    # What a client brings lies by itself, and it tells of it afterwards.
    brought = n == 1 and client is not None
    if brought and client is not None and client.away_since is not None:
        # That may have to wait until it is back.
        state.orphans_until = max(state.orphans_until, state.now + ORPHAN_SECONDS)
    if state.now < state.orphans_until:
        state.orphans.setdefault(worker, []).append((base, n, nbytes))
        return
    if brought:
        worker.given_up.add(base)
    state.send(worker.peer, Drop(((base, n),)))


def claim(state: SchedulerState, base: TaskId, n: int) -> None:
    """Somebody takes values that are here, though nobody knows how they were made."""
    for worker, held in state.orphans.items():
        for start, count, nbytes in held:
            lo, hi = max(base, start), min(base + n, start + count)
            if lo < hi and not any(True for _ in covering(state, lo, hi - lo)):
                span = submitting.found_value(state, lo, hi - lo)
                transitions.finish(state, span, worker, nbytes * (hi - lo) // count)


def gaps(
    state: SchedulerState, worker: Worker, base: TaskId, n: int
) -> Iterator[Extent]:
    """Yield what is no orphan of *worker*, of some tasks."""
    held = [(start, count) for start, count, _ in state.orphans.get(worker, ())]
    return without([(base, n)], held)


def strike(state: SchedulerState, worker: Worker, extents: Sequence[Extent]) -> None:
    """*worker* does not hold these any more."""
    for base, n in extents:
        kept = []
        for start, count, nbytes in state.orphans.get(worker, ()):
            lo = min(max(base, start), start + count)
            hi = max(min(base + n, start + count), lo)
            for at, end in ((start, lo), (hi, start + count)):
                if at < end:
                    kept.append((at, end - at, nbytes * (end - at) // count))
        if kept:
            state.orphans[worker] = kept
        else:
            state.orphans.pop(worker, None)
