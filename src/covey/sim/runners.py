"""Processes that run tasks: played as a worker sees the real ones.

A slot takes batches, settles one task after the other, and keeps what is
settled back for a few milliseconds while there is more to do.  What it was told
and what it tells travels over pipes: in order, a little late.  When a process
dies, what it had written still arrives; what it had kept back does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, Final, Protocol

from covey.ids import RunId, TaskId
from covey.payload import Pack
from covey.sim.network import Node
from covey.sim.tasks import SMALL_BYTES, Recipe
from covey.sim.timeline import Timeline
from covey.wire.base import Failure
from covey.worker.core import orders

#: A pipe within a machine is about so late.
PIPE_SECONDS: Final = 5e-5

#: Outcomes are kept back so long while there is more to do, and up to so long.
FLUSH_SECONDS: Final = 0.001
FLUSH_MOST_SECONDS: Final = 0.012

CANCELLED: Final = Failure("raised", "TaskCancelled", "cancelled while it ran")
RAISED: Final = Failure("raised", "ValueError", "as it was told to")


class Work(Protocol):
    """What tasks are, for those who run them."""

    def begin(self, payload: bytes, task: TaskId) -> Recipe:
        """A task is about to run: say how."""

    def fails(self, recipe: Recipe) -> str:
        """Return how this attempt fails: ``""``, ``"raises"`` or ``"crashes"``."""

    def lasted(self, recipe: Recipe, seconds: float) -> None:
        """A task has executed so long, by the clock of its worker, and is over."""

    def value(
        self, payload: bytes, recipe: Recipe, run: RunId, task: TaskId, inputs: Inputs
    ) -> bytes:
        """Return the value of a task that has run."""


class Inputs:
    """The values that came along with a batch, by the ids the arguments know."""

    __slots__ = ("values",)

    def __init__(self, values: dict[TaskId, bytes]) -> None:
        self.values = values


class Batch:
    """Consecutive tasks of one run, as they were sent to a slot.

    ``owns`` are inputs that were to be made on the slot before: (the id that the
    arguments know, the real one); with ``keep``, the value is one for others.  ``sent``
    is when, by the clock of its worker.
    """

    __slots__ = ("at", "base", "end", "inputs", "keep", "owns", "pack", "run", "sent")

    def __init__(self, run: RunId, base: TaskId, pack: Pack, inputs: Inputs) -> None:
        self.run = run
        self.base = base
        self.at = base
        self.end = base + len(pack)
        self.pack = pack
        self.inputs = inputs
        self.keep = False
        self.owns: list[tuple[TaskId, TaskId]] = []
        self.sent = 0.0


class Doing:
    """A task that executes."""

    __slots__ = ("batch", "began", "clock", "recipe", "resumed", "task")

    def __init__(
        self, batch: Batch, task: TaskId, recipe: Recipe, now: float, clock: float
    ) -> None:
        self.batch = batch
        self.task = task
        self.recipe = recipe
        self.began = now
        #: The same by the clock of its worker, which may jump.
        self.clock = clock
        #: For one that gave its slot away: whether it goes on.
        self.resumed = False


class Pipe:
    """Calls that arrive in order, a little later."""

    __slots__ = ("_node", "_rng", "_timeline", "last")

    def __init__(self, timeline: Timeline, rng: Random, node: Node) -> None:
        self._timeline = timeline
        self._rng = rng
        self._node = node
        self.last = 0.0

    def send(self, call: Callable[..., Any], *args: Any) -> None:
        """Have *call* made at the other end."""
        due = self._timeline.now + PIPE_SECONDS * (1.0 + self._rng.random())
        self.last = max(self.last, due)
        self._timeline.at(self.last, self._node.run, call, *args)


class Slot:
    """A thread that runs one task after the other."""

    def __init__(self, runner: Runner, number: int) -> None:
        self.runner = runner
        self.number = number
        self.doing: Doing | None = None
        self.parked: list[Doing] = []
        #: Small values that what follows may take.
        self._kept: dict[TaskId, bytes] = {}
        self._batches: deque[Batch] = deque()
        #: Settled and not told yet: run, first task, values, seconds.
        self._settled: tuple[RunId, TaskId, list[bytes], float] | None = None
        #: Whether that is a task that was sent by itself: those are told of together.
        self._alone = False
        self._says: list[Any] = []
        self._deadline = 0.0
        self._patience = FLUSH_SECONDS
        shell = runner.shell
        self.inward = Pipe(shell.timeline, shell.rng, shell.node)
        self._outward = Pipe(shell.timeline, shell.rng, shell.node)

    @property
    def said_by(self) -> float:
        """When the last of what was written will have arrived."""
        return self._outward.last

    def send(self, batch: Batch) -> None:
        """The worker sends a batch."""
        batch.sent = self._clock()
        self.inward.send(self.take, batch)

    def take(self, batch: Batch) -> None:
        """A batch has come."""
        if not self.runner.goes_on:
            return
        self._batches.append(batch)
        if self.doing is None:
            self._patience = FLUSH_SECONDS
            self._deadline = self.runner.shell.timeline.now + FLUSH_SECONDS
            # For its worker the time of its first task begins when it is sent.
            self._next(batch.sent)

    def _next(self, clock: float | None = None) -> None:
        """Begin what is next, or tell all if there is nothing."""
        self.doing = None
        while self._batches and not self._can_begin(self._batches[0]):
            self._batches.popleft()
            self._close()
        if not self._batches:
            self._tell()
            return
        batch = self._batches[0]
        for known_as, kept_as in batch.owns:
            batch.inputs.values[known_as] = self._kept[kept_as]
        task = batch.at
        batch.at += 1
        shell = self.runner.shell
        recipe = shell.work.begin(bytes(batch.pack[task - batch.base]), task)
        how = (shell.timeline.now, self._clock() if clock is None else clock)
        doing = self.doing = Doing(batch, task, recipe, *how)
        if recipe.kind == "hangs":
            # Some hold the GIL.  What other threads were sent then does not begin, and
            # its time passes all the same: that is not played.
            if recipe.number % 2 and len(self.runner.slots) == 1:
                self.runner.held = True
            return
        seconds = recipe.seconds * shell.slowness
        if recipe.kind == "blocking":
            self.runner.later(seconds / 2, self._blocks, doing)
        else:
            self.runner.later(seconds, self._ends, doing)

    def _can_begin(self, batch: Batch) -> bool:
        """Whether anything is left of a batch; what lacks its inputs goes back."""
        if batch.at >= batch.end:
            return False
        if any(kept_as not in self._kept for _, kept_as in batch.owns):
            self._close()
            self._says.append(("returned", batch.run, batch.base, 1))
            return False
        return True

    # How tasks end.

    def _ends(self, doing: Doing) -> None:
        if self.doing is not doing:
            return  # It was interrupted.
        shell = self.runner.shell
        self.note(doing)
        how = shell.work.fails(doing.recipe)
        if how == "crashes":
            self.runner.crash()
            return
        if how:
            self._fail(doing, RAISED)
        else:
            self._settle(doing)
        if shell.timeline.now >= self._deadline:
            self.flush()
            self._deadline = shell.timeline.now + self._patience
            self._patience = min(FLUSH_MOST_SECONDS, 2 * self._patience)
        self._next()

    def _value(self, doing: Doing) -> bytes:
        batch, task = doing.batch, doing.task
        payload = bytes(batch.pack[task - batch.base])
        work = self.runner.shell.work
        return work.value(payload, doing.recipe, batch.run, task, batch.inputs)

    def _settle(self, doing: Doing) -> None:
        value = self._value(doing)
        now = self.runner.shell.timeline.now
        batch, seconds = doing.batch, now - doing.began
        if doing.recipe.nbytes > SMALL_BYTES:
            self._close()
            self._says.append(("ran", batch.run, doing.task, [value], seconds, True))
            return
        if batch.keep:
            self._kept[doing.task] = value
        settled = self._settled
        if (
            settled
            and settled[0] == batch.run
            and (settled[1] + len(settled[2]) == doing.task)
        ):
            settled[2].append(value)
            self._settled = (*settled[:3], settled[3] + seconds)
            return
        self._close()
        self._settled = (batch.run, doing.task, [value], seconds)
        self._alone = len(batch.pack) == 1

    def _close(self) -> None:
        """A report never reaches over the end of a stretch."""
        if self._settled is not None:
            run, base, values, seconds = self._settled
            self._settled = None
            kind = "node" if self._alone else "ran"
            self._says.append((kind, run, base, values, seconds, False))

    def _fail(self, doing: Doing, failure: Failure) -> None:
        self._close()
        seconds = self.runner.shell.timeline.now - doing.began
        self._says.append(("failed", doing.batch.run, doing.task, seconds, failure))

    # Waiting for others.

    def _blocks(self, doing: Doing) -> None:
        if self.doing is not doing:
            return
        self._close()
        self._says.append(("blocked", doing.batch.run, doing.task))
        self._tell()
        self.parked.append(doing)
        shell = self.runner.shell
        self.runner.later(shell.rng.random() * 0.5, self._resumes, doing)
        self._next()

    def _resumes(self, doing: Doing) -> None:
        if doing not in self.parked:
            return
        doing.resumed = True
        self._outward.send(
            self.runner.shell.hear,
            self.number,
            [("resumed", doing.batch.run, doing.task)],
        )
        seconds = doing.recipe.seconds * self.runner.shell.slowness
        self.runner.later(seconds / 2, self._ends_detached, doing)

    def _ends_detached(self, doing: Doing) -> None:
        if doing in self.parked:
            self.parked.remove(doing)
            seconds = self.runner.shell.timeline.now - doing.began
            value = self._value(doing)
            says = ("ran", doing.batch.run, doing.task, [value], seconds, False)
            self._outward.send(self.runner.shell.hear, self.number, [says])

    # What the control socket asks for.

    def flush(self) -> None:
        """Tell what is settled, in the middle of the work."""
        self._close()
        self._tell()

    def _tell(self) -> None:
        self._close()
        if self._says:
            says, self._says = self._says, []
            self._outward.send(self.runner.shell.hear, self.number, says)

    def interrupt(self, run: RunId, task: TaskId) -> None:
        """Ask a task to stop; some do not hear."""
        doing = self.doing
        if doing is not None and (doing.batch.run, doing.task) == (run, task):
            if doing.recipe.kind != "hangs":
                self.note(doing)
                self._fail(doing, CANCELLED)
                self.flush()
                self._next()
            return
        for parked in self.parked:
            if (parked.batch.run, parked.task) == (run, task):
                self.parked.remove(parked)
                self.note(parked)
                seconds = self.runner.shell.timeline.now - parked.began
                says = ("failed", run, task, seconds, CANCELLED)
                self._outward.send(self.runner.shell.hear, self.number, [says])
                return

    def give_back(self) -> list[tuple[RunId, TaskId, int]]:
        """Give up what has not begun, the last first."""
        back = []
        for batch in reversed(self._batches):
            if batch.at < batch.end:
                back.append((batch.run, batch.at, batch.end - batch.at))
                batch.end = batch.at
        return back

    def _clock(self) -> float:
        shell = self.runner.shell
        return shell.timeline.now + shell.node.ahead

    def note(self, doing: Doing) -> None:
        """Tell how long a task has executed."""
        self.runner.shell.work.lasted(doing.recipe, self._clock() - doing.clock)

    def executing(self) -> tuple[RunId, TaskId] | None:
        """Return what the mark of this thread names."""
        if self.doing is None:
            return None
        return (self.doing.batch.run, self.doing.task)


class Shell(Protocol):
    """What a runner knows of the worker around it."""

    timeline: Timeline
    rng: Random
    work: Work
    slowness: float

    @property
    def node(self) -> Node:
        """The process that the runner belongs to."""

    def hear(self, slot: int, says: list[Any]) -> None:
        """A slot said something."""

    def hear_control(self, event: orders.AnyEvent) -> None:
        """A control socket said something, or closed."""


class Runner:
    """A process with slots."""

    def __init__(self, shell: Shell, number: int, threads: int) -> None:
        self.shell = shell
        self.number = number
        self.dead = False
        #: Whether a task holds the GIL for good: no other thread does anything.
        self.held = False
        self.slots = [Slot(self, number * threads + i) for i in range(threads)]
        self.inward = Pipe(shell.timeline, shell.rng, shell.node)
        self._outward = Pipe(shell.timeline, shell.rng, shell.node)

    def start(self, seconds: float) -> None:
        """Come up in so many seconds."""
        self.later(seconds, self._ready)

    def _ready(self) -> None:
        self._outward.send(self.shell.hear_control, orders.RunnerReady(self.number))

    def later(self, seconds: float, call: Callable[..., Any], *args: Any) -> None:
        """Call something within this process, if it lives then."""
        self.shell.timeline.after(seconds, self.shell.node.run, self._do, call, args)

    @property
    def goes_on(self) -> bool:
        """Whether its threads do anything."""
        return not (self.dead or self.held)

    def _do(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if self.goes_on:
            call(*args)

    def control(self, call: Callable[..., Any], *args: Any) -> None:
        """Have the control thread do something."""
        self.inward.send(self._do, call, args)

    def retract(self, slot: Slot) -> None:
        """Hand back what a slot has not begun, and tell what has ended there."""
        slot.flush()
        for run, base, n in slot.give_back():
            event = orders.SlotReturned(slot.number, run, base, n)
            self._outward.send(self.shell.hear_control, event)
        self._outward.send(self.shell.hear_control, orders.RetractDone(slot.number))

    def named(self) -> tuple[tuple[RunId, TaskId], ...]:
        """Return what the marks name at this moment."""
        marks = [slot.executing() for slot in self.slots]
        return tuple(mark for mark in marks if mark)

    def crash(self, signal: str = "SIGSEGV") -> None:
        """End at once."""
        if self.dead:
            return
        self.dead = True
        for slot in self.slots:
            for doing in [slot.doing, *slot.parked]:
                if doing is not None:
                    slot.note(doing)
        goes_on = tuple(
            (doing.batch.run, doing.task)
            for slot in self.slots
            for doing in slot.parked
            if doing.resumed
        )
        failure = Failure(
            "died",
            "RunnerDied",
            f"the process that ran it was ended by {signal}",
            details={"signal": signal},
        )
        ended = orders.RunnerEnded(self.number, self.named() + goes_on, failure)
        # All that it has written is read before its end is noticed.
        last = max(slot.said_by for slot in self.slots)
        self._outward.last = max(self._outward.last, last)
        self._outward.send(self.shell.hear_control, ended)
