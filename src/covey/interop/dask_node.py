"""What a runner does with one node of a dask graph.

This room is what the runners import, so it knows neither client nor wire.

Most nodes are plain calls (``dask_lowering``)::

    Named(label, function)             the function of all tasks that call it
      └─ (key, args, kwargs)           the arguments of one task

Calls that only follow one another are one task (``dask_chains``): its function is a
``Chain``, or where one of them is more than a call, its node a ``Row``.

Another node travels as a pickle stream with holes (pickle's *persistent ids*)::

    Nodes(shared)                      one "function" for a whole message of nodes
      └─ (stream, inputs, extras)      the arguments of one node
            │        │       └─ values of refs: futures and large constants
            │        └─ values of other nodes, by key
            └─ holes: an even number 2i is shared[i], an odd one 2i + 1 is extras[i]

``shared`` holds the functions and classes that only travel by value, those of
``__main__`` and lambdas: pickling such a function takes as long as running a
thousand small nodes, and a graph names the same one again and again.
"""

from __future__ import annotations

import io
import operator
import pickle
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from covey.interop.dask_fused import run


class Named:
    """Calls a function, and tells the key of the node where that fails."""

    __slots__ = ("__name__", "function")

    def __init__(self, label: str, function: Callable[..., Any]) -> None:
        #: How these tasks are called in messages, and whose durations are alike.
        self.__name__ = label
        self.function = function

    def __reduce__(self) -> tuple[object, ...]:
        return (Named, (self.__name__, self.function))

    def __covey_looks_into__(self) -> Callable[..., Any] | None:
        """Return what tells of what a call takes an item, if it does nothing else."""
        return _first if self.function is operator.getitem else None

    def __call__(
        self, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Make the call of the node *key*."""
        try:
            return self.function(*args, **kwargs) if kwargs else self.function(*args)
        except Exception as error:
            error.add_note(f"in the task {key!r} of a dask graph")
            raise


def _first(
    key: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
) -> Any:
    """Return the first argument of the call of a node."""
    del key, kwargs
    return args[0] if args else None


class Link(NamedTuple):
    """One of several calls that follow one another.

    Attributes:
        function: what is called.
        takes: how many arguments, that with the named ones included.
        places: which of them are the result of the call before.
        named: whether the last one is a dict of named arguments.
    """

    function: Callable[..., Any]
    takes: int
    places: tuple[int, ...]
    named: bool = False


class Chain:
    """Makes several calls, each with the result of the one before.

    Args:
        links: the calls.
        labels: what the nodes are called, but for the last one.
    """

    __slots__ = ("labels", "links")

    def __init__(self, links: tuple[Link, ...], labels: tuple[str, ...] = ()) -> None:
        self.links = links
        self.labels = labels

    def __reduce__(self) -> tuple[object, ...]:
        return (Chain, (self.links,))

    def name(self, last: str) -> str:
        """Return what tasks are called that make these calls, the *last* one included.

        When a process dies of one of them, nobody knows which it was: all are named.
        """
        return ", ".join(dict.fromkeys((*self.labels, last)))

    def __call__(self, keys: tuple[Any, ...], *args: Any) -> Any:
        """Make all calls.

        Args:
            keys: which nodes they were, but for the last one.
            *args: the arguments of all of them, with a gap for each result.
        """
        value: Any = None
        start = 0
        for number, (function, takes, places, named) in enumerate(self.links):
            taken = list(args[start : start + takes])
            start += takes
            for at in places:
                taken[at] = value
            kwargs = taken.pop() if named else {}
            try:
                value = function(*taken, **kwargs)
            except Exception as error:
                if number < len(keys):
                    error.add_note(f"in the task {keys[number]!r} of a dask graph")
                raise
        return value


class Row:
    """Nodes of dask that follow one another, as one node.

    Args:
        nodes: them; each but the first takes nothing but the value of the one before.
        labels: what they are called.
    """

    __slots__ = ("labels", "nodes")

    def __init__(self, nodes: tuple[Any, ...], labels: tuple[str, ...] = ()) -> None:
        self.labels = labels
        self.nodes = nodes

    def __reduce__(self) -> tuple[object, ...]:
        return (Row, (self.nodes,))

    @property
    def key(self) -> Any:
        """What the node is called whose value this has."""
        return self.nodes[-1].key

    @property
    def dependencies(self) -> Collection[Any]:
        """The keys of the nodes that it takes."""
        taken: Collection[Any] = self.nodes[0].dependencies
        return taken

    @property
    def name(self) -> str:
        """What its task is called: as with a ``Chain``."""
        return ", ".join(dict.fromkeys(self.labels))

    def __call__(self, values: dict[Any, Any]) -> Any:
        """Run all of them; *values* has what the first one takes, by key."""
        value: Any = None
        for number, node in enumerate(self.nodes):
            if number:
                values = dict.fromkeys(node.dependencies, value)
            try:
                value = run(node, values)
            except Exception as error:
                if number + 1 < len(self.nodes):
                    error.add_note(f"in the task {node.key!r} of a dask graph")
                raise
        return value


class _Filler(pickle.Unpickler):
    """Reads a stream and fills its holes."""

    def __init__(
        self, stream: bytes, shared: tuple[Any, ...], extras: tuple[Any, ...]
    ) -> None:
        super().__init__(io.BytesIO(stream))
        self._sources = (shared, extras)

    def persistent_load(self, pid: int) -> Any:
        return self._sources[pid & 1][pid >> 1]


class Nodes:
    """Runs nodes that share functions; itself the function of their tasks."""

    __slots__ = ("__name__", "shared")

    def __init__(self, label: str, shared: tuple[Any, ...]) -> None:
        #: How these tasks are called in messages, and whose durations are alike.
        self.__name__ = label
        self.shared = shared

    def __reduce__(self) -> tuple[object, ...]:
        return (Nodes, (self.__name__, self.shared))

    def __call__(
        self, written: Any, inputs: dict[Any, Any], extras: tuple[Any, ...] = ()
    ) -> Any:
        """Run one node, which may also have come whole, as an object."""
        if type(written) is bytes:
            written = _Filler(written, self.shared, extras).load()
        try:
            return run(written, inputs)
        except Exception as error:
            # Inner nodes are nobody's futures: only here is it known what failed.
            error.add_note(f"in the task {written.key!r} of a dask graph")
            raise
