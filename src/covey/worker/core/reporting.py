"""What a worker tells a scheduler that does not know it any more."""

from __future__ import annotations

from collections.abc import Iterator

from covey.ids import RunId
from covey.wire.base import Extent, Message
from covey.wire.worker_link import Blocked, Engaged, Lacks, RunFailed, Running
from covey.worker.core.parcels import is_here
from covey.worker.core.state import Parcel, Run, WorkerState


def in_hand(state: WorkerState, failures: list[RunFailed]) -> list[Message]:
    """Return what the worker has in hand, task by task or in stretches.

    Args:
        state: the worker.
        failures: what it has told of failed tasks, and may not have been heard.
            To a scheduler that knows nothing these tasks run until it hears.
    """
    report: list[Message] = []
    for run in state.runs.values():
        if isinstance(run, Parcel):
            report += _of_parcel(state, run)
            continue
        awaits = tuple(task for task in run.awaits if (task, 1) in run.missing)
        for base, n in _places(state, run):
            live = run.live(base, n)
            report += [Running(run.run, start, k, awaits) for start, k in live]
    report += [Running(failure.run, failure.task, 1) for failure in failures]
    return report


def afterwards(state: WorkerState, failures: list[RunFailed]) -> list[Message]:
    """Return what follows the report: news that make sense only when it is known."""
    news: list[Message] = [*failures]
    if state.lacked:
        # Somebody may believe that it is here, and say so only now.
        news.append(Lacks(tuple((task, 1) for task in sorted(state.lacked))))
    if state.engaged:
        news.append(Engaged(state.engaged))
    for slot in state.slots:
        for run, task in slot.parked:
            if not slot.parked[run, task].done:
                news.append(Blocked(run, task))
    return news


def _of_parcel(state: WorkerState, parcel: Parcel) -> Iterator[Message]:
    """Yield what there is to say of nodes that are a parcel here."""
    for node in parcel.rest:
        awaits = tuple(task for task in node.awaits if not is_here(state, task))
        yield Running(node.run, node.base, 1, awaits)


def _places(state: WorkerState, run: Run) -> list[Extent]:
    """Return where the tasks of *run* are that have not ended."""
    if run.missing:
        return [(run.base, run.left)]
    queued = [*(entry[2] for entry in state.entries()), *state.suspects]
    found = [(p.base, p.n) for p in queued if p.run is run and p.n]
    for slot in state.slots:
        found += [(f.at, f.left) for f in slot.flights if f.run is run]
        number: RunId = run.run
        found += [(task, 1) for known, task in slot.parked if known == number]
    return sorted(found)
