"""Who wants to see what tasks print, as they print it.

A client asks for what its tasks print from a number on, and is answered when there is
something; the same bargain as with the event stream: who does not ask costs nothing.
Prints have a ring of their own, so that a run of a million tasks, each an event, does not
push the last words of one of them out.
"""

from __future__ import annotations

from typing import Any, Final

from covey.ids import client_of
from covey.scheduler.core import portions
from covey.scheduler.core.spans import find
from covey.scheduler.core.state import Client, SchedulerState
from covey.wire.base import Extent
from covey.wire.client_link import Answer

#: Stretches in one answer, at most.
STRETCHES_MAX: Final = 1000

#: What a client says that asks where the stream stands.
FROM_NOW_ON: Final = -1


def ask(state: SchedulerState, client: Client, request: int, number: int) -> None:
    """Take a question in: what have my tasks printed since *number*?"""
    if number == FROM_NOW_ON:
        number = state.prints.next
    state.listeners[client.peer] = (request, number)


def leave(state: SchedulerState, client: Client) -> None:
    """A client is gone."""
    state.listeners.pop(client.peer, None)


def awaited(state: SchedulerState) -> bool:
    """Whether a listener waits for something that is there."""
    latest = state.prints.next
    return any(number < latest for _, number in state.listeners.values())


def answer(state: SchedulerState) -> None:
    """Answer every open question to which there is an answer by now."""
    for peer in list(state.listeners):
        _answer(state, peer, even_if_nothing=False)


def flush(state: SchedulerState, client: Client) -> None:
    """Answer the open question of *client*, which is about to leave."""
    while client.peer in state.listeners and _answer(state, client.peer, True):
        pass


def _answer(state: SchedulerState, peer: int, even_if_nothing: bool) -> bool:
    """Answer a question, if it can be; return whether it is still open."""
    request, number = state.listeners[peer]
    client = state.clients.get(peer)
    excerpt = state.prints.since(number, STRETCHES_MAX)
    events = portions.first_that_fit(excerpt.events)
    after = excerpt.first + len(events)
    found = [e for e in events if client and _is_of(state, client, e)]
    to_come = after < state.prints.next  # Others print a lot; ours may be behind it.
    if not found and not excerpt.dropped and (to_come or not even_if_nothing):
        state.listeners[peer] = (request, after)
        return True
    del state.listeners[peer]
    state.send(peer, Answer(request, (after, found, excerpt.dropped)))
    return False


def _is_of(state: SchedulerState, client: Client, event: tuple[Any, ...]) -> bool:
    """Whether the task that printed was made, or is wanted, by *client*."""
    task = event[2]
    if client_of(task) == client.number:
        return True
    span = find(state, task)
    return span is not None and client.number in span.wanted


def logs(state: SchedulerState, extents: tuple[Extent, ...]) -> list[Any]:
    """Return what tasks printed, as far as it is kept and fits, the latest last.

    Args:
        state: the scheduler's tables.
        extents: which tasks; none means all.
    """
    kept = state.prints.since(0).events
    if extents:
        kept = [e for e in kept if any(b <= e[2] < b + n for b, n in extents)]
    return list(portions.last_that_fit(kept))
