"""Environments that workers could not have: their tasks go to other workers.

What an installer says on one machine is true of that machine: another one may have the
compiler, the network or the Python that was missing there::

    failed on A ──► B could run it, and has not failed ──► ready again, for B
                └─► nobody else could ───────────────────► failed, in the words of A

A worker is given another chance after a while, and all of them when a task comes for which
nobody is left.
"""

from __future__ import annotations

from typing import Final

from covey.scheduler.core.demand import Demand
from covey.scheduler.core.state import SchedulerState, Worker

#: A worker that could not have an environment is not asked for it for so long.
RETRY_SECONDS: Final = 60.0


def mark(state: SchedulerState, worker: Worker, environment: str) -> None:
    """Note that *worker* cannot have *environment*: it is given nothing that asks for it."""
    worker.unfit[environment] = state.now
    for demand in worker.demands:
        if demand.environment == environment:
            demand.leave(worker)
    worker.demands = [d for d in worker.demands if d.environment != environment]


def others(state: SchedulerState, demand: Demand) -> bool:
    """Say whether a worker that has not failed so far could run what asks for *demand*."""
    return any(demand.admits(w) and not w.leaving for w in state.workers.values())


def forgive(state: SchedulerState, demand: Demand) -> None:
    """A task comes that asks for *demand*: say who may try to run it again."""
    unfit = [w for w in state.workers.values() if demand.environment in w.unfit]
    if not unfit:
        return
    left = others(state, demand)
    for worker in unfit:
        since = worker.unfit[demand.environment]
        if left and state.now - since < RETRY_SECONDS:
            continue
        del worker.unfit[demand.environment]
        for other in state.demands.values():
            if other.environment == demand.environment and other.admits(worker):
                other.enter(worker)
                state.awake[other] = None
