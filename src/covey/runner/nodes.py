"""Single tasks that came together: nodes of a graph, and what one submits one by one.

A range of tasks is a ``Batch``: one function, one attempt.  Here every element is an
attempt of its own, of any function, with inputs of its own.  What one of them makes,
a later one may take without leaving the process: see ``Slot.kept``.

The agent names all of them in one operation, a list for each column::

    ["nodes", runs, functions, tasks, flags, sizes, inputs]

``inputs`` has a list for each task: ``["in", task, size]`` for a value whose bytes
follow, ``["seg", task, path, size]`` for one to be mapped, and ``["own", task, made]``
for one that is to be made on this slot before, or just its number, if both are the same.
What came with one of them is there for all that follow.  The body has the arguments of
each, followed by the bytes of its inputs.
"""

from __future__ import annotations

import operator
import pickle
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import starmap
from typing import Any, Final, NamedTuple

from covey.runner.batch import KEEP, loads_payload
from covey.runner.frames import Frame
from covey.runner.looked import Looked, NotPlain, looking
from covey.runner.mapped import LargeInputs
from covey.serde.columns import CODECS, columns_in
from covey.serde.places import PLACES_CODEC, call_in_places
from covey.serde.refs import MissingInput
from covey.serde.values import PICKLE_CODEC


class Node(NamedTuple):
    """One of them: what to call with what, and which inputs are made here."""

    run: int
    function_id: int
    task: int
    payload: bytes
    owns: tuple[tuple[int, int], ...]
    keep: bool


_run_of: Final = operator.attrgetter("run")
_task_of: Final = operator.attrgetter("task")

_loads: Final = pickle.loads


class NodeInputs:
    """The values that these tasks refer to, decoded anew for each of them.

    A task that changes what it was given changes nothing for the next one.  Those that
    only look into what they were given share it: see ``looked``.

    Attributes:
        payloads: the small ones.
        segments: where the large ones are.
        shared: whether others may have some of what this task was given.
    """

    __slots__ = (
        "_large",
        "_looked",
        "_looks",
        "_plain",
        "_values",
        "payloads",
        "segments",
        "shared",
    )

    def __init__(self, large: LargeInputs, looked: Looked, *, plain: bool) -> None:
        self._large = large
        self._looked = looked
        self._looks = False
        self._plain = plain
        self.payloads: dict[int, bytes] = {}
        self.segments: dict[int, tuple[str, int]] = {}
        self._values: dict[int, Any] = {}
        self.shared = False

    def begin(self, *, looks: bool = False) -> None:
        """Another task begins; *looks* tells whether it only looks into its inputs."""
        # Who may not read pickles reads none that another one has.
        self._looks = looks and not self._plain
        self.shared = False
        if self._values:
            self._values = {}

    def __getitem__(self, task: int) -> Any:
        try:
            return self._values[task]
        except KeyError:
            value = self._values[task] = self._decode(task)
            return value

    def _decode(self, task: int) -> Any:
        payload = self.payloads.get(task)
        if payload is not None:
            if self._looks:
                self.shared = True
                return self._looked.value(task, payload, self._loads)
            return self._loads(payload)
        place = self.segments.get(task)
        if place is not None:
            if self._looks:
                value, shared = self._large.looked(task, *place)
                self.shared |= shared
                return value
            return self._large.value(task, *place, plain=self._plain)
        raise _missing(task)

    def function(self, task: int) -> Any:
        """Return the function that is the value of a task, as all get it."""
        place = self.segments.get(task)
        if place is None:
            return self[task]
        return self._large.function(task, *place, plain=self._plain)

    def _loads(self, payload: bytes) -> Any:
        return loads_payload(payload, plain=self._plain)


class _Nothing:
    """What tasks have that were given no values of others."""

    def __getitem__(self, task: int) -> Any:
        raise _missing(task)


_NOTHING: Final = _Nothing()


def _missing(task: int) -> MissingInput:
    return MissingInput(
        f"the arguments of a task refer to task {task}, whose value did not come along"
    )


class Nodes:
    """Tasks that run one after the other.

    Attributes:
        nodes: what they are.
        inputs: what their arguments refer to; ``None`` if that is nothing.
        serializer: the family in which arguments and results are written.
        took: how long each took that has ended, in nanoseconds.
        begun: the first that a loop which takes over may claim.
        claims: yields those that nobody has claimed yet.
        lock: held while ``claims`` is exchanged.
    """

    __slots__ = ("begun", "claims", "inputs", "lock", "nodes", "serializer", "took")

    def __init__(
        self, nodes: list[Node], inputs: NodeInputs | None, serializer: str = "pickle"
    ) -> None:
        self.nodes = nodes
        self.inputs = inputs
        self.serializer = serializer
        self.took = [0] * len(nodes)
        self.begun = 0
        self.claims: Iterator[int] = iter(range(len(nodes)))
        self.lock = threading.Lock()

    def place(self, index: int) -> tuple[int, int]:
        """Return run and task of an element."""
        node = self.nodes[index]
        return node.run, node.task

    def index_of(self, run: int, task: int) -> int:
        """Return which element that is."""
        places = [(node.run, node.task) for node in self.nodes]
        return places.index((run, task))

    def function_of(self, run: int, task: int) -> int:
        """Return the function that an element calls."""
        return self.nodes[self.index_of(run, task)].function_id

    def ran(self, start: int, n: int, seconds: float, nbytes: int) -> str:
        """Return what tells, as JSON, that *n* elements have returned so many bytes.

        Each has a time of its own.  To write a whole number takes a quarter of the time
        of one with a fraction.
        """
        del seconds
        nodes = self.nodes[start : start + n]
        runs, tasks = [*map(_run_of, nodes)], [*map(_task_of, nodes)]
        return f'["rans",{runs},{tasks},{self.took[start : start + n]},{nbytes}]'

    def lacks(self, node: Node, kept: dict[int, bytes]) -> bool:
        """Take what was made here for a task; say whether something is not there."""
        inputs = self.inputs
        for task, made in node.owns:
            payload = kept.get(made)
            if payload is None or inputs is None:
                return True
            inputs.payloads[task] = payload
        return False

    def caller(self, function: Callable[..., Any]) -> Callable[[Node], Any]:
        """Return what calls *function* with the arguments of a task.

        If all that it does is to look into its inputs, it may share them.
        """
        look = looking(function, self.inputs)
        if look is None:
            return partial(self._call, function)
        return partial(self._look, look, function)

    def _look(
        self, look: Callable[..., Any], function: Callable[..., Any], node: Node
    ) -> Any:
        try:
            return self._call(look, node, looks=True)
        except NotPlain:
            # It was not called: it gets its inputs for itself.
            return self._call(function, node)

    def _call(
        self, function: Callable[..., Any], node: Node, *, looks: bool = False
    ) -> Any:
        payload, inputs = node.payload, self.inputs
        if inputs is not None:
            inputs.begin(looks=looks)
        codec, plain = payload[0], self.serializer != "pickle"
        if codec == PICKLE_CODEC and not plain:
            call = _loads(payload)
        elif codec == PLACES_CODEC:
            call = loads_payload(payload[1:], plain=plain)
            return call_in_places(call, node.task, inputs or _NOTHING, function)
        elif codec in CODECS:
            task, given = node.task, inputs or _NOTHING
            return function(*[given[at + by * task] for at, by in columns_in(payload)])
        else:
            call = loads_payload(payload, plain=plain)
        return function(*call) if type(call) is tuple else call.apply(function)

    def rewind(self, index: int) -> None:
        """Let the next one be *index*: each has its arguments for itself."""

    def retract(self, count: int) -> list[tuple[int, int, int]]:
        """Take back at most *count* that have not begun, from the end; -1 means all.

        Returns:
            Run, task and 1 for each, the last first.
        """
        with self.lock:
            rest = list(self.claims)
            if 0 <= count < len(rest):
                keep = len(rest) - count
                self.claims = iter(rest[:keep])
                rest = rest[keep:]
        return [(*self.place(index), 1) for index in reversed(rest)]


def read_nodes(
    operation: list[Any],
    frame: Frame,
    large: LargeInputs,
    looked: Looked,
    serializer_of: Callable[[int], str],
) -> list[Nodes]:
    """Make batches of a ``nodes`` operation: one for each stretch of one serializer."""
    _, *columns = operation
    found: list[tuple[list[Node], NodeInputs | None, str]] = []
    nodes: list[Node] = []
    inputs: NodeInputs | None = None
    written = None
    for run, function, task, flags, size, taken in zip(*columns, strict=True):
        serializer = serializer_of(function)
        if serializer != written:
            nodes, before, inputs, written = [], inputs, None, serializer
            if any(columns[-1]):
                inputs = NodeInputs(large, looked, plain=serializer != "pickle")
                if before is not None:
                    inputs.payloads.update(before.payloads)
                    inputs.segments.update(before.segments)
            found.append((nodes, inputs, serializer))
        payload = frame.take(size)
        owns: tuple[tuple[int, int], ...] = ()
        if inputs is not None:
            for entry in taken:
                if type(entry) is int:
                    owns += ((entry, entry),)
                elif entry[0] == "in":
                    _, known_as, nbytes = entry
                    inputs.payloads[known_as] = frame.take(nbytes)
                elif entry[0] == "own":
                    _, known_as, made = entry
                    owns += ((known_as, made),)
                else:
                    _, known_as, path, nbytes = entry
                    inputs.segments[known_as] = (path, nbytes)
        nodes.append(Node(run, function, task, payload, owns, bool(flags & KEEP)))
    return [*starmap(Nodes, found)]
