"""Nodes that dask has fused into one, run one after the other.

dask fuses chains of nodes, and what was fused into fused nodes again.  It runs such a
node level by level, and each level holds on to what it was given until it returns: an
array that goes through 40 levels is held 40 times over, in as many versions.  Here the
levels are taken apart first, so that each value goes when its last user has run::

    fused(x)                              values      x
      └─ where(gt, add)                   pow    (x)         takes place 0
           ├─ fused ── gt(add)            add    (pow, x)    drops pow
           └─ fused ── add(pow(x), x)     gt     (add)
                                          where  (gt, add)   drops both

The runners import this room, so it knows neither client nor wire.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from covey.interop.dask_constants import Anew, may_change
from covey.interop.dask_order import order


class Step(NamedTuple):
    """One node on its way.

    Attributes:
        node: what is run.
        takes: under which key it takes which value, by place.
        drops: which values nobody takes after it.
    """

    node: Any
    takes: tuple[tuple[Any, int], ...]
    drops: tuple[int, ...]


class Fused:
    """Calls a fused node: as many arguments as it takes, one result.

    Attributes:
        inputs: how many values it takes; theirs are the first places.
        steps: what is run; the value of each has the next place.
        result: the place of what comes out: of an input, if nothing is run.
    """

    __slots__ = ("_anew", "inputs", "result", "steps")

    #: What it is shown as by who asks for a function's name.
    __name__ = "fused"

    def __init__(self, inputs: int, steps: tuple[Step, ...], result: int) -> None:
        self.inputs = inputs
        self.steps = steps
        self.result = result
        #: By their places, nodes of which each call has one of its own.
        self._anew: dict[int, Anew] = {}

    def share(self) -> Fused:
        """Make ready for several tasks, which see nothing of each other; return self."""
        for place, step in enumerate(self.steps, self.inputs):
            if may_change(step.node):
                # What pickle alone cannot write stays shared.
                with contextlib.suppress(Exception):
                    self._anew[place] = Anew(step.node)
        return self

    def __reduce__(self) -> tuple[object, ...]:
        # Steps as plain tuples: there are many, and they are what takes room.
        return (_made, (self.inputs, [tuple(step) for step in self.steps], self.result))

    def __call__(self, *inputs: Any) -> Any:
        """Run what was fused, and return what comes out."""
        values = [*inputs, *[None] * len(self.steps)]
        place, anew = self.inputs, self._anew
        for node, takes, drops in self.steps:
            if anew and place in anew:
                node = anew[place].node()
            values[place] = node({key: values[at] for key, at in takes})
            for at in drops:
                values[at] = None
            place += 1
        return values[self.result]


def _made(inputs: int, steps: list[tuple[Any, ...]], result: int) -> Fused:
    # What is read as a function is called by many tasks.
    return Fused(inputs, tuple([Step(*step) for step in steps]), result).share()


def run(node: Any, values: dict[Any, Any]) -> Any:
    """Run a node of dask; *values* has what it takes, by key."""
    from dask import _task_spec as spec

    if not is_fused(node):
        return node(values)
    inner, outkey, inkeys, *given = node.args
    inputs = [
        values[value.key]
        if type(value) is spec.TaskRef
        else value({key: values[key] for key in value.dependencies})
        if isinstance(value, spec.GraphNode)
        else value
        for value in given
    ]
    return fused(inner, outkey, inkeys)(*inputs)


def is_fused(node: Any) -> bool:
    """Say whether a node of dask is one that others were fused into."""
    from dask import _task_spec as spec

    return (
        type(node) is spec.Task
        and node.func is spec._execute_subgraph  # noqa: SLF001  (dask has no other name for it)
        and not node.kwargs
    )


def fused(inner: dict[Any, Any], outkey: Any, inkeys: Sequence[Any]) -> Fused:
    """Take a fused node apart.

    Args:
        inner: its nodes, by key.
        outkey: which of them has the result.
        inkeys: how they call what the whole takes.
    """
    top = _Level(inner, {key: at for at, key in enumerate(inkeys)}, None)
    needs: dict[_Found, dict[Any, _Found]] = {}

    def look(entry: _Found) -> list[_Found]:
        if isinstance(entry, int):
            return []
        level, key = entry
        names = level.nodes[key].dependencies
        needs[entry] = taken = {name: level.find(name) for name in names}
        return list(dict.fromkeys(taken.values()))

    result = top.find(outkey)
    found = order([result], look)
    nodes = [entry for entry in found if not isinstance(entry, int)]
    place: dict[_Found, int] = {at: at for at in range(len(inkeys))}
    place |= {entry: at for at, entry in enumerate(nodes, len(inkeys))}
    last = {place[e]: at for at, node in enumerate(nodes) for e in needs[node].values()}
    drops: list[list[int]] = [[] for _ in nodes]
    for gone, at in last.items():
        drops[at].append(gone)
    steps = []
    for entry, dropped in zip(nodes, drops, strict=True):
        takes = tuple([(name, place[e]) for name, e in needs[entry].items()])
        steps.append(Step(entry[0].nodes[entry[1]], takes, tuple(dropped)))
    return Fused(len(inkeys), tuple(steps), place[result])


class _Level:
    """One level of a fused node, and where it takes its inputs from.

    Args:
        nodes: its nodes, by key.
        given: for each key that it is given, the key in the level above; for the
            outermost level, which input that is.
        above: the level above.
    """

    __slots__ = ("_above", "_below", "_given", "nodes")

    def __init__(
        self, nodes: dict[Any, Any], given: dict[Any, Any], above: _Level | None
    ) -> None:
        self.nodes = dict(nodes)
        self._given = given
        self._above = above
        #: The levels within it, by the key of the node that each of them is.
        self._below: dict[Any, tuple[_Level, Any]] = {}

    def find(self, key: Any) -> _Found:
        """Return what is behind a key: through other names, and through all levels."""
        from dask._task_spec import Alias

        level = self
        while True:
            if key in level._given:
                key = level._given[key]
                if level._above is None:
                    return int(key)
                level = level._above
                continue
            node = level.nodes[key]
            if type(node) is Alias:
                key = node.target
            elif is_fused(node):
                level, key = level.within(key, node)
            else:
                return (level, key)

    def within(self, key: Any, node: Any) -> tuple[_Level, Any]:
        """Return the level that a node is, and which key has its result there."""
        known = self._below.get(key)
        if known is None:
            inner, outkey, inkeys, *given = node.args
            names = [self._name(value) for value in given]
            level = _Level(inner, dict(zip(inkeys, names, strict=True)), self)
            known = self._below[key] = (level, outkey)
        return known

    def _name(self, value: Any) -> Any:
        """Return the key of what a level within is given, which may have had none."""
        from dask._task_spec import DataNode, GraphNode, TaskRef

        if type(value) is TaskRef:
            return value.key
        name = object()
        self.nodes[name] = (
            value if isinstance(value, GraphNode) else DataNode(None, value)
        )
        return name


#: A node and its level; or an input of the whole, by number.
_Found = tuple[_Level, Any] | int
