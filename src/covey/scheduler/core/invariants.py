"""What must hold after every step.  For tests and the simulator: dear, and exact."""

from __future__ import annotations

import itertools
from collections import Counter

from covey.ids import client_of
from covey.scheduler.core import brought, dependents, memory, placement, ties
from covey.scheduler.core.functions import Function
from covey.scheduler.core.queues import demand_of, top
from covey.scheduler.core.spans import find, inputs_of
from covey.scheduler.core.state import (
    UNFINISHED,
    SchedulerState,
    Span,
    State,
    Worker,
)


def check(state: SchedulerState) -> None:
    """Assert every invariant of the scheduler's tables."""
    # Looked up once for each span, not once for each pair that it is in.
    inputs = {span: set(inputs_of(state, span)) for span in state.spans.values()}
    for base, span in state.spans.items():
        assert base == span.base, span
        _check_span(state, span, inputs)
    _check_disjoint(state)
    ready = sum(s.n for s in state.spans.values() if s.state is State.READY)
    assert state.ready_count == ready, (state.ready_count, ready)
    for worker in state.workers.values():
        _check_worker(state, worker)
    assert all(worker.peer in state.workers for worker in state.leaving)
    for worker, held in state.orphans.items():
        assert state.workers.get(worker.peer) is worker, worker
        assert held, worker
        for (base, n, _, _), (following, _, _, _) in itertools.pairwise(held):
            assert base + n <= following, worker
    slots = sum(w.slots for w in state.workers.values() if not w.leaving)
    assert state.slots_count == slots, (state.slots_count, slots)
    idle = sum(w.idle_slots for w in state.workers.values() if not w.leaving)
    assert state.idle_slots == idle, (state.idle_slots, idle)
    stored = sum(worker.stored_bytes for worker in state.workers.values())
    assert state.stored_bytes == stored, (state.stored_bytes, stored)
    special = sum(
        span.n
        for span in state.spans.values()
        if span.state is State.READY
        and demand_of(state, span) is not state.default_demand
    )
    assert state.special_count == special, (state.special_count, special)
    _check_tables(state)
    _check_demands(state)
    for client in state.clients.values():
        for span in client.wants:
            assert client.number in span.wanted, span
            assert state.spans[span.base] is span, span
    _check_functions(state)
    assert state.leftovers.any or not state.leftovers
    assert len(state.names) == len(state.name_of)
    for name, span in state.names.items():
        assert state.name_of[span.base][0] == name
        assert state.spans[span.base] is span
    _check_aliases(state)
    _check_attempts(state)
    for span, asked in state.brought.items():
        assert state.spans[span.base] is span and span.pack is None, span
        assert asked == (span.state is State.WAITING), span
        assert not asked or client_of(span.base) in state.client_numbers, span
    for span, spread in state.spreads.items():
        assert state.spans[span.base] is span, span
        for target, source in spread.coming.items():
            assert target.peer in state.workers and source.peer in state.workers, span


def _check_functions(state: SchedulerState) -> None:
    tasks: Counter[Function] = Counter()
    for span in state.spans.values():
        if span.function is not None:
            tasks[span.function] += span.n
    numbers = [c.functions.values() for c in state.clients.values()]
    names = Counter(itertools.chain.from_iterable(numbers))
    assert set(tasks) | set(names) == set(state.functions)
    for function in state.functions:
        assert function.tasks == tasks[function], function.label
        assert function.names == names[function], function.label
        for worker in function.workers:
            assert function in worker.functions, (function.label, worker)
    for worker in state.workers.values():
        assert all(worker in function.workers for function in worker.functions)


def _check_worker(state: SchedulerState, worker: Worker) -> None:
    counted = sum(span.n for span in worker.assigned) - len(worker.blocked)
    counted += worker.engaged
    assert worker.count == counted == sum(worker.load.values()), worker
    assert all(count > 0 for count in worker.load.values()), worker.load
    assert worker.ahead.keys() == {s for s in worker.assigned if s.ahead}, worker
    assert (worker in state.excess) <= (worker.count > worker.slots), worker
    for span in worker.assigned:
        assert span.worker is worker and state.spans[span.base] is span
    for run, task in worker.blocked:
        span = state.spans[find(state, task).base]  # type: ignore[union-attr]
        assert span.run == run and span.worker is worker, (worker, run, task)
    for span in worker.holds:
        assert worker in span.replicas and state.spans[span.base] is span, span
    assert worker.stored_bytes == sum(span.nbytes for span in worker.holds), worker
    for span, target in worker.moving.items():
        assert worker.leaving and span in worker.holds, (worker, span)
        assert target.peer in state.workers and not target.leaving, target
    for name, amount in worker.free.items():
        held = sum(s.n * s.options.resources.get(name, 0) for s in worker.assigned)
        assert abs(amount + held - worker.resources[name]) < 1e-6, worker
        assert amount >= -1e-5, (worker, name, amount)


def _check_tables(state: SchedulerState) -> None:
    """Who may be served stands in one table, and is looked at if it has to be."""
    assert state.hungry.keys().isdisjoint(state.roomy)
    for worker in (*state.hungry, *state.roomy):
        assert not worker.has_queued or worker in state.eager, worker
    for worker in state.roomy:
        assert worker.busy >= worker.slots, worker


def _check_demands(state: SchedulerState) -> None:
    """Who could run what is asked for by name or for resources will look at it."""
    for worker in state.workers.values():
        able = {d for d in state.demands.values() if d.admits(worker)}
        assert set(worker.demands) == able, worker
        named = {d for d in able if worker in d.named}
        wished = {d for d in able if d.workers and d.allow_other_workers}
        assert named == {d for d in wished if d.prefers(worker)}, worker
        assert len(worker.demands) == len(able), worker
    for demand in state.demands.values():
        assert all(worker.peer in state.workers for worker in demand.able), demand
        for worker in demand.able:
            assert demand in worker.demands, (worker, demand)
        assert demand.named.keys() <= demand.able.keys(), demand
        if top(demand.heap) is None or demand in state.awake:
            continue
        # Others look when those that were named have had their time: see ``wishes``.
        for worker in demand.named or demand.able:
            looks = worker not in state.hungry or worker in state.eager
            away = worker.leaving or worker.away_since is not None
            full = worker.busy >= worker.slots or memory.is_tight(worker)
            assert looks or away or full or not placement.fits_now(worker, demand)


def _check_aliases(state: SchedulerState) -> None:
    """Every other id of a shared task is one by which some client knows it."""
    known = {
        (task, base)
        for base, ids in state.ids_of.items()
        for tasks in ids.values()
        for task in tasks
        if task != base
    }
    assert known == set(state.aliases.items())
    for base, ids in state.ids_of.items():
        span = state.spans[base]
        assert span.n == 1
        for number, tasks in ids.items():
            assert number in span.wanted and tasks, (span, number)
            assert len(set(tasks)) == len(tasks), tasks


def _check_attempts(state: SchedulerState) -> None:
    """What has been tried is remembered of tasks that may be tried again."""
    for span in state.attempts:
        assert span.unfinished and state.spans[span.base] is span, span


def _check_span(
    state: SchedulerState, span: Span, inputs: dict[Span, set[Span]]
) -> None:
    assert span.n > 0
    assert span.state is not State.FORGOTTEN, span
    assert (span.state is State.ASSIGNED) == (span.worker is not None), span
    assert (span.run > 0) == (span.state is State.ASSIGNED), span
    assert (span.failure is not None) == (span.state is State.FAILED), span
    assert bool(span.replicas) == (span.state is State.DONE), span
    for worker in span.replicas:
        assert span in worker.holds, span
        assert worker.peer in state.workers, span
    assert (span.queue is not None) == (span.state is State.READY), span
    if span.queue is not None:
        assert any(entry[1] is span for entry in span.queue), span
    for number in span.wanted:
        client = state.client_numbers.get(number) or state.leftovers.gone.get(number)
        assert client is None or span in client.wants, span
    assert span.delivered <= span.wanted, span
    # Nothing is kept that nobody can ask for.
    assert span.kept or span.dependents or span in state.leftovers.unkept, span
    pending = sum(d.state in UNFINISHED for d in span.dependents or ())
    assert span.pending == pending, (span, span.pending, pending)
    for dependent, g in span.dependents.items() if span.dependents else ():
        assert state.spans[dependent.base] is dependent, (span, dependent)
        assert span in inputs[dependent], (span, dependent)
        assert not g or span.n == g * dependent.n, (span, dependent, g)
        assert g <= 1 or (span.base, g) in dependent.groups, (span, dependent, g)
    if span.state is State.RELEASED:
        # A value that is needed is being made, unless its maker has failed.
        assert not span.needed, span
    if span.unfinished:
        _check_inputs(state, span, inputs[span])


def _check_inputs(state: SchedulerState, span: Span, sources: set[Span]) -> None:
    for source in sources:
        assert dependents.has(source, span), span
    missing = sum(source.state is not State.DONE for source in sources)
    missing += brought.awaited(state, span)
    if span.state is State.WAITING:
        assert span.missing == missing > 0, (span, span.missing, missing)
    elif span.state is State.READY:
        assert missing == 0, span
    elif span.ahead and span not in state.leftovers.doomed:
        assert span.missing == missing and span.n == 1, (span, span.missing, missing)
        for source in sources:
            if source.state is not State.DONE:
                assert source.worker is span.worker, (span, source)
    takes = bool(span.aligned or span.whole or span.groups)
    assert (span.inputs != ()) == takes, span
    for task in span.aligned:
        assert state.spans[find(state, task).base].n == span.n  # type: ignore[union-attr]
    for task, g in span.groups:
        source = state.spans[task]
        assert span.n > 1 and source.n == g * span.n, (span, source, g)
        assert source.dependents and source.dependents.get(span) == g, span
    if span.groups:
        assert ties.agree(part.n for part in ties.tied(state, span)), span


def _check_disjoint(state: SchedulerState) -> None:
    end = -1
    for base in sorted(state.spans):
        assert base >= end, base
        end = base + state.spans[base].n
    for starts in state.starts.values():
        assert starts == sorted(set(starts))
        for base in starts:
            assert base in state.spans, base
    longer = sum(span.n > 1 for span in state.spans.values())
    known = sum(
        state.spans[base].n > 1 for starts in state.starts.values() for base in starts
    )
    assert longer == known
