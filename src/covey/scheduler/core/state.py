"""What the scheduler knows: spans of tasks, functions, workers and clients.

The unit of the scheduler's work is the **span**: tasks with consecutive ids
and one function that are all in the same state.  A ``map`` over a million
elements arrives as some hundred spans; a node of a graph is a span of one.
When something concerns a part of a span only (a slice is dealt to a worker,
one element fails, one future is dropped), the span is cut in two.  So the same
few transitions serve a single task and a million, and a task costs memory
only while it differs from its neighbours.

States of a span::

                  inputs there          dealt             returned
    (new) ──► WAITING ──────► READY ──────► ASSIGNED ──────► DONE
      ▲          ▲  ◄──────────┘ ◄────────────┘ │             │
      │          │   input lost    run lost,    │ failed      │ nobody needs it,
      │          └────────────────  retry ──────┘─► FAILED    │ or lost
      │                                               │       ▼
      └──── needed again ◄──────────────────────── RELEASED ──► FORGOTTEN

A task that comes by itself while a worker idles is ASSIGNED at once, and never READY.

A value is *needed* while a client waits for it or an unfinished task takes it
as input.  A released span keeps its recipe as long as some task that was made
from it is remembered, so that lost data can be computed again.
"""

from __future__ import annotations

import enum
from collections import OrderedDict, deque
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final, TypeAlias

from covey.events import Ring
from covey.ids import ClientId, RunId, TaskId, WorkerId
from covey.payload import Pack
from covey.scheduler.core.books import Journal, Publications
from covey.scheduler.core.changes import Versions
from covey.scheduler.core.comeback import Returning, Window
from covey.scheduler.core.demand import DEMANDS_MAX, Demand
from covey.scheduler.core.dependents import Dependents
from covey.scheduler.core.distance import Distance
from covey.scheduler.core.functions import Function, Functions
from covey.scheduler.core.heap import Heap
from covey.scheduler.core.leftovers import Leftovers
from covey.scheduler.core.prints import Prints
from covey.scheduler.core.profile import Profile
from covey.scheduler.core.rare import Rare
from covey.scheduler.core.tables import Tables
from covey.wire.base import DEFAULT_OPTIONS, Attempt, Extent, Failure, Message, Options
from covey.wire.keys import Keys

Rank: TypeAlias = tuple[float, int, int]
"""What runs first: minus the priority, the number of the submission, the order
within it.  The lowest goes first."""

QueueEntry: TypeAlias = "tuple[Rank, Span]"


Orphan: TypeAlias = tuple[TaskId, int, int, bytes]
"""Values that nobody has asked for: the first, how many, bytes, and digests."""


class State(enum.IntEnum):
    """Where a span stands."""

    WAITING = 0
    READY = 1
    ASSIGNED = 2
    DONE = 3
    FAILED = 4
    RELEASED = 5
    FORGOTTEN = 6


# By names of this module, because Python 3.11 takes ten times as long to find a member
# of an enumeration, and a task asks some forty times.
WAITING, READY, ASSIGNED, DONE, FAILED, RELEASED, FORGOTTEN = State

#: No client at all.
NOBODY: Final[frozenset[ClientId]] = frozenset()

_BASE: Final = attrgetter("base")

#: In these states a task still takes its inputs.
UNFINISHED: Final = frozenset({WAITING, READY, ASSIGNED})


class Span:
    """Tasks ``base`` to ``base + n - 1``: one recipe, one state."""

    __slots__ = (
        "at",
        "base",
        "beside",
        "delivered",
        "dependents",
        "digests",
        "function",
        "groups",
        "inputs",
        "missing",
        "n",
        "nbytes",
        "options",
        "pack",
        "pending",
        "queue",
        "rank",
        "rare",
        "replicas",
        "run",
        "since",
        "state",
        "wanted",
        "whole",
        "worker",
    )

    #: Inputs that the arguments know by another id: (that id, the real one).
    renamed = Rare[tuple[tuple[TaskId, TaskId], ...]](())
    #: Attempts so far that failed and were tried again, that were lost with their
    #: worker, and that came to nothing because an input could not be fetched.
    attempts, losses, unreached = Rare(0), Rare(0), Rare(0)
    #: Until when, by ``pauses.due_in``, more of the last kind are not counted.
    uncounted_until = Rare(0)
    failure = Rare[Failure | None](None)

    def __init__(
        self,
        base: TaskId,
        n: int,
        function: Function | None,
        pack: Pack | None,
        at: int,
        options: Options,
        rank: Rank,
        wanted: frozenset[ClientId],
    ) -> None:
        self.base = base
        self.n = n
        #: ``None`` for values that a client brought.
        self.function = function
        #: The arguments (or the values brought) are ``pack[at : at + n]``.
        #: ``None`` when only the client can bring the value again.
        self.pack = pack
        self.at = at
        self.options = options
        self.rank = rank
        #: The clients that hold futures of these tasks.
        self.wanted = wanted
        #: Those of them that have been sent the values themselves.
        self.delivered = NOBODY
        self.state = RELEASED
        #: When it came to that state.
        self.since = 0.0
        #: Task ``base + i`` takes ``beside[j] + i``; the span there has equal n.
        self.beside: tuple[TaskId, ...] = ()
        #: For each (first, g), task ``base + i`` takes ``first + g * i`` and what follows,
        #: g in all; the span there has g times n.  Only where n is above 1: see ``ties``.
        self.groups: tuple[Extent, ...] = ()
        #: Every task takes all of these.
        self.whole: tuple[Extent, ...] = ()
        #: The spans that are taken, if any, instead of what stands above; ``None`` where
        #: that is needed, for they may be cut: see ``spans.inputs_of``.
        self.inputs: tuple[Span, ...] | None = ()
        #: How many input spans are not done.  Meaningful while WAITING, and while
        #: ASSIGNED: what is above 0 then was sent ahead, and its worker makes those.
        self.missing = 0
        #: Remembered spans that take this one, and how many of its tasks each of theirs
        #: is tied to; 0 if they take all of it.
        self.dependents: Dependents = None
        #: How many of the dependents are unfinished.
        self.pending = 0
        self.run: RunId = 0
        self.worker: Worker | None = None
        #: The heap in which a READY span lies.
        self.queue: Heap | None = None
        self.replicas: tuple[Worker, ...] = ()
        self.nbytes = 0
        #: Of the values that were accepted last, if known: see ``versions``.
        self.digests = b""
        #: What few have, and stands above.
        self.rare: dict[str, Any] | None = None

    def __lt__(self, other: Span) -> bool:
        """Whether this one goes first in a heap, where both have the same rank."""
        return self.base < other.base

    def __repr__(self) -> str:
        label = self.function.label if self.function else "data"
        return f"<Span {label} {self.base}+{self.n} {self.state.name}>"

    @property
    def aligned(self) -> tuple[TaskId, ...]:
        """What the first of these tasks is aligned with, as the wire writes it."""
        inputs = self.inputs
        return tuple(map(_BASE, inputs)) if inputs else self.beside

    @property
    def extent(self) -> Extent:
        """The tasks of this span, as the wire writes them."""
        return (self.base, self.n)

    @property
    def ahead(self) -> bool:
        """Whether these tasks were sent to a worker that is still to make their inputs."""
        return self.missing > 0 and self.state is ASSIGNED

    @property
    def unfinished(self) -> bool:
        """Whether these tasks are still to run."""
        return self.state <= ASSIGNED

    @property
    def kept(self) -> bool:
        """Whether the value, if it is there, must stay."""
        return self.pending > 0 or bool(self.wanted)

    @property
    def needed(self) -> bool:
        """Whether the value, if it is not there, must be made."""
        wanted = self.wanted
        return self.pending > 0 or bool(wanted and not wanted <= self.delivered)


def _names(name: str, addresses: Sequence[str], host: str) -> frozenset[str]:
    """Return what a worker is called; names of its host are those of others there, too."""
    hosts = {a.removeprefix("tcp://").rpartition(":")[0] for a in addresses}
    if "unix" in hosts:  # It is where the scheduler is.
        hosts |= {"127.0.0.1", "localhost"}
    hosts.add(host.partition("/")[0])
    return frozenset({name, *addresses, *hosts} - {"", "unix"})


class Worker:
    """A worker, as the scheduler sees it."""

    __slots__ = (
        "addresses",
        "ahead",
        "asking",
        "assigned",
        "away_since",
        "blocked",
        "cloudpickle",
        "count",
        "demands",
        "distance",
        "engaged",
        "facts",
        "forgetting",
        "free",
        "functions",
        "given_up",
        "handed_back",
        "holds",
        "host",
        "itself",
        "leaving",
        "load",
        "lowest",
        "memory_limit_bytes",
        "moving",
        "name",
        "names",
        "number",
        "pace",
        "peer",
        "peers",
        "python",
        "pythons",
        "queue",
        "refused",
        "reluctant",
        "resources",
        "returning",
        "slots",
        "stirred",
        "stored_bytes",
        "stored_then",
        "unfit",
        "used_bytes",
        "withheld",
    )

    def __init__(
        self,
        peer: int,
        name: str,
        slots: int,
        resources: dict[str, float],
        addresses: tuple[str, ...],
        host: str,
        memory_limit_bytes: int,
        python: str = "",
        pythons: tuple[str, ...] = (),
        cloudpickle: str = "",
    ) -> None:
        self.peer = peer
        #: What holds a value that is nowhere else: one tuple for all of these.
        self.itself: tuple[Worker, ...] = (self,)
        #: The minor versions that its runners can have; empty if that is not known.
        self.pythons = pythons
        self.number, self.name = WorkerId(peer), name
        self.addresses, self.host = addresses, host
        #: The versions of Python and of cloudpickle that its runners have.
        self.python, self.cloudpickle = python, cloudpickle
        #: Environments that it could not have, and since when: see ``unfit``.
        self.unfit: dict[str, float] = {}
        #: Everything a user may call it in ``workers=``.
        self.names = _names(name, addresses, host)
        self.slots = slots
        self.resources = resources
        self.memory_limit_bytes = memory_limit_bytes
        #: Resources that no run holds at the moment.
        self.free = dict(resources)
        self.assigned: dict[Span, None] = {}
        #: The lowest priority of what it was given since it had nothing, as in ranks.
        self.lowest = 0.0
        #: Tasks among them, (run, task), that wait for tasks of their own: they
        #: have given their slots back and are not counted below.
        self.blocked: set[tuple[RunId, TaskId]] = set()
        #: How many slots are taken by what is not among them: see ``Engaged``.
        self.engaged = 0
        #: How many tasks the others are, those slots included, and of each function.
        self.count = 0
        #: Those of them that were sent ahead, one task each: see ``occupancy``.
        self.ahead: dict[Span, None] = {}
        self.load: dict[Function | None, int] = {}
        self.holds: dict[Span, None] = {}
        self.stored_bytes = 0
        #: How much memory it used when it said so last, and what was stored there then.
        self.used_bytes = self.stored_then = 0
        #: Whether it has room, and is given nothing until its memory is less tight.
        self.withheld = False
        #: Ready spans that had better run here, because their inputs are here.
        self.queue = Heap()
        #: Those that not everybody may take; by demand, and if they are wary: ``queues``.
        self.asking: dict[tuple[Demand, bool], Heap] = {}
        self.demands: list[Demand] = []
        #: Functions whose bytes it has, and workers whose address it has.
        self.functions: set[Function] = set()
        self.peers: set[int] = set()
        #: Whether it is to leave, and whether an answer to a ``Return`` is awaited.
        self.leaving = self.returning = False
        #: When its connection broke, if it is waited for at the moment.
        self.away_since: float | None = None
        #: Spans of a leaving worker that are on their way to another one.
        self.moving: dict[Span, Worker] = {}
        #: Workers that could not copy from it.
        self.refused: set[int] = set()
        #: What it has handed back since it had more than it runs, and until when that is all.
        self.handed_back: set[TaskId] = set()
        self.reluctant, self.distance = 0.0, Distance()
        #: When it last told how something ended, or was given something for an idle slot.
        self.stirred = 0.0
        #: Values that it reported, and was told to drop since nobody had told of them,
        #: or that it could not read any more: to hear of one later brings it not back.
        self.given_up: set[TaskId] = set()
        #: What it was told to forget, and has not yet: see ``versions``.
        self.forgetting: deque[tuple[Extent, ...]] = deque()
        #: How it is, and how often it was told to say so.
        self.facts: dict[str, object] = {}
        self.pace = 0.0

    def __repr__(self) -> str:
        return f"<Worker {self.name}>"

    @property
    def busy(self) -> int:
        """How many tasks it has that could run."""
        return self.count - len(self.ahead)

    @property
    def idle_slots(self) -> int:
        """How many slots have nothing to do."""
        return max(0, self.slots - self.count + len(self.ahead))

    @property
    def has_queued(self) -> bool:
        """Whether something may lie in one of its own queues."""
        return bool(self.queue or self.asking)

    def backlog_seconds(self, unknown_seconds: float) -> float:
        """Return how long all that is assigned would take on one slot."""
        total = 0.0
        for function, count in self.load.items():
            known = function.seconds if function is not None else 0.0
            total += count * (unknown_seconds if known is None else known)
        return total


class Client:
    """A client, as the scheduler sees it."""

    __slots__ = (
        "away_since",
        "coming",
        "functions",
        "itself",
        "name",
        "number",
        "peer",
        "recalling",
        "wants",
        "workers_told",
    )

    def __init__(self, peer: int, number: ClientId, name: str) -> None:
        self.peer = peer
        self.number = number
        #: What ``wanted`` is where nobody else wants it: one set for all spans.
        self.itself = frozenset({number})
        self.name = name
        #: The client's own numbers for functions.
        self.functions: dict[int, Function] = {}
        self.wants: dict[Span, None] = {}
        #: When its connection broke, if it is waited for at the moment.
        self.away_since: float | None = None
        #: Whether it says again what another life of the scheduler knew: that is
        #: entered as it was, and nothing of it is wanted until it says what is.
        self.recalling = False
        #: Tasks that later messages of a graph will use: spans of one.
        self.coming: dict[Span, None] = {}
        self.workers_told: set[int] = set()


class Spread:
    """How many copies there are to be of a value, and which are being made."""

    __slots__ = ("coming", "copies", "failures", "names", "todo", "waiting")

    def __init__(self, copies: int, names: frozenset[str]) -> None:
        self.copies = copies
        #: What workers are called that may have one; empty for all.
        self.names = names
        #: Workers that are to get one, and that are getting one, and from whom.
        self.todo: deque[Worker] = deque()
        self.coming: dict[Worker, Worker] = {}
        self.failures = 0
        #: Who is to be told when no copy is under way any more: (peer, request).
        self.waiting: list[tuple[int, int]] = []


#: For so long a value is kept that nobody has asked for, because whoever wants it
#: may not have come back yet; and as long as a client is away that may have brought it.
ORPHAN_SECONDS: Final = 60.0

#: Runs, peers and functions of one life are numbered apart from those of another.
LIFE_BITS: Final = 32


# Holders that are no clients; those have numbers from 1 on.

#: Holds what was detached: runs to its end though no client may be left.
DETACHED: Final = ClientId(0)
#: Holds what a later message of the same graph will use; nobody is told of it.
COMING: Final = frozenset({ClientId(-2)})

#: Holds what returning peers told of, until they have said what they want of it.
#: It needs nothing: it is always among those that have the value.
KEPT: Final = ClientId(-1)


#: What is counted for as long as this scheduler lives.
_COUNTED: Final = (
    "tasks_submitted",
    "tasks_done",
    "tasks_failed",
    "tasks_recomputed",
    # What workers have fetched from each other for tasks, and what they had at hand.
    "bytes_moved",
    "bytes_local",
    # What was passed on between those who do not reach each other.
    "bytes_passed_on",
    # Results of tasks that ran again and gave another value.
    "results_changed",
    # Holders that did not deliver where another one did.
    "sources_failed",
    # Links whose peer broke the rules, and callers who never got in.
    "protocol_errors",
    "strangers_turned_away",
)


InTurn: TypeAlias = OrderedDict[Worker, None]
"""Workers, in the order in which they are served."""


class SchedulerState(Tables):
    """All the tables.  No behaviour: see ``transitions`` and ``placement``."""

    __slots__ = ()

    def __init__(
        self,
        *,
        cluster: str = "",
        epoch: int = 1,
        now: float = 0.0,
        events_kept: int = 100_000,
    ) -> None:
        self.cluster, self.epoch, self.now = cluster, epoch, now
        first = (epoch - 1) << LIFE_BITS
        #: Every remembered span, by its base.
        self.spans: dict[TaskId, Span] = {}
        #: The bases of spans longer than one, per client, in order.
        self.starts: dict[ClientId, list[TaskId]] = {}
        self.keys: Keys | None = None  # To check tokens; a simulation has none.
        #: Shareable tasks by name; and by id, the name of each, and what it is the name of.
        self.names: dict[str, Span] = {}
        self.name_of: dict[TaskId, tuple[str, bytes]] = {}
        #: Other ids of shared tasks, and by which ids each client knows one.
        #: Who is not in that table knows the task by its own id.
        self.aliases: dict[TaskId, TaskId] = {}
        self.ids_of: dict[TaskId, dict[ClientId, tuple[TaskId, ...]]] = {}
        #: Those by which unfinished shared tasks were detached: who did is told their end.
        self.detached_as: dict[TaskId, tuple[TaskId, ...]] = {}
        #: The lowest id that each client, present or past, has never used.
        self.unused: dict[ClientId, TaskId] = {}
        self.functions = Functions(first)
        self.workers, self.clients = dict[int, Worker](), dict[int, Client]()
        self.client_numbers: dict[ClientId, Client] = {}
        self.demands: dict[str, Demand] = {}
        #: Those with something that not all who are able have looked at.
        self.awake: dict[Demand, None] = {}
        self.wishes: dict[Demand, float] = {}  # When others than named shall look.
        #: When there are more, those that nothing asks for are forgotten.
        self.demands_max, self.default_demand = DEMANDS_MAX, Demand(DEFAULT_OPTIONS)
        #: READY values that clients brought: they need a place, and no slot.  Those that
        #: found none.  READY spans that wait a while, by the time when they may be dealt.
        self.data_queue, self.homeless, self.pauses = Heap(), Heap(), Heap()
        #: What was tried in vain of unfinished tasks: the latest attempts.
        self.attempts: dict[Span, tuple[Attempt, ...]] = {}
        #: Tasks that had better run elsewhere than there: see ``reach``.
        self.shy: dict[Span, Worker] = {}
        #: Values of which there are to be several copies; those that their clients can
        #: bring again, and whether they are to; why the last worker has lost such a one.
        self.spreads: dict[Span, Spread] = {}
        self.brought, self.losses = dict[Span, bool](), dict[Span, str]()
        #: Who may have idle slots; who had none, but some room; who has to look.
        self.hungry, self.roomy, self.eager = InTurn(), InTurn(), dict[Worker, None]()
        #: Workers with ready spans in their own queue; with more than they run; leaving.
        self.loaded, self.excess = dict[Worker, None](), dict[Worker, None]()
        self.look_again = 0.0  # When those that idle are served again at last; or 0.
        self.leaving: dict[Worker, None] = {}
        self.departed: OrderedDict[str, float] = OrderedDict()  # When the latest left.
        self.leftovers, self.journal = Leftovers(), Journal()
        self.publications, self.versions = Publications(), Versions()
        #: How many tasks are READY, and how many of them ask for resources or for
        #: certain workers; how many slots there are, and how many are idle.
        self.ready_count = self.special_count = self.slots_count = self.idle_slots = 0
        self.stored_bytes = 0  # Of all values that workers hold, copies included.
        self.last_run = self.last_peer = first
        self.last_submission = self.scatter_turn = 0
        #: Peers that were there before and have not told all yet.
        self.returning: dict[int, Returning] = {}
        self.window = Window(now) if epoch > 1 else None
        #: What returning workers hold and nobody has asked for: disjoint, in order.
        self.orphans: dict[Worker, list[Orphan]] = {}
        self.orphans_until = now + ORPHAN_SECONDS if epoch > 1 else 0.0
        self.outgoing: dict[int, list[Message]] = {}
        self.rotation: tuple[int, int] | None = None  # (peer, request) that asks for it
        self.closing, self.dashboard = False, ""  # Where that listens.
        self.by_itself = False  # Whether the message at hand came with no other one.
        #: Who reads the event stream, by peer: open question (0: none), and its event.
        self.audience: dict[int, tuple[int, int]] = {}
        self.events: Ring[tuple[Any, ...]] = Ring(events_kept, first)
        #: What tasks printed, of which those events are a copy; and clients that want to
        #: see it at once, by peer: their open question, and the number it asks for.
        self.prints = Prints(self.events, first)
        self.listeners: dict[int, tuple[int, int]] = {}
        self.profile = Profile(now, first)
        self.counters: dict[str, int] = dict.fromkeys(_COUNTED, 0)

    def send(self, peer: int, message: Message) -> None:
        """Order the shell to tell *peer* something."""
        queue = self.outgoing.get(peer)
        if queue is None:
            self.outgoing[peer] = [message]
        else:
            queue.append(message)
