"""New tasks: ranges, graphs, and values that clients bring."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

from covey.ids import COUNTER_BITS, TaskId, client_of
from covey.payload import Pack
from covey.scheduler.core import (
    bringing,
    brought,
    causes,
    checks,
    dependents,
    fitting,
    functions,
    history,
    naming,
    orphans,
    placement,
    report,
    spreading,
    transitions,
)
from covey.scheduler.core.dependents import Sole
from covey.scheduler.core.fitting import real_extents
from covey.scheduler.core.functions import Function
from covey.scheduler.core.handlers import Handlers
from covey.scheduler.core.holding import keep, want
from covey.scheduler.core.spans import (
    covering,
    find,
    isolate,
    real,
    remember,
)
from covey.scheduler.core.state import (
    COMING,
    DONE,
    KEPT,
    NOBODY,
    RELEASED,
    Client,
    Rank,
    SchedulerState,
    Span,
    Worker,
)
from covey.wire.base import DEFAULT_OPTIONS, Extent, Failure, Options
from covey.wire.client_link import (
    DefineFunction,
    Failed,
    ForgetFunction,
    NotBrought,
    Placed,
    Scatter,
    Submit,
    SubmitGraph,
)
from covey.wire.worker_link import Drop, Put

handlers: Handlers[Client] = Handlers()


@handlers.add(DefineFunction)
def on_define(state: SchedulerState, client: Client, message: DefineFunction) -> None:
    """A client will submit tasks of this function."""
    functions.define(state, client, message)


@handlers.add(ForgetFunction)
def on_forget(state: SchedulerState, client: Client, message: ForgetFunction) -> None:
    """A client is done with a function."""
    functions.undefine(state, client, message.fn)


def _rank(state: SchedulerState, options: Options) -> Rank:
    return (-options.priority, state.last_submission, 0)


def _known(options: Options) -> Options:
    """Return the usual options themselves, if these are equal: it is quick to see then."""
    return DEFAULT_OPTIONS if options == DEFAULT_OPTIONS else options


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
) -> Span:
    """Enter new tasks, held by their client.

    The tasks of a function are to be counted before.
    """
    span = Span(base, n, function, pack, at, options, rank, client.itself)
    if client.recalling:
        _enter_holders(client, span)
    else:
        client.wants[span] = None
    if n == 1:
        state.spans[base] = span
    else:
        remember(state, span)
    return span


def _enter_holders(client: Client, span: Span) -> None:
    """Note with the client of a new span that it holds it."""
    if client.recalling:
        # It is wanted when the client has said that it is.
        span.wanted = span.delivered = frozenset({KEPT})
    elif span.wanted is client.itself:
        client.wants[span] = None
    elif span.wanted is COMING:
        client.coming[span] = None


def found_value(state: SchedulerState, base: TaskId, n: int) -> Span:
    """Enter values that are known by nothing but their ids, to be kept for now."""
    kept = frozenset({KEPT})
    rank = _rank(state, DEFAULT_OPTIONS)
    span = Span(base, n, None, None, 0, DEFAULT_OPTIONS, rank, kept)
    span.delivered = kept
    remember(state, span)
    return span


def _tie(state: SchedulerState, span: Span) -> None:
    """Enter *span* as a dependent of its inputs, which are all known."""
    sources = []
    for task, g in (*((task, 1) for task in span.beside), *span.groups):
        source = find(state, task)
        assert source is not None and source.n == g * span.n
        sources.append(source)
        dependents.add(source, span, g)
    if span.n == 1 and not span.whole:
        span.inputs, span.beside = tuple(sources), ()
    for base, n in span.whole:
        for source in covering(state, base, n):
            if not dependents.has(source, span):
                dependents.add(source, span, 0)


def _unknown(
    state: SchedulerState, client: Client, base: TaskId, n: int
) -> TaskId | None:
    """Return the first of these tasks that is not known, or not to *client*."""
    at = base
    for source in covering(state, base, n):
        if source.base > at or not checks.may(client, source):
            break
        at = source.base + source.n
    return at if at < base + n else None


@handlers.add(Submit)
def on_submit(state: SchedulerState, client: Client, message: Submit) -> None:
    """Take in the tasks of one call, as few spans as the inputs allow."""
    pack, function = checks.submit(state, client, message)
    if message.name is not None and _share(state, client, message, function):
        return
    options, base, n = _known(message.options), message.base, message.n
    state.last_submission += 1
    state.counters["tasks_submitted"] += n
    history.submitted(state, client, base, n, function)
    function.tasks += n
    rank = _rank(state, options)
    if message.aligned or message.whole or message.groups:
        _take_with_inputs(state, client, message, function, pack, rank)
    else:
        span = _new_span(state, client, base, n, function, pack, 0, options, rank)
        if not client.recalling and not (
            state.by_itself and n == 1 and placement.begin_at_once(state, span)
        ):
            transitions.line_up(state, span)
    if message.name is not None:
        state.names[message.name] = state.spans[base]
        state.name_of[base] = message.name, message.identity


def _take_with_inputs(
    state: SchedulerState,
    client: Client,
    message: Submit,
    function: Function,
    pack: Pack,
    rank: Rank,
) -> None:
    """Enter tasks that take others, in pieces that fit these."""
    options = message.options
    whole, renamed = real_extents(state, message.whole)
    for base, n in whole:
        # Cut off from its neighbours, an input never outgrows its extent.
        isolate(state, base, n)
    for start, end in fitting.pieces(state, message, whole):
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
        groups = tuple((first + g * start, g) for first, g in message.groups)
        alone: tuple[Extent, ...] = ()
        others: tuple[tuple[TaskId, TaskId], ...] = ()
        if groups and span.n == 1:
            alone, others = real_extents(state, groups)
            groups = ()
        if state.aliases:
            # Only spans of one have inputs by another id.
            ids = {task: real(state, task) for task in aligned}
            aligned = list(ids.values())
            others += tuple((k, v) for k, v in ids.items() if k != v)
            span.renamed = (*renamed, *others)
        _begin(state, client, span, aligned, groups, (*whole, *alone))


def _begin(
    state: SchedulerState,
    client: Client,
    span: Span,
    aligned: Sequence[TaskId],
    groups: tuple[Extent, ...],
    whole: tuple[Extent, ...],
) -> None:
    """Tie a new span to its inputs and have it made; or fail it, if one is unknown."""
    grouped = ((first, g * span.n) for first, g in groups)
    for base, n in [*((task, 1) for task in aligned), *grouped, *whole]:
        unknown = _unknown(state, client, base, n)
        if unknown is not None:
            # Without a recipe, so that a retry cannot run it with inputs missing.
            span.pack = None
            transitions.fail(state, span, causes.unknown_input(unknown))
            return
    span.beside = tuple(dict.fromkeys(aligned))
    span.groups = tuple(dict.fromkeys(groups))
    span.whole = whole
    if aligned or groups or whole:
        span.inputs = None
    _tie(state, span)
    transitions.demand(state, span)


def _share(
    state: SchedulerState, client: Client, message: Submit, function: Function
) -> bool:
    """A named task that is known already serves this wish as well."""
    assert message.name is not None
    span = state.names.get(message.name)
    if span is None:
        return False
    if span.state is RELEASED and not span.wanted:
        # Nobody has a future of it, and it would have to be made again, perhaps from
        # large arguments that are gone: the new one came with its own.
        naming.free(state, span)
        return False
    _, identity = state.name_of[span.base]
    if span.function is not function or identity != message.identity:
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
    if client.recalling:
        # It is wanted when the client has said that it is.
        keep(state, span, message.base)
    else:
        want(state, client, span, message.base)
    return True


@handlers.add(SubmitGraph)
def on_submit_graph(
    state: SchedulerState, client: Client, message: SubmitGraph
) -> None:
    """Take in tasks that depend on each other; inputs come before their users."""
    pack, called = checks.graph(state, client, message)
    state.last_submission += 1
    state.counters["tasks_submitted"] += len(called)
    for function, n in Counter(called).items():
        history.submitted(state, client, message.base, n, function)
        functions.count(state, function, n)
    base = message.base
    holders_of = {
        task: holders
        for holders, extents in (
            (COMING, message.coming),
            (client.itself, message.wanted),
        )
        for start, n in extents
        for task in range(start, start + n)
    }
    spans = []
    options_of = message.options_of or itertools.repeat(0, len(called))
    kinds = [*map(_known, message.options)]
    ranks = [_rank(state, options)[:2] for options in kinds]
    columns = zip(called, message.needs, message.order, options_of, strict=True)
    for index, (function, needs, order, choice) in enumerate(columns):
        # Mostly the same: then one object serves for both.
        at = order if order == index else index
        rank = (*ranks[choice], order)
        task = base + index
        holders = holders_of.get(task, NOBODY)
        span = Span(task, 1, function, pack, at, kinds[choice], rank, holders)
        if holders or client.recalling:
            _enter_holders(client, span)
        state.spans[task] = span
        spans.append(span)
        if needs:
            _tie_node(state, client, span, needs, base)
    for span in spans:
        if span.wanted:
            transitions.demand(state, span)
    for span in spans:
        # What nothing wanted leads to is let go again.
        if span.state is RELEASED and not span.wanted:
            transitions.let_go(state, span)


def _tie_node(
    state: SchedulerState,
    client: Client,
    span: Span,
    needs: tuple[TaskId, ...],
    base: TaskId,
) -> None:
    """Enter a node of a graph, whose message begins with *base*, with its inputs."""
    spans, number, own = state.spans, client.number, span.base
    sources = []
    for task in needs:
        source = spans.get(task)
        # What the client has made itself it may take, of this graph or another; what
        # came before in the same message is all of this one.
        if source is None or (
            not base <= task < own and (source.n > 1 or task >> COUNTER_BITS != number)
        ):
            _tie_elsewhere(state, client, span, needs)
            return
        sources.append(source)
    if len(needs) > 1 and len({*needs}) < len(needs):
        _tie_elsewhere(state, client, span, needs)
        return
    span.inputs = tuple(sources)
    for source in sources:
        if source.dependents is None:
            source.dependents = Sole(span, 1)
        else:
            dependents.add(source, span, 1)


def _tie_elsewhere(
    state: SchedulerState, client: Client, span: Span, needs: Sequence[TaskId]
) -> None:
    """The same where inputs have other ids, are shared, or stand with others."""
    sources: dict[Span, None] = {}
    for task in needs:
        source = state.spans.get(task)
        if source is None or source.n > 1:
            found = real(state, task)
            known = isolate(state, found, 1)
            source = known[0] if known else None
            if found != task:
                span.renamed += ((task, found),)
        if source is None or not checks.may(client, source):
            # Without a recipe: it fails as soon as somebody demands it.
            span.pack = None
            return
        sources[source] = None
    span.inputs = tuple(sources)
    for source in sources:
        dependents.add(source, span, 1)


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
    copies = len(state.workers) if message.broadcast else message.copies
    if copies <= 1 or client.recalling:
        return
    bringing.place_all(state)
    names = frozenset(message.workers)
    for part in isolate(state, message.base, message.n):
        copy = part.pack
        if part.state is not DONE or copy is None:
            continue
        cut = copy.cut(part.at, part.at + part.n)
        put = Put(part.base, part.n, cut.sizes_bytes(), bytes(cut.data))
        others = spreading.targets(state, part, names)
        for worker in itertools.islice(others, copies - 1):
            state.send(worker.peer, put)
            transitions.add_replica(state, part, worker)


@handlers.add(Placed)
def on_placed(state: SchedulerState, client: Client, message: Placed) -> None:
    """A large value was brought to a worker directly."""
    span = checks.placed(state, client, message)
    worker = state.workers.get(message.worker)
    if worker is not None and message.task in worker.given_up:
        worker = None
    elif worker in state.orphans and not client.recalling:
        # The worker has told of it first.
        orphans.strike(state, worker, ((message.task, 1),))
    if span is not None:
        if worker is not None:
            _placed_again(state, span, worker, message.nbytes)
        elif brought.awaited(state, span):
            brought.ask(state, span)
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
    if message.kept:
        state.brought[span] = False
    copies = len(state.workers) if message.broadcast else message.copies
    if worker is None or client.recalling:
        transitions.demand(state, span)
    else:
        transitions.finish(state, span, worker, message.nbytes)
        report.stored(state, span)
    if copies > 1 and state.spans.get(span.base) is span:
        spreading.begin(state, span, copies, frozenset(message.workers))


def _placed_again(
    state: SchedulerState, span: Span, worker: Worker, nbytes: int
) -> None:
    """One more copy of a value that was placed before (a broadcast)."""
    if span.state is DONE:
        transitions.add_replica(state, span, worker)
    elif span.failure is None or span.failure.kind == "lost":
        # The other copies are gone; this one is not.
        transitions.turn_up(state, span, worker, nbytes)
        spreading.arrived(state, span, worker)
    else:
        state.send(worker.peer, Drop((span.extent,)))


@handlers.add(NotBrought)
def on_not_brought(state: SchedulerState, client: Client, message: NotBrought) -> None:
    """A client cannot bring a value again: nobody can."""
    span = find(state, message.task)
    if span is None or client_of(message.task) != client.number:
        return
    was_asked = brought.awaited(state, span)
    state.brought.pop(span, None)
    if was_asked:
        transitions.fail(state, span, causes.unmakeable(state, span))
