"""Why a task is where it is, and what the cluster looks like: plain data."""

from __future__ import annotations

from typing import Any

from covey.ids import TaskId
from covey.scheduler.core import placement
from covey.scheduler.core.spans import find, inputs_of
from covey.scheduler.core.state import SchedulerState, Span, State, Worker

_INPUTS_SHOWN = 5


def task(state: SchedulerState, task_id: TaskId) -> dict[str, Any]:
    """Say how one task stands, and what it waits for.

    Returns:
        ``state`` (a word), ``text`` (a sentence for a human), and facts:
        ``worker``, ``inputs``, ``ahead``, ``offers``, as far as they apply.
    """
    span = find(state, task_id)
    if span is None:
        return {
            "state": "forgotten",
            "text": "the scheduler does not know this task: nobody holds a future "
            "of it any more",
        }
    answer: dict[str, Any] = {"state": span.state.name.lower()}
    answer.update(_EXPLANATIONS[span.state](state, span))
    if span.attempts:
        answer["attempts"] = span.attempts
        answer["text"] += f"; it has failed {span.attempts} times before"
    return answer


def _waiting(state: SchedulerState, span: Span) -> dict[str, Any]:
    missing = [s for s in inputs_of(state, span) if s.state is not State.DONE]
    inputs = [
        {
            "base": source.base,
            "n": source.n,
            "state": source.state.name.lower(),
            "worker": source.worker.name if source.worker else None,
        }
        for source in missing[:_INPUTS_SHOWN]
    ]
    words = ", ".join(
        f"{_keys(s)} ({s.state.name.lower()}"
        + (f" on {s.worker.name})" if s.worker else ")")
        for s in missing[:_INPUTS_SHOWN]
    )
    more = len(missing) - _INPUTS_SHOWN
    if more > 0:
        words += f" and {more} more"
    return {"text": f"it waits for its inputs: {words}", "inputs": inputs}


def _ready(state: SchedulerState, span: Span) -> dict[str, Any]:
    demand = placement.demand_of(state, span)
    if not state.workers:
        return {"text": "there is no worker; it runs as soon as one joins"}
    able = [w for w in state.workers.values() if demand.admits(w)]
    if not able:
        return {
            "text": f"no worker can run it: it asks for {placement.describe(demand)}; "
            f"workers offer: {placement.offers(state)}",
            "offers": placement.offers(state),
        }
    ahead = state.ready_count - span.n
    return {
        "text": f"it is ready, and {ahead} tasks wait with it for a free slot of "
        f"{len(able)} workers",
        "ahead": ahead,
    }


def _assigned(state: SchedulerState, span: Span) -> dict[str, Any]:
    del state
    worker = span.worker
    assert worker is not None
    return {
        "text": f"it is on {worker.name} (run {span.run}), among {worker.count} tasks "
        f"on {worker.slots} slots",
        "worker": worker.name,
        "run": span.run,
    }


def _done(state: SchedulerState, span: Span) -> dict[str, Any]:
    del state
    places = [worker.name for worker in span.replicas]
    return {
        "text": f"it is done; its value ({span.nbytes // span.n:,} bytes) rests on "
        f"{', '.join(places)}",
        "workers": places,
    }


def _failed(state: SchedulerState, span: Span) -> dict[str, Any]:
    del state
    failure = span.failure
    assert failure is not None
    return {"text": f"it failed: {failure.type_name}: {failure.message}"}


def _released(state: SchedulerState, span: Span) -> dict[str, Any]:
    del state, span
    return {"text": "its value was used and dropped; it can be computed again"}


_EXPLANATIONS = {
    State.WAITING: _waiting,
    State.READY: _ready,
    State.ASSIGNED: _assigned,
    State.DONE: _done,
    State.FAILED: _failed,
    State.RELEASED: _released,
}


def _keys(span: Span) -> str:
    """Name the tasks of a span as clients do, unless users named them."""
    label = span.function.label if span.function is not None else "data"
    others = f" and {span.n - 1} after it" if span.n > 1 else ""
    return f"{label}-{span.base:x}{others}"


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
