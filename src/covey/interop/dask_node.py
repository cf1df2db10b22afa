"""What a runner does with one node of a dask graph.

This room is what the runners import, so it knows neither client nor wire.

Most nodes are plain calls (``dask_lowering``)::

    Named(label, function)             the function of all tasks that call it
      └─ (key, args, kwargs)           the arguments of one task

Calls that only follow one another are one task (``dask_chains``): its function is a
``Chain``, or where one of them is more than a call, its node a ``Row``.  Where a call in
the midst returns a coroutine, the runner waits for that before it makes the next one.

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
from collections.abc import Callable, Collection, Coroutine
from types import CoroutineType
from typing import Any, NamedTuple

from covey.interop.dask_fused import run
from covey.runner.coroutines import Rest


def _note(error: Exception, key: Any) -> None:
    """Tell which node failed."""
    error.add_note(f"in the task {key!r} of a dask graph")


async def _then(
    coroutine: Coroutine[Any, Any, Any],
    key: Any,
    go_on: Callable[..., Any],
    *args: Any,
) -> Rest:
    """Wait for what a call in the midst of a task returned.

    Args:
        coroutine: it.
        key: which node it was.
        go_on: makes the calls that follow.  It is given the value in a list, which it
            empties: nobody else shall hold on to that.
        *args: what it is given besides.
    """
    try:
        held = [await coroutine]
    except Exception as error:
        _note(error, key)
        raise
    return Rest(go_on, held, *args)


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
            if type(self.function) is not Chain:
                _note(error, key)
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
        """Make all calls, or return a coroutine that is about to.

        Args:
            keys: which nodes they were.
            *args: the arguments of all of them, with a gap for each result.
        """
        return self._go_on([None], 0, keys, args)

    def _go_on(
        self, held: list[Any], first: int, keys: tuple[Any, ...], args: tuple[Any, ...]
    ) -> Any:
        """Make the calls from *first* on; *held* has the value before, and is emptied."""
        value = held.pop()
        start = 0
        for number, (function, takes, places, named) in enumerate(self.links):
            if number < first:
                start += takes
                continue
            if type(value) is CoroutineType:
                return _then(value, keys[number - 1], self._go_on, number, keys, args)
            taken = list(args[start : start + takes])
            start += takes
            for at in places:
                taken[at] = value
            kwargs = taken.pop() if named else {}
            try:
                value = function(*taken, **kwargs)
            except Exception as error:
                _note(error, keys[number])
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
        """Run all of them, or return a coroutine that is about to.

        Args:
            values: what the first one takes, by key.
        """
        return self._run([values], 0)

    def _go_on(self, held: list[Any], first: int) -> Any:
        """Run those from *first* on; *held* has the value before, and is emptied."""
        return self._run(
            [dict.fromkeys(self.nodes[first].dependencies, held.pop())], first
        )

    def _run(self, held: list[dict[Any, Any]], first: int) -> Any:
        """Run those from *first* on; *held* has what that takes, and is emptied."""
        values = held.pop()
        value: Any = None
        for number in range(first, len(self.nodes)):
            node = self.nodes[number]
            if number > first:
                if type(value) is CoroutineType:
                    return _then(value, self.nodes[number - 1].key, self._go_on, number)
                values = dict.fromkeys(node.dependencies, value)
            try:
                value = run(node, values)
            except Exception as error:
                _note(error, node.key)
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
            # Inner nodes are nobody's futures: only here is it known what failed, but of
            # nodes in a row.
            if type(written) is not Row:
                _note(error, written.key)
            raise
