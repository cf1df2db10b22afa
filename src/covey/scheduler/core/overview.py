"""What the cluster looks like: plain data."""

from __future__ import annotations

from typing import Any

from covey.scheduler.core.state import SchedulerState, State, Worker


def _worker_info(worker: Worker) -> dict[str, Any]:
    return {
        "name": worker.name,
        "host": worker.host.partition("/")[0],
        "addresses": list(worker.addresses),
        "slots": worker.slots,
        "resources": worker.resources,
        "memory_limit_bytes": worker.memory_limit_bytes,
        "assigned": worker.count,
        "stored_bytes": worker.stored_bytes,
        "leaving": worker.leaving,
        "facts": worker.facts,
    }


def cluster_info(state: SchedulerState) -> dict[str, Any]:
    """Return workers, clients and counters as plain data."""
    tasks = dict.fromkeys((s.name.lower() for s in State if s <= State.RELEASED), 0)
    for span in state.spans.values():
        tasks[span.state.name.lower()] += span.n
    return {
        "cluster": state.cluster,
        "epoch": state.epoch,
        "workers": [_worker_info(worker) for worker in state.workers.values()],
        "clients": [client.name for client in state.clients.values()],
        "tasks": tasks,
        "counters": dict(state.counters),
    }
