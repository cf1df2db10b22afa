"""What clients may ask that is answered at once, with plain data.

Questions that wait for something (``watch``, ``prints``) are in the rooms of what they
wait for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from covey.scheduler.core import (
    about,
    explain,
    graph,
    holdings,
    listening,
    overview,
    portions,
    profiling,
    workers,
)
from covey.scheduler.core.spans import covering
from covey.scheduler.core.state import SchedulerState
from covey.wire.client_link import Ask

#: Events in one answer, at most.
_EVENTS_MAX: Final = 10_000


def answer(state: SchedulerState, message: Ask) -> Any:
    """Return the answer to a question about the cluster."""
    topic = _TOPICS.get(message.topic)
    if topic is None:
        return {"error": f"there is no topic {message.topic!r}"}
    return portions.whole_or_why_not(topic(state, message))


def _who_has(state: SchedulerState, message: Ask) -> Any:
    return [
        (span.base, span.n, [worker.name for worker in span.replicas])
        for base, n in message.extents
        for span in covering(state, base, n)
    ]


def _explain(state: SchedulerState, message: Ask) -> Any:
    if message.names:
        return explain.named(state, message.names[0])
    return explain.task(state, message.extents[0][0])


def _task(state: SchedulerState, message: Ask) -> Any:
    return about.named(state, message.names[0] if message.names else "")


def _events(state: SchedulerState, message: Ask) -> Any:
    excerpt = state.events.since(message.number, _EVENTS_MAX)
    events = portions.first_that_fit(excerpt.events)
    return (excerpt.first, list(events), excerpt.dropped)


_TOPICS: Final[dict[str, Callable[[SchedulerState, Ask], Any]]] = {
    "who_has": _who_has,
    "info": lambda state, _: overview.cluster_info(state),
    "overview": lambda state, _: overview.overview(state),
    "graph": lambda state, _: graph.graph(state),
    "memory": lambda state, _: holdings.holdings(state),
    "profile": lambda state, message: profiling.ask(state, message.number),
    "logs": lambda state, message: listening.logs(state, message.extents),
    "last-prints": lambda _state, _message: None,
    "retire": lambda state, message: workers.retire_named(state, message.names),
    "explain": _explain,
    "task": _task,
    "events": _events,
}
