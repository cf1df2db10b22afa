"""Who reads the event stream along, and what they are told.

A reader asks for events from a number on, and is answered when there are any: one
question, one answer.  A reader that is slow, stopped or stuck asks for no more, so it
costs nothing and holds up nobody; the ring goes on, and when the reader comes back it
is told how many events it has missed.  The shell lets answers out ten times a second,
so a batch is encoded once, however many read along.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from covey.scheduler.core import portions
from covey.scheduler.core.state import Client, SchedulerState, Worker
from covey.wire.client_link import Answer
from covey.wire.worker_link import Watched

#: Events in one answer, at most.
EVENTS_MAX: Final = 5000

#: While somebody looks on, workers say how they are so often; many take longer.
PACE_SECONDS: Final = 0.5
SAMPLES_PER_SECOND_MAX: Final = 500


class Batch(NamedTuple):
    """Consecutive events, encoded.

    Attributes:
        first: the number of the first one.
        n: how many there are.
        dropped: how many were missed before it.
        data: the events as msgpack.
        now: the time, by the clock that stamps events.
    """

    first: int
    n: int
    dropped: int
    data: bytes
    now: float


_encode: Final = msgspec.msgpack.Encoder().encode


def ask(state: SchedulerState, client: Client, request: int, number: int) -> None:
    """Take a question in: what has happened since event *number*?"""
    alone = not state.audience
    state.audience[client.peer] = (request, number)
    if alone:
        tell_pace(state)


def leave(state: SchedulerState, client: Client) -> None:
    """A client is gone; perhaps nobody looks on any more."""
    if state.audience.pop(client.peer, None) is not None and not state.audience:
        tell_pace(state)


def forget_pace(worker: Worker) -> None:
    """Another life of the scheduler may have told *worker* to say more often how it is."""
    worker.pace = -1.0


def tell_pace(state: SchedulerState) -> None:
    """Tell all workers how often to say how they are."""
    pace = 0.0
    if state.audience:
        pace = max(PACE_SECONDS, len(state.workers) / SAMPLES_PER_SECOND_MAX)
    for worker in state.workers.values():
        if worker.pace != pace:
            worker.pace = pace
            state.send(worker.peer, Watched(pace))


def answer(state: SchedulerState) -> None:
    """Answer every open question to which there is an answer by now."""
    batches: dict[int, Batch] = {}
    for peer, (request, number) in state.audience.items():
        if not request or number >= state.events.next:
            continue
        found = batches.get(number)
        if found is None:
            found = batches[number] = batch(state, number)
        state.send(peer, Answer(request, tuple(found)))
        state.audience[peer] = (0, number)


def batch(state: SchedulerState, number: int) -> Batch:
    """Return the events from *number* on, as bytes."""
    first, found, dropped = state.events.since(number, EVENTS_MAX)
    events, data = found, _encode(found)
    if len(data) > portions.ANSWER_BYTES_MAX:
        events = list(portions.first_that_fit(found))
        data = _encode(events)
    return Batch(first, len(events), dropped, data, state.now)
