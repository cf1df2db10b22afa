"""The graph of what is known, small enough to be drawn: functions, then tasks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from covey.ids import TaskId
from covey.scheduler.core.explain import key_of
from covey.scheduler.core.history import label_of
from covey.scheduler.core.spans import inputs_of
from covey.scheduler.core.state import SchedulerState, Span

#: So many spans are looked at, and so many of their inputs: some milliseconds.
_LOOKED_MAX: Final = 5_000
_NEEDS_MAX: Final = 20_000


def graph(state: SchedulerState) -> dict[str, Any]:
    """Return functions with the states of their tasks, and who needs whom.

    Returns:
        ``groups`` (label and states), ``edges`` (from, to, how many), ``nodes`` (for
        each span its key, label, state, number of tasks, first task, seconds in that
        state, and the places of its inputs in this list), ``total`` spans, how many
        were ``looked`` at, and how many ``inputs`` were left out.
    """
    groups: dict[str, dict[str, int]] = {}
    edges: dict[tuple[str, str], int] = {}
    spans = list(islice(state.spans.values(), _LOOKED_MAX))
    places: dict[TaskId, int] = {span.base: at for at, span in enumerate(spans)}
    nodes: list[tuple[Any, ...]] = []
    needs = left_out = 0
    for span in spans:
        label = label_of(span)
        word = span.state.name.lower()
        states = groups.setdefault(label, {})
        states[word] = states.get(word, 0) + span.n
        sources: Sequence[Span] = ()
        if needs < _NEEDS_MAX:
            sources = inputs_of(state, span)
            needs += len(sources)
        elif span.inputs != ():
            left_out += 1
        for source in sources:
            pair = (label_of(source), label)
            edges[pair] = edges.get(pair, 0) + 1
        nodes.append(
            (
                key_of(state, span),
                label,
                word,
                span.n,
                span.base,
                state.now - span.since,
                [places[s.base] for s in sources if s.base in places],
            )
        )
    return {
        "groups": [{"label": k, "states": v} for k, v in groups.items()],
        "edges": [(source, target, n) for (source, target), n in edges.items()],
        "nodes": nodes,
        "total": len(state.spans),
        "looked": len(spans),
        "inputs_left_out": left_out,
    }
