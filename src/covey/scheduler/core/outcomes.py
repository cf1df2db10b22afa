"""How tasks end, as workers tell it: they returned, or failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from covey.errors import RemoteProtocolError
from covey.payload import Pack
from covey.scheduler.core import history, report, retrying, transitions, versions
from covey.scheduler.core.functions import Function
from covey.scheduler.core.handlers import Handlers
from covey.scheduler.core.spans import isolate
from covey.scheduler.core.state import DONE, SchedulerState, Span, Worker
from covey.wire.worker_link import Ran, RanNodes, RanStored, RunFailed

#: How fast the average duration of a function follows new measurements.  Durations differ
#: by chance as well: an average of few calls would be now half, now twice what it is, and
#: workers would be given too much, which has to come back, or too little.
_LEARNING: Final = 0.05

#: Seconds, calls, bytes.
_NOTHING_LEARNT: Final = (0.0, 0, 0)

handlers: Handlers[Worker] = Handlers()


def current(
    state: SchedulerState, worker: Worker, run: int, base: int, n: int
) -> list[Span]:
    """Return the spans of which this is news: *run* is their present attempt."""
    span = state.spans.get(base)
    if span is not None and span.n == n and span.run == run:
        return [span] if span.worker is worker else []
    return [
        part
        for part in isolate(state, base, n)
        if part.run == run and part.worker is worker
    ]


def _learn(
    function: Function | None, seconds: float, n: int, nbytes: int | None = None
) -> None:
    """Remember how long *n* calls took, and how large their results are."""
    if function is None:
        return
    each = seconds / n
    known = function.seconds
    if known is None:
        function.seconds = each
        function.nbytes = (nbytes or 0) / n
        return
    # The first ones are forgotten soon: they may have had to import what they need.
    one = max(_LEARNING, 2 / (function.done + 2))
    weight = one if n == 1 else 1.0 - (1.0 - one) ** n
    function.seconds = known + weight * (each - known)
    if nbytes is not None:
        function.nbytes += weight * (nbytes / n - function.nbytes)


@handlers.add(Ran)
def on_ran(state: SchedulerState, worker: Worker, message: Ran) -> None:
    """Tasks returned small values, which come along."""
    base, n = message.base, message.n
    if len(message.sizes) != 4 * n:
        raise RemoteProtocolError(f"{n:,} results came with other sizes than theirs")
    digests = versions.check(message.digests, n)
    span, run = state.spans.get(base), message.run
    spans: Sequence[Span] = ()
    if span is None or span.n != n or span.run != run or span.worker is not worker:
        spans = current(state, worker, run, base, n)
        if not spans:
            return
        span = spans[0]
    worker.stirred = state.now
    seconds, nbytes, slot = message.seconds, len(message.data), message.slot
    _learn(span.function, seconds, n, nbytes)
    if span.n == n:
        history.ran(state, span, worker, seconds, nbytes, slot)
        report.finished(state, span, message.sizes, message.data)
        versions.finish(state, span, worker, nbytes, digests)
        return
    live = sum([span.n for span in spans])
    pack = None if live == n else _pack(message)
    for span in spans:
        share = span.n / n
        history.ran(state, span, worker, seconds * share, int(nbytes * share), slot)
    if pack is None:
        report.finished_all(state, spans, message.sizes, message.data)
        for span in spans:
            mine = versions.part(digests, span.base - base, span.n)
            versions.finish(state, span, worker, int(nbytes / n * span.n), mine)
        return
    for span in spans:
        at = span.base - base
        part = pack.cut(at, at + span.n)
        report.finished(state, span, part.sizes_bytes(), bytes(part.data))
        mine = versions.part(digests, at, span.n)
        versions.finish(state, span, worker, part.nbytes, mine)


def _pack(message: Ran) -> Pack:
    try:
        return Pack.from_wire(message.sizes, message.data)
    except ValueError as error:
        raise RemoteProtocolError(str(error)) from error


@handlers.add(RanStored)
def on_ran_stored(state: SchedulerState, worker: Worker, message: RanStored) -> None:
    """Tasks returned values that rest on the worker."""
    base, n = message.base, message.n
    digests = versions.check(message.digests, n)
    worker.stirred = state.now
    for span in current(state, worker, message.run, base, n):
        nbytes = message.nbytes * span.n // n
        seconds = message.seconds * span.n / n
        _learn(span.function, seconds, span.n, nbytes)
        history.ran(state, span, worker, seconds, nbytes, message.slot)
        mine = versions.part(digests, span.base - base, span.n)
        versions.finish(state, span, worker, nbytes, mine)
        if span.state is DONE:
            report.stored(state, span)


@handlers.add(RanNodes)
def on_ran_nodes(state: SchedulerState, worker: Worker, message: RanNodes) -> None:
    """Single tasks returned values that rest on the worker.

    Raises:
        RemoteProtocolError: the columns are not of one length.
    """
    columns = (message.runs, message.tasks, message.seconds, message.nbytes)
    if len({*map(len, columns)}) != 1:
        raise RemoteProtocolError("what is said of single tasks is of different length")
    digests = versions.check(message.digests, len(message.runs))
    worker.stirred = state.now
    ended: dict[Span, int] = {}
    ran: list[history.Ended] = []
    learnt: dict[Function | None, tuple[float, int, int]] = {}
    spans, slot = state.spans, message.slot
    at = 0
    for run, task, seconds, nbytes in zip(*columns, strict=True):
        mine = digests[at : at + versions.BYTES]
        at += versions.BYTES
        span = spans.get(task)
        if span is None or span.run != run or span.worker is not worker or span.n > 1:
            # It may be part of a longer one, and is most often stale.
            parts = current(state, worker, run, task, 1)
            if not parts:
                continue
            span = parts[0]
        function = span.function
        took, calls, size = learnt.get(function, _NOTHING_LEARNT)
        learnt[function] = (took + seconds, calls + 1, size + nbytes)
        if function is not None:
            ran.append((function, task, seconds, nbytes))
        if versions.is_usual(state, span, mine):
            ended[span] = nbytes
            continue
        # What follows from it may move those before it, and is entered behind them.
        transitions.finish_all(state, ended, worker)
        ended.clear()
        history.ran_all(state, ran, worker, slot)
        ran.clear()
        if span.run != run or span.worker is not worker:
            continue
        versions.finish(state, span, worker, nbytes, mine)
        if span.wanted and span.state is DONE:
            report.stored(state, span)
    history.ran_all(state, ran, worker, slot)
    for function, (took, calls, size) in learnt.items():
        _learn(function, took, calls, size)
    transitions.finish_all(state, ended, worker)


@handlers.add(RunFailed)
def on_run_failed(state: SchedulerState, worker: Worker, message: RunFailed) -> None:
    """One task failed: again, if it may be; else for good."""
    worker.stirred = state.now
    for span in current(state, worker, message.run, message.task, 1):
        _learn(span.function, message.seconds, 1)
        history.erred(state, span, worker, message.seconds, message.slot)
        retrying.failed(state, span, worker, message.failure)
