"""Which environment each runner lives in: its Python, and what is installed for it.

A task may ask for an environment; a runner has one at a time, and changing it means a new
process.  So tasks are queued by environment, a runner serves the queue of its own, and it moves
when that is empty and others wait, or when nobody serves a queue::

    queues   "": [piece piece]     3.13: [piece]     3.12 + numpy: []
    runners  0: ""                 1: 3.13, from "", because nobody was there

A runner that has work of its own is not drawn away before it has been there for a while,
or two environments with one runner would do nothing but move.
"""

from __future__ import annotations

import math
from heapq import heappop
from typing import Final

from covey.worker.core.orders import Kill, WakeAt
from covey.worker.core.state import Piece, Runner, WorkerState

#: A runner with work of its own stays so long at least.
TENURE_SECONDS: Final = 2.0


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


def settle(state: WorkerState) -> None:
    """Let runners move to where work waits for them."""
    if len(state.queues) == 1:
        return  # Nobody has asked for anything yet.
    waiting = [name for name in state.queues if top(state, name) is not None]
    waiting.sort(key=lambda name: state.queues[name][0][:2])
    for name in waiting:
        if not any(_belongs(runner, name) for runner in state.runners):
            _draw_one(state, name)
    for runner in state.runners:
        if _may_move(runner) and runner.idle and top(state, runner.environment) is None:
            chosen = next((n for n in waiting if _needs_more(state, n)), None)
            if chosen is not None:
                runner.wanted = chosen
    for runner in state.runners:
        if runner.wanted is not None and runner.ready and _is_empty(runner):
            move(state, runner, runner.wanted)


def move(state: WorkerState, runner: Runner, environment: str) -> None:
    """End a runner's process; the next one lives in *environment*."""
    runner.environment = environment
    runner.wanted = None
    runner.since = math.inf
    runner.ready = False
    runner.dying = True
    state.order(Kill(runner.number))


def _is_empty(runner: Runner) -> bool:
    """Whether a process can end without a task that executes or waits in it."""
    return runner.idle and not runner.parked


def _belongs(runner: Runner, environment: str) -> bool:
    current = runner.environment if runner.wanted is None else runner.wanted
    return current == environment


def _may_move(runner: Runner) -> bool:
    return (
        runner.ready
        and runner.wanted is None
        and not (runner.dying or runner.reserved or runner.exclusive or runner.parked)
    )


def _draw_one(state: WorkerState, environment: str) -> None:
    """Choose the runner that moves to where nobody is, or wait until one may."""
    due = 0.0
    for runner in sorted(state.runners, key=lambda r: (r.since, r.number)):
        if not _may_move(runner):
            continue
        free = runner.since + TENURE_SECONDS
        if state.now >= free or top(state, runner.environment) is None:
            runner.wanted = environment
            return
        due = min(due, free) if due else free
    if due and (not state.wake_at or due < state.wake_at):
        state.wake_at = due
        state.order(WakeAt(due))


def _needs_more(state: WorkerState, environment: str) -> bool:
    """Say whether more tasks wait than there are slots on their way."""
    tasks = sum(entry[2].n for entry in state.queues[environment])
    coming = sum(
        len(runner.slots)
        for runner in state.runners
        if _belongs(runner, environment)
        and (not runner.ready or runner.wanted is not None or runner.idle)
    )
    return tasks > coming
