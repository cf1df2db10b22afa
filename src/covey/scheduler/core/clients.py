"""What clients may say, and what follows."""

from __future__ import annotations

from typing import Any

from covey.ids import TaskId
from covey.payload import Pack
from covey.scheduler.core import explain, placement, report, transitions
from covey.scheduler.core.handlers import Handlers
from covey.scheduler.core.spans import (
    covering,
    find,
    inputs_of,
    isolate,
    isolate_all,
    remember,
)
from covey.scheduler.core.state import (
    DETACHED,
    Client,
    Function,
    Rank,
    SchedulerState,
    Span,
    State,
)
from covey.wire.base import DEFAULT_OPTIONS, Extent, Failure, Options
from covey.wire.client_link import (
    Answer,
    Ask,
    Cancel,
    DefineFunction,
    Detach,
    Failed,
    FromClient,
    Goodbye,
    Placed,
    Release,
    Retry,
    Scatter,
    Submit,
    SubmitGraph,
    Want,
)
from covey.wire.worker_link import Put, Stop

handlers: Handlers[Client] = Handlers()


@handlers.add(DefineFunction)
def on_define(state: SchedulerState, client: Client, message: DefineFunction) -> None:
    """Equal bytes are one function, whoever brings them."""
    function = state.functions.get(message.digest)
    if function is None:
        function = Function(
            len(state.functions) + 1, message.digest, message.label, message.payload
        )
        state.functions[message.digest] = function
    client.functions[message.fn] = function


# Submitting.


def _rank(state: SchedulerState, options: Options, order: int = 0) -> Rank:
    return (-options.priority, state.last_submission, order)


def _unknown_input(task: TaskId) -> Failure:
    return Failure(
        "cancelled",
        "TaskCancelled",
        "an input of this task is no longer known: its future was released or "
        "cancelled before the task was submitted",
        origin=task,
    )


def _new_span(
    state: SchedulerState,
    client: Client,
    base: TaskId,
    n: int,
    function: Function | None,
    pack: Pack | None,
    at: int,
    options: Options,
    rank: Rank,
    *,
    wanted: bool = True,
) -> Span:
    holders = frozenset({client.number}) if wanted else frozenset()
    span = Span(base, n, function, pack, at, options, rank, holders)
    if wanted:
        client.wants[span] = None
    remember(state, span)
    return span


def _tie(state: SchedulerState, span: Span) -> TaskId | None:
    """Enter *span* as a dependent of its inputs; return an input that is unknown."""
    for task in span.aligned:
        source = find(state, task)
        if source is None:
            return task
        if source.dependents is None:
            source.dependents = {}
        source.dependents[span] = True
    for base, n in span.whole:
        known = 0
        for source in covering(state, base, n):
            known += min(source.base + source.n, base + n) - max(source.base, base)
            if source.dependents is None:
                source.dependents = {}
            source.dependents.setdefault(span, False)
        if known < n and not state.aliases:
            return base
    return None


def _start(state: SchedulerState, span: Span) -> None:
    unknown = _tie(state, span)
    if unknown is not None:
        transitions.fail(state, span, _unknown_input(unknown))
    else:
        transitions.demand(state, span)


@handlers.add(Submit)
def on_submit(state: SchedulerState, client: Client, message: Submit) -> None:
    """Take in the tasks of one call, as few spans as the inputs allow."""
    if message.name is not None and _share(state, client, message):
        return
    pack = Pack.from_wire(message.sizes, message.data)
    function = client.functions[message.fn]
    options = message.options
    state.last_submission += 1
    state.counters["tasks_submitted"] += message.n
    rank = _rank(state, options)
    for start, end in _pieces(state, message):
        span = _new_span(
            state,
            client,
            message.base + start,
            end - start,
            function,
            pack,
            start,
            options,
            rank,
        )
        span.aligned = tuple(_real(state, task + start) for task in message.aligned)
        span.whole = message.whole
        _start(state, span)
    if message.name is not None:
        single = state.spans.get(message.base)
        if single is not None:
            state.names[message.name] = single
            state.name_of[message.base] = message.name


def _real(state: SchedulerState, task: TaskId) -> TaskId:
    return state.aliases.get(task, task)


def _pieces(state: SchedulerState, message: Submit) -> list[Extent]:
    """Return where the tasks must be cut so that each tied input is one span."""
    n = message.n
    if n == 1 or not message.aligned:
        for task in message.aligned:
            isolate(state, _real(state, task), 1)
        return [(0, n)]
    overlaps = any(
        base < task + n and task < base + m
        for base, m in message.whole
        for task in message.aligned
    )
    if overlaps or any(state.aliases.get(t) for t in message.aligned):
        for task in message.aligned:
            for index in range(n):
                isolate(state, _real(state, task + index), 1)
        return [(index, index + 1) for index in range(n)]
    cuts = {0, n}
    for task in message.aligned:
        for part in isolate(state, task, n):
            cuts.add(part.base - task)
    for task in message.aligned:
        for at in cuts:
            if 0 < at < n:
                isolate(state, task + at, n - at)
    places = sorted(cuts)
    return list(zip(places, places[1:], strict=False))


def _share(state: SchedulerState, client: Client, message: Submit) -> bool:
    """A named task that is known already serves this wish as well."""
    assert message.name is not None
    span = state.names.get(message.name)
    if span is None:
        return False
    function = client.functions[message.fn]
    assert span.pack is not None
    if span.function is not function or bytes(span.pack[span.at]) != message.data:
        state.send(
            client.peer,
            Failed(
                message.base,
                1,
                Failure(
                    "raised",
                    "KeyConflict",
                    f"the key {message.name!r} already names another task "
                    f"({span.function.label if span.function else 'data'} with other "
                    f"arguments); choose another key, or release the other future",
                ),
            ),
        )
        return True
    state.aliases[message.base] = span.base
    state.aliases_of.setdefault(span.base, {})[client.number] = message.base
    _want(state, client, span)
    return True


@handlers.add(SubmitGraph)
def on_submit_graph(
    state: SchedulerState, client: Client, message: SubmitGraph
) -> None:
    """Take in tasks that depend on each other; inputs come before their users."""
    pack = Pack.from_wire(message.sizes, message.data)
    state.last_submission += 1
    state.counters["tasks_submitted"] += len(message.fns)
    base = message.base
    wanted = {
        task for start, n in message.wanted for task in range(start, start + n)
    }
    spans = []
    options_of = message.options_of or (0,) * len(message.fns)
    for index, (fn, needs, order, choice) in enumerate(
        zip(message.fns, message.needs, message.order, options_of, strict=True)
    ):
        options = message.options[choice]
        span = _new_span(
            state,
            client,
            base + index,
            1,
            client.functions[fn],
            pack,
            index,
            options,
            _rank(state, options, order),
            wanted=base + index in wanted,
        )
        for task in needs:
            if task not in state.spans:
                isolate(state, _real(state, task), 1)
        span.aligned = tuple(dict.fromkeys(_real(state, task) for task in needs))
        spans.append(span)
    unknown = [(span, _tie(state, span)) for span in spans]
    for span, missing in unknown:
        if missing is not None:
            transitions.fail(state, span, _unknown_input(missing))
    for span in spans:
        if span.wanted:
            transitions.demand(state, span)
    for span in spans:
        # What nothing wanted leads to is let go again.
        if span.state is State.RELEASED:
            transitions.let_go(state, span)


@handlers.add(Scatter)
def on_scatter(state: SchedulerState, client: Client, message: Scatter) -> None:
    """Place small values that a client brought; their bytes are kept as a recipe."""
    pack = Pack.from_wire(message.sizes, message.data)
    options = DEFAULT_OPTIONS
    if message.workers:
        options = Options(workers=message.workers)
    state.last_submission += 1
    span = _new_span(
        state,
        client,
        message.base,
        message.n,
        None,
        pack,
        0,
        options,
        _rank(state, options),
    )
    if not message.broadcast:
        transitions.demand(state, span)
        return
    transitions.demand(state, span)
    placement.plan(state)
    for part in isolate(state, message.base, message.n):
        copy = part.pack
        if part.state is not State.DONE or copy is None:
            continue
        for worker in state.workers.values():
            if worker not in part.replicas and not worker.leaving:
                cut = copy.cut(part.at, part.at + part.n)
                put = Put(part.base, part.n, cut.sizes_bytes(), bytes(cut.data))
                state.send(worker.peer, put)
                part.replicas += (worker,)
                worker.holds[part] = None
                worker.stored_bytes += part.nbytes


@handlers.add(Placed)
def on_placed(state: SchedulerState, client: Client, message: Placed) -> None:
    """A large value was brought to a worker directly."""
    worker = state.workers.get(message.worker)
    span = state.spans.get(message.task)
    if span is not None:
        # One more copy of a value that was placed before (a broadcast).
        if worker is not None and worker not in span.replicas:
            span.replicas += (worker,)
            worker.holds[span] = None
            worker.stored_bytes += span.nbytes
        return
    span = _new_span(
        state,
        client,
        message.task,
        1,
        None,
        None,
        0,
        DEFAULT_OPTIONS,
        _rank(state, DEFAULT_OPTIONS),
    )
    if worker is None:
        transitions.demand(state, span)
        return
    transitions.finish(state, span, worker, message.nbytes)
    report.stored(state, span)


# Holding and letting go.


def _want(state: SchedulerState, client: Client, span: Span) -> None:
    if client.number not in span.wanted:
        span.wanted = span.wanted | {client.number}
        client.wants[span] = None
        span.delivered = False
    if span.state is State.RELEASED:
        transitions.demand(state, span)
    report.current(state, span, client)


@handlers.add(Want)
def on_want(state: SchedulerState, client: Client, message: Want) -> None:
    """A client has come to hold futures that another one made."""
    for base, n in message.extents:
        parts = isolate(state, base, n)
        for part in parts:
            _want(state, client, part)
        known = {t for part in parts for t in range(part.base, part.base + part.n)}
        for task in range(base, base + n):
            if _real(state, task) not in known:
                why = Failure(
                    "cancelled",
                    "TaskCancelled",
                    "the task is not known any more: all futures of it were "
                    "released before this one was received",
                    origin=task,
                )
                state.send(client.peer, Failed(task, 1, why))


@handlers.add(Release)
def on_release(state: SchedulerState, client: Client, message: Release) -> None:
    """A client holds these no more."""
    for span in isolate_all(state, message.extents):
        aliases = state.aliases_of.get(span.base)
        if aliases is not None:
            alias = aliases.pop(client.number, None)
            if alias is not None:
                state.aliases.pop(alias, None)
        transitions.unwant(state, span, client.number)


@handlers.add(Detach)
def on_detach(state: SchedulerState, client: Client, message: Detach) -> None:
    """These shall run to their end, whoever leaves."""
    del client
    for span in isolate_all(state, message.extents):
        if span.unfinished:
            span.wanted = span.wanted | {DETACHED}


@handlers.add(Cancel)
def on_cancel(state: SchedulerState, client: Client, message: Cancel) -> None:
    """Stop unfinished tasks, for everybody."""
    reason = f": {message.reason}" if message.reason else ""
    for span in isolate_all(state, message.extents):
        if not span.unfinished:
            continue
        if span.state is State.ASSIGNED and span.worker is not None:
            stop = Stop(span.run, span.base, span.n, kill=True)
            state.send(span.worker.peer, stop)
        why = Failure(
            "cancelled", "TaskCancelled", f"cancelled by {client.name}{reason}"
        )
        transitions.fail(state, span, why)


@handlers.add(Retry)
def on_retry(state: SchedulerState, client: Client, message: Retry) -> None:
    """Run failed tasks again, with the failed tasks that they take as input."""
    del client
    todo = list(isolate_all(state, message.extents))
    again: list[Span] = []
    while todo:
        span = todo.pop()
        if span.state is not State.FAILED:
            continue
        transitions.move(state, span, State.RELEASED)
        span.attempts = 0
        again.append(span)
        todo += inputs_of(state, span)
    for span in again:
        report.reverted(state, span)
        transitions.demand(state, span)


# Questions.


@handlers.add(Ask)
def on_ask(state: SchedulerState, client: Client, message: Ask) -> None:
    """Answer a question about the cluster with plain data."""
    state.send(client.peer, Answer(message.request, _answer(state, message)))


def _answer(state: SchedulerState, message: Ask) -> Any:
    match message.topic:
        case "who_has":
            return [
                (span.base, span.n, [worker.name for worker in span.replicas])
                for base, n in message.extents
                for span in covering(state, base, n)
            ]
        case "info":
            return explain.cluster_info(state)
        case "explain":
            return explain.task(state, message.extents[0][0])
        case "events":
            excerpt = state.events.since(message.number, 10_000)
            return (excerpt.first, excerpt.events, excerpt.dropped)
        case _:
            return {"error": f"there is no topic {message.topic!r}"}


@handlers.add(Goodbye)
def on_goodbye(state: SchedulerState, client: Client, message: Goodbye) -> None:
    """A client leaves in order; perhaps it takes the cluster along."""
    if message.shutdown:
        state.closing = True
    leave(state, client)


def leave(state: SchedulerState, client: Client) -> None:
    """Forget a client and all its wishes."""
    if state.clients.pop(client.peer, None) is None:
        return
    for span in list(client.wants):
        transitions.unwant(state, span, client.number)
    state.client_numbers.pop(client.number, None)


handlers.must_cover(FromClient)
