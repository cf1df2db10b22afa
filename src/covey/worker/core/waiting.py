"""What waits: tasks for a slot, by environment and rank; and the core for a moment."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush

from covey.ids import TaskId
from covey.worker.core.orders import WakeAt
from covey.worker.core.state import Piece, Run, WorkerState


def enqueue(state: WorkerState, piece: Piece) -> None:
    """Put a piece into the queue."""
    state.last_entry += 1
    queue = state.queues.setdefault(piece.run.environment, [])
    heappush(queue, (piece.run.rank, state.last_entry, piece))
    state.queued += piece.n


def top(state: WorkerState, environment: str) -> Piece | None:
    """Return the piece that is next in an environment, if one waits."""
    queue = state.queues.get(environment)
    while queue:
        piece = queue[0][2]
        if piece.n and piece.run.run in state.runs:
            return piece
        heappop(queue)
        state.queued -= piece.n
    return None


def wake(state: WorkerState, time: float) -> None:
    """Ask for a tick at *time*, unless an earlier one is coming.

    One that is overdue is still coming: a later one must not take its place.
    """
    if not state.wake_at or time < state.wake_at:
        state.wake_at = time
        state.order(WakeAt(time))


def await_no_more(state: WorkerState, run: Run, tasks: Iterable[TaskId]) -> None:
    """A run waits no more for these tasks, if it did."""
    awaited = state.awaited
    for task in tasks:
        waiting = awaited.get(task)
        if waiting is not None and run in waiting:
            waiting.remove(run)
            if not waiting:
                del awaited[task]


def has_begun(state: WorkerState, run: Run) -> None:
    """A run that rode executes: what it takes was there, whatever became of that here."""
    await_no_more(state, run, [task for task, _ in run.missing])
    run.missing.clear()
