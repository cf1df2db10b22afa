"""Which slot runs what.

A slot is sent so many tasks at once that they last about a round trip, and a
second such flight when tasks are that short; a long task goes alone.  When a
slot runs dry while another has unbegun tasks in hand, these are called back:
a slow task holds up nobody but itself.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

from covey.ids import TaskId
from covey.wire.worker_link import ReturnDone, Returned
from covey.worker.core.orders import (
    Dispatch,
    EndRun,
    Flush,
    Interrupt,
    Kill,
    Retract,
    Tell,
    WakeAt,
)
from covey.worker.core.state import Flight, Piece, Run, Slot, WorkerState

#: How long the tasks of one flight should last together: a few times as long as
#: a runner keeps outcomes back, so that it is not the flights that make it speak.
FLIGHT_SECONDS: Final = 0.016

#: So much work in one slot's hands is worth calling back for a slot that is dry.
WORTH_SECONDS: Final = 0.004

#: A flight that is silent for so long while another slot idles is called back.
SILENCE_SECONDS: Final = 0.01

#: A task that was asked to stop is given so long before its process is killed.
GRACE_SECONDS: Final = 0.5

_LEARNING: Final = 0.3


def learn(state: WorkerState, fn: int, seconds: float, n: int) -> None:
    """Remember how long *n* calls of a function took."""
    each = seconds / n
    known = state.seconds.get(fn)
    if known is None:
        state.seconds[fn] = each
    else:
        weight = 1.0 - (1.0 - _LEARNING) ** min(n, 8)
        state.seconds[fn] = known + weight * (each - known)


# The queue.


def enqueue(state: WorkerState, piece: Piece) -> None:
    """Put a piece into the queue."""
    state.last_entry += 1
    heappush(state.queue, (piece.run.rank, state.last_entry, piece))
    state.queued += piece.n


def requeue(
    state: WorkerState, run: Run, base: TaskId, n: int, *, alone: bool = False
) -> None:
    """Tasks that a slot had in hand must be dispatched again, but stopped ones."""
    left = n
    for start, count in run.live(base, n):
        left -= count
        piece = Piece(run, start, count, alone=alone)
        if alone:
            state.suspects.append(piece)
        else:
            enqueue(state, piece)
    if left:
        finish_tasks(state, run, left)


def _top(state: WorkerState) -> Piece | None:
    queue = state.queue
    while queue:
        piece = queue[0][2]
        if piece.n and piece.run.run in state.runs:
            return piece
        heappop(queue)
        state.queued -= piece.n
    return None


def finish_tasks(state: WorkerState, run: Run, n: int) -> None:
    """*n* tasks of *run* have ended or left, in whatever way."""
    run.left -= n
    if run.left <= 0 and state.runs.pop(run.run, None) is not None:
        state.order(EndRun(run.run))


# Filling slots.


def fill(state: WorkerState) -> None:
    """Give work to every slot that has room."""
    if state.memory_short and not _may_begin_one(state):
        return
    if state.suspects:
        _try_suspects(state)
        if state.memory_short and not _may_begin_one(state):
            return
    dry: list[Slot] = []
    # Every slot gets a first flight before any of them gets a second one.
    for depth in (0, 1):
        for slot in state.slots:
            if len(slot.flights) != depth or not _has_room(state, slot):
                continue
            piece = _top(state)
            if piece is None:
                if not depth:
                    dry.append(slot)
            elif not (depth and piece.run.timeout_seconds):
                # The time of a task with a limit starts when it is sent.
                _send(state, slot, piece, _flight_size(state, piece))
                if state.memory_short:
                    return
    if dry and not state.queued:
        _call_back(state)


def _may_begin_one(state: WorkerState) -> bool:
    """Whether nothing executes: something must, or memory would be short for ever."""
    return not state.memory_hold and not any(
        slot.flights or slot.resumed for slot in state.slots
    )


def _has_room(state: WorkerState, slot: Slot) -> bool:
    runner = slot.runner
    if not runner.ready or slot.resumed or slot.retracting:
        return False
    if runner.reserved or runner.exclusive or runner.dying:
        return False
    flights = slot.flights
    if not flights:
        return True
    if len(flights) > 1:
        return False
    last = flights[0]
    each = state.seconds.get(last.run.fn)
    if each is None or each >= WORTH_SECONDS / 2 or last.deadline:
        return False
    # Behind a task that turns out to be slow nothing shall wait.
    return state.now - last.since < SILENCE_SECONDS


def _try_suspects(state: WorkerState) -> None:
    """Let one suspect after the other have a process to itself.

    One runner is kept free for them, best one where nobody waits for others.
    """
    suspects = state.suspects
    while suspects and not suspects[0].n:
        suspects.popleft()
    runners = [r for r in state.runners if r.ready and not r.exclusive and not r.dying]
    chosen = next((r for r in runners if r.reserved), None)
    if chosen is None and runners and suspects:
        chosen = min(runners, key=lambda runner: runner.parked)
    for runner in state.runners:
        runner.reserved = runner is chosen and bool(suspects)
    if chosen is not None and suspects and chosen.idle:
        piece = suspects[0]
        chosen.reserved = False
        _send(state, chosen.slots[0], piece, 1)


def _send(state: WorkerState, slot: Slot, piece: Piece, n: int) -> None:
    run = piece.run
    flight = Flight(piece, n, state.now)
    slot.flights.append(flight)
    if flight.deadline:
        wake(state, flight.deadline)
    if n > 1 or len(slot.flights) > 1:
        # A long task may hide the outcomes of short ones before it.
        wake(state, state.now + SILENCE_SECONDS)
    offset = piece.base - run.base
    state.order(
        Dispatch(
            slot.number,
            run.run,
            run.fn,
            piece.base,
            n,
            tuple(task + offset for task in run.aligned),
            run.whole,
            run.renamed,
        )
    )
    piece.base += n
    piece.n -= n
    if piece.alone:
        return
    state.queued -= n
    if not piece.n:
        heappop(state.queue)


def _flight_size(state: WorkerState, piece: Piece) -> int:
    if piece.run.timeout_seconds or state.memory_short:
        return 1
    each = state.seconds.get(piece.run.fn)
    if each is None:
        return 1
    size = int(FLIGHT_SECONDS / max(each, 1e-7))
    # What is left is shared by all slots, so that none runs dry early.
    share = -(-state.queued // len(state.slots))
    return max(1, min(size, share, piece.n))


# Calling back.


def _call_back(state: WorkerState) -> None:
    """A slot is dry: have unbegun tasks handed back by those that have some."""
    wait = 0.0
    for slot in state.slots:
        if slot.retracting or not slot.runner.ready:
            continue
        unbegun = sum(flight.left for flight in slot.flights) - 1
        if unbegun <= 0:
            continue
        first = slot.flights[0]
        each = state.seconds.get(first.run.fn)
        # Compared as the tick is ordered, or a tick could come a rounding error
        # too early, over and over.
        due = first.since + SILENCE_SECONDS
        if (each is not None and unbegun * each > WORTH_SECONDS) or state.now >= due:
            slot.retracting = True
            state.order(Retract(slot.number))
        else:
            wait = min(wait, due) if wait else due
    if wait:
        wake(state, wait)


def hand_back(state: WorkerState, count: int) -> None:
    """The scheduler wants up to *count* unbegun tasks back: the last in line first."""
    state.return_asked = True
    entries = sorted(state.queue, reverse=True)
    for _, _, piece in entries:
        if count <= 0:
            break
        if piece.run.run not in state.runs or not piece.n:
            continue
        n = min(count, piece.n)
        piece.n -= n
        state.queued -= n
        count -= n
        _return(state, piece.run, piece.base + piece.n, n)
    waiting = {
        run.run: run for fetching in state.fetching.values() for run in fetching.runs
    }
    for run in sorted(waiting.values(), key=lambda r: (r.rank, r.run), reverse=True):
        if count <= 0:
            break
        if run.run in state.runs and run.missing:
            run.missing.clear()
            count -= run.left
            return_live(state, run, run.base, run.left)
    if count > 0:
        for slot in state.slots:
            unbegun = sum(flight.left for flight in slot.flights) - 1
            if unbegun > 0 and not slot.retracting and slot.runner.ready:
                slot.retracting = True
                state.order(Retract(slot.number))
                state.to_return += min(count, unbegun)
                count -= unbegun
                if count <= 0:
                    break
    maybe_return_done(state)


def take_back(state: WorkerState, run: Run, base: TaskId, n: int) -> None:
    """A slot handed tasks back: on to the scheduler, if it asked; else requeue."""
    onward = min(n, state.to_return)
    if onward:
        state.to_return -= onward
        return_live(state, run, base + n - onward, onward)
    if n > onward:
        requeue(state, run, base, n - onward)


def maybe_return_done(state: WorkerState) -> None:
    """Tell the scheduler, once everything that could go back has gone."""
    if state.return_asked and not any(slot.retracting for slot in state.slots):
        state.return_asked = False
        state.to_return = 0
        state.order(Tell(ReturnDone()))


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


def _return(state: WorkerState, run: Run, base: TaskId, n: int) -> None:
    state.order(Tell(Returned(run.run, base, n)))
    finish_tasks(state, run, n)


# Silence.


def ask_for_news(state: WorkerState) -> None:
    """Have slots send outcomes that wait behind a task that takes long."""
    for slot in state.slots:
        if slot.flushed or not slot.flights or not slot.runner.ready:
            continue
        if sum(flight.left for flight in slot.flights) < 2:
            continue
        due = slot.flights[0].since + SILENCE_SECONDS
        if state.now >= due:
            slot.flushed = True
            state.order(Flush(slot.number))
        else:
            wake(state, due)


# Stopping.


def stop_executing(state: WorkerState, slot: Slot, flight: Flight) -> None:
    """Ask the task of a flight to stop; kill its process if it does not."""
    if flight.kill_at:
        return
    flight.kill_at = state.now + GRACE_SECONDS
    state.order(Interrupt(slot.number, flight.run.run, flight.at))
    wake(state, flight.kill_at)


def check_deadlines(state: WorkerState) -> None:
    """Stop tasks that ran out of time; kill those that did not stop when asked."""
    for slot in state.slots:
        for flight in [*slot.flights, *slot.parked.values()]:
            if flight.kill_at:
                if state.now < flight.kill_at:
                    wake(state, flight.kill_at)
                elif not slot.runner.dying:
                    slot.runner.dying = True
                    state.order(Kill(slot.runner.number))
            elif flight.deadline:
                if state.now >= flight.deadline:
                    stop_executing(state, slot, flight)
                else:
                    wake(state, flight.deadline)


def wake(state: WorkerState, time: float) -> None:
    """Ask for a tick at *time*, unless an earlier one is coming.

    One that is overdue is still coming: a later one must not take its place.
    """
    if not state.wake_at or time < state.wake_at:
        state.wake_at = time
        state.order(WakeAt(time))
