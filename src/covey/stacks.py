"""What code runs, found out by looking now and then: a statistical profile.

A ``Sampler`` is a thread that looks at what other threads of its process do, every ten
milliseconds, and only while somebody wants to know.  What it sees becomes a ``Tree``:
stacks merged from their outermost frame inwards, with the time for which each was seen.
A tree travels as plain names and numbers, and trees of many processes add up::

    train  ──► fit   ──► dot        names  train, fit, dot, load
          └──► load                 nodes  (parent, name, microseconds): 0 0 0, 1 1 20, ...

As numbers in a row, a tree begins with the time that was seen in no frame.

A frame is named ``function<TAB>file<TAB>line``.  The time is that between two looks, so
code that keeps others from running (it holds the interpreter's lock) is seen with all the
time that it took, though nobody could look meanwhile.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import CodeType, FrameType
from typing import Final, NamedTuple

#: How often threads are looked at.
PERIOD_SECONDS: Final = 0.01

#: Frames of one stack, the outermost ones, and nodes of one tree: what is deeper, or new
#: in a tree that is full, counts for the frame above it.
DEPTH_MAX: Final = 100
NODES_MAX: Final = 5_000

#: Nodes of all trees that are kept.
_NODES_KEPT: Final = 200_000

#: Time is kept in slices of so many seconds, so that the last minute can be shown alone.
SLICE_SECONDS: Final = 10.0
_SLICES_KEPT: Final = 90


class Tree:
    """Stacks, merged from outside inwards.

    Attributes:
        names: what the frames are called.
        nodes: for each node its parent, its name and the microseconds for which it was
            seen innermost.  Node 0 is the root, and no frame; a parent comes before
            its children.
    """

    __slots__ = ("_children", "_numbers", "names", "nodes")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.nodes: list[list[int]] = [[0, -1, 0]]
        self._numbers: dict[str, int] = {}
        self._children: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self.nodes) - 1

    @property
    def seconds(self) -> float:
        """The time that was seen in all."""
        return sum(node[2] for node in self.nodes) / 1e6

    def add(self, stack: Iterable[str], microseconds: int) -> None:
        """Count a stack, its outermost frame first."""
        at = 0
        for name in stack:
            below = self._child(at, name)
            if below < 0:
                break
            at = below
        self.nodes[at][2] += microseconds

    def _child(self, parent: int, name: str) -> int:
        """Return the node of a frame below *parent*; -1 if there is no room."""
        number = self._numbers.get(name)
        if number is None:
            if len(self.nodes) > NODES_MAX:
                return -1
            number = self._numbers[name] = len(self.names)
            self.names.append(name)
        found = self._children.get((parent, number))
        if found is None:
            if len(self.nodes) > NODES_MAX:
                return -1
            found = self._children[parent, number] = len(self.nodes)
            self.nodes.append([parent, number, 0])
        return found

    def flat(self) -> tuple[list[str], list[int]]:
        """Return names, and numbers: the root's time, then all nodes three by three."""
        numbers = [self.nodes[0][2]]
        for node in self.nodes[1:]:
            numbers += node
        return self.names, numbers

    def add_flat(self, names: Sequence[str], numbers: Sequence[int]) -> None:
        """Add a tree that came as ``flat`` gives it.

        Raises:
            ValueError: it is none.
        """
        if len(numbers) % 3 != 1 or numbers[0] < 0:
            raise ValueError("a profile's numbers come three by three")
        self.nodes[0][2] += numbers[0]
        places = [0]
        for at in range(1, len(numbers), 3):
            parent, name, microseconds = numbers[at : at + 3]
            if not (
                0 <= parent < len(places)
                and 0 <= name < len(names)
                and microseconds >= 0
            ):
                raise ValueError("a profile names what it does not have")
            above = places[parent]
            here = self._child(above, names[name])
            here = above if here < 0 else here
            self.nodes[here][2] += microseconds
            places.append(here)

    def add_tree(self, other: Tree) -> None:
        """Add another tree."""
        self.add_flat(*other.flat())

    def totals(self) -> list[int]:
        """Return for each node the microseconds of itself and all below it."""
        sums = [node[2] for node in self.nodes]
        for at in range(len(sums) - 1, 0, -1):
            sums[self.nodes[at][0]] += sums[at]
        return sums

    def pruned(self, share: float) -> Tree:
        """Return the tree without what takes less than a share of all of it.

        The time of what is left out counts for the frame above it.
        """
        sums = self.totals()
        least = share * sums[0]
        made = Tree()
        made.nodes[0][2] = self.nodes[0][2]
        places = [0]
        for at in range(1, len(self.nodes)):
            parent, name, microseconds = self.nodes[at]
            place = places[parent]
            if sums[at] >= least:
                below = made._child(place, self.names[name])  # it is another of us
                place = place if below < 0 else below
            made.nodes[place][2] += microseconds
            places.append(place)
        return made

    def collapsed(self) -> str:
        """Return a line for each stack, as flame graph tools read them.

        The frames, outermost first, separated by semicolons; then milliseconds.
        """
        lines = []
        paths = [""]
        for parent, name, microseconds in self.nodes[1:]:
            above = paths[parent]
            path = (
                f"{above};{short(self.names[name])}"
                if above
                else short(self.names[name])
            )
            paths.append(path)
            if microseconds:
                lines.append(f"{path} {round(microseconds / 1000)}\n")
        return "".join(lines)


def name_of(code: CodeType) -> str:
    """Return how the frames of *code* are called."""
    return f"{code.co_qualname}\t{code.co_filename}\t{code.co_firstlineno}"


def short(name: str) -> str:
    """Return a frame's name for people: ``fit (model.py:12)``."""
    function, file, line = name.split("\t")
    return f"{function} ({file.rpartition('/')[2]}:{line})"


class Seen(NamedTuple):
    """A thread that does something worth looking at.

    Attributes:
        subject: what it does, in the words of whoever asks.
        thread: its number.
    """

    subject: int
    thread: int


class Sampler:
    """Looks at threads now and then, while it is asked to.

    Args:
        whom: returns which threads to look at, at each look; it must be quick, and
            another thread calls it.
        is_outside: whether the frames of some code, and those outside of them, are
            none of a stack.
    """

    def __init__(
        self,
        whom: Callable[[], Iterable[Seen]],
        is_outside: Callable[[CodeType], bool],
    ) -> None:
        self._whom = whom
        self._is_outside = is_outside
        self._lock = threading.Lock()
        self._trees: dict[int, Tree] = {}
        self._until = 0.0
        self._thread: threading.Thread | None = None
        #: What the frames of a code are called; ``None`` where stacks begin.
        self._names: dict[CodeType, str | None] = {}

    def go_on(self, seconds: float) -> None:
        """Look for so many seconds from now."""
        with self._lock:
            self._until = time.perf_counter() + seconds
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._look_on, name="covey profile", daemon=True
                )
                self._thread.start()

    def take(self) -> dict[int, Tree]:
        """Return what was seen since the last time, by subject."""
        with self._lock:
            trees, self._trees = self._trees, {}
        return trees

    def _look_on(self) -> None:
        before = time.perf_counter()
        while True:
            with self._lock:
                if before >= self._until:
                    self._thread = None
                    self._names.clear()
                    return
            time.sleep(PERIOD_SECONDS)
            now = time.perf_counter()
            self._look(round(1e6 * (now - before)))
            before = now

    def _look(self, microseconds: int) -> None:
        frames = sys._current_frames()  # noqa: SLF001  # the only way
        # No frame may be held beyond this: it would keep what its variables name.  Our
        # own one names all of them, in a circle that only the garbage collector ends.
        del frames[threading.get_ident()]
        for subject, thread in self._whom():
            stack = self._stack(frames.get(thread))
            if stack:
                with self._lock:
                    tree = self._trees.setdefault(subject, Tree())
                    tree.add(stack, microseconds)

    def _stack(self, frame: FrameType | None) -> list[str]:
        """Return the names of a thread's frames, the outermost first."""
        names = self._names
        found: list[str] = []
        while frame is not None:
            code = frame.f_code
            try:
                name = names[code]
            except KeyError:
                name = names[code] = None if self._is_outside(code) else name_of(code)
            if name is None:
                break
            found.append(name)
            frame = frame.f_back
        found.reverse()
        return found[:DEPTH_MAX]


#: The subject of a sampler that looks at the event loop which made it.
OWN: Final = 0


def of_event_loop(call_soon: Callable[[Callable[[], None]], object]) -> Sampler:
    """Return a sampler that looks at the event loop of this thread, from inside.

    Where its callbacks begin is found out by being one.  Waiting is not counted.
    """
    thread = threading.get_ident()
    outside: set[CodeType] = set()

    def learn() -> None:
        frame = sys._getframe().f_back  # noqa: SLF001  # the only way
        while frame is not None:
            outside.add(frame.f_code)
            frame = frame.f_back

    def is_outside(code: CodeType) -> bool:
        return code in outside or code.co_filename.endswith("/selectors.py")

    call_soon(learn)
    return Sampler(lambda: [Seen(OWN, thread)], is_outside)


class Profiles:
    """Trees of many workers and functions, in slices of time; bounded."""

    def __init__(self) -> None:
        #: When each slice began, and its trees by worker and function.
        self._slices: deque[tuple[float, dict[tuple[str, str], Tree]]] = deque()

    def add(
        self,
        now: float,
        worker: str,
        function: str,
        names: Sequence[str],
        numbers: Sequence[int],
    ) -> None:
        """Add what was seen until *now*.

        Raises:
            ValueError: it is no tree.
        """
        if not self._slices or now - self._slices[-1][0] >= SLICE_SECONDS:
            self._slices.append((now, {}))
            self._forget()
        trees = self._slices[-1][1]
        trees.setdefault((worker, function), Tree()).add_flat(names, numbers)

    def _forget(self) -> None:
        size = sum(len(t) for _, trees in self._slices for t in trees.values())
        while len(self._slices) > 1 and (
            len(self._slices) > _SLICES_KEPT or size > _NODES_KEPT
        ):
            _, trees = self._slices.popleft()
            size -= sum(map(len, trees.values()))

    def subjects(self, since: float = 0.0) -> list[tuple[str, str, float]]:
        """Return worker, function and seconds seen, the longest first."""
        seconds: dict[tuple[str, str], float] = {}
        for began, trees in self._slices:
            if began + SLICE_SECONDS > since:
                for subject, tree in trees.items():
                    seconds[subject] = seconds.get(subject, 0.0) + tree.seconds
        found = [(worker, label, each) for (worker, label), each in seconds.items()]
        return sorted(found, key=lambda entry: -entry[2])

    def tree(self, function: str = "", worker: str = "", since: float = 0.0) -> Tree:
        """Return all that was seen of a function on a worker, or of all of them.

        Without a function, each is a frame of its own, outermost; what scheduler and
        workers do themselves is left out.
        """
        whole = Tree()
        for began, trees in self._slices:
            if began + SLICE_SECONDS <= since:
                continue
            for (place, label), tree in trees.items():
                if worker and place != worker:
                    continue
                if function == label:
                    whole.add_tree(tree)
                elif not function and not label.startswith("("):
                    names, numbers = tree.flat()
                    whole.add_flat(*_under(label, names, numbers))
        return whole


def _under(
    label: str, names: Sequence[str], numbers: Sequence[int]
) -> tuple[list[str], list[int]]:
    """Put a tree under one more frame."""
    below = [0, 0, 0, numbers[0]]
    for at in range(1, len(numbers), 3):
        parent, name, microseconds = numbers[at : at + 3]
        below += (parent + 1, name + 1, microseconds)
    return [f"{label}\t\t0", *names], below
