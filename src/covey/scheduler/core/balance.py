"""Work that lies with busy workers while others idle: when it is worth to have it back.

How long a worker is busy is an estimate, made of what calls of its functions have taken
so far.  One that takes a thousand times as long is not foreseen; but it shows, for
nothing more comes from that worker.  So whatever lies there is taken to wait for as
long again as the worker has been silent, if that is longer than was thought::

    estimated   ▓▓░░                      handed out: 2 ms; worth nobody's trouble
    silent for  ▓▓▓▓▓▓▓▓▓▓▓▓▓▓░░ ...      0.2 s: what lies behind goes to who idles

It is *late* then.  It is given nothing more before it has told of an end, and all that
lies there is asked for, not the half that leaves both with as much to do.
"""

from __future__ import annotations

import itertools
import math
from typing import Final

from covey.scheduler.core.state import SchedulerState, Worker
from covey.wire.worker_link import Return

#: What a task is taken to need until the first of its function has returned.
UNKNOWN_SECONDS: Final = 0.5

#: Below this backlog, and the way to a worker and back, it is not worth asking it to hand
#: work back.
RETURN_SECONDS: Final = 0.005

#: News of what ended may take so long, and the way: until then a worker is not silent.
SILENT_SECONDS: Final = 0.2

#: Where asking for more would have led nowhere, it may lead somewhere after so long.
RELUCTANT_SECONDS: Final = 1.0

#: So many busy workers are looked at, at a time, for what they could hand back.
LOOKED_AT: Final = 32

#: Times at which to look again are multiples of this, so that they change seldom.
_STEP_SECONDS: Final = 0.05


def waits(state: SchedulerState, worker: Worker) -> float:
    """Return for how many seconds something would wait there, as far as is known."""
    backlog = 0.0
    # As ``backlog_seconds``, in place: whoever idles asks it of several others in vain.
    for function, count in worker.load.items():
        known = function.seconds if function is not None else 0.0
        backlog += count * (UNKNOWN_SECONDS if known is None else known)
    estimated = backlog / worker.slots
    silent = state.now - worker.stirred - worker.distance.seconds
    if worker.count and silent > SILENT_SECONDS:
        return max(estimated, silent)
    return estimated


def _late_at(worker: Worker) -> float:
    """Return from when on *worker* is late, if it tells of no end until then.

    It has been silent for so long by then that all that it has should have ended.
    """
    estimated = worker.backlog_seconds(UNKNOWN_SECONDS) / worker.slots
    return worker.stirred + worker.distance.seconds + max(SILENT_SECONDS, estimated)


def may_have_more(state: SchedulerState, worker: Worker) -> bool:
    """Whether to give *worker*, if it is busy, more: not what it has just handed back.

    Where it has been silent for long, those for whom it was handed back take what lies
    here one after the other, as fast as they can run it.  And who is late would only
    have to hand it back.
    """
    if worker.busy < worker.slots:
        return True
    if state.now - worker.stirred <= SILENT_SECONDS + worker.distance.seconds:
        return True
    if state.hungry or worker.handed_back:
        return False
    return state.now <= _late_at(worker)


def came_back(state: SchedulerState, worker: Worker) -> None:
    """What *worker* has handed back has come back to it: nobody else could take it."""
    worker.reluctant = state.now + RELUCTANT_SECONDS


def answered(state: SchedulerState, worker: Worker) -> None:
    """*worker* has handed back what it can: if that is nothing, so it is for a while.

    Who has no more than it runs has handed back all, and the list of it is empty again.
    """
    if not worker.handed_back and worker.count > worker.slots:
        later = state.now + RELUCTANT_SECONDS
        worker.reluctant = max(worker.reluctant, later)


def _asked_again_at(state: SchedulerState, worker: Worker) -> float:
    """Return when *worker* may be asked again for what it has: now, or later.

    What was found out before it was late does not hold any more: for a slot that idles,
    to have what lies there is worth more by now, and what comes back stays away from it.
    """
    until, now = worker.reluctant, state.now
    if until <= now:
        return now
    late_at = _late_at(worker)
    if until - RELUCTANT_SECONDS >= late_at:
        return until
    return now if now > late_at else min(until, late_at)


def look_again(state: SchedulerState, time: float) -> None:
    """Workers that idle shall be served again after *time*, whatever happens."""
    time = _STEP_SECONDS * (math.floor(time / _STEP_SECONDS) + 1)
    if time <= state.now:
        # A rounding error: it was looked at just now, and too early.
        time = state.now + _STEP_SECONDS
    if not state.look_again or time < state.look_again:
        state.look_again = time


def call_back(state: SchedulerState) -> None:
    """Some workers idle while others have more than they run: have it handed back."""
    idle, hungry = state.idle_slots, state.hungry
    if idle <= 0 or not hungry:
        return
    # Nobody could take the work of the only one with room.
    only = next(iter(hungry)) if len(hungry) == 1 else None
    if only is not None and len(state.excess) == 1 and only in state.excess:
        return
    again = math.inf
    for worker in list(itertools.islice(state.excess, LOOKED_AT)):
        # The next time it is others' turn.
        del state.excess[worker]
        if worker.count <= worker.slots:
            continue
        state.excess[worker] = None
        if worker.returning or worker is only:
            continue
        if worker.reluctant > state.now:
            due = _asked_again_at(state, worker)
            if due > state.now:
                again = min(again, due)
                continue
        # What comes back has to come all the way.
        worth = RETURN_SECONDS + worker.distance.seconds
        if waits(state, worker) < worth:
            silent_at = (
                worker.stirred + worker.distance.seconds + max(SILENT_SECONDS, worth)
            )
            again = min(again, silent_at)
            continue
        surplus = _surplus(worker)
        if surplus <= 0:
            worker.reluctant = state.now + SILENT_SECONDS
            again = min(again, worker.reluctant)
            continue
        # What came back to it last time would be the first to be handed back again.
        whole = worker.handed_back or state.now > _late_at(worker)
        some = surplus if whole else (surplus + 1) // 2
        worker.returning = True
        worker.handed_back.clear()
        state.send(worker.peer, Return(some))
        idle -= surplus
        if idle <= 0:
            break
    if again < math.inf:
        look_again(state, again)


def _surplus(worker: Worker) -> int:
    """Return how many tasks *worker* has in hand that another one could begin.

    What was sent ahead waits for what the others make, and can only go back with it.
    """
    return worker.busy - worker.slots
