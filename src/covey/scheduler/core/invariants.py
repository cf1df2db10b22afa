"""What must hold after every step.  For tests and the simulator: dear, and exact."""

from __future__ import annotations

from covey.scheduler.core.spans import find, inputs_of
from covey.scheduler.core.state import UNFINISHED, SchedulerState, Span, State


def check(state: SchedulerState) -> None:
    """Assert every invariant of the scheduler's tables."""
    for base, span in state.spans.items():
        assert base == span.base, span
        _check_span(state, span)
    _check_disjoint(state)
    ready = sum(s.n for s in state.spans.values() if s.state is State.READY)
    assert state.ready_count == ready, (state.ready_count, ready)
    for worker in state.workers.values():
        assert worker.count == sum(span.n for span in worker.assigned), worker
        assert worker.count == sum(worker.load.values()), worker
        for span in worker.assigned:
            assert span.worker is worker and state.spans[span.base] is span
        for span in worker.holds:
            assert worker in span.replicas and state.spans[span.base] is span, span
        for name, amount in worker.free.items():
            held = sum(s.n * s.options.resources.get(name, 0) for s in worker.assigned)
            assert abs(amount + held - worker.resources[name]) < 1e-9, worker
            assert amount >= -1e-9, (worker, name, amount)
    for client in state.clients.values():
        for span in client.wants:
            assert client.number in span.wanted, span
            assert state.spans[span.base] is span, span
    for name, span in state.names.items():
        assert state.name_of[span.base] == name


def _check_span(state: SchedulerState, span: Span) -> None:
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
        assert any(entry[2] is span for entry in span.queue), span
    for number in span.wanted:
        client = state.client_numbers.get(number)
        assert client is None or span in client.wants, span
    # Nothing is kept that nobody can ask for.
    assert span.kept or span.dependents, span
    pending = sum(d.state in UNFINISHED for d in span.dependents or ())
    assert span.pending == pending, (span, span.pending, pending)
    for dependent, aligned in (span.dependents or {}).items():
        assert state.spans[dependent.base] is dependent, (span, dependent)
        assert span in inputs_of(state, dependent), (span, dependent)
        assert not aligned or dependent.n == span.n, (span, dependent)
    if span.state is State.RELEASED:
        # A value that is needed is being made, unless its maker has failed.
        assert not span.needed, span
    if not span.unfinished:
        return
    sources = inputs_of(state, span)
    for source in sources:
        assert source.dependents is not None and span in source.dependents, span
    missing = sum(source.state is not State.DONE for source in sources)
    if span.state is State.WAITING:
        assert span.missing == missing > 0, (span, span.missing, missing)
    elif span.state is State.READY:
        assert missing == 0, span
    for task in span.aligned:
        assert state.spans[find(state, task).base].n == span.n  # type: ignore[union-attr]


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
