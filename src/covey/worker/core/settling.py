"""Which environment each runner lives in: its Python, and what is installed for it.

A task may ask for an environment; a runner has one at a time, and changing it means a new
process.  So tasks are queued by environment, a runner serves the queue of its own, and it moves
when that is empty and others wait, or when nobody serves a queue::

    queues   "": [piece piece]     3.13: [piece]     3.12 + numpy: []
    runners  0: ""                 1: 3.13, from "", because nobody was there

A runner that has work of its own is not drawn away before it has been there for a while,
or two environments with one runner would do nothing but move.

No runner leaves while a task waits in it for tasks of its own.  When that is so of all
of them for a while, and what they wait for may be what nobody can run, an *extra* one is
started, which ends when it is idle and another one could do what it did.
"""

from __future__ import annotations

import math
from typing import Final

from covey.worker.core.orders import Kill, Spawn
from covey.worker.core.state import Runner, WorkerState
from covey.worker.core.waiting import top, wake

#: A runner with work of its own stays so long at least.
TENURE_SECONDS: Final = 2.0

#: So long all runners must have had tasks that wait before an extra one is started:
#: mostly they wait for what their own runners do.
STUCK_SECONDS: Final = 0.5

#: So many runners may be extra: as deep as tasks of other environments may be nested.
EXTRAS_MAX: Final = 8


def settle(state: WorkerState) -> list[str]:
    """Let runners move to where work waits for them.

    Returns:
        Environments for which no runner can be had, however long one waits.
    """
    if len(state.queues) == 1:
        return []  # Nobody has asked for anything yet.
    waiting = [name for name in state.queues if top(state, name) is not None]
    waiting.sort(key=lambda name: state.queues[name][0][:2])
    hopeless = _serve_all(state, waiting)
    for runner in state.runners:
        if _may_move(runner) and runner.idle and top(state, runner.environment) is None:
            chosen = next((n for n in waiting if _needs_more(state, n)), None)
            if chosen is not None:
                runner.wanted = chosen
    for runner in state.runners:
        if runner.wanted is not None and runner.ready and _is_empty(runner):
            move(state, runner, runner.wanted)
        elif runner.extra and _is_idle_extra(state, runner):
            move(state, runner, runner.environment)
    return hopeless


def _serve_all(state: WorkerState, waiting: list[str]) -> list[str]:
    """See to it that somebody is, or will be, where tasks wait."""
    hopeless = []
    if not waiting:
        state.stuck_since = math.inf
    for name in waiting:
        if any(_belongs(runner, name) for runner in state.runners):
            continue
        if any(not (runner.parked or runner.gone) for runner in state.runners):
            state.stuck_since = math.inf
            _draw_one(state, name)
        elif _has_waited(state) and not _add_extra(state, name):
            hopeless.append(name)
    return hopeless


def _has_waited(state: WorkerState) -> bool:
    """Whether no runner could move for so long that none may ever be able to."""
    state.stuck_since = min(state.stuck_since, state.now)
    due = state.stuck_since + STUCK_SECONDS
    if state.now >= due:
        return True
    wake(state, due)
    return False


def _add_extra(state: WorkerState, environment: str) -> bool:
    """Start one more runner, if there may be one more."""
    runner = next((r for r in state.runners if r.gone), None)
    if runner is None:
        if sum(r.extra for r in state.runners) >= EXTRAS_MAX:
            return False
        runner = state.add_runner(extra=True)
    runner.gone = False
    runner.environment = environment
    runner.since = math.inf
    state.order(Spawn(runner.number, environment))
    return True


def _is_idle_extra(state: WorkerState, runner: Runner) -> bool:
    """Whether an extra runner has nothing to do, and another one could do the rest."""
    if not (_may_move(runner) and runner.idle):
        return False
    if top(state, runner.environment) is not None:
        return False
    return any(not (other.extra or other.parked) for other in state.runners)


def move(state: WorkerState, runner: Runner, environment: str) -> None:
    """End a runner's process; the next one lives in *environment*."""
    runner.environment = environment
    runner.wanted = None
    runner.since = math.inf
    runner.ready = False
    runner.dying = True
    state.order(Kill(runner.number, "its place is for another environment"))


def _is_empty(runner: Runner) -> bool:
    """Whether a process can end without a task that executes or waits in it."""
    return runner.idle and not runner.parked


def _belongs(runner: Runner, environment: str) -> bool:
    current = runner.environment if runner.wanted is None else runner.wanted
    return current == environment and not runner.gone


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
    if due:
        wake(state, due)


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
