"""Copies that arrive of what is being made here, before it is made.

A worker may fetch a value and be asked to make it: its last holder was lost meanwhile.
The copy that arrives is what the scheduler takes for the value from then on, and the store
keeps it.  What rides behind the maker (see ``dispatch``) takes what that one makes, which
may have come out otherwise.  So it runs once more, with the copy::

    slot     v ─► k, which rides        k has taken the v that was made here
    store    v, a copy                  k runs again and takes this one
"""

from __future__ import annotations

from collections.abc import Collection

from covey.ids import RunId, TaskId
from covey.worker.core import dispatch, parcels
from covey.worker.core.state import Run, Slot, WorkerState


def mark(state: WorkerState, base: TaskId, n: int) -> None:
    """Copies of these have just come: note who takes what is made here instead."""
    if not (_any_of(state.makers, base, n) or _any_of(state.soon, base, n)):
        return
    # What has not begun takes the copies, like all that comes alone.
    parcels.separate_all(state)
    todo = [task for task in state.makers if base <= task < base + n]
    for made in todo:
        # Nothing rides behind it any more.
        slot = state.makers.pop(made, None)
        if slot is None:
            continue  # It takes several of them, and has been looked at.
        for run in state.awaited.get(made, ()):
            if run.rides is slot:
                slot.overtaken.add((run.run, run.base))
                if run.base in state.makers:
                    todo.append(run.base)


def _any_of(tasks: Collection[TaskId], base: TaskId, n: int) -> bool:
    if n <= len(tasks):
        return any(task in tasks for task in range(base, base + n))
    return any(base <= task < base + n for task in tasks)


def runs_again(
    state: WorkerState, slot: Slot, number: RunId, task: TaskId, run: Run
) -> bool:
    """Whether an outcome does not count; if so, the task lines up once more."""
    if (number, task) not in slot.overtaken:
        return False
    slot.overtaken.discard((number, task))
    dispatch.requeue(state, run, task, 1)
    return True
