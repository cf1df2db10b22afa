"""What may happen to a worker (past tense), and what its core orders (imperative)."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias

import msgspec

from covey.wire.base import Extent, Failure, Message
from covey.wire.worker_link import Run

# Events: what may happen.


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something happened outside."""


class Told(Event, frozen=True):
    """The scheduler sent a batch of messages."""

    messages: Sequence[Any]


class RunnerReady(Event, frozen=True):
    """The process of a runner serves its slots."""

    runner: int


class RunnerEnded(Event, frozen=True):
    """A runner's process is gone.

    ``executing`` are the tasks that its marks name: (run, task), one a thread.
    ``failure`` tells how the process ended, for the task that is to blame; nobody
    is, with ``blameless``.
    """

    runner: int
    executing: tuple[tuple[int, int], ...]
    failure: Failure
    blameless: bool = False


class NoEnvironment(Event, frozen=True):
    """The environment for a runner could not be had; ``failure`` tells why."""

    runner: int
    environment: str
    failure: Failure


class SlotRan(Event, frozen=True):
    """Consecutive tasks returned; ``Stow`` says which values to keep.

    ``inline`` tells that the values are small enough to ride along upwards.
    """

    slot: int
    run: int
    base: int
    n: int
    seconds: float
    nbytes: int
    inline: bool


class SlotRanNodes(Event, frozen=True):
    """Single tasks returned small values, in columns; ``StowNodes`` says which to keep."""

    slot: int
    runs: Sequence[int]
    tasks: Sequence[int]
    seconds: Sequence[float]
    sizes: Sequence[int]
    inline_bytes: int


class SlotFailed(Event, frozen=True):
    """One task raised, or could not be loaded, or its result not pickled."""

    slot: int
    run: int
    task: int
    seconds: float
    failure: Failure


class SlotReturned(Event, frozen=True):
    """Tasks that a slot had not begun came back."""

    slot: int
    run: int
    base: int
    n: int


class SlotBlocked(Event, frozen=True):
    """A task waits for tasks of its own; its slot runs others meanwhile."""

    slot: int
    run: int
    task: int


class SlotResumed(Event, frozen=True):
    """A task that waited goes on."""

    slot: int
    run: int
    task: int


class RetractDone(Event, frozen=True):
    """A slot has handed back all that it had not begun."""

    slot: int


class Fetched(Event, frozen=True):
    """Copies from another worker are in the store, after so many seconds."""

    extent: Extent
    nbytes: int
    worker: int = 0
    seconds: float = 0.0
    digests: bytes = b""


class FetchFailed(Event, frozen=True):
    """A worker that should hold these could not deliver."""

    extent: Extent
    worker: int


class Garbled(Event, frozen=True):
    """A value on disk is not what it was: it is lost; ``why`` may say more."""

    task: int
    why: str = ""


class MemoryShort(Event, frozen=True):
    """Memory is short, or it is not any more.

    With ``hold`` nothing new shall begin, because memory is becoming free;
    otherwise one task at a time, for that is all that can help.
    """

    short: bool
    hold: bool = False


class RunnerGrown(Event, frozen=True):
    """An idle runner keeps memory that none of its tasks needs any more."""

    runner: int


class Looked(Event, frozen=True):
    """What the marks of a runner name at this moment: (run, task), one a thread."""

    runner: int
    executing: tuple[tuple[int, int], ...]


class Tick(Event, frozen=True):
    """Time has passed."""


AnyEvent: TypeAlias = (
    Told
    | RunnerReady
    | RunnerEnded
    | NoEnvironment
    | SlotRan
    | SlotRanNodes
    | SlotFailed
    | SlotReturned
    | SlotBlocked
    | SlotResumed
    | RetractDone
    | Fetched
    | FetchFailed
    | Garbled
    | MemoryShort
    | RunnerGrown
    | Looked
    | Tick
)


# Orders: what must be done.


class Order(msgspec.Struct, frozen=True, gc=False):
    """An order to the shell."""


class Tell(Order, frozen=True):
    """Send *message* to the scheduler."""

    message: Message


class Report(Order, frozen=True):
    """Send the values of consecutive tasks to the scheduler, from the store."""

    run: int
    base: int
    n: int
    seconds: float
    slot: int
    digests: bool = False


class ReportStored(Order, frozen=True):
    """Tell the scheduler of values that stay in the store, and of their digests."""

    run: int
    base: int
    n: int
    seconds: float
    nbytes: int
    slot: int


class ReportNodes(Order, frozen=True):
    """The same of small values of single tasks, in columns."""

    runs: Sequence[int]
    tasks: Sequence[int]
    seconds: Sequence[float]
    nbytes: Sequence[int]
    slot: int


class Vouch(Order, frozen=True):
    """Tell the scheduler the digests of values that it knows to be here."""

    base: int
    n: int


class Stow(Order, frozen=True):
    """Put values that have just come from a slot into the store."""

    base: int
    n: int


class StowNodes(Order, frozen=True):
    """Put those of the values into the store that have just come from a slot."""

    places: list[int]


class Flush(Order, frozen=True):
    """Have a slot send what it has settled, though it is busy with more."""

    slot: int


class Look(Order, frozen=True):
    """See which tasks a runner executes; ``Looked`` says it."""

    runner: int


class Dispatch(Order, frozen=True):
    """Send tasks of a run to a slot, with the inputs that they take.

    ``whole`` are the inputs that are not one to one: each in whole, or the groups
    that these tasks take.
    With ``keep``, the slot keeps the value for what follows; ``owns`` are inputs
    that it was told to keep before.
    """

    slot: int
    run: int
    fn: int
    base: int
    n: int
    aligned: tuple[int, ...]
    whole: tuple[Extent, ...]
    renamed: tuple[tuple[int, int], ...]
    keep: bool = False
    owns: tuple[int, ...] = ()


class DispatchNodes(Order, frozen=True):
    """Send single tasks to a slot, to run one after the other, as they came.

    The slot keeps the values of ``keeps`` for what follows; ``owns`` are inputs that
    these make, or that it was told to keep before.
    """

    slot: int
    nodes: Sequence[Run]
    keeps: AbstractSet[int]
    owns: AbstractSet[int]


class ForgetFunction(Order, frozen=True):
    """Nothing of this function is in hand, and nothing more of it will come."""

    fn: int


class EndRun(Order, frozen=True):
    """The arguments of this run are not needed any more."""

    run: int


class Retract(Order, frozen=True):
    """Have a slot hand back what it has not begun."""

    slot: int


class Interrupt(Order, frozen=True):
    """Ask the task that executes on a slot to stop."""

    slot: int
    run: int
    task: int


class Kill(Order, frozen=True):
    """End a runner's process at once."""

    runner: int
    because: str = "its task was to stop, and did not when asked"


class Spawn(Order, frozen=True):
    """Start the process of a runner (again), in an environment if one is named."""

    runner: int
    environment: str = ""


class FetchFrom(Order, frozen=True):
    """Copy values from another worker into the store.

    ``rank`` is that of the run that waits for them: the lower, the more urgent.
    Without one nothing waits.
    """

    worker: int
    extent: Extent
    rank: tuple[float, ...] = ()


class KeepFunction(Order, frozen=True):
    """Keep the bytes of a function for the runners."""

    fn: int
    label: str
    payload: bytes


class KeepArguments(Order, frozen=True):
    """Keep the arguments of a run until ``EndRun``."""

    run: int
    base: int
    sizes: bytes
    data: bytes


class KeepValues(Order, frozen=True):
    """Put small values into the store."""

    base: int
    n: int
    sizes: bytes
    data: bytes


class DropValues(Order, frozen=True):
    """Take values out of the store."""

    extents: tuple[Extent, ...]


class KnowPeer(Order, frozen=True):
    """Remember where another worker serves its data."""

    worker: int
    addresses: tuple[str, ...]
    host: str


class SayHow(Order, frozen=True):
    """Say how this worker is this often; 0 means as usual.

    For ``profile_seconds`` from now on, say also what code runs.
    """

    seconds: float
    profile_seconds: float = 0.0


class CallIn(Order, frozen=True):
    """Call the scheduler, with this ticket, for somebody who cannot reach us.

    ``client`` is for whom he speaks; 0 is another worker.
    """

    ticket: int
    client: int


class Quit(Order, frozen=True):
    """The scheduler lets the worker go."""


class WakeAt(Order, frozen=True):
    """Give a ``Tick`` at this time, or a little later."""

    time: float


#: What is carried out by telling the scheduler of values.
Telling: TypeAlias = Report | ReportStored | ReportNodes | Vouch

AnyOrder: TypeAlias = (
    Tell
    | Report
    | ReportStored
    | ReportNodes
    | Vouch
    | Stow
    | StowNodes
    | Flush
    | Look
    | Dispatch
    | DispatchNodes
    | EndRun
    | ForgetFunction
    | Retract
    | Interrupt
    | Kill
    | Spawn
    | FetchFrom
    | KeepFunction
    | KeepArguments
    | KeepValues
    | DropValues
    | KnowPeer
    | SayHow
    | CallIn
    | Quit
    | WakeAt
)
