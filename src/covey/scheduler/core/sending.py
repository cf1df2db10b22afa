"""Sending a run to a worker, with all that it has to know of it.

Most tasks take nothing of other tasks: a run of those is said in few words.
"""

from __future__ import annotations

from typing import Final

import msgspec

from covey.ids import ClientId, TaskId
from covey.payload import Pack
from covey.scheduler.core import (
    balance,
    causes,
    distance,
    functions,
    occupancy,
    transitions,
)
from covey.scheduler.core.functions import Function
from covey.scheduler.core.sources import Sources, sources_of
from covey.scheduler.core.state import COMING, SchedulerState, Span, Worker
from covey.wire.framing import fits
from covey.wire.worker_link import Run

#: With more inputs than this that lie apart, a run may not fit into a frame.
MANY_SOURCES: Final = 100_000


def send(
    state: SchedulerState,
    worker: Worker,
    span: Span,
    ahead: tuple[tuple[TaskId, ...], int] | None = None,
) -> None:
    """Send *span* to *worker* as a new run.

    Or *ahead* of some that it takes, which are being made there, where so many bytes lie
    of what else it takes.
    """
    function, pack, n = span.function, span.pack, span.n
    assert function is not None and pack is not None
    number = state.last_run = state.last_run + 1
    occupancy.occupy(state, worker, span, number)
    if worker.handed_back and span.base in worker.handed_back:
        balance.came_back(state, worker)
    if function not in worker.functions:
        functions.tell(state, worker, function)
    if span.inputs == ():
        sizes, data = pack.on_wire(span.at, span.at + n)
        run = Run(
            number,
            function.number,
            span.base,
            n,
            sizes,
            data,
            span.rank,
            timeout_seconds=span.options.timeout_seconds,
            seconds=function.seconds or 0.0,
            reply=_is_awaited(span.wanted),
            digests=n == 1 or bool(span.dependents or span.digests),
        )
    else:
        run = _with_inputs(state, worker, span, function, pack, ahead)
        if len(run.sources) > MANY_SOURCES and not fits(run):
            run = msgspec.structs.replace(run, spares=())
            if not fits(run):
                why = causes.too_many_inputs(span, len(run.sources))
                transitions.fail(state, span, why)
                return
    state.send(worker.peer, run)
    if state.now >= worker.distance.ask_at:
        distance.ask(state, worker)


def _is_awaited(wanted: frozenset[ClientId]) -> bool:
    """Whether a client waits for it: not for what only later messages will take."""
    return bool(wanted) and wanted != COMING


def _with_inputs(
    state: SchedulerState,
    worker: Worker,
    span: Span,
    function: Function,
    pack: Pack,
    ahead: tuple[tuple[TaskId, ...], int] | None,
) -> Run:
    """Return the run of what takes something, with where that is."""
    n = span.n
    sizes, data = pack.on_wire(span.at, span.at + n)
    sources: Sources = ()
    spares: Sources = ()
    awaits: tuple[TaskId, ...] = ()
    if ahead is not None:
        awaits, here = ahead
        state.counters["bytes_local"] += here
    else:
        sources, spares, awaits = sources_of(state, worker, span)
    return Run(
        span.run,
        function.number,
        span.base,
        n,
        sizes,
        data,
        span.rank,
        span.aligned,
        span.whole,
        sources,
        span.options.timeout_seconds,
        function.seconds or 0.0,
        _is_awaited(span.wanted),
        span.renamed if span.rare is not None else (),
        awaits,
        spares,
        # What may have to be told apart from what it gives another time.
        n == 1 or bool(span.dependents or span.digests),
        span.groups,
    )
