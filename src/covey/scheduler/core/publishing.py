"""Tasks that are kept under a name, whoever leaves.

A publication holds tasks like a client that waits for them and never gets a value: what
is lost is made again.  It ends when somebody takes the name back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from covey.scheduler.core import checks, transitions
from covey.scheduler.core.holding import parts
from covey.scheduler.core.spans import isolate_all
from covey.scheduler.core.state import Client, SchedulerState, State
from covey.wire.client_link import Answer, Ask, Publish, Unpublish
from covey.wire.extents import without


def publish(state: SchedulerState, client: Client, message: Publish) -> None:
    """Keep tasks under a name, if that is free, and have that written down.

    Tasks that *client* may not hold are left out, and those that are not known: whoever
    asks for what is kept may hold all of it.
    """
    checks.extents(message.extents)
    if message.name in state.publications.by_name:
        return
    held = [
        (task, span.n)
        for base, n in message.extents
        for span, task in parts(state, base, n)
        if checks.may(client, span)
    ]
    # As few extents as possible: spans are many where tasks are long.
    others = list(without(message.extents, held))
    kept = tuple(without(message.extents, others))
    state.publications.add(message.name, message.payload, kept)
    keep(state, client, message.name)
    published = msgspec.structs.replace(message, extents=kept)
    state.journal.note(client.number, published)


def keep(state: SchedulerState, client: Client, name: str) -> None:
    """Hold the tasks that are kept under a name, and make those that are not there."""
    publication = state.publications.by_name[name]
    for span in isolate_all(state, publication.extents):
        if checks.may(client, span):
            span.wanted |= {publication.holder}
            if span.state is State.RELEASED:
                transitions.demand(state, span)


def unpublish(state: SchedulerState, message: Unpublish) -> None:
    """Keep nothing under a name any more."""
    found = state.publications.pop(message.name)
    if found is not None:
        for span in isolate_all(state, found.extents):
            transitions.unwant(state, span, found.holder)


def ask(state: SchedulerState, client: Client, message: Ask) -> None:
    """Answer what is kept under a name; without one, all names.

    That is its payload, and for each of its tasks what lets the reader hold it.  As
    long as peers of another life are waited for, nobody knows what is there.
    """
    if state.window is not None:
        state.publications.asked.append((client.peer, message))
        return
    state.send(client.peer, Answer(message.request, _published(state, message.names)))


def answer(state: SchedulerState) -> None:
    """Answer those who have asked before it was known what is there."""
    asked, state.publications.asked = state.publications.asked, []
    for peer, message in asked:
        client = state.clients.get(peer)
        if client is not None:
            ask(state, client, message)


def _published(
    state: SchedulerState, names: Sequence[str]
) -> list[str] | list[Any] | None:
    publications = state.publications
    if not names:
        return sorted(publications.by_name)
    found = publications.by_name.get(names[0])
    if found is None:
        return None
    tasks = (task for base, n in found.extents for task in range(base, base + n))
    keys = state.keys
    tokens = [(task, keys.token(task) if keys is not None else b"") for task in tasks]
    return [found.payload, tokens]
