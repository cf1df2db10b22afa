"""Why tasks fail that did not say so themselves."""

from __future__ import annotations

import msgspec

from covey.ids import TaskId
from covey.scheduler.core.state import SchedulerState, Span
from covey.wire.base import Failure


def unmakeable(state: SchedulerState, span: Span) -> Failure:
    """Return why *span*, which has no recipe, fails."""
    if span.function is not None:
        return unknown_input(span.base)
    loss = state.losses.get(span)
    if loss is None:
        text = (
            "the only copies of this value were on workers that are gone, and it was "
            "brought by a client, so nothing can make it again"
        )
    else:
        text = (
            f"the last worker that had this value has lost it ({loss}). It was brought "
            "by a client, so nothing can make it again; bring it anew, and look at that "
            "disk, or name another one: the setting worker.spill_directory"
        )
    return Failure("lost", "DataLost", text, origin=span.base)


def unknown_input(task: TaskId) -> Failure:
    """Return the failure of a task whose input *task* nobody knows."""
    return Failure(
        "cancelled",
        "TaskCancelled",
        "an input of this task is not known: its future was released or cancelled, or "
        "its key was refused, before the task was submitted",
        origin=task,
    )


def inherited(source: Span) -> Failure:
    """Return the failure of a task whose input *source* has failed."""
    failure = source.failure
    assert failure is not None
    if failure.origin >= 0:
        return failure
    return msgspec.structs.replace(failure, origin=source.base)


def too_many_inputs(span: Span, number: int) -> Failure:
    """Return why *span*, with so many inputs here and there, fails."""
    return Failure(
        "unrunnable",
        "TaskError",
        f"the task takes {number:,} inputs that lie apart, and where they lie is more "
        f"than a worker can be told at once. Combine them in steps, some thousand at "
        f"a time, and take what comes out of those",
        origin=span.base,
    )
