"""All that is known of one task, for its page: ``explain``, and what is around it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from covey.scheduler.core import dependents, explain
from covey.scheduler.core.history import label_of
from covey.scheduler.core.holdings import holders_of
from covey.scheduler.core.spans import covering, find
from covey.scheduler.core.state import SchedulerState, Span

_SHOWN: Final = 50


def named(state: SchedulerState, key: str) -> dict[str, Any]:
    """Say how the task stands that a user calls *key*, and what is around it.

    Returns:
        What ``explain.task`` returns, and ``needs`` and ``needed_by`` (key, state,
        workers and bytes of neighbours), ``needs_n`` and ``needed_by_n`` (how many there
        are: tasks, and stretches of tasks), ``holders``, ``n`` (tasks that stand alike), ``options`` and ``nbytes``.
    """
    answer = explain.named(state, key)
    span = find(state, answer["task"]) if "task" in answer else None
    if span is None:
        return answer
    needs = dict.fromkeys(islice(_inputs(state, span), _SHOWN))
    options = span.options
    return {
        **answer,
        "n": span.n,
        "nbytes": span.nbytes // span.n,
        "needs": [_neighbour(state, source) for source in needs],
        "needs_n": len(span.aligned) + sum(n for _, n in (*span.groups, *span.whole)),
        "needed_by": [
            _neighbour(state, user) for user in islice(span.dependents or (), _SHOWN)
        ],
        "needed_by_n": dependents.count(span),
        "holders": holders_of(state, span),
        "options": {
            "priority": options.priority,
            "retries": options.retries,
            "timeout": options.timeout_seconds,
            "resources": options.resources,
            "workers": list(options.workers),
        },
    }


def _inputs(state: SchedulerState, span: Span) -> Iterator[Span]:
    """Yield the inputs one by one: there may be very many, and few are shown."""
    for task in (*span.aligned, *(first for first, _ in span.groups)):
        source = find(state, task)
        if source is not None:
            yield source
    for base, n in span.whole:
        yield from covering(state, base, n)


def _neighbour(state: SchedulerState, span: Span) -> dict[str, Any]:
    places = [worker.name for worker in span.replicas]
    if not places and span.worker is not None:
        places = [span.worker.name]
    return {
        "key": explain.key_of(state, span),
        "label": label_of(span),
        "n": span.n,
        "state": span.state.name.lower(),
        "workers": places,
        "nbytes": span.nbytes,
        "seconds": state.now - span.since,
    }
