"""What must hold after every step.  For tests: dear, and exact."""

from __future__ import annotations

from covey.wire.base import Extent
from covey.worker.core import dispatch
from covey.worker.core.flights import FLIGHT_SECONDS
from covey.worker.core.parcels import places as in_hand
from covey.worker.core.state import Parcel, Run, Runner, Slot, WorkerState


def check(state: WorkerState) -> None:
    """Assert every invariant of the worker's tables."""
    queued = [entry[2] for entry in state.entries()]
    assert state.queued == sum(piece.n for piece in queued), state.queued
    assert not any(piece.alone for piece in queued)
    assert all(piece.alone and piece.n <= 1 for piece in state.suspects)
    places = _places(state)
    for run in places:
        assert state.runs.get(run.run) is run, run.run
    for run in state.runs.values():
        if not isinstance(run, Parcel):
            _check_run(state, run, places.get(run, []))
    for parcel in {*state.parcels.values(), *state.waiting}:
        _check_parcel(state, parcel)
    for extent, fetching in state.fetching.items():
        for run in fetching.runs:
            # Who has been handed back meanwhile does not wait any more.
            assert extent in run.missing or run.run not in state.runs, run.run
    for task, waiting in state.awaited.items():
        for run in waiting:
            assert (task, 1) in run.missing and run.run in state.runs, run.run
    for task, slot in state.makers.items():
        assert any((task, 1) == p[1:] for f in slot.flights for p in in_hand(f)), task
    _check_alone(state)
    for runner in state.runners:
        _check_runner(state, runner)
    for slot in state.slots:
        _check_slot(slot)
        assert slot in state.hungry or _gets_nothing(state, slot), slot.number


def _places(state: WorkerState) -> dict[Run, list[Extent]]:
    """Return where the tasks of each run are: queued, or in some slot's hands."""
    places: dict[Run, list[Extent]] = {}
    for piece in [*(entry[2] for entry in state.entries()), *state.suspects]:
        if piece.n:
            places.setdefault(piece.run, []).append((piece.base, piece.n))
    for slot in state.slots:
        for flight in slot.flights:
            places.setdefault(flight.run, []).append((flight.at, flight.left))
        for (number, task), flight in slot.parked.items():
            assert (flight.run.run, flight.base, flight.n) == (number, task, 1)
            places.setdefault(flight.run, []).append((task, 1))
    return places


def _check_run(state: WorkerState, run: Run, places: list[Extent]) -> None:
    """Each task of a run that has not ended is in exactly one place."""
    for extent in run.missing:
        waiting = state.awaited.get(extent[0], [])
        if extent in state.fetching:
            waiting = [*waiting, *state.fetching[extent].runs]
        assert run in waiting, (run.run, extent)
    if run.rides is not None:
        assert run.missing and any(f.run is run for f in run.rides.flights), run.run
    elif run.missing:
        assert not places, (run.run, places)
        assert run.left > 0
        return
    assert run.left == sum(n for _, n in places) > 0, (run.run, run.left, places)
    end = run.base
    for base, n in sorted(places):
        assert base >= end, (run.run, places)
        end = base + n


def _check_alone(state: WorkerState) -> None:
    for task, run in state.alone.items():
        assert state.runs.get(run.run) is run and (run.base, run.n) == (task, 1), task


def _check_parcel(state: WorkerState, parcel: Parcel) -> None:
    """A parcel is in one place, and its tables say so of each node that has not ended."""
    assert state.runs.get(parcel.run) is parcel, parcel.run
    assert parcel.left == len(parcel.rest) > 0
    for node in parcel.rest:
        assert state.parcels.get(node.run) is parcel, node.run
        assert parcel is state.runs.get(node.run) or node.run not in state.runs
    queued = [entry[2] for entry in state.entries() if entry[2].run is parcel]
    in_hand = [f for slot in state.slots for f in slot.flights if f.run is parcel]
    assert in_hand == ([parcel.flight] if parcel.flight is not None else [])
    assert len(in_hand) + sum(p.n > 0 for p in queued) == (parcel not in state.waiting)
    for task, _ in parcel.missing:
        assert parcel in state.awaited[task], (parcel.run, task)
    if parcel in state.waiting:
        assert parcel.missing and parcel.rides is None
    elif parcel.missing:
        assert parcel.flight is not None and parcel.rides is parcel.flight.slot


def _check_runner(state: WorkerState, runner: Runner) -> None:
    in_hand = [flight for slot in runner.slots for flight in slot.flights]
    if not runner.ready:
        assert not in_hand, runner.number
        assert not runner.parked, runner.number
    if any(flight.alone for flight in in_hand):
        assert len(in_hand) == 1, runner.number
    assert bool(runner.reserved) <= bool(state.suspects), runner.number


def _gets_nothing(state: WorkerState, slot: Slot) -> bool:
    """Whether nothing is sent to a slot before its hands have changed."""
    flights = slot.flights
    if not flights:
        return False
    each = flights[-1].each
    if each is None or each >= dispatch.SILENCE_SECONDS:
        return True
    if state.now - flights[0].since >= dispatch.SILENCE_SECONDS:
        return True
    return slot.seconds >= FLIGHT_SECONDS and len(flights) > 1


def _check_slot(slot: Slot) -> None:
    assert slot.count == sum(flight.left for flight in slot.flights), slot.number
    riders = [flight.left for flight in slot.flights if flight.run.rides is slot]
    assert slot.riders == sum(riders), slot.number
    seconds = sum(flight.left * (flight.each or 0.0) for flight in slot.flights)
    assert abs(slot.seconds - seconds) < 1e-6, slot.number
    assert slot.resumed == sum(flight.done for flight in slot.parked.values())
    for flight in slot.flights:
        assert 0 <= flight.done < flight.n, (slot.number, flight.done, flight.n)
        assert flight.reached < flight.n, (slot.number, flight.reached, flight.n)
        if flight.alone:
            assert flight.n == 1, slot.number
