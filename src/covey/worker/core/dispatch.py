"""Which slot runs what.

A slot is sent so many tasks at once that they last a few round trips, and behind what
is over soon the next ones, for which it would wait else; a long task goes alone.  When
a slot runs dry while another has unbegun tasks in hand, these are called back: a slow
task holds up nobody but itself.

A short task whose missing inputs are all in one slot's hands *rides*: it is sent
there at once, to run right behind them on values that have not left the process.
So a chain runs as fast as its calls.  If it does not find them there (the task
before it failed, gave its slot away, or made something large), the slot hands it
back, and it waits for them like any other.
"""

from __future__ import annotations

from heapq import heappop
from typing import Final

from covey.ids import TaskId
from covey.wire.base import Failure
from covey.wire.worker_link import Returned, RunFailed
from covey.worker.core import parcels, vouching
from covey.worker.core.flights import FLIGHT_SECONDS, size_of
from covey.worker.core.orders import (
    Dispatch,
    DispatchNodes,
    EndRun,
    ForgetFunction,
    Retract,
    Tell,
)
from covey.worker.core.settling import move, settle
from covey.worker.core.state import (
    Flight,
    Parcel,
    ParcelFlight,
    Piece,
    Run,
    Runner,
    Slot,
    WorkerState,
)
from covey.worker.core.waiting import await_no_more, enqueue, top, wake

#: Who has handed back all is not asked again for so long, unless there is news of it:
#: what was on its way to it just then can still be had.
EMPTIED_SECONDS: Final = 0.25

#: So much work in one slot's hands is worth calling back for a slot that is dry.
WORTH_SECONDS: Final = 0.004

#: A flight that is silent for so long while another slot idles is called back.
SILENCE_SECONDS: Final = 0.02

# The queue.


def requeue(
    state: WorkerState, run: Run, base: TaskId, n: int, *, alone: bool = False
) -> None:
    """Tasks that a slot had in hand must be dispatched again, but stopped ones."""
    if state.lacked and not run.missing and give_back_lacking(state, run, base, n):
        return
    left = n
    if alone and run.missing:
        run.suspect = True
    alone = alone or run.suspect
    for start, count in run.live(base, n):
        left -= count
        if run.missing:
            continue  # It waits for what it was to run right behind.
        piece = Piece(run, start, count, alone=alone)
        if alone:
            state.suspects.append(piece)
        else:
            enqueue(state, piece)
    if left:
        finish_tasks(state, run, left)


def forget_function(state: WorkerState, fn: int) -> None:
    """Forget an undefined function, unless runs of it are in hand."""
    if any(run.calls(fn) for run in state.runs.values()):
        return
    state.undefined.discard(fn)
    state.environments.pop(fn, None)
    state.seconds.pop(fn, None)
    state.order(ForgetFunction(fn))


def finish_tasks(state: WorkerState, run: Run, n: int) -> None:
    """*n* tasks of *run* have ended or left, in whatever way."""
    run.left -= n
    if run.left <= 0 and state.runs.pop(run.run, None) is not None:
        state.order(EndRun(run.run))
        if run.base in state.alone:
            del state.alone[run.base]
        state.soon.discard(run.base)
        if run.fn in state.undefined:
            forget_function(state, run.fn)
        if run.awaits:
            await_no_more(state, run, run.awaits)


def fail_all(state: WorkerState, environment: str, failure: Failure) -> None:
    """Nothing that waits for *environment* can run here."""
    parcels.separate_all(state)
    queue = state.queues.get(environment, [])
    pieces = [entry[2] for entry in queue]
    queue.clear()
    for piece in pieces:
        run, n = piece.run, piece.n
        piece.n = 0
        state.queued -= n
        if n and run.run in state.runs:
            for task in range(piece.base, piece.base + n):
                fail(state, run, task, failure)


def fail(state: WorkerState, run: Run, task: TaskId, failure: Failure) -> None:
    """One task has failed, and did not say so itself."""
    if run.live(task, 1):
        state.order(Tell(RunFailed(run.run, task, 0.0, failure)))
    finish_tasks(state, run, 1)


_NO_RUNNER: Final = Failure(
    "unrunnable",
    "EnvironmentFailed",
    "all runners of the worker wait, inside of tasks, for other tasks, and tasks of "
    "different environments are nested too deep for one more; let tasks return what is "
    "to be done next instead of waiting for it, or start the worker with more runners",
)


# Filling slots.


def fill(state: WorkerState) -> None:
    """Give work to every slot that has room."""
    if state.memory_short:
        _begin_one(state)
        return
    if state.suspects:
        _try_suspects(state)
    if len(state.queues) > 1:  # Some have asked for environments.
        for environment in settle(state):
            fail_all(state, environment, _NO_RUNNER)
    if state.queued:
        # Every slot gets a first flight before any of them gets another one.
        slots = _hungry(state)
        _begin(state, slots)
        if state.queued:
            _stock_up(state, slots)
    if state.queued or not state.runs:
        return  # There is work for who is dry, or none at all.
    dry = [slot for slot in state.hungry if not slot.flights]
    deep = dry and [slot for slot in state.slots if slot.count > 1]
    if deep and any(map(_takes_more, dry)):
        _call_back(state)


def _hungry(state: WorkerState) -> list[Slot]:
    """Return the slots that may be sent more, in their order."""
    hungry = state.hungry
    if len(hungry) == 1:
        return [*hungry]
    return [slot for slot in state.slots if slot in hungry]


def begin_at_once(state: WorkerState, run: Run) -> bool:
    """Send a run of one task to a slot that idles, if nothing waits that could go first.

    As it would be if it was queued, and ``fill`` came next.
    """
    base = run.base
    if state.queued or state.memory_short or state.suspects or base in state.awaited:
        return False
    if len(state.queues) > 1 or run.environment:
        return False
    for slot in state.slots:
        if not slot.flights and _takes_more(slot):
            each = state.seconds.get(run.fn)
            _dispatch(state, slot, Flight(run, base, 1, state.now, each), keep=False)
            return True
    return False


def _begin(state: WorkerState, slots: list[Slot]) -> None:
    """Give a first flight to those that have none, as long as there is something."""
    for slot in slots:
        if not slot.flights and _takes_more(slot):
            piece = top(state, slot.runner.environment)
            if piece is not None:
                n = size_of(state, piece) if piece.n > 1 else 1
                _send(state, slot, piece, n)
                if not state.queued:
                    return


def _stock_up(state: WorkerState, slots: list[Slot]) -> None:
    """Give busy slots what they run next, in turns, as long as any has room."""
    while slots and state.queued:
        served = []
        for slot in slots:
            flights = slot.flights
            if not flights:
                continue
            each = flights[-1].each
            full = slot.seconds >= FLIGHT_SECONDS and len(flights) > 1
            # What lasts longer would be called back by whoever idles meanwhile.
            if full or each is None or each >= SILENCE_SECONDS:
                del state.hungry[slot]
                continue
            # Behind a task that turns out to be slow nothing shall wait.
            if state.now - flights[0].since >= SILENCE_SECONDS:
                del state.hungry[slot]
                continue
            # What is worth it of the last ones that are left would be called back, too.
            if each > WORTH_SECONDS and state.queued <= len(state.slots):
                continue
            if not _takes_more(slot):
                continue
            piece = top(state, slot.runner.environment)
            if piece is not None:
                _send(state, slot, piece, size_of(state, piece))
                served.append(slot)
        slots = served


def _begin_one(state: WorkerState) -> None:
    """Memory is short: begin one task if nothing executes, or it would stay short."""
    if not _may_begin_one(state):
        return
    if state.suspects:
        _try_suspects(state)
        if not _may_begin_one(state):
            return
    settle(state)
    for slot in state.slots:
        piece = top(state, slot.runner.environment)
        if piece is not None and not slot.flights and _takes_more(slot):
            _send(state, slot, piece, size_of(state, piece))
            return


def _may_begin_one(state: WorkerState) -> bool:
    return not state.memory_hold and not any(
        slot.flights or slot.resumed for slot in state.slots
    )


def _takes_more(slot: Slot) -> bool:
    """Whether a slot is served, and may be sent anything at all."""
    runner = slot.runner
    if not runner.ready or slot.resumed or slot.retracting:
        return False
    if runner.wanted is not None:
        return False
    return not (runner.reserved or runner.dying or runner.exclusive)


def _try_suspects(state: WorkerState) -> None:
    """Let one suspect after the other have a process to itself.

    One runner is kept free for them, best one where nobody waits for others.
    """
    suspects = state.suspects
    while suspects and not suspects[0].n:
        suspects.popleft()
    chosen = None
    for piece in suspects:
        runners = [runner for runner in state.runners if _may_try(runner, piece)]
        if runners:
            suspects.remove(piece)
            suspects.appendleft(piece)
            chosen = min(runners, key=lambda r: (not r.reserved, r.parked))
            break
    for runner in state.runners:
        runner.reserved = runner is chosen and bool(suspects)
    if chosen is not None and suspects and chosen.idle:
        piece = suspects[0]
        chosen.reserved = False
        if chosen.environment != piece.run.environment:
            move(state, chosen, piece.run.environment)
            return
        _send(state, chosen.slots[0], piece, 1)
        state.may_engage = True


def _may_try(runner: Runner, piece: Piece) -> bool:
    """Whether a suspect can be tried in a runner: one that is not there can move."""
    if not runner.ready or runner.exclusive or runner.dying or not piece.n:
        return False
    return runner.environment == piece.run.environment or not runner.parked


def _send(state: WorkerState, slot: Slot, piece: Piece, n: int) -> None:
    """Send the first *n* tasks of a piece, and what can run right behind them."""
    run, base = piece.run, piece.base
    each = state.seconds.get(run.fn)
    flight = Flight(run, base, n, state.now, each, alone=piece.alone)
    piece.base += n
    piece.n -= n
    if not piece.alone:
        state.queued -= n
        if not piece.n:
            heappop(state.queues[run.environment])
    if isinstance(run, Parcel):
        _send_riders(state, slot, _dispatch_parcel(state, slot, run))
        return
    keep = n == 1 and base in state.awaited
    if keep and (piece.alone or state.memory_short):
        keep = False
    _dispatch(state, slot, flight, keep)
    if keep:
        _send_riders(state, slot, [base])


def _dispatch(
    state: WorkerState,
    slot: Slot,
    flight: Flight,
    keep: bool,
    owns: tuple[TaskId, ...] = (),
) -> None:
    run, base, n = flight.run, flight.base, flight.n
    slot.take(flight)
    if keep:
        state.makers[base] = slot
    if run.timeout_seconds:
        wake(state, state.now + run.timeout_seconds)
    if slot.count > 1:
        # A long task may hide the outcomes of short ones before it.
        wake(state, state.now + SILENCE_SECONDS)
    if state.unvouched:
        vouching.vouch(state, run.inputs(base, n))
    offset = base - run.base
    state.order(
        Dispatch(
            slot.number,
            run.run,
            run.fn,
            base,
            n,
            tuple([task + offset for task in run.aligned]) if offset else run.aligned,
            run.stretches(base, n) if run.groups else run.whole,
            run.renamed,
            keep,
            owns,
        )
    )


def _dispatch_parcel(state: WorkerState, slot: Slot, parcel: Parcel) -> list[TaskId]:
    """Send a parcel to a slot; return those of its tasks for which others wait."""
    awaited, makers = state.awaited, state.makers
    outside = [task for task in parcel.tasks if task in awaited]
    keeps = parcel.inside.union(outside)
    for task in keeps:
        makers[task] = slot
    flight = parcel.flight = ParcelFlight(parcel, slot, state.now)
    slot.take(flight)
    if slot.count > 1:
        wake(state, state.now + SILENCE_SECONDS)
    if state.unvouched:
        vouching.vouch(state, parcel.inputs(parcel.base, parcel.n))
    owns = parcel.inside.union([task for task, _ in parcel.missing])
    state.order(DispatchNodes(slot.number, parcel.nodes, keeps, owns))
    return outside


def _send_riders(state: WorkerState, slot: Slot, tasks: list[TaskId]) -> None:
    """Send what lacks nothing but what this slot has been sent already."""
    makers = state.makers
    todo = tasks
    for made in todo:
        for run in state.awaited[made]:
            if run.rides is not None or run.timeout_seconds or run.stopped:
                continue
            if run.suspect:
                continue
            if state.lacked and any(map(run.takes, state.lacked)):
                continue
            if run.environment != slot.runner.environment:
                continue
            if isinstance(run, Parcel):
                if all(makers.get(t) is slot for t, _ in run.missing):
                    state.waiting.pop(run, None)
                    run.rides = slot
                    slot.riders += run.n
                    todo += _dispatch_parcel(state, slot, run)
                continue
            each = state.seconds.get(run.fn)
            if each is None or each >= WORTH_SECONDS / 2:
                continue
            if not all(n == 1 and makers.get(t) is slot for t, n in run.missing):
                continue
            flight = Flight(run, run.base, 1, state.now, each)
            run.rides = slot
            slot.riders += 1
            keep = run.base in state.awaited
            owns = tuple(base for base, _ in run.missing)
            _dispatch(state, slot, flight, keep, owns)
            if keep:
                todo.append(run.base)


def arrived(state: WorkerState, base: TaskId, n: int) -> None:
    """Values are in the store that others may wait for."""
    awaited = state.awaited
    if not awaited or (n == 1 and base not in awaited):
        return
    if n <= len(awaited):
        tasks = [task for task in range(base, base + n) if task in awaited]
    else:
        tasks = [task for task in awaited if base <= task < base + n]
    for task in tasks:
        for run in awaited.pop(task):
            run.missing.discard((task, 1))
            if run.missing:
                continue
            if run.rides is not None:
                dismount(run)
            elif isinstance(run, Parcel):
                parcels.line_up(state, run)
            elif run.run in state.runs:
                requeue(state, run, run.base, run.left)


def dismount(run: Run) -> None:
    """What a run rode behind is there, or it has come back: it is as any other."""
    if run.rides is not None:
        run.rides.riders -= run.left if isinstance(run, Parcel) else 1
        run.rides = None


def end_flight(state: WorkerState, slot: Slot, flight: Flight) -> None:
    """Nothing of a flight is in its slot's hands any more."""
    slot.drop(flight)
    forget_flight(state, flight)


def forget_flight(state: WorkerState, flight: Flight) -> None:
    """Nobody can ride behind a flight any more, and it rides no more itself."""
    state.makers.pop(flight.base, None)
    if flight.run.rides is not None:
        dismount(flight.run)


# Calling back.


def _call_back(state: WorkerState) -> None:
    """A slot is dry: have unbegun tasks handed back by those that have some."""
    dry, wait = _dry(state)
    for slot in state.slots:
        if dry <= 0:
            break
        if slot.count < 2 or slot.retracting or not slot.runner.ready:
            continue
        unbegun = slot.unbegun
        if not unbegun:
            continue
        first = slot.flights[0]
        each = state.seconds.get(first.run.fn)
        # Compared as the tick is ordered, or a tick could come a rounding error
        # too early, over and over.
        due = first.since + SILENCE_SECONDS
        if slot.emptied > state.now:
            wait = min(wait, slot.emptied) if wait else slot.emptied
        elif (each is not None and unbegun * each > WORTH_SECONDS) or state.now >= due:
            retract(state, slot)
            dry -= unbegun
        else:
            wait = min(wait, due) if wait else due
    if wait:
        wake(state, wait)


def _dry(state: WorkerState) -> tuple[int, float]:
    """Return how many slots are dry beyond what is coming back, and until when that holds.

    Who holds the GIL does not answer, perhaps for an hour: what lies there is counted on
    for a moment only.
    """
    dry, until = 0, 0.0
    for slot in state.slots:
        if slot.retracting:
            due = slot.asked_at + SILENCE_SECONDS
            if state.now < due and (unbegun := slot.unbegun):
                dry -= unbegun
                until = min(until, due) if until else due
        elif not slot.flights and _takes_more(slot):
            dry += 1
    return dry, until


def retract(state: WorkerState, slot: Slot) -> None:
    """Ask a slot for all that it has not begun."""
    slot.retracting = True
    slot.asked_at = state.now
    state.order(Retract(slot.number))


def return_live(
    state: WorkerState,
    run: Run,
    base: TaskId,
    n: int,
    lacking: tuple[tuple[int, int, int], ...] = (),
) -> None:
    """Give tasks back to the scheduler, but those that it has stopped."""
    for start, count in run.live(base, n):
        state.order(Tell(Returned(run.run, start, count, lacking)))
    finish_tasks(state, run, n)


def give_back_lacking(state: WorkerState, run: Run, base: TaskId, n: int) -> bool:
    """Give tasks back whose inputs were no good; say whether there are any such.

    The scheduler, which had counted on them when it sent the run, knows by then.
    """
    lacking = tuple((task, 1, 0) for task in sorted(state.lacked) if run.takes(task))
    if lacking:
        return_live(state, run, base, n, lacking)
    return bool(lacking)
