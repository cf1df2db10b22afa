"""What lies in memory: by function, by worker, and who holds it there."""

from __future__ import annotations

import heapq
from itertools import islice
from typing import Any, Final

from covey.scheduler.core.explain import key_of
from covey.scheduler.core.history import label_of
from covey.scheduler.core.state import DETACHED, SchedulerState, Span

#: So many values are looked at on all workers together, and so many named.
_LOOKED_MAX: Final = 20_000
_NAMED: Final = 60


def holdings(state: SchedulerState) -> dict[str, Any]:
    """Return what the values on workers are, as far as a quick look goes.

    Returns:
        ``labels``: for each function how many tasks' values there are, their bytes (of
        all copies), their bytes by worker, how many values clients hold, and how many
        bytes unfinished tasks still take.  ``largest``: key, label, number of tasks,
        bytes of one copy, workers, and who holds it.  ``bytes`` and ``held`` (values of
        all workers), and how many were ``looked`` at.
    """
    labels: dict[str, dict[str, Any]] = {}
    seen: dict[Span, None] = {}
    held = sum(len(worker.holds) for worker in state.workers.values())
    share = _LOOKED_MAX // max(1, len(state.workers)) if held > _LOOKED_MAX else held
    looked = 0
    for worker in state.workers.values():
        for span in islice(worker.holds, share):
            looked += 1
            line = labels.setdefault(label_of(span), _new_line())
            line["bytes"] += span.nbytes
            places = line["workers"]
            places[worker.name] = places.get(worker.name, 0) + span.nbytes
            if span in seen:
                continue
            seen[span] = None
            line["n"] += span.n
            if span.wanted:
                line["wanted"] += span.n
            if span.pending:
                line["needed_bytes"] += span.nbytes
    largest = heapq.nlargest(_NAMED, seen, key=lambda span: span.nbytes)
    return {
        "labels": [{"label": label, **line} for label, line in labels.items()],
        "largest": [_described(state, span) for span in largest],
        "bytes": sum(worker.stored_bytes for worker in state.workers.values()),
        "held": held,
        "looked": looked,
    }


def _new_line() -> dict[str, Any]:
    return {"n": 0, "bytes": 0, "workers": {}, "wanted": 0, "needed_bytes": 0}


def _described(state: SchedulerState, span: Span) -> dict[str, Any]:
    return {
        "key": key_of(state, span),
        "label": label_of(span),
        "n": span.n,
        "bytes": span.nbytes,
        "workers": [worker.name for worker in span.replicas],
        "holders": holders_of(state, span),
    }


def holders_of(state: SchedulerState, span: Span) -> list[str]:
    """Return, in words, for whom the value of *span* is kept."""
    found = []
    for number in span.wanted:
        client = state.client_numbers.get(number)
        if client is not None:
            found.append(client.name)
        elif number == DETACHED:
            found.append("nobody: it was detached")
        else:
            found.append("who has not come back yet")
    if span.pending:
        tasks = "task" if span.pending == 1 else "tasks"
        found.append(f"{span.pending:,} unfinished {tasks}")
    return found
