"""The graph of what is known, small enough to be drawn: functions, then tasks."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from covey.scheduler.core.explain import key_of
from covey.scheduler.core.history import label_of
from covey.scheduler.core.spans import inputs_of
from covey.scheduler.core.state import SchedulerState

#: So many spans are looked at, and so many drawn one by one.
_LOOKED_MAX: Final = 5_000
_NODES_MAX: Final = 600


def graph(state: SchedulerState) -> dict[str, Any]:
    """Return functions with the states of their tasks, and who needs whom.

    Returns:
        ``groups`` (label and states), ``edges`` (from, to, how many), ``nodes`` (single
        spans, when they are few), ``total`` spans, and how many were ``looked`` at.
    """
    groups: dict[str, dict[str, int]] = {}
    edges: dict[tuple[str, str], int] = {}
    nodes: list[dict[str, Any]] = []
    total = len(state.spans)
    drawn = total <= _NODES_MAX
    for span in islice(state.spans.values(), _LOOKED_MAX):
        label = label_of(span)
        word = span.state.name.lower()
        states = groups.setdefault(label, {})
        states[word] = states.get(word, 0) + span.n
        sources = inputs_of(state, span)
        for source in sources:
            pair = (label_of(source), label)
            edges[pair] = edges.get(pair, 0) + 1
        if drawn:
            nodes.append(
                {
                    "key": key_of(state, span),
                    "label": label,
                    "state": word,
                    "n": span.n,
                    "needs": [key_of(state, source) for source in sources],
                }
            )
    return {
        "groups": [{"label": k, "states": v} for k, v in groups.items()],
        "edges": [(source, target, n) for (source, target), n in edges.items()],
        "nodes": nodes,
        "total": total,
        "looked": min(total, _LOOKED_MAX),
    }
