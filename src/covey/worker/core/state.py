"""What a worker knows: runs it was given, slots and runners, fetches under way.

A **run** from the scheduler is cut into **pieces** as it is dealt to slots: a
piece is a stretch of its tasks that lies in the queue, or that a slot has in
hand (a *flight*)::

    run 7:  [ returned | flight of slot 0 | flight of slot 1 |  piece in the queue  ]
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from covey.ids import RunId, TaskId
from covey.wire import worker_link
from covey.wire.base import Extent
from covey.worker.core.extents import Extents
from covey.worker.core.orders import AnyOrder
from covey.worker.core.tables import Tables

QueueEntry: TypeAlias = "tuple[tuple[float, ...], int, Piece]"


#: Calls that take no longer are not worth a life of their own: see ``parcels``.
SHORT_SECONDS: Final = 0.00025


class Run:
    """What the scheduler asked for, and how much of it is left."""

    __slots__ = (
        "aligned",
        "awaits",
        "base",
        "digests",
        "environment",
        "fn",
        "groups",
        "killed",
        "left",
        "missing",
        "n",
        "rank",
        "renamed",
        "reply",
        "rides",
        "run",
        "stopped",
        "suspect",
        "timeout_seconds",
        "whole",
    )

    def __init__(self, asked: worker_link.Run) -> None:
        self.run: RunId = asked.run
        self.fn = asked.fn
        self.base: TaskId = asked.base
        #: How many tasks, and those of which no end has been reported yet.
        self.n = self.left = asked.n
        self.rank: tuple[float, ...] = asked.rank
        #: First ids of inputs that belong to ``base``.
        self.aligned: tuple[TaskId, ...] = asked.aligned
        self.whole: tuple[Extent, ...] = asked.whole
        #: Of inputs of which each task takes several: those that ``base`` takes.
        self.groups: tuple[Extent, ...] = asked.groups
        self.timeout_seconds = asked.timeout_seconds
        #: Whether somebody waits for the values upstream.
        self.reply = asked.reply
        #: Inputs that the arguments know by another id: (that id, the real one).
        self.renamed = asked.renamed
        #: Whether the scheduler wants to know the digests of the values.
        self.digests = asked.digests
        #: Inputs that other runs here are to make.
        self.awaits: tuple[TaskId, ...] = asked.awaits
        #: What its function asks for.
        self.environment = ""
        #: Inputs that are still being fetched, or made.
        self.missing: set[Extent] = set()
        #: The slot that makes all that is missing, if this was sent there already to
        #: run right behind it.
        self.rides: Slot | None = None
        #: Whether it was one of several that executed when a process died, while it
        #: rode: it rides no more, and runs alone when its inputs are there.
        self.suspect = False
        #: Tasks that nobody wants to hear of any more: (first, end).
        self.stopped: list[tuple[TaskId, TaskId]] = []
        #: Whether those of them that execute are to end at once.
        self.killed = False

    def calls(self, fn: int) -> bool:
        """Whether it is of this function."""
        return self.fn == fn

    def takes(self, task: TaskId) -> bool:
        """Whether any of its tasks takes the value of *task*."""
        return any(
            first <= task < first + n for first, n in self.inputs(self.base, self.n)
        ) or any(real == task for _, real in self.renamed)

    def inputs(self, base: TaskId, n: int) -> list[Extent]:
        """Return what the given ones of its tasks take."""
        aligned = [(first + base - self.base, n) for first in self.aligned]
        return [*aligned, *self.stretches(base, n)]

    def stretches(self, base: TaskId, n: int) -> tuple[Extent, ...]:
        """Return of what the given ones of its tasks take all that is not one to one."""
        if not self.groups:
            return self.whole
        lo = base - self.base
        grouped = [(first + g * lo, g * n) for first, g in self.groups]
        return (*grouped, *self.whole)

    def live(self, base: TaskId, n: int) -> list[Extent]:
        """Return those of the given tasks that were not stopped."""
        parts = [(base, base + n)]
        for lo, hi in self.stopped:
            parts = [
                piece
                for start, end in parts
                for piece in ((start, min(end, lo)), (max(start, hi), end))
                if piece[0] < piece[1]
            ]
        return [(start, end - start) for start, end in parts]


class Fetching:
    """An extent that is being fetched, and who waits for it."""

    __slots__ = ("asked", "failed", "known", "runs", "worker")

    def __init__(self, worker: int) -> None:
        #: Who is asked at present, who has failed, and who else has it.
        self.worker = worker
        self.failed: list[int] = []
        self.known = [worker]
        self.runs: list[Run] = []
        #: The holders of which the scheduler asked it for its own sake.
        self.asked: list[int] = []

    def next_spare(self) -> int | None:
        """Return a holder that has not been asked yet."""
        return next((w for w in self.known if w not in self.failed), None)


class Piece:
    """Consecutive tasks of one run, in the queue."""

    __slots__ = ("alone", "base", "n", "run")

    def __init__(self, run: Run, base: TaskId, n: int, *, alone: bool = False) -> None:
        self.run = run
        self.base = base
        self.n = n
        #: To be executed with nothing beside it in the same process, because
        #: it was among several that executed when a process died.
        self.alone = alone


class Flight:
    """Consecutive tasks of one run that a slot has in hand."""

    __slots__ = (
        "alone",
        "asked",
        "base",
        "begun",
        "done",
        "each",
        "kill_at",
        "n",
        "reached",
        "run",
        "since",
    )

    def __init__(
        self,
        run: Run,
        base: TaskId,
        n: int,
        now: float,
        each: float | None,
        *,
        alone: bool = False,
    ) -> None:
        self.run = run
        self.base = base
        self.n = n
        #: Whether nothing else may execute in its process.
        self.alone = alone
        #: How long one of its tasks should take, if that is known.
        self.each = each
        #: Tasks of it whose end was reported, or that came back.
        self.done = 0
        #: When it was sent, or the last news of it.
        self.since = now
        #: Which of its tasks executes, or will next, as far as is known by news or by
        #: marks; and when it was known to have begun: infinite behind other flights.
        self.reached = 0
        self.begun = math.inf
        #: When the process is killed, after that task was asked to stop; and all that
        #: were asked: it may be known that one has ended before it is told how.
        self.kill_at = 0.0
        self.asked: tuple[TaskId, ...] = ()

    @property
    def left(self) -> int:
        """How many of its tasks are still out."""
        return self.n - self.done

    @property
    def at(self) -> TaskId:
        """The task that there will be news of next."""
        return self.base + (self.done if self.n > 1 else 0)

    @property
    def executing(self) -> TaskId:
        """The task that executes, or will next, as far as is known."""
        return self.base + self.reached if self.reached > self.done else self.at

    @property
    def due(self) -> float:
        """When that task is to be stopped, or killed if it was asked; or infinity."""
        if self.kill_at:
            return self.kill_at
        return self.begun + (self.run.timeout_seconds or math.inf)


class Parcel(Run):
    """Some nodes, in an order in which they can run one after the other.

    It is in one of three places: it waits for what others make (``missing``), it lies in
    the queue (``piece``), or a slot has it in hand (``flight``).
    """

    __slots__ = (
        "flight",
        "inside",
        "nodes",
        "piece",
        "runs",
        "seconds",
        "since",
        "tasks",
    )

    def __init__(self, nodes: list[worker_link.Run], seconds: float) -> None:
        super().__init__(nodes[0])
        self.n = self.left = len(nodes)
        # Each of them has its own.
        self.aligned = self.awaits = ()
        self.reply = self.digests = False
        self.nodes = nodes
        self.runs = tuple([node.run for node in nodes])
        self.tasks = tuple([node.base for node in nodes])
        #: How long all of them should take.
        self.seconds = seconds
        mine = set(self.tasks)
        #: Those whose values others of them take.
        self.inside = {t for node in nodes for t in node.awaits if t in mine}
        #: Since when it waits.
        self.since = 0.0
        self.piece: Piece | None = None
        self.flight: ParcelFlight | None = None

    @property
    def done(self) -> int:
        """How many of its nodes have ended: the first ones."""
        return self.flight.done if self.flight is not None else 0

    @property
    def rest(self) -> list[worker_link.Run]:
        """The nodes that have not ended."""
        return self.nodes[self.done :]

    def calls(self, fn: int) -> bool:
        """Whether one of its nodes is of this function."""
        return any(node.fn == fn for node in self.nodes)

    def inputs(self, base: TaskId, n: int) -> list[tuple[TaskId, int]]:
        """Return what those of its nodes take that have not ended."""
        del base, n
        return [(task, 1) for node in self.rest for task in node.aligned]


class ParcelFlight(Flight):
    """A parcel in the hands of a slot."""

    __slots__ = ("parcel", "slot")

    def __init__(self, parcel: Parcel, slot: Slot, now: float) -> None:
        n = parcel.n
        super().__init__(parcel, parcel.base, n, now, parcel.seconds / n)
        self.parcel = parcel
        self.slot = slot

    @property
    def at(self) -> TaskId:
        """The node that there will be news of next."""
        return self.parcel.tasks[self.done]


class Slot:
    """A thread of a runner: room for one executing task."""

    __slots__ = (
        "asked_at",
        "count",
        "emptied",
        "flights",
        "flushed",
        "hungry",
        "number",
        "overtaken",
        "parked",
        "resumed",
        "retracting",
        "riders",
        "runner",
        "seconds",
    )

    def __init__(self, number: int, runner: Runner, hungry: dict[Slot, None]) -> None:
        self.number = number
        self.runner = runner
        #: Where it enters itself when its hands have changed: ``WorkerState.hungry``.
        self.hungry = hungry
        hungry[self] = None
        #: What it has in hand, in order.
        self.flights: deque[Flight] = deque()
        #: How many tasks these are, how many of them ride (see ``Run.rides``), and
        #: how long those should take of which that is known.
        self.count = 0
        self.riders = 0
        self.seconds = 0.0
        #: Tasks that gave the slot back while they wait for others: (run, task).
        self.parked: dict[tuple[RunId, TaskId], Flight] = {}
        #: How many of those go on at the moment, beside the slot's own work.
        self.resumed = 0
        #: Tasks that take other values here than those that count: see ``overtaken``.
        self.overtaken: set[tuple[RunId, TaskId]] = set()
        #: Whether it was asked for what it has not begun, and when.
        self.retracting = False
        self.asked_at = 0.0
        #: Whether it was asked for what it has settled, since its last news.
        self.flushed = False
        #: Until when it is not asked again for what it has not begun, if there is no
        #: news of it: it has handed back all, and some has ended that was counted.
        self.emptied = 0.0

    def take(self, flight: Flight) -> None:
        """One more flight is on its way here."""
        self.hungry[self] = None
        self.emptied = 0.0
        if not self.flights:
            flight.begun = flight.since
        self.flights.append(flight)
        self.count += flight.n
        self.seconds += flight.n * (flight.each or 0.0)

    def less(self, flight: Flight, n: int) -> None:
        """*n* tasks of a flight are in hand no more."""
        self.hungry[self] = None
        self.count -= n
        self.seconds -= n * (flight.each or 0.0)

    def land(self, flight: Flight) -> None:
        """The first flight, of one task, is over: as ``less`` and ``drop``."""
        self.hungry[self] = None
        self.flights.popleft()
        if self.flights:
            self.count -= 1
            self.seconds -= flight.each or 0.0
        else:
            self.count = 0
            self.seconds = 0.0

    def drop(self, flight: Flight) -> None:
        """Nothing is left of a flight, which is mostly the first or the last."""
        self.hungry[self] = None
        flights = self.flights
        if flights[0] is flight:
            flights.popleft()
        elif flights[-1] is flight:
            flights.pop()
        else:
            flights.remove(flight)
        if not flights:
            self.seconds = 0.0  # Without what adding and subtracting has left over.

    def part(self, flight: Flight, parts: list[Flight]) -> None:
        """A flight is several from now on, of the same tasks."""
        self.hungry[self] = None
        at = self.flights.index(flight)
        del self.flights[at]
        for one in reversed(parts):
            self.flights.insert(at, one)

    def clear(self) -> None:
        """The process is gone, with all that was here."""
        self.hungry[self] = None
        self.flights.clear()
        self.parked = {}
        self.overtaken.clear()
        self.count = self.riders = self.resumed = 0
        self.seconds = 0.0
        self.retracting = self.flushed = False
        self.emptied = 0.0

    @property
    def unbegun(self) -> int:
        """How many tasks it has in hand that another slot could begin."""
        return max(0, self.count - self.riders - 1)

    @property
    def unsure(self) -> bool:
        """Whether there is a time limit, and news alone do not tell for whom it runs."""
        if self.count < 2:
            return False
        return any(flight.run.timeout_seconds for flight in self.flights)

    @property
    def idle(self) -> bool:
        """Whether nothing executes here."""
        return not self.flights and not self.resumed


class Runner:
    """A process with one or more slots."""

    __slots__ = (
        "dying",
        "environment",
        "extra",
        "gone",
        "number",
        "ready",
        "reserved",
        "since",
        "slots",
        "wanted",
    )

    def __init__(self, number: int, *, extra: bool = False) -> None:
        self.number = number
        #: Whether it is one more than the user gave us, for as long as it takes, and
        #: whether it has ended meanwhile.  See ``settling``.
        self.extra = extra
        self.gone = False
        #: What it lives in, since when (infinite: it is still on its way there), and
        #: what it is to move to when it is idle.
        self.environment = ""
        self.since = 0.0
        self.wanted: str | None = None
        self.slots: list[Slot] = []
        self.ready = False
        #: Whether we have killed it, and its end is to be heard of.
        self.dying = False
        #: Whether it is given nothing more, because a suspect is to go there.
        self.reserved = False

    @property
    def idle(self) -> bool:
        """Whether none of its slots executes anything."""
        return all(slot.idle and not slot.retracting for slot in self.slots)

    @property
    def parked(self) -> int:
        """How many tasks wait here for tasks of their own."""
        return sum(len(slot.parked) for slot in self.slots)

    @property
    def exclusive(self) -> bool:
        """Whether a task executes here that must be alone.

        Nothing was in the process when it was sent, so that it comes first.
        """
        for slot in self.slots:
            flights = slot.flights
            if flights and flights[0].alone:
                return True
        return False


class WorkerState(Tables):
    """All the tables of a worker's core."""

    __slots__ = ()

    def __init__(self, runners: int, threads: int) -> None:
        self.now = 0.0
        self.runners: list[Runner] = []
        self.slots: list[Slot] = []
        #: Those that may be sent more: those with nothing, and whose hands have changed
        #: since they were found full.
        self.hungry: dict[Slot, None] = {}
        self._threads = threads
        for _ in range(runners):
            self.add_runner()
        self.runs: dict[RunId, Run] = {}
        #: What short nodes are part of, by their runs; and those that wait for values,
        #: the one that has waited longest in front: see ``parcels``.
        self.parcels: dict[RunId, Parcel] = {}
        self.waiting: dict[Parcel, None] = {}
        #: Single tasks in hand that are short, and wait for nothing longer; and whether
        #: there may be more, because a function turned out to be short.
        self.soon: set[TaskId] = set()
        #: Single tasks in hand that wait for no other one: any of them may be short.
        self.alone: dict[TaskId, Run] = {}
        self.turned_short = False
        #: What waits, by the environment that it asks for.
        self.queues: dict[str, list[QueueEntry]] = {"": []}
        #: The environment of functions that ask for one.
        self.environments: dict[int, str] = {}
        #: Functions that are to be forgotten with their last run.
        self.undefined: set[int] = set()
        self.queued = 0
        self.last_entry = 0
        #: Moving average of the duration of a function's calls.
        self.seconds: dict[int, float] = {}
        #: Tasks that must be executed alone: see ``Piece.alone``.
        self.suspects: deque[Piece] = deque()
        #: What is being fetched from elsewhere.
        self.fetching: dict[Extent, Fetching] = {}
        #: What was copied here from elsewhere, and what was made here.
        self.copies = Extents()
        self.made = Extents()
        #: What of that the scheduler knows no digests of: see ``vouching``.
        self.unvouched = Extents()
        #: What was here and turned out to be no good, and has not come again: what the
        #: scheduler was told of, but runs may count on all the same.
        self.lacked: set[TaskId] = set()
        #: Who waits for a task that is to be made here, and in which slot's hands
        #: such a task is, if it was sent there with the order to keep the value.
        self.awaited: dict[TaskId, list[Run]] = {}
        self.makers: dict[TaskId, Slot] = {}
        #: How many tasks are to be handed back as soon as slots give them up.
        self.to_return = 0
        #: Whether the scheduler waits for a ``ReturnDone``.
        self.return_asked = False
        #: Whether memory is short: only what keeps things going is begun.
        self.memory_short = False
        #: And not even that, because it is about to change.
        self.memory_hold = False
        #: How many slots the scheduler was told to be engaged, since when there are more,
        #: and whether there may be any: see ``engaged``.
        self.engaged = 0
        self.engaged_since = math.inf
        self.may_engage = False
        #: Since when something waits for an environment that no runner can move to.
        self.stuck_since = math.inf
        #: Whether any of the runs may have a time limit, or tasks that are to end at once.
        self.limited = False
        #: What the shell is to do, and what tells it one thing more.
        self.orders: list[AnyOrder] = []
        self.order: Callable[[AnyOrder], None] = self.orders.append
        self.wake_at = 0.0

    def add_runner(self, *, extra: bool = False) -> Runner:
        """Enter one more runner, with its slots."""
        runner = Runner(len(self.runners), extra=extra)
        self.runners.append(runner)
        for _ in range(self._threads):
            slot = Slot(len(self.slots), runner, self.hungry)
            runner.slots.append(slot)
            self.slots.append(slot)
        return runner

    def entries(self) -> Iterator[QueueEntry]:
        """Yield what is queued, in no order."""
        return itertools.chain.from_iterable(self.queues.values())
