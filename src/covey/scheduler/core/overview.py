"""What the cluster looks like: plain data."""

from __future__ import annotations

from typing import Any

from covey.scheduler.core import explain, queues
from covey.scheduler.core.functions import Counts
from covey.scheduler.core.state import SchedulerState, State, Worker


def _worker_info(worker: Worker) -> dict[str, Any]:
    return {
        "name": worker.name,
        "host": worker.host.partition("/")[0],
        "addresses": list(worker.addresses),
        "slots": worker.slots,
        "resources": worker.resources,
        "memory_limit_bytes": worker.memory_limit_bytes,
        "assigned": worker.count - worker.engaged,
        "stored_bytes": worker.stored_bytes,
        "leaving": worker.leaving,
        "facts": worker.facts,
    }


def overview(state: SchedulerState) -> dict[str, Any]:
    """Return how everything stands, for one who begins to read the event stream.

    It takes a look at every worker and function, and at no task.
    """
    running: dict[str, int] = {}
    for worker in state.workers.values():
        for function, n in worker.load.items():
            label = function.label if function is not None else "data"
            running[label] = running.get(label, 0) + n
    return {
        "next": state.events.next,
        "now": state.now,
        "cluster": state.cluster,
        "epoch": state.epoch,
        "workers": [_worker_info(worker) for worker in state.workers.values()],
        "clients": [client.name for client in state.clients.values()],
        "functions": _functions(state),
        "running": running,
        "ready": state.ready_count,
        "known": len(state.spans),
        "slots": state.slots_count,
        "counters": dict(state.counters),
        "impossible": _impossible(state),
    }


def _functions(state: SchedulerState) -> dict[str, dict[str, Any]]:
    """Sum up what was submitted, by label: equal labels are one line to a reader."""
    table: dict[str, dict[str, Any]] = {
        label: past._asdict() for label, past in state.functions.past.items()
    }
    for function in state.functions:
        line = table.setdefault(function.label, Counts()._asdict())
        line["submitted"] += function.submitted
        line["done"] += function.done
        line["failed"] += function.failed
        if function.seconds is not None:
            line["seconds"] = function.seconds
    return table


def _impossible(state: SchedulerState) -> list[dict[str, Any]]:
    """Return what is ready and no worker can run, with the reason."""
    found = []
    for demand in state.demands.values():
        if not demand.heap or any(map(demand.admits, state.workers.values())):
            continue
        spans = [
            span
            for _, span in demand.heap
            if span.state is State.READY and span.queue is demand.heap
        ]
        if spans:
            found.append(
                {
                    "n": sum(span.n for span in spans),
                    "key": explain.key_of(state, spans[0]),
                    "asks": queues.describe(demand),
                    "offers": queues.offers(state, demand),
                }
            )
    return found


def cluster_info(state: SchedulerState) -> dict[str, Any]:
    """Return workers, clients and counters as plain data."""
    tasks = dict.fromkeys((s.name.lower() for s in State if s <= State.RELEASED), 0)
    for span in state.spans.values():
        tasks[span.state.name.lower()] += span.n
    return {
        "cluster": state.cluster,
        "epoch": state.epoch,
        "dashboard": state.dashboard,
        "workers": [_worker_info(worker) for worker in state.workers.values()],
        "clients": [client.name for client in state.clients.values()],
        "tasks": tasks,
        "counters": dict(state.counters),
    }
