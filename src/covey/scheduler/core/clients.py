"""What clients may say of tasks that are there: hold, let go, stop, ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from covey.errors import RemoteProtocolError
from covey.ids import ClientId, TaskId
from covey.scheduler.core import (
    brought,
    causes,
    checks,
    functions,
    journaling,
    later,
    listening,
    naming,
    placement,
    publishing,
    questions,
    report,
    spreading,
    submitting,
    transitions,
    watching,
)
from covey.scheduler.core.handlers import Handlers
from covey.scheduler.core.holding import detach, parts, want
from covey.scheduler.core.spans import inputs_of, isolate, isolate_all
from covey.scheduler.core.state import (
    COMING,
    NOBODY,
    Client,
    SchedulerState,
    Span,
    State,
)
from covey.wire.base import Extent, Failure, Message
from covey.wire.client_link import (
    Answer,
    Ask,
    Cancel,
    Detach,
    Ended,
    Failed,
    FromClient,
    Goodbye,
    Held,
    Publish,
    Recall,
    Recalled,
    Release,
    Retry,
    Reverted,
    Rewrite,
    Tried,
    Unpublish,
    Want,
)
from covey.wire.extents import without

handlers: Handlers[Client] = Handlers(submitting.handlers)


def hear(state: SchedulerState, client: Client, messages: Sequence[Message]) -> None:
    """Act on what a client says, and have it written down if it is worth it."""
    table, journal = handlers.table, state.journal
    state.by_itself = len(messages) == 1
    for message in messages:
        table[type(message)](state, client, message)
        if journal.kept:
            _note(state, client, message)


def _note(state: SchedulerState, client: Client, message: Message) -> None:
    if type(message) in journaling.NOTED:
        state.journal.note(client.number, message)
    elif isinstance(message, Rewrite):
        state.journal.note(client.number, message.made)


# Holding and letting go.


@handlers.add(Want)
def onwant(state: SchedulerState, client: Client, message: Want) -> None:
    """A client has come to hold futures that another one made."""
    checks.extents(message.extents)
    shares = checks.shown(state, client, message)
    for base, n in message.extents:
        at = base
        for part, here in parts(state, base, n):
            deny(state, client, at, here - at)
            if shares(part, here):
                want(state, client, part, here)
            else:
                state.send(client.peer, Failed(here, part.n, _NOT_SHARED))
            at = here + part.n
        deny(state, client, at, base + n - at)


_NOT_SHARED: Final = Failure(
    "refused",
    "AuthRefused",
    "the task is another client's, who has not passed this future on; share tasks by "
    "name (key=), or send the future itself",
)


def deny(state: SchedulerState, client: Client, base: TaskId, n: int) -> None:
    """Tell *client* that tasks are not known."""
    if n > 0:
        why = Failure(
            "cancelled",
            "TaskCancelled",
            "the task is not known any more: all futures of it were released "
            "before this one was received. A task lets go of the futures that it made "
            "when it ends: have it return their values instead of them, or keep them "
            "under a name (publish_dataset)",
            origin=base,
        )
        state.send(client.peer, Failed(base, n, why))


@handlers.add(Release)
def on_release(state: SchedulerState, client: Client, message: Release) -> None:
    """A client holds these no more."""
    checks.extents(message.extents)
    unkept: dict[Span, None] = {}
    several: list[Span] = []
    number, itself, shared = client.number, client.itself, state.ids_of
    for base, n in message.extents:
        for span in isolate(state, base, n):
            if span.wanted is itself and span.n == 1 and span.base not in shared:
                # As most are.  What follows is what does for others.
                span.wanted = span.delivered = NOBODY
                client.wants.pop(span, None)
                if not span.pending:
                    unkept[span] = None
                continue
            if client.coming and span in client.coming:
                # All messages have come whose tasks use it.  It is a single task.
                del client.coming[span]
                span.wanted -= COMING
                span.delivered -= COMING
                if not (span.pending or span.wanted):
                    unkept[span] = None
            elif span.base in shared and number in span.wanted:
                _release_shared(state, client, span, base, n)
            elif span.n > 1:
                if transitions.strike_wish(state, span, number):
                    # There it is found if it is cut below.
                    state.leftovers.let_go_later({span: None})
                    several.append(span)
            elif transitions.strike_wish(state, span, number) and not span.pending:
                unkept[span] = None
    state.leftovers.bring_together(several)
    if unkept:
        transitions.let_go_of_all(state, unkept)


def _release_shared(
    state: SchedulerState, client: Client, span: Span, base: TaskId, n: int
) -> None:
    """*client* may hold a shared task by another id as well."""
    ids = state.ids_of[span.base].get(client.number, (span.base,))
    kept = tuple(task for task in ids if not base <= task < base + n)
    if kept:
        state.ids_of[span.base][client.number] = kept
        for task in ids:
            naming.drop_alias(state, span, task)
    else:
        transitions.unwant(state, span, client.number)


@handlers.add(Detach)
def on_detach(state: SchedulerState, client: Client, message: Detach) -> None:
    """These shall run to their end, whoever leaves."""
    checks.extents(message.extents)
    detached: list[Extent] = []
    for base, n in message.extents:
        run: list[Extent] = []
        for span, task in list(parts(state, base, n)):
            if span.unfinished and checks.may(client, span):
                detach(state, span, task)
                run.append((task, span.n))
                detached.append(span.extent)
        ended = tuple(without([(base, n)], run))
        if ended:
            report.over(state, ended)
    if detached:
        # By those ids that stay, should the client let go of its own.
        state.journal.note(client.number, Detach(tuple(detached)))


@handlers.add(Publish)
def on_publish(state: SchedulerState, client: Client, message: Publish) -> None:
    """These are kept under a name, if it is free: who asks hears what it names."""
    publishing.publish(state, client, message)


@handlers.add(Unpublish)
def on_unpublish(state: SchedulerState, client: Client, message: Unpublish) -> None:
    """Nothing is kept under that name any more."""
    del client
    publishing.unpublish(state, message)


@handlers.add(Cancel)
def on_cancel(state: SchedulerState, client: Client, message: Cancel) -> None:
    """Stop unfinished tasks, for everybody."""
    checks.extents(message.extents)
    reason = f": {message.reason}" if message.reason else ""
    if not message.running:
        # What came just before this goes to slots that are free, if anything may.
        placement.plan(state)
    for span in isolate_all(state, message.extents):
        if not span.unfinished or not checks.may(client, span):
            continue
        if span.state is State.ASSIGNED and not message.running:
            continue
        transitions.stop(state, span, kill=True)
        why = Failure(
            "cancelled", "TaskCancelled", f"cancelled by {client.name}{reason}"
        )
        transitions.fail(state, span, why)


@handlers.add(Retry)
def on_retry(state: SchedulerState, client: Client, message: Retry) -> None:
    """Run failed tasks again, with the failed tasks that they take as input."""
    checks.extents(message.extents)
    named = isolate_all(state, message.extents)
    todo = [span for span in named if checks.may(client, span)]
    again: list[Span] = []
    while todo:
        span = todo.pop()
        if span.state is not State.FAILED:
            continue
        if span.pack is None:
            # It cannot be made again: who takes it for pending now is told so.
            if client.number in span.wanted:
                for task in report.ids_for(state, span, client.number):
                    state.send(client.peer, Reverted(task, span.n))
                    report.current(state, span, client, task)
            continue
        transitions.move(state, span, State.RELEASED)
        span.attempts = span.losses = span.unreached = span.uncounted_until = 0
        again.append(span)
        todo += inputs_of(state, span)
    # All are pending before the first may fail anew.
    for span in again:
        report.reverted(state, span)
    for span in again:
        transitions.demand(state, span)
    for span in again:
        if span.state is State.RELEASED:
            transitions.let_go(state, span)


@handlers.add(Rewrite)
def on_rewrite(state: SchedulerState, client: Client, message: Rewrite) -> None:
    """From now on these tasks are what the client says now.

    What executes is left as it is; what others share, they have written their way.
    """
    made = message.made
    pack, function = checks.rewritten(client, made)
    for span in isolate(state, made.base, made.n):
        before = span.function
        ours = made.base <= span.base < made.base + made.n
        if before is None or not ours or span.state is State.ASSIGNED:
            continue
        functions.count(state, function, span.n)
        span.function, span.pack, span.at = function, pack, span.base - made.base
        functions.count(state, before, -span.n)


# Questions.


@handlers.add(Ask)
def on_ask(state: SchedulerState, client: Client, message: Ask) -> None:
    """Answer a question about the cluster with plain data."""
    checks.extents(message.extents)
    if message.topic == "explain" and not (message.extents or message.names):
        raise RemoteProtocolError("a question about a task does not say which")
    if message.topic == "watch":
        watching.ask(state, client, message.request, message.number)
        return
    if message.topic == "rotate":
        # Secrets are the shell's; it answers.
        state.rotation = (client.peer, message.request)
        return
    if message.topic == "spread":
        spreading.ask(state, client, message)
        return
    if message.topic == "prints":
        listening.ask(state, client, message.request, message.number)
        return
    if message.topic == "last-prints":
        listening.flush(state, client)
    if message.topic == "published":
        publishing.ask(state, client, message)
        return
    state.send(client.peer, Answer(message.request, questions.answer(state, message)))


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
    for number in list(client.functions):
        functions.undefine(state, client, number)
    # A stand-in of the journal may have the number of one who is there.
    if state.client_numbers.get(client.number) is client:
        del state.client_numbers[client.number]
    watching.leave(state, client)
    listening.leave(state, client)
    later.forget_client(state, client)
    for span in brought.awaited_of(state, client.number):
        transitions.fail(state, span, causes.unmakeable(state, span))


def forget_at_once(state: SchedulerState, number: ClientId) -> None:
    """A client comes back that was given up: what it wished before is over."""
    before = state.leftovers.gone.pop(number, None)
    if before is None:
        return
    while later.strike_wishes(state, before):
        state.leftovers.allowance = state.leftovers.at_once


@handlers.add(Recall, Held, Ended, Recalled, Tried)
def on_recall(state: SchedulerState, client: Client, message: Message) -> None:
    """Who is new has nothing to recall; what returning clients say is in ``recovery``.

    Raises:
        RemoteProtocolError: always.
    """
    del state, message
    raise RemoteProtocolError(f"client {client.name} recalls what it never told")


handlers.must_cover(FromClient)
