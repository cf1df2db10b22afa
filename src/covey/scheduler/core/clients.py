"""What clients may say, and what follows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from covey.errors import RemoteProtocolError
from covey.ids import TaskId
from covey.payload import Pack
from covey.scheduler.core import checks, explain, placement, report, transitions
from covey.scheduler.core.handlers import Handlers
from covey.scheduler.core.spans import (
    aliases_in,
    covering,
    find,
    inputs_of,
    isolate,
    isolate_all,
    real,
    remember,
)
from covey.scheduler.core.state import (
    DETACHED,
    NOBODY,
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
from covey.wire.worker_link import Drop, Put

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
    holders = client.itself if wanted else NOBODY
    span = Span(base, n, function, pack, at, options, rank, holders)
    if wanted:
        client.wants[span] = None
    remember(state, span)
    return span


def _tie(state: SchedulerState, span: Span) -> None:
    """Enter *span* as a dependent of its inputs, which are all known."""
    for task in span.aligned:
        source = find(state, task)
        assert source is not None and source.n == span.n
        if source.dependents is None:
            source.dependents = {}
        source.dependents[span] = True
    for base, n in span.whole:
        for source in covering(state, base, n):
            if source.dependents is None:
                source.dependents = {}
            source.dependents.setdefault(span, False)


def _unknown(state: SchedulerState, base: TaskId, n: int) -> TaskId | None:
    """Return the first of these tasks that is not known."""
    at = base
    for source in covering(state, base, n):
        if source.base > at:
            break
        at = source.base + source.n
    return at if at < base + n else None


@handlers.add(Submit)
def on_submit(state: SchedulerState, client: Client, message: Submit) -> None:
    """Take in the tasks of one call, as few spans as the inputs allow."""
    pack, function = checks.submit(state, client, message)
    if message.name is not None and _share(state, client, message, function):
        return
    options = message.options
    state.last_submission += 1
    state.counters["tasks_submitted"] += message.n
    rank = _rank(state, options)
    whole, renamed = _real_extents(state, message.whole)
    for base, n in whole:
        # Cut off from its neighbours, an input never outgrows its extent.
        isolate(state, base, n)
    for start, end in _pieces(state, message.aligned, message.n, whole):
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
        aligned = [task + start for task in message.aligned]
        if state.aliases:
            # Only spans of one have aligned inputs by another id.
            others = {task: real(state, task) for task in aligned}
            aligned = list(others.values())
            span.renamed = (*renamed, *((k, v) for k, v in others.items() if k != v))
        _begin(state, span, aligned, whole)
    if message.name is not None:
        state.names[message.name] = state.spans[message.base]
        state.name_of[message.base] = message.name


def _begin(
    state: SchedulerState,
    span: Span,
    aligned: Sequence[TaskId],
    whole: tuple[Extent, ...],
) -> None:
    """Tie a new span to its inputs and have it made; or fail it, if one is unknown."""
    for base, n in [*((task, 1) for task in aligned), *whole]:
        unknown = _unknown(state, base, n)
        if unknown is not None:
            # Without a recipe, so that a retry cannot run it with inputs missing.
            span.pack = None
            transitions.fail(state, span, transitions.unknown_input(unknown))
            return
    span.aligned = tuple(dict.fromkeys(aligned))
    span.whole = whole
    _tie(state, span)
    transitions.demand(state, span)


def _real_extents(
    state: SchedulerState, extents: Sequence[Extent]
) -> tuple[tuple[Extent, ...], tuple[tuple[TaskId, TaskId], ...]]:
    """Return *extents* with the real ids of shared tasks, and what was renamed."""
    if not state.aliases:
        return tuple(extents), ()
    result: list[Extent] = []
    renamed = []
    for base, n in extents:
        at = base
        for task in aliases_in(state, base, n):
            if at < task:
                result.append((at, task - at))
            result.append((state.aliases[task], 1))
            renamed.append((task, state.aliases[task]))
            at = task + 1
        if at < base + n:
            result.append((at, base + n - at))
    return tuple(result), tuple(renamed)


#: After so many rounds of cutting inputs to fit each other, single tasks are cut.
_ROUNDS_MAX = 8


def _pieces(
    state: SchedulerState,
    aligned: Sequence[TaskId],
    n: int,
    whole: Sequence[Extent],
) -> list[Extent]:
    """Return where the tasks must be cut so that each tied input is one span.

    An input that is cut cuts what is tied to it, which may be another input,
    elsewhere: so it takes a few rounds.
    """
    if not aligned:
        return [(0, n)]
    if n > 1 and not (
        _overlap(aligned, n, whole)
        or any(aliases_in(state, task, n) for task in aligned)
    ):
        places: list[int] = []
        for _ in range(_ROUNDS_MAX):
            cuts = {0, n}
            for task in aligned:
                for part in isolate(state, task, n):
                    cuts |= {part.base - task, part.base - task + part.n}
            if len(cuts) == len(places):
                return list(itertools.pairwise(places))
            places = sorted(cuts)
            for task in aligned:
                for start, end in itertools.pairwise(places):
                    isolate(state, task + start, end - start)
    for task in aligned:
        for index in range(n):
            isolate(state, real(state, task + index), 1)
    return [(index, index + 1) for index in range(n)]


def _overlap(aligned: Sequence[TaskId], n: int, whole: Sequence[Extent]) -> bool:
    """Whether a tied input is, in part, another input as well."""
    places = sorted(set(aligned))
    return any(
        task + n > following for task, following in itertools.pairwise(places)
    ) or any(
        base < task + n and task < base + m for task in places for base, m in whole
    )


def _share(
    state: SchedulerState, client: Client, message: Submit, function: Function
) -> bool:
    """A named task that is known already serves this wish as well."""
    assert message.name is not None
    span = state.names.get(message.name)
    if span is None:
        return False
    if (
        span.function is not function
        or span.pack is None
        or bytes(span.pack[span.at]) != message.data
    ):
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
    _want(state, client, span, message.base)
    return True


@handlers.add(SubmitGraph)
def on_submit_graph(
    state: SchedulerState, client: Client, message: SubmitGraph
) -> None:
    """Take in tasks that depend on each other; inputs come before their users."""
    pack, functions = checks.graph(state, client, message)
    state.last_submission += 1
    state.counters["tasks_submitted"] += len(functions)
    base, end = message.base, message.base + len(functions)
    wanted = {task for start, n in message.wanted for task in range(start, start + n)}
    spans = []
    options_of = message.options_of or (0,) * len(functions)
    for index, (function, needs, order, choice) in enumerate(
        zip(functions, message.needs, message.order, options_of, strict=True)
    ):
        options = message.options[choice]
        span = _new_span(
            state,
            client,
            base + index,
            1,
            function,
            pack,
            index,
            options,
            _rank(state, options, order),
            wanted=base + index in wanted,
        )
        spans.append(span)
        if needs:
            _tie_node(state, span, needs, base, end)
    for span in spans:
        if span.wanted:
            transitions.demand(state, span)
    for span in spans:
        # What nothing wanted leads to is let go again.
        if span.state is State.RELEASED:
            transitions.let_go(state, span)


def _tie_node(
    state: SchedulerState,
    span: Span,
    needs: Sequence[TaskId],
    base: TaskId,
    end: TaskId,
) -> None:
    """Enter a node of a graph, *base* to *end*, as a dependent of its inputs."""
    aligned: dict[TaskId, None] = {}
    spans = state.spans
    for task in needs:
        if base <= task < end:
            aligned[task] = None
            continue
        found = real(state, task)
        if not isolate(state, found, 1):
            # Without a recipe: it fails as soon as somebody demands it.
            span.pack = None
            return
        aligned[found] = None
        if found != task:
            span.renamed += ((task, found),)
    span.aligned = tuple(aligned)
    for task in aligned:
        source = spans[task]
        if source.dependents is None:
            source.dependents = {}
        source.dependents[span] = True


@handlers.add(Scatter)
def on_scatter(state: SchedulerState, client: Client, message: Scatter) -> None:
    """Place small values that a client brought; their bytes are kept as a recipe."""
    pack = checks.scatter(state, client, message)
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
    transitions.demand(state, span)
    if not message.broadcast:
        return
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
                transitions.add_replica(state, part, worker)


@handlers.add(Placed)
def on_placed(state: SchedulerState, client: Client, message: Placed) -> None:
    """A large value was brought to a worker directly."""
    span = checks.placed(state, client, message)
    worker = state.workers.get(message.worker)
    if span is not None:
        # One more copy of a value that was placed before (a broadcast).
        if worker is not None and span.state is State.DONE:
            transitions.add_replica(state, span, worker)
        elif worker is not None:
            state.send(worker.peer, Drop((span.extent,)))
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


def _want(state: SchedulerState, client: Client, span: Span, task: TaskId) -> None:
    """*client* holds futures of *span*, which it knows by the id *task*."""
    number = client.number
    ids = state.ids_of.get(span.base)
    if task != span.base and ids is None:
        own = (span.base,)
        ids = state.ids_of[span.base] = {
            c: own for c in span.wanted if c is not DETACHED
        }
    if ids is not None and task not in ids.get(number, ()):
        ids[number] = (*ids.get(number, ()), task)
    if number not in span.wanted:
        span.wanted = span.wanted | client.itself if span.wanted else client.itself
        client.wants[span] = None
    # A client that asks again has not found the value where it was said to be.
    span.delivered -= client.itself
    if span.state is State.RELEASED:
        transitions.demand(state, span)
    report.current(state, span, client, task)


@handlers.add(Want)
def on_want(state: SchedulerState, client: Client, message: Want) -> None:
    """A client has come to hold futures that another one made."""
    checks.extents(message.extents)
    for base, n in message.extents:
        at = base
        for part in isolate(state, base, n):
            # A shared task answers to an id that lies outside of its span.
            here = part.base if base <= part.base < base + n else None
            if here is None:
                here = _alias_from(state, at, part)
            _deny(state, client, at, here - at)
            _want(state, client, part, here)
            at = here + part.n
        _deny(state, client, at, base + n - at)


def _alias_from(state: SchedulerState, at: TaskId, span: Span) -> TaskId:
    """Return the first id from *at* on that stands for *span*."""
    return min(
        task
        for task in itertools.chain(*state.ids_of[span.base].values())
        if task >= at and task != span.base
    )


def _deny(state: SchedulerState, client: Client, base: TaskId, n: int) -> None:
    """Tell *client* that tasks are not known."""
    if n > 0:
        why = Failure(
            "cancelled",
            "TaskCancelled",
            "the task is not known any more: all futures of it were released "
            "before this one was received",
            origin=base,
        )
        state.send(client.peer, Failed(base, n, why))


@handlers.add(Release)
def on_release(state: SchedulerState, client: Client, message: Release) -> None:
    """A client holds these no more."""
    checks.extents(message.extents)
    for base, n in message.extents:
        for span in isolate(state, base, n):
            if span.base in state.ids_of and client.number in span.wanted:
                _release_shared(state, client, span, base, n)
            else:
                transitions.unwant(state, span, client.number)


def _release_shared(
    state: SchedulerState, client: Client, span: Span, base: TaskId, n: int
) -> None:
    """*client* may hold a shared task by another id as well."""
    ids = state.ids_of[span.base].get(client.number, (span.base,))
    kept = tuple(task for task in ids if not base <= task < base + n)
    if kept:
        state.ids_of[span.base][client.number] = kept
        for task in ids:
            transitions.drop_alias(state, span, task)
    else:
        transitions.unwant(state, span, client.number)


@handlers.add(Detach)
def on_detach(state: SchedulerState, client: Client, message: Detach) -> None:
    """These shall run to their end, whoever leaves."""
    del client
    checks.extents(message.extents)
    for span in isolate_all(state, message.extents):
        if span.unfinished:
            span.wanted = span.wanted | {DETACHED}


@handlers.add(Cancel)
def on_cancel(state: SchedulerState, client: Client, message: Cancel) -> None:
    """Stop unfinished tasks, for everybody."""
    checks.extents(message.extents)
    reason = f": {message.reason}" if message.reason else ""
    for span in isolate_all(state, message.extents):
        if not span.unfinished:
            continue
        transitions.stop(state, span, kill=True)
        why = Failure(
            "cancelled", "TaskCancelled", f"cancelled by {client.name}{reason}"
        )
        transitions.fail(state, span, why)


@handlers.add(Retry)
def on_retry(state: SchedulerState, client: Client, message: Retry) -> None:
    """Run failed tasks again, with the failed tasks that they take as input."""
    del client
    checks.extents(message.extents)
    todo = list(isolate_all(state, message.extents))
    again: list[Span] = []
    while todo:
        span = todo.pop()
        if span.state is not State.FAILED or span.pack is None:
            continue
        transitions.move(state, span, State.RELEASED)
        span.attempts = span.losses = 0
        again.append(span)
        todo += inputs_of(state, span)
    for span in again:
        report.reverted(state, span)
        transitions.demand(state, span)
    for span in again:
        if span.state is State.RELEASED:
            transitions.let_go(state, span)


# Questions.


@handlers.add(Ask)
def on_ask(state: SchedulerState, client: Client, message: Ask) -> None:
    """Answer a question about the cluster with plain data."""
    checks.extents(message.extents)
    if message.topic == "explain" and not message.extents:
        raise RemoteProtocolError("a question about a task does not say which")
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
