"""What peers that were there before bring back: nothing that is held is lost.

A new life of the scheduler knows nothing.  Its edges know all: a client sends again
what made the tasks that it still holds (``Recall``), a worker tells what it holds
and has in hand (``Holds``, ``Running``).  The scheduler listens until all are back,
at most ``WINDOW_SECONDS``, and deals nothing out meanwhile.  Then it puts the parts
together, in this order::

    submissions of all clients ─► who holds what ─► values that workers hold turn up
        ─► what is needed and not there is demanded ─► runs that workers have are adopted

So a value that is there is not made again, and a task that runs runs on.  Whoever
comes later is taken in by the same steps, and so is a peer that this life of the
scheduler had given up.

A value that nobody asks for is an orphan: whoever wants it may still come back.  It
is kept for ``ORPHAN_SECONDS``, or as long as the client is away that may have brought
it.  After that it is gone, and whoever tells of it later is not believed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from covey.errors import RemoteProtocolError
from covey.ids import TaskId, client_of
from covey.scheduler.core import (
    checks,
    clients,
    history,
    journaling,
    orphans,
    placement,
    publishing,
    recalled,
    refinding,
    reported,
    retrying,
    spreading,
    submitting,
    transitions,
    workers,
)
from covey.scheduler.core.comeback import QUIET_SECONDS, REPORT_SECONDS, Returning
from covey.scheduler.core.holding import hold, parts, want
from covey.scheduler.core.spans import (
    covering,
)
from covey.scheduler.core.state import (
    KEPT,
    Client,
    SchedulerState,
    State,
    Worker,
)
from covey.wire.base import Extent, Message
from covey.wire.client_link import (
    Closing,
    DefineFunction,
    Ended,
    Held,
    Placed,
    Recalled,
    Reverted,
    Scatter,
    Submit,
    SubmitGraph,
    Tried,
    Want,
)
from covey.wire.worker_link import Leave, Reported, Running

# The window.


def expect(state: SchedulerState, peer: int) -> None:
    """A peer has joined that was there before: hear all of it before acting on it."""
    state.returning[peer] = Returning(state.now)
    _stir(state)


def hear(state: SchedulerState, peer: int, messages: list[Message]) -> None:
    """A returning peer said something; act on it when it has told all.

    Raises:
        RemoteProtocolError: it goes on for too long.
    """
    returning = state.returning[peer]
    returning.hear(messages, state.now)
    if not returning.complete:
        if returning.seconds > REPORT_SECONDS:
            raise RemoteProtocolError(
                f"a peer has come back, and for {returning.seconds:.0f} s has not come "
                f"to the end of telling what it has and wants"
            )
        returning.complete = any(type(m) in _LAST for m in messages)
        _stir(state)
    if returning.complete and state.window is None:
        take_in(state, [peer])


_LAST = frozenset({Recalled, Reported})


def _stir(state: SchedulerState) -> None:
    """Somebody is coming back: others may follow."""
    if state.window is not None:
        state.window.quiet = state.now + QUIET_SECONDS


def wake_at(state: SchedulerState) -> float:
    """Return when ``pass_time`` has something to do; 0 if never."""
    window = state.window
    if window is not None:
        waits = any(not r.complete for r in state.returning.values())
        if window.quiet and not waits:
            return min(window.quiet, window.closes)
        return window.closes
    return state.orphans_until if state.orphans else 0.0


def pass_time(state: SchedulerState) -> None:
    """Close the window, and let orphans go, when it is time."""
    due = wake_at(state)
    if not due or state.now < due:
        return
    if state.window is not None:
        state.window = None
        complete = [p for p, r in state.returning.items() if r.complete]
        history.recovered(state, len(complete))
        take_in(state, complete)
        publishing.answer(state)
    else:
        # Those that are still nobody's are dropped by this.
        reported.place(state, {})
        orphans.settle(state)


# Putting the parts together.


def take_in(state: SchedulerState, peers: list[int]) -> None:
    """Take in all that the returning *peers* have told."""
    told = {peer: state.returning.pop(peer).messages for peer in peers}
    reports = {peer: _report_in(messages) for peer, messages in told.items()}
    back = [state.clients[peer] for peer in told if peer in state.clients]
    came = [state.workers[peer] for peer in told if peer in state.workers]
    for client in back:
        _keep_for_now(client)
    in_hand: dict[Worker, list[Running]] = {}
    for worker in came:
        report = reports[worker.peer]
        _guard(state, worker.peer, reported.take_in, worker, report, in_hand)
    ghosts = journaling.ghosts(state)
    for ghost, made in ghosts:
        # As long as it takes, whoever the journal tells of is there as well.
        state.clients[ghost.peer] = ghost
        reports[ghost.peer] = made
    _replay(state, [*(ghost for ghost, _ in ghosts), *back], reports)
    for client in back:
        _guard(state, client.peer, _hold_again, client, reports[client.peer])
    reported.place(state, in_hand)
    for client in back:
        _guard(state, client.peer, _want_again, client, reports[client.peer])
    journaling.want_again(state)
    for ghost, _ in ghosts:
        journaling.lay(state, ghost)
    for worker in came:
        _guard(state, worker.peer, reported.take_runs, worker, in_hand[worker])
    for client in back:
        last = told[client.peer][len(reports[client.peer])]
        _guard(state, client.peer, _want_foreign, client, last)
    orphans.settle(state)
    if back or ghosts:
        # Only of what clients tell is anything kept; workers alone do not cost this.
        for span in list(state.spans.values()):
            transitions.unwant(state, span, KEPT)
    spreading.resume(state)
    for peer, messages in told.items():
        _guard(state, peer, _go_on, peer, messages[len(reports[peer]) + 1 :])


def _guard(
    state: SchedulerState, peer: int, step: Callable[..., None], *args: Any
) -> None:
    """Take a step for *peer*; if it has told nonsense, the others shall not suffer."""
    if peer not in state.workers and peer not in state.clients:
        return  # It was nonsense before.
    try:
        step(state, *args)
    except RemoteProtocolError as error:
        worker, client = state.workers.get(peer), state.clients.get(peer)
        if worker is not None:
            state.send(peer, Leave())
            workers.lose(state, worker)
        if client is not None:
            client.recalling = False
            state.send(peer, Closing(str(error), refused=True))
            clients.leave(state, client)


def _report_in(messages: list[Message]) -> list[Message]:
    """Return the report: what was said up to its last message."""
    end = next(i for i, m in enumerate(messages) if type(m) in _LAST)
    return messages[:end]


def _go_on(state: SchedulerState, peer: int, rest: list[Message]) -> None:
    """Act on what a peer said after its report."""
    worker = state.workers.get(peer)
    if worker is not None:
        placement.welcome(state, worker)
        for message in rest:
            workers.handlers.handle(state, worker, message)
        return
    client = state.clients.get(peer)
    if client is not None:
        clients.hear(state, client, rest)


# What clients recall.


def _keep_for_now(client: Client) -> None:
    """Nothing is dropped that a client held, until it has said what it holds."""
    for span in client.wants:
        span.wanted = span.wanted - client.itself | {KEPT}
        span.delivered = span.delivered - client.itself | {KEPT}
    client.wants.clear()


def _replay(
    state: SchedulerState, back: list[Client], reports: dict[int, list[Message]]
) -> None:
    """Enter what all clients submitted before; inputs come before their users.

    A task may take what another client made, so that a submission whose inputs are
    not known yet waits for the others.
    """
    left = [
        (client, [m for m in reports[client.peer] if type(m) in _MAKERS])
        for client in back
    ]
    patient = True
    while left:
        progress = False
        for client, made in left:
            at = 0
            while at < len(made):
                if patient and _lacks_foreign(state, client, made[at]):
                    break
                _guard(state, client.peer, _enter, client, made[at])
                at += 1
            del made[:at]
            progress = progress or at > 0
        left = [(client, made) for client, made in left if made]
        # What nobody brings will not come by waiting.
        patient = progress


_MAKERS = frozenset({DefineFunction, Submit, SubmitGraph, Scatter, Placed})


def _foreign_inputs(client: Client, message: Message) -> list[Extent]:
    """Return what *message* takes of other clients' tasks."""
    taken = journaling.inputs_of_message(message)
    return [(base, n) for base, n in taken if client_of(base) != client.number]


def _lacks_foreign(state: SchedulerState, client: Client, message: Message) -> bool:
    return any(
        sum(span.n for span in covering(state, base, n)) < n
        for base, n in _foreign_inputs(client, message)
    )


def _enter(state: SchedulerState, client: Client, message: Message) -> None:
    """Enter one submission, but for what is known of it."""
    if isinstance(message, DefineFunction | Placed):
        _enter_unknown(state, client, message)
        return
    found = refinding.give_way(state, *recalled.extent_of(message))
    if found and isinstance(message, Submit) and message.name in state.names:
        # Another task has that name by now.  A value lies in a store under the id of the
        # task that it was made by, and is of no use to that one.
        message = msgspec.structs.replace(message, name=None)
    try:
        _enter_unknown(state, client, message)
    finally:
        for value in found:
            refinding.take_over(state, value)


def _enter_unknown(state: SchedulerState, client: Client, message: Message) -> None:
    for part in recalled.unknown_of(state, message):
        for start, count in _foreign_inputs(client, part):
            orphans.claim(state, start, count)
        client.recalling = True
        submitting.handlers.handle(state, client, part)
        client.recalling = False
        if client.number in state.client_numbers:
            state.journal.note(client.number, part)


def _hold_again(
    state: SchedulerState, client: Client, report_of: list[Message]
) -> None:
    """The client holds what it says that it holds; for now it needs nothing of it."""
    for message in report_of:
        if isinstance(message, Held):
            _hold(state, client, (*message.had, *message.wanted))
        elif isinstance(message, Ended):
            _hold(state, client, ((message.base, message.n),))
            _mourn(state, client, message)


def _hold(state: SchedulerState, client: Client, extents: Sequence[Extent]) -> None:
    checks.own(client, extents)
    for base, n in extents:
        for span, task in parts(state, base, n):
            hold(state, client, span, task)
            span.delivered |= client.itself


def _mourn(state: SchedulerState, client: Client, message: Ended) -> None:
    """A task that the client knows to have failed has failed here, too.

    Unless it runs once more, or has run, for somebody who came back earlier.
    """
    for span, task in parts(state, message.base, message.n):
        if span.state is State.RELEASED and client.number in span.wanted:
            transitions.fail(state, span, message.failure)
        if span.state is State.FAILED:
            # Should it be run again, its value has not come to the client.
            span.delivered -= client.itself
        else:
            state.send(client.peer, Reverted(task, span.n))
            want(state, client, span, task)


def _want_again(
    state: SchedulerState, client: Client, report_of: list[Message]
) -> None:
    """What the client waits for is told to it, or made, if it is not there."""
    for message in report_of:
        if isinstance(message, Tried):
            retrying.recall(state, client, message)
        if not isinstance(message, Held):
            continue
        checks.own(client, (*message.wanted, *message.detached))
        for base, n in message.wanted:
            at = base
            for span, task in parts(state, base, n):
                _miss(state, client, at, task - at)
                if span.state is not State.DONE:
                    # It may have been, when the client last heard of it.
                    state.send(client.peer, Reverted(task, span.n))
                want(state, client, span, task)
                at = task + span.n
            _miss(state, client, at, base + n - at)
        journaling.detach_again(state, message.detached)


def _miss(state: SchedulerState, client: Client, base: TaskId, n: int) -> None:
    """Tell *client* that nothing is known of these: nobody can make them."""
    if n > 0:
        state.send(client.peer, Reverted(base, n))
        clients.deny(state, client, base, n)


def _want_foreign(state: SchedulerState, client: Client, last: Message) -> None:
    """The client holds what other clients have made, if they have told of it."""
    assert isinstance(last, Recalled)
    for base, n in (*last.foreign, *last.had):
        checks.extent(base, n)
        orphans.claim(state, base, n)
    named = Want((*last.foreign, *last.had), last.tokens)
    shares = checks.shown(state, client, named)
    for base, n in last.had:
        for span, task in parts(state, base, n):
            if shares(span, task):
                hold(state, client, span, task)
                span.delivered |= client.itself
    for base, n in last.foreign:
        state.send(client.peer, Reverted(base, n))
    clients.handlers.handle(state, client, Want(last.foreign, last.tokens))
