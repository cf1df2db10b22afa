"""Digests of values that nothing took when they were made.

The results of a plain ``map`` are told without digests, since nothing can mix what nothing
takes.  As soon as a task here takes one of them, the scheduler must know which version that
was: else it could not tell, should the value be lost and made again, whether the two are
the same.  (A worker that fetches a copy tells its digest, too.)
"""

from __future__ import annotations

from collections.abc import Iterable

from covey.ids import TaskId
from covey.wire.base import Extent
from covey.worker.core.orders import Vouch
from covey.worker.core.state import WorkerState


def at_once(state: WorkerState, base: TaskId, n: int) -> bool:
    """Whether these, of which nobody asked the digests, are told with them all the same.

    What waits for them may have been sent ahead, right behind them.
    """
    if state.awaited and not state.awaited.keys().isdisjoint(range(base, base + n)):
        return True
    state.unvouched.add(base, n)
    return False


def vouch(state: WorkerState, inputs: Iterable[Extent]) -> None:
    """A task takes these: before it ends, the scheduler knows their digests."""
    unvouched = state.unvouched
    for base, n in inputs:
        for extent in list(unvouched.parts(base, n)):
            unvouched.discard(*extent)
            state.order(Vouch(*extent))
