"""In which order the tasks of a graph had best run, so that little is in memory.

Depth first: what one result needs is made before anything for the next one is.
Where a task takes several inputs, the one that needs most room while it is made
comes first.  Beyond that, two rules for values that several tasks take:

* when all but one of its users have run, the last one goes at once, if it can
  (``x.mean()`` and ``x.std()`` take turns on the chunks of ``x``);
* what was computed and is only taken apart is taken apart at once (the parts of
  a shuffle), and need not be kept whole.

Every step is linear in the number of tasks and inputs, for a graph may have a
million of them; ``dask.order`` looks further ahead and takes its time for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from covey.errors import UsageError

#: What takes more inputs than this is not looked at closely: it would take long.
_NEAR_INPUTS: Final = 8

#: A circle of more keys is not told whole, but these first and last ones of it.
_CIRCLE_MAX: Final = 14
_CIRCLE_HEAD: Final = 5
_CIRCLE_TAIL: Final = 3


class Order:
    """Tasks by number, inputs before their users.

    Attributes:
        keys: the keys, in a good order to run.
        users: for each of them, how many others take it.
        last_uses: for each of them, the place of the last one that takes it; 0 for none.

    Args:
        keys: the keys, by number.
        sequence: the numbers, in a good order to run.
        inputs: for each number, those of what it takes.
        users: for each number, those of who takes it.
        last_uses: for each number, the place of the last one of these.
    """

    __slots__ = ("_inputs", "_place", "_sequence", "keys", "last_uses", "users")

    def __init__(
        self,
        keys: list[Any],
        sequence: list[int],
        inputs: list[list[int]],
        users: list[list[int]],
        last_uses: list[int],
    ) -> None:
        self.keys = [keys[index] for index in sequence]
        self.users = [len(users[index]) for index in sequence]
        self.last_uses = [last_uses[index] for index in sequence]
        self._sequence = sequence
        self._inputs = inputs
        self._place: list[int] = []

    def inputs_of(self, at: int) -> list[int]:
        """Return the places in ``keys`` of what the key at one of them takes."""
        place = self._place
        if not place:
            place = self._place = [0] * len(self.keys)
            for where, index in enumerate(self._sequence):
                place[index] = where
        return [place[index] for index in self._inputs[self._sequence[at]]]


def order(wanted: Iterable[Any], needs: Callable[[Any], Collection[Any]]) -> Order:
    """Return what *wanted* leads to, in the order in which to run it.

    Args:
        wanted: keys; what comes first is made first.
        needs: returns the keys that a key takes; it is called once for each.

    Raises:
        UsageError: the graph goes round in a circle; names its keys, or the ends of it.
    """
    wanted = list(wanted)
    keys, number, inputs = _numbered(wanted, needs)
    sequencer = _Sequencer(inputs)
    sequence = sequencer.run([number[key] for key in wanted])
    return Order(keys, sequence, inputs, sequencer.users, sequencer.last_uses)


def _numbered(
    wanted: list[Any], needs: Callable[[Any], Collection[Any]]
) -> tuple[list[Any], dict[Any, int], list[list[int]]]:
    """Number what is needed, inputs before their users."""
    keys: list[Any] = []
    inputs: list[list[int]] = []
    #: A key that is still being looked into has no number yet: -1.
    number: dict[Any, int] = {}
    number_of, known_of = number.__getitem__, number.get
    for root in wanted:
        if root in number:
            continue
        number[root] = -1
        taken = needs(root)
        todo = [(root, taken, iter(taken))]
        while todo:
            key, taken, rest = todo[-1]
            for source in rest:
                known = known_of(source)
                if known is None:
                    number[source] = -1
                    below = needs(source)
                    todo.append((source, below, iter(below)))
                    break
                if known < 0:
                    raise _circle([step[0] for step in todo], source)
            else:
                todo.pop()
                number[key] = len(keys)
                keys.append(key)
                inputs.append([*map(number_of, taken)])
    return keys, number, inputs


def _circle(path: list[Any], key: Any) -> UsageError:
    steps = [*path[path.index(key) :], key]
    names = [repr(step) for step in steps]
    if len(names) > _CIRCLE_MAX:
        left_out = len(names) - _CIRCLE_HEAD - _CIRCLE_TAIL
        names[_CIRCLE_HEAD:-_CIRCLE_TAIL] = [f"... {left_out} more ..."]
    return UsageError(f"the graph has a cycle: {' -> '.join(names)}")


def _by_room(inputs: list[list[int]]) -> list[int]:
    """Put of each task's inputs the one first that needs most room; return the rooms.

    The room for a task is counted as if no input had another user: with the
    results of some inputs at hand, the next one is made.
    """
    room = [1] * len(inputs)
    for index, sources in enumerate(inputs):
        if len(sources) == 1:
            room[index] = room[sources[0]]
        elif sources:
            sources.sort(key=room.__getitem__, reverse=True)
            # As many as there are, at the end; more while the first ones are made.
            most = len(sources)
            for at, source in enumerate(sources):
                here = room[source]
                if here == 1:
                    break
                if here + at > most:  # noqa: PLR1730  # max() takes twice as long
                    most = here + at
            room[index] = most
    return room


class _Sequencer:
    """Brings numbered tasks into the order in which to run them.

    Attributes:
        users: for each task, those that take it.
        last_uses: for each task that has run, the place in the order of the last one of
            its users that has.
    """

    def __init__(self, inputs: list[list[int]]) -> None:
        self._inputs = inputs
        self._room = _by_room(inputs)
        self.users: list[list[int]] = [[] for _ in inputs]
        users = self.users
        for index, sources in enumerate(inputs):
            for source in sources:
                users[source].append(index)
        self.last_uses = [0] * len(inputs)
        self._missing = list(map(len, inputs))
        #: How many users of each have yet to run, and the sum of their numbers: when
        #: one is left, that is its number.
        self._left = list(map(len, users))
        self._rest = list(map(sum, users))
        self._done = bytearray(len(inputs))

    def run(self, wanted: list[int]) -> list[int]:
        """Return the order, which begins with what the first of *wanted* needs."""
        sequence: list[int] = []
        inputs, missing, done = self._inputs, self._missing, self._done
        go_on = self._go_on
        for root in wanted:
            todo = [root]
            while todo:
                index = todo[-1]
                if done[index]:
                    todo.pop()
                elif missing[index]:
                    todo += [s for s in inputs[index][::-1] if not done[s]]
                else:
                    todo.pop()
                    done[index] = 1
                    go_on(index, len(sequence), todo)
                    sequence.append(index)
        return sequence

    def _go_on(self, index: int, place: int, todo: list[int]) -> None:
        """*index* runs, at *place*: add to *todo* what should follow before all else."""
        missing, left = self._missing, self._left
        sources, users = self._inputs[index], self.users[index]
        can_run = []
        for user in users:
            lacking = missing[user] = missing[user] - 1
            if not lacking:
                can_run.append(user)
        rest, last_uses = self._rest, self.last_uses
        for source in sources:
            last_uses[source] = place
            rest[source] -= index
            left[source] = lasting = left[source] - 1
            if lasting == 1 and self._is_near(rest[source]):
                todo.append(rest[source])
        if not can_run:
            return
        if len(users) == 1:
            todo.append(users[0])
        elif sources and len(can_run) == len(users):
            todo += reversed(users)
        else:
            todo += [user for user in can_run if self._frees(user)]

    def _is_near(self, index: int) -> bool:
        """Whether a task can run, or lacks only what takes next to no room."""
        if not self._missing[index]:
            return True
        inputs, done, room = self._inputs[index], self._done, self._room
        if len(inputs) > _NEAR_INPUTS:
            return False
        for source in inputs:  # noqa: SIM110  # all() takes twice as long
            if not done[source] and room[source] != 1:
                return False
        return True

    def _frees(self, index: int) -> bool:
        """Whether some input goes when this task has run."""
        left = self._left
        for source in self._inputs[index]:  # noqa: SIM110  # any() takes twice as long
            if left[source] == 1:
                return True
        return False
