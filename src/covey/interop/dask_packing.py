"""Nodes of dask graphs as bytes: everything that repeats is written once.

The C pickler writes each node and asks, for every object that it meets, whether
the object should become a hole (``dask_node`` tells how holes are filled):

* functions and classes that only travel by value go into a table that many
  nodes share;
* futures become inputs of the task;
* a large constant is brought to a worker once, however many nodes hold it, and
  is an input from then on.

A node that cannot be written in this way is sent whole, by cloudpickle.
"""

from __future__ import annotations

import io
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any, Final

import msgspec

from covey.client import sources
from covey.client.future import Future
from covey.errors import NotPicklable, UsageError
from covey.ids import TaskId
from covey.interop.pool import RemoteData
from covey.payload import Buffer
from covey.serde import refs, registry
from covey.serde.packing import LIMIT_BYTES, Packer
from covey.serde.registry import PROTOCOL
from covey.serde.values import dumps, mentions_main

#: A table of shared functions has no more than this; other nodes go whole.
TABLE_ITEMS_MAX: Final = 256
TABLE_BYTES_MAX: Final = 1 << 18

#: So many functions of one graph are defined by themselves, if none is longer.
FUNCTIONS_MAX: Final = 256
FUNCTION_BYTES_MAX: Final = 1 << 16

#: Returns a future that stands for a value which is brought later.
Promise = Callable[[str], Future[Any]]

#: Brings the value of such a future to a worker.
Fulfil = Callable[[Future[Any], list[Buffer]], None]

#: Returns a future that stands in a node, by key or label, as one of this client.
Adopt = Callable[[Any, Future[Any]], Future[Any]]

#: What is never a hole.  Most objects are of these types, so they come first.
_PLAIN: Final = frozenset(
    {int, float, complex, bool, type(None), tuple, list, dict, set, frozenset, slice}
)


class Ref(msgspec.Struct, eq=False):
    """Stands for the result of another task, inside a payload.

    Attributes:
        task: its number, once that is known.
        key: what it is called in the graph, if it is a node of one.
        node: what the graph has for it; then what is to be packed, if it is to become a
            task.
        number: which one it is of those that are needed, inputs before their users.
    """

    task: TaskId
    key: Any = None
    node: Any = None
    number: int = -1

    def __repr__(self) -> str:
        return repr(self.key)

    def __reduce__(self) -> tuple[object, ...]:
        refs.note(self.task)
        return (refs.resolve, (self.task,))


class Shelf:
    """What the nodes of one graph have in common.

    Attributes:
        holds: the futures of large constants, to be kept while the graph is.
        ours: returns a future inside a node as one that this client holds; raises
            ``UsageError`` if it is not of this cluster.
        promised: the large constants that are still here, by the numbers of their tasks.
    """

    def __init__(self, promise: Promise, fulfil: Fulfil, ours: Adopt) -> None:
        self._promise = promise
        self._fulfil = fulfil
        self.ours = ours
        self.promised: dict[TaskId, tuple[Future[Any], Any, str]] = {}
        self.holds: list[Future[Any]] = []
        #: By ``id``; the object is kept, so that the id stays its own.
        self._constants: dict[int, tuple[Any, Future[Any]]] = {}
        self._by_value: dict[int, tuple[Any, int]] = {}
        self._fitting: dict[int, tuple[Any, bool]] = {}
        self.begin_table()

    # The table of functions.

    def begin_table(self) -> None:
        """Begin a new table, with a new message."""
        self.table: list[Any] = []
        self.table_bytes = 0
        self._places: dict[int, int] = {}

    def place(self, value: Any) -> int | None:
        """Return where in the table a function or class stands, if it has to."""
        place = self._places.get(id(value))
        if place is not None:
            return place
        nbytes = self._bytes_by_value(value)
        if not nbytes:
            return None
        if (
            len(self.table) >= TABLE_ITEMS_MAX
            or self.table_bytes + nbytes > TABLE_BYTES_MAX
        ):
            raise _TableFull
        self.table_bytes += nbytes
        self._places[id(value)] = place = len(self.table)
        self.table.append(value)
        return place

    def importable(self, value: Any) -> bool:
        """Say whether a function or class is one that runners can import."""
        return not self._bytes_by_value(value)

    def _bytes_by_value(self, value: Any) -> int:
        """Return how long a function or class is by value; 0 if it can be imported."""
        known = self._by_value.get(id(value))
        if known is not None:
            return known[1]
        nbytes = 0 if _importable(value) else _bytes_whole(value)
        if nbytes:
            sources.remember(value)
        self._by_value[id(value)] = (value, nbytes)
        return nbytes

    def fits(self, function: Any) -> bool:
        """Say whether *function* can be defined by itself, for all tasks that call it.

        It cannot if it is large or holds futures, nor if a graph has very many: the
        scheduler and the runners keep every function for good.
        """
        known = self._fitting.get(id(function))
        if known is not None:
            return known[1]
        return self._fits(function, self._bytes_by_value)

    def fits_whole(self, function: Any) -> bool:
        """Say the same of a callable object, which is written with all that it holds."""
        return self._fits(function, _bytes_whole)

    def _fits(self, function: Any, bytes_of: Callable[[Any], int]) -> bool:
        known = self._fitting.get(id(function))
        if known is not None:
            return known[1]
        fits = len(self._fitting) < FUNCTIONS_MAX
        if fits:
            try:
                fits = bytes_of(function) <= FUNCTION_BYTES_MAX
            except NotPicklable:
                fits = False  # The node will be written whole, and tell where it is.
            self._fitting[id(function)] = (function, fits)
        return fits

    # Constants.

    def constant(self, value: Any, label: str) -> Future[Any]:
        """Return the future of a large value, bringing it the first time."""
        future = self.later(value, label)
        self.bring(future.id)
        return future

    def later(self, value: Any, label: str) -> Future[Any]:
        """Return the future of a large value that is brought when it is needed."""
        known = self._constants.get(id(value))
        if known is None:
            known = (value, self._promise(label))
            self._constants[id(value)] = known
            self.holds.append(known[1])
            self.promised[known[1].id] = (known[1], value, label)
        return known[1]

    def bring(self, task: TaskId) -> int:
        """Bring a constant, if it is one that is still here; return how large it is."""
        promised = self.promised.pop(task, None)
        if promised is None:
            return 0
        future, value, label = promised
        self._fulfil(future, dumps(value, label))
        return int(value.nbytes) if hasattr(value, "nbytes") else len(value)

    def whole(self, frames: list[Buffer], label: str) -> Future[Any]:
        """Bring the arguments of a node, which are too large for a message."""
        future = self._promise(label)
        self._fulfil(future, frames)
        self.holds.append(future)
        return future


class _TableFull(Exception):
    """The table has no room; the node that brought this up goes whole."""


def _importable(value: Any) -> bool:
    cloudpickle = sys.modules.get("cloudpickle")
    if cloudpickle is not None:
        # Modules of which the user said that they are to go by value.
        chosen = cloudpickle.list_registry_pickle_by_value()
        if chosen and str(value.__module__).partition(".")[0] in chosen:
            return False
    try:
        stream = pickle.dumps(value, PROTOCOL)
    except Exception:
        return False
    return not mentions_main(stream)


class _Writer(pickle.Pickler):
    """Writes one node, leaving holes."""

    def __init__(self, file: io.BytesIO, shelf: Shelf, label: str) -> None:
        super().__init__(file, PROTOCOL)
        self.dispatch_table = registry.dispatch_table()
        self.extras: list[Ref] = []
        self._shelf = shelf
        self._label = label

    def persistent_id(self, value: Any) -> int | None:
        kind = type(value)
        if kind in _PLAIN:
            return None
        if kind is str or kind is bytes or kind is bytearray:
            if len(value) <= LIMIT_BYTES:
                return None
        elif kind is types.FunctionType or isinstance(value, type):
            place = self._shelf.place(value)
            return None if place is None else place << 1
        elif kind is Future or kind is RemoteData:
            future = value if kind is Future else value.future
            return self._extra(self._shelf.ours(self._label, future).id)
        elif not is_large(value):
            return None
        return self._extra(self._shelf.constant(value, self._label).id)

    def _extra(self, task: TaskId) -> int:
        self.extras.append(Ref(task))
        return (len(self.extras) - 1) << 1 | 1


def is_large(value: Any) -> bool:
    """Say whether *value* is an array that is too large for a message."""
    kind = type(value)
    return (
        kind.__name__ == "ndarray"
        and kind.__module__ == "numpy"
        and value.nbytes > LIMIT_BYTES
    )


def pack_call(
    packer: Packer, shelf: Shelf, key: Any, args: Any, kwargs: Any, label: str
) -> int | None:
    """Pack what ``Named`` takes to make one call.

    Returns:
        The id of one more input, if the arguments are too large for a message.

    Raises:
        NotPicklable: an argument cannot travel; names it.
    """
    value = (key, args, kwargs) if kwargs else (key, args)
    try:
        frames = packer.add(value, label)
    except NotPicklable:
        dumps(args, f"{label}.args")
        dumps(kwargs, f"{label}.kwargs")
        raise
    if frames is None:
        return None
    task = shelf.whole(frames, label).id
    packer.add(Ref(task))
    return task


def pack_node(
    packer: Packer, shelf: Shelf, node: Any, inputs: dict[Any, Ref], label: str
) -> None:
    """Pack what ``Nodes`` takes to run *node*.  A capture must be active.

    Raises:
        NotPicklable: the node cannot travel; names the culprit.
    """
    value = _with_holes(shelf, node, inputs, label)
    if value is None:
        value = (node, inputs)
    try:
        frames = packer.add(value, label)
    except NotPicklable:
        dumps(node, label)  # Tells where in the node it is, not where beside it.
        raise
    if frames is not None:
        packer.add(Ref(shelf.whole(frames, label).id))


def _with_holes(
    shelf: Shelf, node: Any, inputs: dict[Any, Ref], label: str
) -> tuple[Any, ...] | None:
    if registry.in_use():
        return None
    file = io.BytesIO()
    writer = _Writer(file, shelf, label)
    try:
        with refs.capture() as found:
            writer.dump(node)
    except NotPicklable:
        return None  # The second try tells where in the node it is.
    except UsageError:
        raise
    except Exception:
        return None  # What cannot be written at all is told by the second try.
    stream = file.getvalue()
    if mentions_main(stream) or found.task_ids:
        return None
    if writer.extras:
        return (stream, inputs, tuple(writer.extras))
    return (stream, inputs)


def _bytes_whole(value: Any) -> int:
    """Return how long *value* is by value; more than any room if it holds futures."""
    with refs.capture() as found:
        nbytes = sum(memoryview(frame).nbytes for frame in dumps(value))
    # Those must become inputs of each task.
    return TABLE_BYTES_MAX + 1 if found.task_ids else nbytes
