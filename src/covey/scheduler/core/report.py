"""What clients are told about the tasks they want."""

from __future__ import annotations

from covey.ids import ClientId, TaskId
from covey.payload import Pack
from covey.scheduler.core.state import Client, SchedulerState, Span, State, Worker
from covey.wire.base import Message
from covey.wire.client_link import (
    Failed,
    Finished,
    Reverted,
    Stored,
    WorkerSeen,
)


def id_for(state: SchedulerState, span: Span, client: ClientId) -> TaskId:
    """Return the id by which *client* knows a (shared) task."""
    aliases = state.aliases_of.get(span.base)
    if aliases is None:
        return span.base
    return aliases.get(client, span.base)


def finished(
    state: SchedulerState, spans: list[Span], sizes: bytes, data: bytes
) -> None:
    """Consecutive *spans* are done, and their small values came along."""
    first = spans[0]
    wanted = first.wanted
    if all(s.wanted == wanted for s in spans) and not (
        state.aliases_of and any(s.base in state.aliases_of for s in spans)
    ):
        n = sum(span.n for span in spans)
        for number in wanted:
            _tell(state, number, Finished(first.base, n, sizes, data))
    else:
        pack = Pack.from_wire(sizes, data)
        for span in spans:
            at = span.base - first.base
            part = pack.cut(at, at + span.n)
            for number in span.wanted:
                base = id_for(state, span, number)
                _tell(
                    state,
                    number,
                    Finished(base, span.n, part.sizes_bytes(), bytes(part.data)),
                )
    for span in spans:
        span.delivered = bool(span.wanted)


def _tell(state: SchedulerState, number: ClientId, message: Message) -> None:
    client = state.client_numbers.get(number)
    if client is not None:
        state.send(client.peer, message)


def stored(state: SchedulerState, span: Span) -> None:
    """*span* is done, and its values rest on workers."""
    for number in span.wanted:
        client = state.client_numbers.get(number)
        if client is not None:
            tell_stored(state, span, client)


def tell_stored(state: SchedulerState, span: Span, client: Client) -> None:
    """Tell one client where the values of *span* rest."""
    worker = span.replicas[0]
    introduce_worker(state, client, worker)
    base = id_for(state, span, client.number)
    state.send(client.peer, Stored(base, span.n, worker.number, span.nbytes))


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
            ),
        )


def failed(state: SchedulerState, span: Span) -> None:
    """*span* has failed for good."""
    assert span.failure is not None
    for number in span.wanted:
        base = id_for(state, span, number)
        _tell(state, number, Failed(base, span.n, span.failure))
    state.events.append((state.now, "failed", span.base, span.n, _label(span), ""))


def reverted(state: SchedulerState, span: Span) -> None:
    """The values of *span* were lost before the clients had them."""
    for number in span.wanted:
        _tell(state, number, Reverted(id_for(state, span, number), span.n))
    state.events.append((state.now, "lost", span.base, span.n, _label(span), ""))


def ran(state: SchedulerState, span: Span, worker: Worker, seconds: float) -> None:
    """Enter into the event stream that *span* ran on *worker*."""
    event = (state.now, "ran", span.base, span.n, _label(span), worker.name, seconds)
    state.events.append(event)


def current(state: SchedulerState, span: Span, client: Client) -> None:
    """Tell *client* how *span* stands, if that is an end."""
    if span.state is State.DONE:
        tell_stored(state, span, client)
    elif span.state is State.FAILED and span.failure is not None:
        base = id_for(state, span, client.number)
        state.send(client.peer, Failed(base, span.n, span.failure))


def _label(span: Span) -> str:
    return span.function.label if span.function is not None else "data"
