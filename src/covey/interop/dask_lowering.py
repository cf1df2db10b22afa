"""Nodes of a dask graph that are nothing but a call, and most of them are.

A node such as ``(add, "x", 1)`` or ``Task("y", add, TaskRef("x"), 1)`` needs
nothing of dask in the runner: it travels as a function, sent once, and a tuple
of arguments in which inputs are refs.  What dask wraps lists of inputs in
becomes plain lists here.  What dask has fused for all chunks of an array alike is
one function, too (``dask_fused``).  A node with anything else inside (tasks within
tasks, objects of the user, functions that travel by value) stays a node.
"""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from covey.client.future import Future
from covey.ids import TaskId
from covey.interop.dask_fused import Fused, fused, is_fused
from covey.interop.dask_packing import Ref, Shelf, is_large
from covey.interop.pool import RemoteData
from covey.serde.packing import LIMIT_BYTES

#: Values of these types are pickled as they are.
_ATOMS: Final = frozenset({type(None), complex, slice, type(Ellipsis), range})
#: And so are these; in a graph by hand, one may be the key of another node.
_MAYBE_KEYS: Final = frozenset({str, int, float, bool, bytes})
_FUNCTIONS: Final = (types.FunctionType, types.BuiltinFunctionType, type)
_CONTAINERS: Final = {"List": list, "Tuple": tuple, "Set": set}

#: What the keys of a graph are, and so the arguments of a call of nothing but inputs.
_KEYS: Final = _MAYBE_KEYS | {tuple}

#: The places of so many arguments.
_PLACES: Final = tuple([tuple(range(count)) for count in range(9)])


class Plain(msgspec.Struct, eq=False):
    """A call: what ``Named`` takes in the runner.

    Attributes:
        function: what is called.
        args: its arguments, with a ``Ref`` for each input.
        places: which of these are nothing but an input.
        inputs: what stands for the other nodes that it takes, each once; the same tuple
            as *args* if these are all arguments there are.
        kwargs: the named ones of its arguments.
        extras: ids of futures and large constants that it takes.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    places: tuple[int, ...] = ()
    inputs: tuple[Ref, ...] = ()
    kwargs: dict[str, Any] | None = None
    extras: tuple[int, ...] = ()

    def taken(self) -> tuple[TaskId, ...]:
        """Return the numbers of the tasks that it takes, each once."""
        tasks = tuple([ref.task for ref in self.inputs])
        # Another name has the number of what it names.
        if self.extras or (len(tasks) > 1 and len({*tasks}) < len(tasks)):
            return tuple(dict.fromkeys((*tasks, *self.extras)))
        return tasks

    def in_places(
        self, key: Any, task: TaskId, taken: tuple[TaskId, ...]
    ) -> tuple[Any, ...]:
        """Return what ``covey.serde.places`` wants pickled for it.

        Args:
            key: what it is called.
            task: the number of its task.
            taken: the numbers of the tasks that it takes.
        """
        args, places = self.args, self.places
        # Without any arguments these two are the same tuple, too.
        if args is self.inputs and not self.kwargs and len(taken) == len(args):
            return (key, tuple([source - task for source in taken]), places)
        if places:
            filled = list(args)
            for at in places:
                filled[at] = filled[at].task - task
            args = tuple(filled)
        return (key, args, places, self.kwargs) if self.kwargs else (key, args, places)


def is_call(node: Any) -> bool:
    """Say whether a node of dask is a call, and no data or another name."""
    from dask._task_spec import Task

    return isinstance(node, Task)


#: What stands for a node that the graph lacks.
MISSING: Final = object()


class _NotPlain(Exception):
    """There is something in a node that only dask understands."""


class Lowering:
    """Turns the nodes of one graph into calls, where that is all they are.

    Args:
        graph: keys and values; a text or number in a graph by hand may be such a key.
        shelf: keeps large constants.
    """

    def __init__(self, graph: Mapping[Any, Any], shelf: Shelf) -> None:
        from dask import _task_spec

        self._spec = _task_spec
        self._shelf = shelf
        self._graph = graph
        #: The key of the node at hand, and the inputs that it is known to take so far.
        self._key: Any = None
        self._inputs: dict[Ref, None] = {}
        #: What stands for each node, with what it is in the graph; its number is filled in
        #: later.  From here on a node is known by that: keys are slow to hash and compare.
        refs = map(Ref, itertools.repeat(-1), graph, graph.values())
        self._refs = dict(zip(graph, refs, strict=True))
        #: The function that was found to fit last: most often the next node has the same.
        self._fitting: Any = None
        #: By the ``id`` of its nodes, what was fused; nothing where it was met once.
        self._fused: dict[int, tuple[Any, Any, Fused | None]] = {}

    def ref(self, key: Any) -> Ref:
        """Return what stands for the node *key*, of which the graph may know nothing."""
        return self._refs.get(key) or Ref(-1, key, MISSING)

    def users_of(self, key: Any) -> list[Any]:
        """Return the keys of the nodes that take *key*, which may be missing.

        They are all looked through.  Only nodes by hand that nobody has lowered yet are
        not known: whether such a one takes a key is not seen before.
        """
        return [
            user for user, ref in self._refs.items() if key in self._taken_by(ref.node)
        ]

    def _taken_by(self, node: Any) -> Collection[Any]:
        if type(node) is Plain:
            return [source.key for source in node.inputs]
        if not isinstance(node, self._spec.GraphNode):
            return ()
        taken: Collection[Any] = node.dependencies
        return taken

    def node(self, key: Any, value: Any) -> Any:
        """Return what a value of a graph is: a ``Plain`` call, or a node of dask."""
        spec = self._spec
        self._key = key
        try:
            if type(value) is tuple and value and callable(value[0]):
                return self._by_hand(value)
            if type(value) is spec.Task and self._shelf.fits(value.func):
                if is_fused(value):
                    return self._of_fused(value)
                return self._of_dask(value, value.func, value.args)
        except _NotPlain:
            pass
        if isinstance(value, spec.GraphNode):
            return value
        node = spec.convert_legacy_task(key, value, self._refs)
        if isinstance(node, spec.GraphNode):
            return node
        return spec.DataNode(key, node)

    def whole(self, key: Any) -> Any:
        """Return the node *key* as dask has it, whatever became of it here."""
        value = self._graph[key]
        if isinstance(value, self._spec.GraphNode):
            return value
        return self._spec.convert_legacy_task(key, value, self._refs)

    # Graphs by hand.

    def _by_hand(self, value: tuple[Any, ...]) -> Plain:
        function = value[0]
        if function is not self._fitting:
            if not self._shelf.fits(function):
                raise _NotPlain
            self._fitting = function
        given = value[1:]
        if len(given) < len(_PLACES) and _KEYS.issuperset(map(type, given)):
            # Often all of them are keys, and no bytecode runs to find that out.
            found: tuple[Any, ...]
            try:
                found = tuple(map(self._refs.get, given))
            except TypeError:
                found = (None,)  # What cannot be hashed is no key.
            # A ``Ref`` is true.
            if all(found) and (len(found) < 2 or len({*found}) == len(found)):
                return Plain(function, found, _PLACES[len(found)], found)
        plain = Plain(function)
        self._inputs = {}
        plain.args = args = tuple([self._hand_made(plain, arg) for arg in given])
        plain.places = tuple([at for at, arg in enumerate(args) if type(arg) is Ref])
        plain.inputs = tuple(self._inputs)
        return plain

    def _hand_made(self, plain: Plain, value: Any) -> Any:
        """Return an argument; as dask reads it, a key stands for its value."""
        kind = type(value)
        if kind is tuple:
            if value and callable(value[0]):
                raise _NotPlain
            ref = self._ref_of(value)
            if ref is not None:
                return self._taken(ref)
            return tuple([self._hand_made(plain, item) for item in value])
        if kind in _MAYBE_KEYS:
            ref = self._refs.get(value)
            return self._sized(plain, value) if ref is None else self._taken(ref)
        if kind is list:
            return [self._hand_made(plain, item) for item in value]
        return self._other(plain, value)

    def _ref_of(self, value: tuple[Any, ...]) -> Ref | None:
        try:
            return self._refs.get(value)
        except TypeError:
            return None  # What cannot be hashed is no key.

    # Graphs of collections.

    def _of_fused(self, task: Any) -> Plain:
        """Return a call of what was fused, if many tasks of the graph have that."""
        nodes, outkey, inkeys, *given = task.args
        known = self._fused.get(id(nodes))
        if known is None:
            self._fused[id(nodes)] = (outkey, inkeys, None)
            raise _NotPlain
        if known[0] != outkey or known[1] is not inkeys:
            raise _NotPlain
        function = known[2] or fused(nodes, outkey, inkeys)
        self._fused[id(nodes)] = (outkey, inkeys, function)
        if not self._shelf.fits_whole(function):
            raise _NotPlain
        return self._of_dask(task, function, given)

    def _of_dask(
        self, task: Any, function: Callable[..., Any], given: Sequence[Any]
    ) -> Plain:
        plain = Plain(function)
        self._inputs = {}
        plain.args = args = tuple([self._argument(plain, arg) for arg in given])
        plain.places = tuple([at for at, arg in enumerate(args) if type(arg) is Ref])
        if task.kwargs:
            plain.kwargs = {
                name: self._argument(plain, arg) for name, arg in task.kwargs.items()
            }
        plain.inputs = tuple(self._inputs)
        return plain

    def _argument(self, plain: Plain, value: Any) -> Any:
        spec = self._spec
        kind = type(value)
        if kind is spec.TaskRef:
            return self._input(value.key)
        if kind is spec.Alias:
            return self._input(value.target)
        if kind is spec.DataNode:
            return self._data(plain, value.value)
        if isinstance(value, spec.Task):
            container = _CONTAINERS.get(kind.__name__)
            if container is None and getattr(value.func, "__name__", "") == (
                "_identity_cast"
            ):
                container = value.kwargs.get("typ")
            if container is not list and container is not tuple:
                raise _NotPlain
            return container([self._argument(plain, item) for item in value.args])
        if isinstance(value, spec.DataNode):
            return self._data(plain, value.value)  # One that is held by a future.
        return self._data(plain, value)

    def _data(self, plain: Plain, value: Any) -> Any:
        """Return an argument as it is: dask looks for no tasks in it."""
        kind = type(value)
        if kind in _MAYBE_KEYS:
            return self._sized(plain, value)
        if kind is tuple or kind is list:
            return kind([self._data(plain, item) for item in value])
        if kind is dict:
            return {name: self._data(plain, item) for name, item in value.items()}
        return self._other(plain, value)

    # Both.

    def _input(self, key: Any) -> Ref:
        return self._taken(self.ref(key))

    def _taken(self, ref: Ref) -> Ref:
        self._inputs[ref] = None
        return ref

    def _sized(self, plain: Plain, value: Any) -> Any:
        if type(value) in {str, bytes} and len(value) > LIMIT_BYTES:
            return self._constant(plain, value)
        return value

    def _constant(self, plain: Plain, value: Any) -> Ref:
        task = self._shelf.constant(value, "constant").id
        plain.extras += (task,)
        return Ref(task)

    def _other(self, plain: Plain, value: Any) -> Any:
        kind = type(value)
        if kind in _ATOMS:
            return value
        if isinstance(value, _FUNCTIONS):
            if not self._shelf.importable(value):
                raise _NotPlain
            return value
        if kind is Future or kind is RemoteData:
            future = value if kind is Future else value.future
            task = self._shelf.ours(self._key, future).id
            plain.extras += (task,)
            return Ref(task)
        if kind.__module__ == "numpy":
            return self._constant(plain, value) if is_large(value) else value
        raise _NotPlain
