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

Who takes what has to be known of all tasks before the first one is chosen.  From then
on the order comes piece by piece (``Sequencer.stretches``), so that the first tasks run
while the last ones are still to be brought into it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from typing import Any, Final, Protocol, TypeVar

from covey.errors import UsageError

#: What takes more inputs than this is not looked at closely: it would take long.
_NEAR_INPUTS: Final = 8

#: A circle of more keys is not told whole, but these first and last ones of it.
_CIRCLE_MAX: Final = 14
_CIRCLE_HEAD: Final = 5
_CIRCLE_TAIL: Final = 3

#: The number of what was not met yet, and of what is still being looked into.
UNMET: Final = -1
_OPEN: Final = -2

#: So many tasks are a stretch, unless the caller asks for others.
STRETCH_TASKS: Final = 64


class Numbered(Protocol):
    """What can be numbered.

    Attributes:
        number: ``UNMET`` at first.
    """

    number: int


N = TypeVar("N", bound=Numbered)
K = TypeVar("K", bound=Hashable)


def number(
    wanted: Iterable[N], needs: Callable[[N], Collection[N]]
) -> tuple[list[N], list[list[int]]]:
    """Number what *wanted* leads to, inputs before their users.

    Args:
        wanted: items; what comes first is made first.
        needs: returns the items that one takes; it is called once for each.

    Returns:
        The items by number, and for each the numbers of those that it takes.

    Raises:
        UsageError: the graph goes round in a circle; names its items, or the ends of it.
    """
    items: list[N] = []
    inputs: list[list[int]] = []
    for root in wanted:
        if root.number != UNMET:
            continue
        root.number = _OPEN
        item, taken = root, needs(root)
        rest = iter(taken)
        #: What takes the one at hand, and what takes that.
        above: list[tuple[N, Collection[N], Iterator[N]]] = []
        while True:
            for source in rest:
                if source.number >= 0:
                    continue
                if source.number == _OPEN:
                    raise _circle([*[step[0] for step in above], item], source)
                source.number = _OPEN
                below = needs(source)
                if below:
                    above.append((item, taken, rest))
                    item, taken, rest = source, below, iter(below)
                    break
                source.number = len(items)
                items.append(source)
                inputs.append([])
            else:
                item.number = len(items)
                items.append(item)
                inputs.append([source.number for source in taken])
                if not above:
                    break
                item, taken, rest = above.pop()
    return items, inputs


def _circle(path: list[Any], item: Any) -> UsageError:
    at = next(at for at, step in enumerate(path) if step is item)
    names = [repr(step) for step in [*path[at:], item]]
    if len(names) > _CIRCLE_MAX:
        left_out = len(names) - _CIRCLE_HEAD - _CIRCLE_TAIL
        names[_CIRCLE_HEAD:-_CIRCLE_TAIL] = [f"... {left_out} more ..."]
    return UsageError(f"the graph has a cycle: {' -> '.join(names)}")


def users_of(inputs: list[list[int]]) -> list[list[int]]:
    """Return for each number those of who takes it."""
    users: list[list[int]] = [[] for _ in inputs]
    for index, sources in enumerate(inputs):
        for source in sources:
            users[source].append(index)
    return users


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


class Sequencer:
    """Brings numbered tasks into the order in which to run them.

    Attributes:
        left: for each task, how many of its users are not in the order yet.
        over: those of which none is left, as they come up; whoever reads it empties it.
        at_once: how many tasks are a stretch; may be changed between two of them.

    Args:
        inputs: for each number, those of what it takes, which are all lower; each once.
        users: for each number, those of who takes it.
    """

    def __init__(self, inputs: list[list[int]], users: list[list[int]]) -> None:
        self._inputs, self._users = inputs, users
        self._room = _by_room(inputs)
        self._missing = list(map(len, inputs))
        self.left = list(map(len, users))
        #: The sum of the numbers of the users that are left: when one is, its number.
        self._rest = list(map(sum, users))
        self._done = bytearray(len(inputs))
        self.over: list[int] = []
        self.at_once = STRETCH_TASKS

    def stretches(self, wanted: Iterable[int]) -> Iterator[list[int]]:
        """Yield the order in stretches; first comes what the first of *wanted* needs.

        ``left`` and ``over`` tell of what was yielded, and of nothing else.
        """
        inputs, missing, done = self._inputs, self._missing, self._done
        go_on = self._go_on
        stretch: list[int] = []
        for root in wanted:
            todo = [root]
            while todo:
                index = todo.pop()
                if done[index]:
                    continue
                if missing[index]:
                    todo.append(index)
                    todo += [s for s in inputs[index][::-1] if not done[s]]
                    continue
                done[index] = 1
                stretch.append(index)
                go_on(index, todo)
                if len(stretch) >= self.at_once:
                    yield stretch
                    stretch = []
        if stretch:
            yield stretch

    def _go_on(self, index: int, todo: list[int]) -> None:
        """*index* runs: add to *todo* what should follow before all else."""
        missing, left, rest = self._missing, self.left, self._rest
        users = self._users[index]
        can_run = []
        for user in users:
            lacking = missing[user] = missing[user] - 1
            if not lacking:
                can_run.append(user)
        sources = self._inputs[index]
        for source in sources:
            rest[source] -= index
            left[source] = lasting = left[source] - 1
            if lasting == 1:
                last = rest[source]
                if not missing[last] or self._is_near(last):
                    todo.append(last)
            elif not lasting:
                self.over.append(source)
        if not can_run:
            return
        if len(users) == 1:
            todo.append(users[0])
        elif sources and len(can_run) == len(users):
            todo += reversed(users)
        else:
            todo += [user for user in can_run if self._frees(user)]

    def _is_near(self, index: int) -> bool:
        """Whether a task lacks only what takes next to no room."""
        inputs, done, room = self._inputs[index], self._done, self._room
        if len(inputs) > _NEAR_INPUTS:
            return False
        for source in inputs:  # noqa: SIM110  # all() takes twice as long
            if not done[source] and room[source] != 1:
                return False
        return True

    def _frees(self, index: int) -> bool:
        """Whether some input goes when this task has run."""
        left = self.left
        for source in self._inputs[index]:  # noqa: SIM110  # any() takes twice as long
            if left[source] == 1:
                return True
        return False


class _Item:
    """A key with its number."""

    __slots__ = ("key", "number")

    def __init__(self, key: Any) -> None:
        self.key = key
        self.number = UNMET

    def __repr__(self) -> str:
        return repr(self.key)


def order(wanted: Iterable[K], needs: Callable[[K], Collection[K]]) -> list[K]:
    """Return the keys that *wanted* leads to, in the order in which to run them.

    Args:
        wanted: keys; what comes first is made first.
        needs: returns the keys that a key takes; it is called once for each.

    Raises:
        UsageError: the graph goes round in a circle; names its keys, or the ends of it.
    """
    items: dict[K, _Item] = {}

    def item_of(key: K) -> _Item:
        item = items.get(key)
        if item is None:
            item = items[key] = _Item(key)
        return item

    roots = [item_of(key) for key in wanted]
    numbered, inputs = number(
        roots, lambda item: [item_of(source) for source in needs(item.key)]
    )
    sequencer = Sequencer(inputs, users_of(inputs))
    return [
        numbered[index].key
        for stretch in sequencer.stretches([root.number for root in roots])
        for index in stretch
    ]
