"""Whether a well-formed message of a client makes sense.

Everything here runs before any table is changed, so that a client that breaks
the rules loses its link and nobody else notices.  The cost is a few look-ups a
message, however many tasks it names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from covey.errors import RemoteProtocolError
from covey.ids import COUNTER_BITS, TaskId, client_of
from covey.payload import Pack
from covey.scheduler.core.functions import Function
from covey.scheduler.core.spans import covering, find
from covey.scheduler.core.state import Client, SchedulerState, Span
from covey.wire.base import Extent
from covey.wire.client_link import (
    Placed,
    Scatter,
    Submit,
    SubmitGraph,
    Want,
    taken_by,
)

#: What identifies a named call is a hash of it.
_IDENTITY_BYTES: Final = 64

#: No extent names more tasks than one call may have.
_EXTENT_MAX: Final = 1 << 32

#: No id is as high as this.
_END: Final = 1 << 63


def submit(
    state: SchedulerState, client: Client, message: Submit
) -> tuple[Pack, Function]:
    """Return the arguments and the function of a ``Submit`` that makes sense.

    Raises:
        RemoteProtocolError: it makes none.
    """
    pack = _pack(message.sizes, message.data, message.n)
    function = client.functions.get(message.fn) or _function(client, message.fn)
    if message.name is not None:
        _name(message.name, message)
    if message.aligned or message.whole or message.groups:
        _inputs(message)
    _fresh(state, client, message.base, message.n)
    return pack, function


def _name(name: str, message: Submit) -> None:
    """Check that what has a name is one task, and is identified."""
    if message.n != 1:
        raise RemoteProtocolError(
            f"the name {name!r} was given to {message.n:,} tasks; a name is for one"
        )
    if not 0 < len(message.identity) <= _IDENTITY_BYTES:
        raise RemoteProtocolError(
            f"the name {name!r} was given to a call that is identified by "
            f"{len(message.identity):,} bytes; 1 to {_IDENTITY_BYTES} make sense"
        )


def _inputs(message: Submit) -> None:
    """Check what the tasks of a ``Submit`` take."""
    taken = taken_by(message)
    extents(taken)
    if any(g < 2 for _, g in message.groups):
        raise RemoteProtocolError("tasks take groups of one")
    base, n = message.base, message.n
    for start, m in taken:
        if start < base + n and base < start + m:
            raise RemoteProtocolError("tasks were submitted that take themselves")


def graph(
    state: SchedulerState, client: Client, message: SubmitGraph
) -> tuple[Pack, list[Function]]:
    """Return the arguments and the functions of a graph that makes sense.

    Raises:
        RemoteProtocolError: it makes none.
    """
    n = len(message.fns)
    pack = _pack(message.sizes, message.data, n)
    known = {fn: _function(client, fn) for fn in dict.fromkeys(message.fns)}
    functions = [known[fn] for fn in message.fns]
    if not len(message.needs) == len(message.order) == n:
        raise RemoteProtocolError(
            f"a graph of {n:,} tasks came with {len(message.needs):,} lists of "
            f"inputs and {len(message.order):,} places in the order"
        )
    choices = message.options_of
    if len(choices) not in {0, n}:
        raise RemoteProtocolError("the options of a graph are not one for each task")
    low, high = (min(choices), max(choices)) if choices else (0, 0)
    if not 0 <= low <= high < len(message.options):
        raise RemoteProtocolError("a task of a graph has options that did not come")
    base = message.base
    _within(message.wanted, base, base + n)
    _within(message.coming, base, base + n)
    for task, needs in enumerate(message.needs, base):
        # So no circle can come in, which would wait for itself for ever.
        for need in needs if needs and max(needs) >= task else ():
            if task <= need < base + n:
                raise RemoteProtocolError(
                    f"task {task - base} of a graph comes before one of its inputs"
                )
    if n:
        _fresh(state, client, base, n)
    return pack, functions


def rewritten(client: Client, made: Submit) -> tuple[Pack, Function]:
    """Return arguments and function of tasks that their client writes anew.

    Raises:
        RemoteProtocolError: they are not its own, or that makes no sense.
    """
    own(client, ((made.base, made.n),))
    return _pack(made.sizes, made.data, made.n), _function(client, made.fn)


def scatter(state: SchedulerState, client: Client, message: Scatter) -> Pack:
    """Return the values of a ``Scatter`` that makes sense.

    Raises:
        RemoteProtocolError: it makes none.
    """
    pack = _pack(message.sizes, message.data, message.n)
    _fresh(state, client, message.base, message.n)
    return pack


def placed(state: SchedulerState, client: Client, message: Placed) -> Span | None:
    """Return the span of a value that was placed before, or ``None`` for a new one.

    Raises:
        RemoteProtocolError: the id belongs to something else.
    """
    span = find(state, message.task)
    if span is None:
        _fresh(state, client, message.task, 1)
    elif client_of(message.task) != client.number:
        raise RemoteProtocolError("a value was placed as the task of another client")
    elif span.base != message.task or span.function is not None or span.pack:
        raise RemoteProtocolError(
            f"a value was placed as task {message.task:x}, which is something else"
        )
    return span


def may(client: Client, span: Span) -> bool:
    """Whether *client* has made these tasks, or holds futures of them.

    What a client recalls was checked when it said it first.
    """
    return (
        client_of(span.base) == client.number
        or client.number in span.wanted
        or client.recalling
    )


def shown(
    state: SchedulerState, client: Client, message: Want
) -> Callable[[Span, TaskId], bool]:
    """Return what tells whether *client* may come to hold a span, known as a task.

    It may if it could before, or shows the token of every task in it.
    """
    named = (t for base, n in message.extents for t in range(base, base + n))
    tokens = dict(zip(named, message.tokens, strict=False))
    keys = state.keys

    def shares(span: Span, here: TaskId) -> bool:
        return (
            keys is None
            or may(client, span)
            or all(
                keys.fits(task, tokens.get(task, b""))
                for task in range(here, here + span.n)
            )
        )

    return shares


def own(client: Client, named: Iterable[Extent]) -> None:
    """Check that extents name tasks that *client* has made, or calls by ids of its own.

    Raises:
        RemoteProtocolError: one does not.
    """
    for base, n in named:
        extent(base, n)
        if not client_of(base) == client.number == client_of(base + n - 1):
            raise RemoteProtocolError(
                f"the ids {base:x} to {base + n - 1:x} are not those of client "
                f"{client.number:x}"
            )


def extents(named: Iterable[Extent]) -> None:
    """Check that extents name at least one task each, and no absurd number.

    Raises:
        RemoteProtocolError: one does not.
    """
    for base, n in named:
        if not (base >= 0 and 0 < n <= _EXTENT_MAX and base + n <= _END):
            extent(base, n)


def extent(base: TaskId, n: int) -> None:
    """Check one extent.

    Raises:
        RemoteProtocolError: there are no such tasks.
    """
    if not (base >= 0 and 0 < n <= _EXTENT_MAX and base + n <= _END):
        raise RemoteProtocolError(f"there are no {n:,} tasks from {base:x} on")


def _within(named: Sequence[Extent], start: TaskId, end: TaskId) -> None:
    extents(named)
    for base, n in named:
        if base < start or base + n > end:
            raise RemoteProtocolError("a graph keeps tasks that are not part of it")


def _function(client: Client, number: int) -> Function:
    function = client.functions.get(number)
    if function is None:
        raise RemoteProtocolError(f"function {number} was never defined")
    return function


def _pack(sizes: bytes, data: bytes, n: int) -> Pack:
    try:
        pack = Pack.from_wire(sizes, data)
    except ValueError as error:
        raise RemoteProtocolError(str(error)) from error
    if len(pack.sizes) != n:
        raise RemoteProtocolError(f"{n:,} tasks came with {len(pack):,} payloads")
    return pack


def _fresh(state: SchedulerState, client: Client, base: TaskId, n: int) -> None:
    """Check that ids are the client's own and new, and note that they are used."""
    number, end = client.number, base + n
    if base >> COUNTER_BITS != number or (end - 1) >> COUNTER_BITS != number:
        raise RemoteProtocolError(
            f"the ids {base:x} to {base + n - 1:x} are not those of client {number:x}"
        )
    unused = state.unused.get(number, 0)
    # Ids come in order but for threads that overtake each other, so that it is
    # seldom that anything must be looked up.
    if base < unused and any(True for _ in covering(state, base, n)):
        raise RemoteProtocolError(f"the ids {base:x} to {base + n - 1:x} are in use")
    if end > unused:
        state.unused[number] = end
