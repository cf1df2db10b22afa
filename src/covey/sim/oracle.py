"""What every task must come to, known beforehand.

The oracle knows all recipes, so it knows all values; and it is told of everything
that may excuse a failure.  A value that is wrong, or a failure without excuse, is
a bug, wherever it shows first.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from covey.ids import RunId, TaskId
from covey.scheduler.core.retrying import LOSSES_MAX
from covey.sim.runners import PIPE_SECONDS, Inputs
from covey.sim.tasks import Recipe, as_small, decode, value_of
from covey.sim.versions import Versions
from covey.wire.base import DEFAULT_OPTIONS, Failure, Options


class Wrong(AssertionError):
    """Something came out otherwise than it must."""


#: Kinds that fail only so long as they may not be tried again.
_PASSING: Final = {"flaky": "raised", "crashes-once": "died"}
_LASTING: Final = {"raises": "raised", "crashes": "died"}


class Oracle:
    """All recipes and excuses; and what runs the tasks, for it must know them."""

    def __init__(self) -> None:
        self._recipes: dict[TaskId, Recipe] = {}
        self._payloads: dict[TaskId, bytes] = {}
        self._options: dict[int, Options] = {}
        self._values: dict[TaskId, bytes] = {}
        #: Those of tasks of which nobody knows beforehand what they come to.
        self.versions = Versions()
        self._last = 0
        #: Recipes whose tasks somebody has cancelled, and whose process was killed.
        self.cancelled: set[int] = set()
        self.killed: set[int] = set()
        #: Tasks that nobody could make again, and that may have been let go of
        #: before the question for them came.
        self.brought: set[TaskId] = set()
        self.unsure: set[TaskId] = set()
        #: Brought to a worker that had just been let go, as nobody knew yet; or taken
        #: along by one that was let go when nobody was left to take it.
        self.late: set[TaskId] = set()
        #: Brought, and let go of by somebody: who retries what took it may find it gone.
        self.released: set[TaskId] = set()
        #: How many workers were lost, and whether data could be out of reach.
        self.losses = 0
        self.out_of_reach = False
        #: Values of which some copy could not be read any more.
        self.rotten: set[TaskId] = set()
        #: Whether a worker has had no room, neither in memory nor on disk.
        self.disk_full = False
        #: How many lives of the scheduler have ended.
        self.restarts = 0
        #: How many attempts of each recipe have come to their end.
        self.attempts: dict[int, int] = {}
        #: How long the longest attempt of each recipe took, by the clock of its worker.
        self.longest: dict[int, float] = {}
        self.runs = 0
        #: How long all tasks take, one after the other.
        self.seconds = 0.0

    def new_number(self) -> int:
        """Return a number for a recipe."""
        self._last += 1
        return self._last

    def know(self, task: TaskId, recipe: Recipe, payload: bytes, how: Options) -> None:
        """A task is wished for."""
        self._recipes[task] = recipe
        self.seconds += recipe.seconds
        self._payloads[task] = payload
        self._options[recipe.number] = how
        self.versions.know(task, recipe)

    def know_data(self, task: TaskId) -> bytes:
        """A client brings a value; return it."""
        number = self.new_number()
        value = as_small(blake2b(number.to_bytes(8, "little"), digest_size=16).digest())
        self._recipes[task] = Recipe(number)
        self._options[number] = DEFAULT_OPTIONS
        self._values[task] = value
        return value

    def number_of(self, task: TaskId) -> int:
        """Return the number of a task's recipe."""
        return self._recipes[task].number

    def value(self, task: TaskId) -> bytes:
        """Return the one value that a task may have: none that it takes drifts."""
        todo = [task]
        values = self._values
        while todo:
            current = todo[-1]
            if current in values:
                todo.pop()
                continue
            inputs = self._recipes[current].inputs
            missing = [needed for needed in inputs if needed not in values]
            if missing:
                todo += missing
                continue
            payload = self._payloads[current]
            values[current] = value_of(payload, [values[i] for i in inputs])
            todo.pop()
        return values[task]

    # Running.

    def begin(self, payload: bytes, task: TaskId) -> Recipe:
        """A task is about to run."""
        recipe = decode(payload)
        if task not in self._recipes or self._payloads.get(task) != payload:
            raise Wrong(f"task {task:x} was given the arguments of another one")
        self.runs += 1
        return recipe

    def fails(self, recipe: Recipe) -> str:
        """Return how this attempt at a task fails."""
        count = self.attempts[recipe.number] = self.attempts.get(recipe.number, 0) + 1
        match recipe.kind:
            case "raises" | "crashes":
                return recipe.kind
            case "flaky":
                return "raises" if count == 1 else ""
            case "crashes-once":
                return "crashes" if count == 1 else ""
        return ""

    def lasted(self, recipe: Recipe, seconds: float) -> None:
        """An attempt at a task is over, in whatever way."""
        longest = self.longest.get(recipe.number, 0.0)
        self.longest[recipe.number] = max(longest, seconds)

    def value_made(
        self, payload: bytes, recipe: Recipe, task: TaskId, inputs: Inputs
    ) -> bytes:
        """A task computes its value, of whatever inputs it was given."""
        given = [inputs.values[needed] for needed in recipe.inputs]
        if self.versions.are_open(task):
            for needed, value in zip(recipe.inputs, given, strict=True):
                if not self._is_one_of(needed, value):
                    raise Wrong(f"task {task:x} ran with wrong inputs")
            return self.versions.made(task, payload, recipe, given)
        made = value_of(payload, given)
        if made != self.value(task):
            raise Wrong(f"task {task:x} ran with wrong inputs")
        return made

    def _is_one_of(self, task: TaskId, value: bytes) -> bool:
        """Whether a task may have that value."""
        if self.versions.are_open(task):
            return self.versions.gave(task, value)
        return value == self.value(task)

    # Judging.

    def check_value(self, task: TaskId, value: bytes) -> None:
        """A client was shown a value.

        Raises:
            Wrong: it is another one than it must be.
            Mixed: it was made of two versions of one value.
        """
        if not self._is_one_of(task, value):
            raise Wrong(f"task {task:x} came to a wrong value")
        # What was lost with an earlier life of the scheduler nobody can compare.
        if not self.restarts:
            self.versions.check(task, value)

    def check_failure(self, task: TaskId, failure: Failure) -> None:
        """A client was told of a failure.

        Raises:
            Wrong: nothing excuses it.
        """
        todo, seen = [task], {task}
        while todo:
            current = todo.pop()
            if self._excused(current, failure):
                return
            for needed in self._recipes[current].inputs:
                if needed not in seen:
                    seen.add(needed)
                    todo.append(needed)
        raise Wrong(
            f"task {task:x} failed without reason: {failure.kind}: {failure.message}"
        )

    def _excused(self, task: TaskId, failure: Failure) -> bool:
        recipe = self._recipes[task]
        number = recipe.number
        options = self._options[number]
        kind = failure.kind
        if _LASTING.get(recipe.kind) == kind:
            return True
        if _PASSING.get(recipe.kind) == kind and (
            # A try in which it was killed, or ran for too long, is one try less.
            not options.retries or number in self.killed or options.timeout_seconds > 0
        ):
            return True
        match kind:
            case "cancelled":
                return number in self.cancelled or task in self.unsure
            case "timeout":
                # The first one that a slot is sent begins when it is sent.
                longest = self.longest.get(number, 0.0) + 2 * PIPE_SECONDS
                return 0.0 < options.timeout_seconds <= longest
            case "memory":
                return self.disk_full
            case "died":
                if number in self.killed:
                    return True
                return self.losses > LOSSES_MAX and "was lost with" in failure.message
            case "lost":
                # A new life of the scheduler may hear of a value before it hears of
                # the worker that it was brought to.
                if task in self.brought and (
                    self.losses
                    or self.restarts
                    or self.out_of_reach
                    or self.disk_full  # Nobody could take it from one that left.
                    or task in self.late
                    or task in self.rotten
                    or task in self.released
                ):
                    return True
                if task in self.unsure and self.restarts:
                    # Who holds what another one made cannot say how that was done.
                    return bool(self.losses or self.out_of_reach)
                out_of_reach = self.out_of_reach or self.disk_full
                return out_of_reach and "could not be brought" in failure.message
        return False


class OracleWork:
    """The oracle as the runners see it."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle

    def begin(self, payload: bytes, task: TaskId) -> Recipe:
        """A task is about to run: say how."""
        return self._oracle.begin(payload, task)

    def fails(self, recipe: Recipe) -> str:
        """Return how this attempt fails."""
        return self._oracle.fails(recipe)

    def lasted(self, recipe: Recipe, seconds: float) -> None:
        """A task has executed so long, and is over."""
        self._oracle.lasted(recipe, seconds)

    def value(
        self, payload: bytes, recipe: Recipe, run: RunId, task: TaskId, inputs: Inputs
    ) -> bytes:
        """Return the value of a task that has run."""
        del run
        return self._oracle.value_made(payload, recipe, task, inputs)
