"""Submissions, cut to those of their tasks that are not known.

A client that comes back tells whole submissions.  Of some, a few tasks are known: who
holds one of them has stayed, or has come back before.  The rest is entered::

    Submit      [ 0 1 2 3 4 5 6 7 8 9 ]
    known               3 4       8
    entered       0 1 2     5 6 7   9
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from covey.errors import RemoteProtocolError
from covey.ids import TaskId
from covey.payload import Pack
from covey.scheduler.core.spans import covering
from covey.scheduler.core.state import SchedulerState
from covey.wire.base import Extent, Message
from covey.wire.client_link import Placed, Scatter, Submit, SubmitGraph


def extent_of(message: Message) -> Extent:
    """Return which tasks *message* makes; none of most messages."""
    if isinstance(message, Submit | Scatter):
        return message.base, message.n
    if isinstance(message, SubmitGraph):
        return message.base, len(message.fns)
    if isinstance(message, Placed):
        return message.task, 1
    return 0, 0


def unknown_of(state: SchedulerState, message: Message) -> Iterator[Message]:
    """Yield what is to be entered of *message*: all of it, parts of it, or nothing.

    Raises:
        RemoteProtocolError: it cannot be cut, since it makes no sense.
    """
    base, n = extent_of(message)
    gaps = list(_gaps(state, base, n))
    if not n or gaps == [(0, n)]:
        yield message
    elif gaps:
        # Of one task nothing is left when it is known.
        assert isinstance(message, Submit | Scatter | SubmitGraph)
        pack = _pack(message, n)
        for lo, hi in gaps:
            yield _cut(message, pack.cut(lo, hi), lo, hi)


def _gaps(state: SchedulerState, base: TaskId, n: int) -> Iterator[tuple[int, int]]:
    """Yield from where to where, counted from *base*, nothing is known."""
    at = 0
    for span in covering(state, base, n):
        # A shared task is elsewhere; it answers to an id that is one submission.
        start = max(0, span.base - base) if n > 1 else 0
        if at < start:
            yield at, start
        at = start + span.n
    if at < n:
        yield at, n


def _cut(
    message: Submit | Scatter | SubmitGraph, pack: Pack, lo: int, hi: int
) -> Message:
    """Return what *message* says of its tasks *lo* to *hi*, whose payloads are *pack*."""
    first, end = message.base + lo, message.base + hi
    changes: dict[str, Any] = {"n": hi - lo}
    if isinstance(message, Submit):
        changes["aligned"] = tuple(task + lo for task in message.aligned)
        changes["groups"] = tuple((task + lo * g, g) for task, g in message.groups)
    elif isinstance(message, SubmitGraph):
        changes = {
            "fns": message.fns[lo:hi],
            # What lies before these is known, or was entered.
            "needs": message.needs[lo:hi],
            "order": message.order[lo:hi],
            "options_of": message.options_of[lo:hi],
            "wanted": _within(message.wanted, first, end),
            "coming": _within(message.coming, first, end),
        }
    return msgspec.structs.replace(
        message,
        base=first,
        sizes=pack.sizes_bytes(),
        data=bytes(pack.data),
        **changes,
    )


def _pack(message: Submit | Scatter | SubmitGraph, n: int) -> Pack:
    try:
        pack = Pack.from_wire(message.sizes, message.data)
    except ValueError as error:
        raise RemoteProtocolError(str(error)) from error
    if len(pack) != n:
        raise RemoteProtocolError(f"{n:,} tasks came with {len(pack):,} payloads")
    return pack


def _within(
    extents: Sequence[Extent], first: TaskId, end: TaskId
) -> tuple[Extent, ...]:
    """Return what of *extents* lies from *first* to *end* (exclusive)."""
    parts = ((max(base, first), min(base + n, end)) for base, n in extents)
    return tuple((lo, hi - lo) for lo, hi in parts if lo < hi)
