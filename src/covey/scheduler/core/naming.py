"""What shared tasks are called, and by which ids their clients know them."""

from __future__ import annotations

from covey.ids import TaskId
from covey.scheduler.core.state import SchedulerState, Span


def forget(state: SchedulerState, span: Span) -> None:
    """Strike out what a forgotten span was called, and its other ids."""
    free(state, span)
    for ids in state.ids_of.pop(span.base, {}).values():
        for task in ids:
            state.aliases.pop(task, None)


def free(state: SchedulerState, span: Span) -> None:
    """Strike out what a span is called: another one may have that name."""
    named = state.name_of.pop(span.base, None)
    if named is not None:
        del state.names[named[0]]


def drop_alias(state: SchedulerState, span: Span, task: TaskId) -> None:
    """Forget another id of a shared task, once no client knows the task by it."""
    if task == span.base:
        return
    known = state.ids_of.get(span.base, {})
    if not any(task in ids for ids in known.values()):
        state.aliases.pop(task, None)
