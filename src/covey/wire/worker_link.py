"""What scheduler and worker tell each other.

Function numbers (``fn``) are the scheduler's own here.  Runs are numbered by
the scheduler; news of a run names it, and stale news is dropped.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from covey.wire.base import (
    Bytes,
    Count,
    Extent,
    Failure,
    Id,
    Message,
    Seconds,
    Slot,
)

# From the scheduler.


class Define(Message, frozen=True, tag=40):
    """The bytes of a function; sent once, before the first run that uses it."""

    fn: Id
    label: str
    payload: bytes
    #: What its runners need, as JSON; empty for the worker's usual runners.
    environment: str = ""


class Undefine(Message, frozen=True, tag=79):
    """No more runs of this function will come, unless it is defined again."""

    fn: Id


class Run(Message, frozen=True, tag=41):
    """Run ``n`` consecutive tasks of one function.

    ``aligned``, ``whole`` and ``groups`` name the inputs, as in ``Submit``.  ``sources``
    says where inputs that this worker may lack can be fetched: extents and
    the number of a worker that holds them; ``spares`` are others that do, in the
    order in which they are to be tried.  ``renamed`` lists inputs that the
    arguments know by another id: (that id, the real one).  ``awaits`` are inputs
    that are not there yet, and will be: results of runs that this worker was given.
    With ``digests``, the digests of the results are wanted, too: see ``covey.store.digests``.
    """

    run: Id
    fn: Id
    base: Id
    n: Count
    sizes: bytes
    data: bytes
    rank: tuple[int | float, ...]
    aligned: tuple[Id, ...] = ()
    whole: tuple[Extent, ...] = ()
    sources: tuple[tuple[Id, Count, Id], ...] = ()
    timeout_seconds: Seconds = 0.0
    seconds: Seconds = 0.0
    reply: bool = True
    renamed: tuple[tuple[Id, Id], ...] = ()
    awaits: tuple[Id, ...] = ()
    spares: tuple[tuple[Id, Count, Id], ...] = ()
    digests: bool = False
    groups: tuple[Extent, ...] = ()


class Put(Message, frozen=True, tag=42):
    """Keep these small values."""

    base: Id
    n: Count
    sizes: bytes
    data: bytes


class Drop(Message, frozen=True, tag=43):
    """Nobody needs these values any more."""

    extents: tuple[Extent, ...]


class Forget(Message, frozen=True, tag=50):
    """What the worker has of these is outdated, if it has any: answered by ``Forgot``.

    Of none: it tells how long the answer takes.
    """

    extents: tuple[Extent, ...]


class Return(Message, frozen=True, tag=44):
    """Hand back up to ``count`` tasks that have not begun; answered by ``Returned``."""

    count: Count


class Stop(Message, frozen=True, tag=45):
    """Give up these tasks of a run; ``kill`` them when they are executing.

    From then on the worker holds nothing that it has made of these tasks and says
    nothing about them: what has ended is dropped, what still executes is when it ends.
    """

    run: Id
    base: Id
    n: Count
    kill: bool = False


class Peer(Message, frozen=True, tag=46):
    """Where another worker serves its data."""

    worker: Id
    addresses: tuple[str, ...]
    host: str


class Fetch(Message, frozen=True, tag=47):
    """Take a copy of these values from another worker."""

    extents: tuple[Extent, ...]
    worker: Id


class Leave(Message, frozen=True, tag=48):
    """Finish nothing more; go."""


class Watched(Message, frozen=True, tag=49):
    """Somebody looks on: say how you are this often; 0 means as usual.

    For ``profile_seconds`` from now on, say also what code runs.
    """

    seconds: Seconds
    profile_seconds: Seconds = 0.0


class Meet(Message, frozen=True, tag=51):
    """Somebody cannot reach the worker: call here, and say ``Met`` with the ``ticket``.

    What is said there then comes from an asker, who speaks for that ``client``, or is a
    worker where this is 0; he has proved it.
    """

    ticket: Id
    client: Id


# From the worker.


class Ran(Message, frozen=True, tag=60):
    """Tasks returned; small results ride along, and rest on the worker too.

    ``digests`` are four bytes for each result, if the run asks for them.
    """

    run: Id
    base: Id
    n: Count
    seconds: Seconds
    sizes: bytes
    data: bytes
    slot: Slot = -1
    digests: bytes = b""


class RanStored(Message, frozen=True, tag=61):
    """Tasks returned; their results rest on the worker.  ``digests`` as in ``Ran``."""

    run: Id
    base: Id
    n: Count
    seconds: Seconds
    nbytes: Bytes
    slot: Slot = -1
    digests: bytes = b""


class RanNodes(Message, frozen=True, tag=80):
    """Single tasks returned, in columns; their results rest on the worker.

    ``digests`` are four bytes for each, if they are asked for.
    """

    runs: tuple[Id, ...]
    tasks: tuple[Id, ...]
    seconds: tuple[Seconds, ...]
    nbytes: tuple[Bytes, ...]
    slot: Slot = -1
    digests: bytes = b""


class RunFailed(Message, frozen=True, tag=62):
    """One task of a run failed."""

    run: Id
    task: Id
    seconds: Seconds
    failure: Failure
    slot: Slot = -1


class Returned(Message, frozen=True, tag=63):
    """Tasks that had not begun come back, to be placed anew.

    ``lacking`` names inputs that could not be fetched, and the worker that was
    to deliver them, as in the ``sources`` of the run.
    """

    run: Id
    base: Id
    n: Count
    lacking: tuple[tuple[Id, Count, Id], ...] = ()


class ReturnDone(Message, frozen=True, tag=64):
    """All that could be handed back for a ``Return`` has been."""


class Holds(Message, frozen=True, tag=65):
    """The worker has come to hold copies of these.

    ``source`` is the number of the worker they came from, and ``seconds`` how long
    that took; 0 when they did not come from one.  ``digests`` are four bytes for each.
    """

    base: Id
    n: Count
    nbytes: Bytes
    source: Id = 0
    seconds: Seconds = 0.0
    digests: bytes = b""


class Vouches(Message, frozen=True, tag=82):
    """The digests of values that were told without: something here takes them now.

    ``digests`` are four bytes for each.
    """

    base: Id
    n: Count
    digests: bytes


class Lacks(Message, frozen=True, tag=66):
    """The worker does not hold these after all, or no more; ``why``, if it can tell."""

    extents: tuple[Extent, ...]
    why: str = ""


class Forgot(Message, frozen=True, tag=74):
    """A ``Forget`` was obeyed: what is said of these from now on was made, or came, later."""

    extents: tuple[Extent, ...]


class Status(Message, frozen=True, tag=67):
    """How the worker is: plain numbers, now and then."""

    facts: dict[str, Any]


class Printed(Message, frozen=True, tag=72):
    """What a task wrote to a standard stream; ``left_out`` lines were too many."""

    task: Id
    stream: str
    text: str
    left_out: Id = 0


class Profiled(Message, frozen=True, tag=78):
    """What tasks of one function were seen to do, since the last time it was told.

    A tree as ``covey.stacks`` describes it; ``label`` is ``(worker)`` for what the
    worker does itself.
    """

    label: str
    names: tuple[str, ...]
    nodes: tuple[Id, ...]


class Leaving(Message, frozen=True, tag=68):
    """The worker wants to go in good order: give it no more, move its data."""


class Blocked(Message, frozen=True, tag=69):
    """A task waits for tasks of its own: its slot is free for others."""

    run: Id
    task: Id


class Resumed(Message, frozen=True, tag=70):
    """A task that was blocked goes on."""

    run: Id
    task: Id


class Engaged(Message, frozen=True, tag=81):
    """So many slots take nothing now, though nothing that counts runs there.

    What was stopped may run on; and what must be alone leaves others empty.
    """

    slots: Id


class Unfetched(Message, frozen=True, tag=71):
    """What a ``Fetch`` asked for could not be had from that worker."""

    extents: tuple[Extent, ...]
    worker: Id


class Undelivered(Message, frozen=True, tag=73):
    """That worker did not deliver these as it should have; another one did."""

    extent: Extent
    worker: Id


class Running(Message, frozen=True, tag=76):
    """Part of a report: these tasks of a run are here, and have not ended.

    ``awaits`` are those of their inputs that are still to be made here.
    """

    run: Id
    base: Id
    n: Count
    awaits: tuple[Id, ...] = ()


class Reported(Message, frozen=True, tag=77):
    """The report of a worker that was there before is complete.

    It began after the welcome, with ``Holds`` for all that the worker holds and
    ``Running`` for all that it has in hand.
    """


FromWorker: TypeAlias = (
    Ran
    | RanStored
    | RanNodes
    | RunFailed
    | Returned
    | ReturnDone
    | Holds
    | Vouches
    | Lacks
    | Forgot
    | Status
    | Printed
    | Profiled
    | Leaving
    | Blocked
    | Resumed
    | Engaged
    | Unfetched
    | Undelivered
    | Running
    | Reported
)
ToWorker: TypeAlias = (
    Define
    | Undefine
    | Run
    | Put
    | Drop
    | Forget
    | Return
    | Stop
    | Peer
    | Fetch
    | Leave
    | Watched
    | Meet
)
