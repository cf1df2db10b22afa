"""What a scheduler writes down, and what the next one makes of it.

Clients keep what they have asked for, workers what they hold; so a scheduler needs a
disk for one thing only: tasks that are to outlive their clients.  Those were detached,
or are kept under a name.  As nobody knows which will be, all submissions are written
down, in the order in which they came; values never are::

    record      (client, what it said)     definitions, submissions, Detach, Publish ...
                (client, what came of it)  Over, Ended

The next life enters what such tasks need, and no more: the others are told again by
their clients, if these live.  It does so together with what peers report, so a value
that a worker holds is not made again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final, TypeAlias

from covey.ids import ClientId, TaskId
from covey.scheduler.core import functions, publishing, report, transitions
from covey.scheduler.core.books import Record
from covey.scheduler.core.holding import detach, parts
from covey.scheduler.core.recalled import extent_of
from covey.scheduler.core.spans import covering, isolate
from covey.scheduler.core.state import Client, SchedulerState, State
from covey.wire.base import Extent, Message
from covey.wire.client_link import (
    DefineFunction,
    Detach,
    Ended,
    Over,
    Placed,
    Publish,
    Retry,
    Scatter,
    Submit,
    SubmitGraph,
    Unpublish,
    taken_by,
)
from covey.wire.extents import without

#: What clients say that is written down as they have said it.  What they detach is
#: written down by the ids that the scheduler knows it by.
NOTED: Final = frozenset(
    {
        DefineFunction,
        Submit,
        SubmitGraph,
        Scatter,
        Placed,
        Retry,
        Unpublish,
    }
)
#: Where a record lies in a file: its first byte, and the one behind it.
Place: TypeAlias = tuple[int, int]

_MAKERS: Final = frozenset({Submit, SubmitGraph, Scatter, Placed})


def inputs_of_message(message: Message) -> list[Extent]:
    """Return what the tasks that *message* makes take."""
    if isinstance(message, Submit):
        return taken_by(message)
    if isinstance(message, SubmitGraph):
        return [(task, 1) for needs in message.needs for task in needs]
    return []


# What is worth keeping.


class Wishes:
    """What is wanted beyond its clients, as a journal tells it."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.published: dict[str, Record] = {}
        self.ended: list[Record] = []
        self._detached: list[Record] = []
        self._over: list[Extent] = []
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Take in the next record, if it tells of a wish."""
        message = record[1]
        if isinstance(message, Publish):
            self.published.setdefault(message.name, record)
        elif isinstance(message, Unpublish):
            self.published.pop(message.name, None)
        elif isinstance(message, Detach):
            self._detached.append(record)
        elif isinstance(message, Over):
            self._over += message.extents
        elif isinstance(message, Ended):
            self.ended.append(record)
        elif isinstance(message, Retry):
            self.ended = [known for known in self.ended if not _names(message, known)]

    @property
    def detached(self) -> list[Record]:
        """What was detached, without what has ended."""
        return [
            (number, Detach(left))
            for number, message in self._detached
            if isinstance(message, Detach)
            and (left := tuple(without(message.extents, self._over)))
        ]

    def extents(self) -> list[Extent]:
        """Return the tasks that are wanted."""
        return [
            extent
            for _, message in (*self.published.values(), *self.detached)
            if isinstance(message, Publish | Detach)
            for extent in message.extents
        ]


def _names(retry: Retry, record: Record) -> bool:
    """Whether some of the tasks that had ended were tried again."""
    ended = record[1]
    assert isinstance(ended, Ended)
    return bool(_common(ended.base, ended.n, list(retry.extents)))


def latest(records: list[Record]) -> list[Record]:
    """Return *records* without submissions that were written anew later."""
    last = {
        extent_of(message): index
        for index, (_, message) in enumerate(records)
        if type(message) is Submit
    }
    return [
        record
        for index, record in enumerate(records)
        if type(record[1]) is not Submit or last[extent_of(record[1])] == index
    ]


def essence(records: list[Record]) -> list[Record]:
    """Return what matters of a journal: wishes, and all that they need, in order."""
    records = latest(records)
    wishes = Wishes(records)
    makers = [
        (extent_of(message), index)
        for index, (_, message) in enumerate(records)
        if type(message) in _MAKERS
    ]
    makers.sort()
    starts = [base for (base, _), _ in makers]
    kept: set[int] = set()
    todo = wishes.extents()
    while todo:
        base, n = todo.pop()
        at = max(0, bisect_right(starts, base) - 1)
        while at < len(makers) and starts[at] < base + n:
            (start, count), index = makers[at]
            at += 1
            if start + count > base and index not in kept:
                kept.add(index)
                todo += inputs_of_message(records[index][1])
    used = {
        (number, fn)
        for number, message in (records[index] for index in kept)
        for fn in _functions_of(message)
    }
    body = [
        record
        for index, record in enumerate(records)
        if index in kept
        or (isinstance(record[1], DefineFunction) and (record[0], record[1].fn) in used)
    ]
    return [*body, *wishes.ended, *wishes.detached, *wishes.published.values()]


def _functions_of(message: Message) -> tuple[int, ...]:
    if isinstance(message, Submit):
        return (message.fn,)
    return message.fns if isinstance(message, SubmitGraph) else ()


class Survey:
    """What a journal need still say, found record by record, as the tables stand then."""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state
        self._wishes = Wishes()
        #: What was submitted, and where: of what was written anew, the last place.
        self._made: dict[Extent, Place] = {}
        self._definitions: list[tuple[Place, ClientId, DefineFunction]] = []
        self._used: set[tuple[ClientId, int]] = set()

    def look(self, place: Place, record: Record) -> None:
        """Look at the next record, which lies there."""
        number, message = record
        if type(message) in _MAKERS:
            if self._is_remembered(extent_of(message)):
                self._made[extent_of(message)] = place
                self._used |= {(number, fn) for fn in _functions_of(message)}
        elif isinstance(message, DefineFunction):
            self._definitions.append((place, number, message))
        elif not isinstance(message, Ended) or self._is_remembered(
            (message.base, message.n)
        ):
            self._wishes.add(record)

    def _is_remembered(self, extent: Extent) -> bool:
        return any(True for _ in covering(self._state, *extent))

    def places(self) -> list[Place]:
        """Return where the records lie that are still to be said, in order."""
        defined = [
            place
            for place, number, message in self._definitions
            if (number, message.fn) in self._used
            # It may be used by what a client who is there says next.
            or _is_known(self._state, number, message)
        ]
        return sorted([*self._made.values(), *defined])

    def last_words(self) -> list[Record]:
        """Return what is to be said after those."""
        wishes = self._wishes
        return [*wishes.ended, *wishes.detached, *wishes.published.values()]


def live(state: SchedulerState, records: list[Record]) -> list[Record]:
    """Return what a journal of *records* need still say: a ``Survey`` at once."""
    survey = Survey(state)
    for index, record in enumerate(records):
        survey.look((index, index + 1), record)
    kept = [records[index] for index, _ in survey.places()]
    return [*kept, *survey.last_words()]


def _is_known(state: SchedulerState, number: ClientId, message: DefineFunction) -> bool:
    client = state.client_numbers.get(number)
    return client is not None and message.fn in client.functions


# In another life.


def remember(state: SchedulerState, records: list[Record]) -> None:
    """A journal tells this: keep it until peers have told what they have.

    Names are taken at once, so that nobody else takes them meanwhile.
    """
    state.journal.kept = True
    state.journal.before = records
    for name, (_, message) in Wishes(records).published.items():
        assert isinstance(message, Publish)
        state.publications.add(name, message.payload, message.extents)


def ghosts(state: SchedulerState) -> list[tuple[Client, list[Message]]]:
    """Return stand-ins for the clients that the journal tells of, and what they made."""
    said: dict[ClientId, list[Message]] = {}
    for number, message in state.journal.before:
        if type(message) in _MAKERS or isinstance(message, DefineFunction):
            said.setdefault(number, []).append(message)
    return [
        (Client(-index, number, "of the journal"), messages)
        for index, (number, messages) in enumerate(said.items(), 1)
    ]


def lay(state: SchedulerState, ghost: Client) -> None:
    """A stand-in has done what it was there for.

    The client itself, which has the same number, may have come back.
    """
    state.clients.pop(ghost.peer, None)
    for number in list(ghost.functions):
        functions.undefine(state, ghost, number)


def want_again(state: SchedulerState) -> None:
    """What was wanted beyond its clients is wanted again, and made if it is not there."""
    wishes = Wishes(state.journal.before)
    state.journal.before = []
    for number, message in wishes.published.values():
        assert isinstance(message, Publish)
        client = Client(0, number, "of the journal")
        # What it said was checked when it said it.
        client.recalling = True
        _end_again(state, wishes, message.extents)
        if message.name in state.publications.by_name:
            publishing.keep(state, client, message.name)
    for _, message in wishes.detached:
        assert isinstance(message, Detach)
        _end_again(state, wishes, message.extents)
        detach_again(state, message.extents)


def detach_again(state: SchedulerState, extents: Iterable[Extent]) -> None:
    """These were to run to their end: they go on, or have come to it."""
    for base, n in extents:
        for span, task in list(parts(state, base, n)):
            if span.unfinished or span.state is State.RELEASED:
                detach(state, span, task)
                transitions.demand(state, span)
            else:
                # Whoever was to hear of it had not, or it was not written down.
                report.over(state, ((task, span.n),))


def _end_again(state: SchedulerState, wishes: Wishes, wanted: Iterable[Extent]) -> None:
    """What had failed has failed."""
    tasks = list(wanted)
    for _, message in wishes.ended:
        assert isinstance(message, Ended)
        for base, n in _common(message.base, message.n, tasks):
            for span in isolate(state, base, n):
                if span.state is State.RELEASED:
                    transitions.fail(state, span, message.failure)


def _common(base: TaskId, n: int, extents: list[Extent]) -> list[Extent]:
    parts = ((max(base, lo), min(base + n, lo + m)) for lo, m in extents)
    return [(start, end - start) for start, end in parts if start < end]
