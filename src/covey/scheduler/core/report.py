"""What clients are told about the tasks they want."""

from __future__ import annotations

from collections.abc import Sequence

from covey.ids import ClientId, TaskId, client_of
from covey.payload import Pack
from covey.scheduler.core import history
from covey.scheduler.core.state import Client, SchedulerState, Span, State, Worker
from covey.wire.base import Extent, Message
from covey.wire.client_link import (
    Ended,
    Failed,
    Finished,
    Over,
    Reverted,
    Stored,
    WorkerSeen,
)


def ids_for(state: SchedulerState, span: Span, client: ClientId) -> tuple[TaskId, ...]:
    """Return the ids by which *client* knows a (shared) task: mostly just its own."""
    ids = state.ids_of.get(span.base)
    if ids is None:
        return (span.base,)
    return ids.get(client, (span.base,))


def finished(state: SchedulerState, span: Span, sizes: bytes, data: bytes) -> None:
    """*span* is done, and its small values came along."""
    if span.delivered or (state.ids_of and span.base in state.ids_of):
        finished_all(state, [span], sizes, data)
        return
    wanted, clients = span.wanted, state.client_numbers
    if wanted:
        message = Finished(span.base, span.n, sizes, data)
        for number in wanted:
            if number in clients:
                state.send(clients[number].peer, message)
        keepers = state.publications.holders
        # Who keeps a value under a name has got none.
        span.delivered = wanted - keepers if keepers else wanted


def finished_all(
    state: SchedulerState, spans: Sequence[Span], sizes: bytes, data: bytes
) -> None:
    """Consecutive *spans* are done, and their small values came along."""
    first = spans[0]
    if _alike(state, spans):
        message = Finished(first.base, sum([span.n for span in spans]), sizes, data)
        for number in first.wanted:
            _tell(state, number, message)
    else:
        pack = Pack.from_wire(sizes, data)
        for span in spans:
            at = span.base - first.base
            part = pack.cut(at, at + span.n)
            for number in span.wanted - span.delivered:
                for base in ids_for(state, span, number):
                    message = Finished(
                        base, span.n, part.sizes_bytes(), bytes(part.data)
                    )
                    _tell(state, number, message)
    keepers = state.publications.holders
    for span in spans:
        # Who keeps a value under a name has got none.
        span.delivered = span.wanted - keepers if keepers else span.wanted


def _alike(state: SchedulerState, spans: Sequence[Span]) -> bool:
    """Whether the same clients wait for all of these, and know them by their own ids."""
    wanted, others = spans[0].wanted, state.ids_of
    for span in spans:
        if span.delivered or (span.wanted is not wanted and span.wanted != wanted):
            return False
        if others and span.base in others:
            return False
    return True


def _tell(state: SchedulerState, number: ClientId, message: Message) -> None:
    client = state.client_numbers.get(number)
    if client is not None:
        state.send(client.peer, message)


def stored(state: SchedulerState, span: Span) -> None:
    """*span* is done, and its values rest on workers."""
    if not span.wanted:
        return
    for number in span.wanted - span.delivered:
        client = state.client_numbers.get(number)
        if client is not None:
            for base in ids_for(state, span, number):
                _tell_stored(state, span, client, base)


def _tell_stored(
    state: SchedulerState, span: Span, client: Client, task: TaskId
) -> None:
    worker = span.replicas[0]
    introduce_worker(state, client, worker)
    token = b""
    if task != span.base and state.keys is not None:
        token = state.keys.token(span.base)
    message = Stored(task, span.n, worker.number, span.nbytes, span.base, token)
    state.send(client.peer, message)


def introduce_worker(state: SchedulerState, client: Client, worker: Worker) -> None:
    """Make sure that *client* knows where *worker* serves its data."""
    if worker.peer not in client.workers_told:
        client.workers_told.add(worker.peer)
        state.send(
            client.peer,
            WorkerSeen(
                worker.number,
                worker.name,
                worker.addresses,
                worker.host,
                worker.slots,
                worker.python,
                worker.cloudpickle,
            ),
        )


def failed(state: SchedulerState, span: Span) -> None:
    """*span* has failed for good."""
    assert span.failure is not None
    for number in span.wanted - span.delivered:
        for base in ids_for(state, span, number):
            _tell(state, number, Failed(base, span.n, span.failure))
    history.failed(state, span, span.failure)
    number = client_of(span.base)
    state.journal.note(number, Ended(span.base, span.n, span.failure))


def over(state: SchedulerState, extents: Sequence[Extent]) -> None:
    """Tasks that were detached have ended."""
    number = client_of(extents[0][0])
    _tell(state, number, Over(tuple(extents)))
    state.journal.note(number, Over(tuple(extents)))
    if state.detached_as:
        for base, _ in extents:
            for alias in state.detached_as.pop(base, ()):
                over(state, ((alias, 1),))


def reverted(state: SchedulerState, span: Span) -> None:
    """The values of *span* were lost before the clients had them."""
    for number in span.wanted - span.delivered:
        for base in ids_for(state, span, number):
            _tell(state, number, Reverted(base, span.n))
    history.lost(state, span)


def current(state: SchedulerState, span: Span, client: Client, task: TaskId) -> None:
    """Tell *client*, which calls it *task*, how *span* stands, if that is an end."""
    if span.state is State.DONE:
        _tell_stored(state, span, client, task)
    elif span.state is State.FAILED and span.failure is not None:
        state.send(client.peer, Failed(task, span.n, span.failure))
