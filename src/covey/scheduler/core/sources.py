"""Where the inputs of a run are, for the worker that is to run it and lacks them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from covey.ids import RunId, TaskId
from covey.scheduler.core.spans import inputs_of
from covey.scheduler.core.state import SchedulerState, Span, Worker
from covey.wire.worker_link import Peer

#: So many holders of an input are named to whoever lacks it.
HOLDERS_NAMED: Final = 3

Sources: TypeAlias = tuple[tuple[int, int, int], ...]
"""Where inputs are: (base, n, number of a worker)."""


def sources_of(
    state: SchedulerState, worker: Worker, span: Span
) -> tuple[Sources, Sources, tuple[TaskId, ...]]:
    """Return where the inputs are that *worker* lacks, where else, and what is to come.

    The last are those that are still to be made.
    """
    lacking: list[tuple[int, int, int]] = []
    spares: list[tuple[int, int, int]] = []
    awaited: list[TaskId] = []
    local = 0
    for source in inputs_of(state, span):
        if worker in source.replicas:
            local += source.nbytes
            continue
        if not source.replicas:
            awaited.append(source.base)
            continue
        for at, holder in enumerate(_holders(source, worker, span.run)):
            introduce(state, worker, holder)
            place = (source.base, source.n, int(holder.number))
            (spares if at else lacking).append(place)
    if local:
        state.counters["bytes_local"] += local
    return tuple(lacking), tuple(spares), tuple(awaited)


def _holders(source: Span, worker: Worker, run: RunId) -> Sequence[Worker]:
    """Return a few of those that hold *source*, the one to be asked first in front.

    Runs take turns, and whoever shares the machine with *worker* goes before others.
    """
    replicas = source.replicas
    if len(replicas) == 1:
        return replicas
    first = run % len(replicas)
    chosen = [*replicas[first : first + HOLDERS_NAMED]]
    chosen += replicas[: min(first, HOLDERS_NAMED - len(chosen))]
    chosen.sort(key=lambda holder: holder.host != worker.host)
    return chosen


def introduce(state: SchedulerState, worker: Worker, other: Worker) -> None:
    """Make sure that *worker* knows where *other* serves its data."""
    if other.peer not in worker.peers:
        worker.peers.add(other.peer)
        state.send(worker.peer, Peer(other.number, other.addresses, other.host))
