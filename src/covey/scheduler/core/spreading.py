"""Copies of one value on several workers: each that has it passes it on.

::

    client ──► 1 ──► 2 ──► 4       A holder serves one other at a time, so that the
               │     └───► 5       copies double with each round; the client sends one.
               └───► 3 ──► 6

What is lost of the copies later is made anew, as long as somebody has one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from covey.scheduler.core.sources import introduce
from covey.scheduler.core.spans import find
from covey.scheduler.core.state import (
    Client,
    SchedulerState,
    Span,
    Spread,
    State,
    Worker,
)
from covey.wire.client_link import Answer, Ask
from covey.wire.worker_link import Fetch

#: A copy that fails is tried again, on average so often for each that is wanted.
_TRIES: Final = 2


def begin(
    state: SchedulerState, span: Span, copies: int, names: frozenset[str]
) -> None:
    """Have *copies* workers hold *span*; only those of *names*, if there are any."""
    spread = state.spreads[span] = Spread(copies, names)
    _choose(state, span, spread)
    _go_on(state, span, spread, span.replicas)


def targets(
    state: SchedulerState, span: Span, names: frozenset[str]
) -> Iterable[Worker]:
    """Return the workers that may get a copy, those of other machines first."""
    hosts = {holder.host for holder in span.replicas}
    able = [
        worker
        for worker in state.workers.values()
        if not worker.leaving
        and worker not in span.replicas
        and (not names or not names.isdisjoint(worker.names))
    ]
    return sorted(able, key=lambda worker: worker.host in hosts)


def arrived(state: SchedulerState, span: Span, worker: Worker) -> None:
    """*worker* has come to hold *span*, which may be one that is being spread."""
    spread = state.spreads.get(span)
    if spread is not None:
        source = spread.coming.pop(worker, None)
        _go_on(state, span, spread, (worker,) if source is None else (source, worker))


def failed(state: SchedulerState, span: Span, worker: Worker) -> None:
    """A copy could not be made on *worker*: again, or on another one."""
    spread = state.spreads.get(span)
    if spread is None or spread.coming.pop(worker, None) is None:
        return
    spread.failures += 1
    if spread.failures <= _TRIES * spread.copies:
        spread.todo.append(worker)
    _go_on(state, span, spread, span.replicas)


def ask(state: SchedulerState, client: Client, message: Ask) -> None:
    """Answer as soon as no copy of a value is under way any more."""
    span = find(state, message.extents[0][0]) if message.extents else None
    spread = state.spreads.get(span) if span is not None else None
    if spread is not None and spread.coming:
        spread.waiting.append((client.peer, message.request))
    else:
        state.send(client.peer, Answer(message.request))


def joined(state: SchedulerState, worker: Worker) -> None:
    """*worker* has joined: it takes a copy of what there is too little of."""
    for span, spread in state.spreads.items():
        named = not spread.names or not spread.names.isdisjoint(worker.names)
        if named and len(span.replicas) + len(spread.coming) < spread.copies:
            spread.todo.append(worker)
            _go_on(state, span, spread, span.replicas)


def lost(state: SchedulerState, worker: Worker, held: Iterable[Span]) -> None:
    """*worker* is gone, with its copies and those under way from it or to it.

    Args:
        state: the tables, in which it holds nothing any more.
        worker: who is gone.
        held: what it has held.
    """
    short = dict.fromkeys(span for span in held if span in state.spreads)
    for span, spread in state.spreads.items():
        for target, source in list(spread.coming.items()):
            if worker in {target, source}:
                del spread.coming[target]
                short[span] = None
    for span in short:
        spread = state.spreads[span]
        _choose(state, span, spread)
        _go_on(state, span, spread, span.replicas)


def resume(state: SchedulerState) -> None:
    """Workers have told what they hold: make the copies that are missing."""
    for span, spread in state.spreads.items():
        if len(span.replicas) + len(spread.coming) < spread.copies:
            _choose(state, span, spread)
            _go_on(state, span, spread, span.replicas)


def _choose(state: SchedulerState, span: Span, spread: Spread) -> None:
    spread.todo.clear()
    for worker in targets(state, span, spread.names):
        if worker not in spread.coming:
            spread.todo.append(worker)


def _go_on(
    state: SchedulerState, span: Span, spread: Spread, sources: Iterable[Worker]
) -> None:
    """Let those of *sources* that serve nobody serve one more each."""
    if span.state is State.DONE:
        _begin_copies(state, span, spread, sources)
    if not spread.coming:
        _answer(state, spread)


def forget(state: SchedulerState, span: Span) -> None:
    """*span* is known no more: there will be no more copies of it to wait for."""
    _answer(state, state.spreads.pop(span))


def _answer(state: SchedulerState, spread: Spread) -> None:
    waiting, spread.waiting = spread.waiting, []
    for peer, request in waiting:
        if peer in state.clients:
            state.send(peer, Answer(request))


def _begin_copies(
    state: SchedulerState, span: Span, spread: Spread, sources: Iterable[Worker]
) -> None:
    busy = set(spread.coming.values())
    for source in sources:
        if len(span.replicas) + len(spread.coming) >= spread.copies:
            return
        if source in busy or source not in span.replicas:
            continue
        target = _next(state, span, spread)
        if target is None:
            return
        spread.coming[target] = source
        introduce(state, target, source)
        state.send(target.peer, Fetch((span.extent,), source.number))


def _next(state: SchedulerState, span: Span, spread: Spread) -> Worker | None:
    while spread.todo:
        worker = spread.todo.popleft()
        here = state.workers.get(worker.peer) is worker and not worker.leaving
        if here and worker not in span.replicas and worker not in spread.coming:
            return worker
    return None
