"""A dask graph on its way to the scheduler: lowered, ordered, numbered, packed.

::

    expression, layers or dict ──materialize──► nodes by key, annotations
        ──cull, order──► keys, inputs before their users
        ──number──► task ids          (an alias has the id of what it names)
        ──pack──► SubmitGraph ...     one message, or several for a large graph

Intermediates are wanted by nobody, so each goes as soon as its last user has
run.  Of a graph in several messages all tasks are wanted until the last message
has left, for the scheduler forgets what nobody wants or needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from covey.client.base import BaseClient
from covey.client.core.ranges import Range
from covey.client.engine import Engine
from covey.client.fetching import extents_of
from covey.client.future import Future
from covey.errors import UsageError
from covey.ids import TaskId
from covey.interop import dask_annotations
from covey.interop.dask_annotations import Annotations, OptionsOf
from covey.interop.dask_node import Nodes
from covey.interop.dask_packing import Ref, Shelf, is_large, pack_node
from covey.interop.pool import RemoteData
from covey.serde import refs
from covey.serde.packing import Packer
from covey.wire.base import Options
from covey.wire.client_link import Release, SubmitGraph

#: A graph with more bytes or tasks than this is sent in several messages.
CHUNK_BYTES: Final = 4 << 20
CHUNK_TASKS: Final = 20_000

#: So many kinds of tasks in one message are told apart by their names.
LABELS_MAX: Final = 64
#: Each of them takes a copy of the table of functions, which must be small then.
LABELLED_TABLE_BYTES_MAX: Final = 1 << 14


def futures_of_keys(
    client: BaseClient, dsk: Any, keys: Any = None, **options: Any
) -> Any:
    """Send a graph; return futures of *keys*, in the shape of *keys*.

    Args:
        client: where to.
        dsk: a dict, or anything that has a dask graph.
        keys: one key, or nested lists of keys; by default those that *dsk* names.
        **options: of ``Client.submit``; dask's own others are ignored.

    Raises:
        UsageError: a key is missing from the graph, or the graph has a cycle.
        NotPicklable: a node cannot travel; names the node and the culprit.
    """
    client.session.engine.check()
    if keys is None:
        if not hasattr(dsk, "__dask_keys__"):
            raise UsageError("say which keys of the graph you want: get(dsk, keys)")
        keys = dsk.__dask_keys__()
    graph, annotations = _materialize(dsk)
    ingest = _Ingest(client, graph, annotations, options)
    with client.submitter.writing.chosen():
        futures = ingest.send(list(dict.fromkeys(_flatten(keys))))
    return _shaped(keys, futures)


def _materialize(dsk: Any) -> tuple[dict[Any, Any], Annotations]:
    """Return a graph as a dict of keys and values, and its annotations by kind."""
    annotations = dask_annotations.of_graph(dsk)
    with dask_annotations.kept(annotations):
        found = dsk.__dask_graph__() if hasattr(dsk, "__dask_graph__") else dsk
        if not isinstance(found, Mapping):
            raise UsageError(
                f"a graph is a dict or a dask expression, not {type(dsk).__name__}"
            )
        graph = dict(found)
        dask_annotations.follow(annotations, dsk, graph)
    return graph, annotations


def _flatten(keys: Any) -> Iterable[Any]:
    if isinstance(keys, list):
        for item in keys:
            yield from _flatten(item)
    else:
        yield keys


def _shaped(keys: Any, futures: dict[Any, Future[Any]]) -> Any:
    if isinstance(keys, list):
        return [_shaped(item, futures) for item in keys]
    return futures[keys]


def _future_in(value: Any) -> Future[Any] | None:
    """Return the future, if a value of a graph is nothing but one."""
    from dask._task_spec import DataNode

    if isinstance(value, DataNode):
        # What dask makes of the parts of a persisted collection.
        value = value.value
    if isinstance(value, RemoteData):
        return value.future
    return value if isinstance(value, Future) else None


def _refuse_others(key: Any, value: Any) -> None:
    """Raise if a value of a graph is a future of another scheduler than covey.

    dask would take it for another name of a task, which the graph then lacks.
    """
    from dask._task_spec import DataNode, TaskRef

    if isinstance(value, DataNode):
        value = value.value
    kind = type(value)
    if kind is not TaskRef and (
        isinstance(value, TaskRef) or getattr(kind, "__dask_future__", False)
    ):
        raise UsageError(
            f"{key!r} is a future of another scheduler ({kind.__module__}."
            f"{kind.__qualname__}): its value is not here. Compute with the client it "
            f"came from, or fetch the value first"
        )


class _Ingest:
    """One graph on its way to the scheduler."""

    def __init__(
        self,
        client: BaseClient,
        graph: dict[Any, Any],
        annotations: Annotations,
        options: dict[str, Any],
    ) -> None:
        from dask._task_spec import convert_legacy_graph

        self._client = client
        self._session = client.session
        self._engine = self._session.engine
        self._submitter = client.submitter
        self._shelf = Shelf(self._submitter.bring, self._check_ours)
        self._options = OptionsOf(annotations, options)
        #: The clients whose wishes have arrived, as far as they went before this graph.
        self._awaited: set[Engine] = {self._engine}
        #: Keys that stand for what is on the cluster already.
        self._ids: dict[Any, TaskId] = {}
        #: Lives as long as a future of this graph; large constants join it.
        self._holds: list[object] = [self._shelf.holds]
        rest = {}
        for key, value in graph.items():
            future = _future_in(value)
            if future is None:
                _refuse_others(key, value)
                rest[key] = value
            else:
                self._check_ours(key, future)
                self._ids[key] = future.id
                self._holds.append(future)
        # Keys that a node may name: those of the graph, and those of futures.
        self._nodes: dict[Any, Any] = convert_legacy_graph(rest, all_keys=set(graph))
        self._aliases: dict[Any, Any] = {}

    def _check_ours(self, key: Any, future: Future[Any]) -> None:
        """See to it that a future is one of this cluster, which knows it by now."""
        engine = future.session.engine
        if engine.cluster != self._engine.cluster:
            raise UsageError(
                f"{key!r} takes {future.key}, a future of another cluster "
                f"({engine.address}): its value is not here. Compute with the client "
                f"it came from, or fetch the value and scatter it"
            )
        if engine not in self._awaited and not future.done():
            # The wish of another client goes over a link of its own, which may be the
            # slower one.  After an answer over that link, the scheduler knows it.
            future.session.ask("who_has", extents=((future.id, 1),))
            self._awaited.add(engine)

    def send(self, wanted: list[Any]) -> dict[Any, Future[Any]]:
        """Send what *wanted* needs; return the futures of the wanted keys."""
        order = self._order(wanted)
        self._resolve(order)
        tasks = [key for key in order if key in self._nodes]
        base = self._engine.new_tasks(max(1, len(tasks)))
        for index, key in enumerate(tasks):
            self._ids[key] = base + index
        chosen: set[TaskId] = set()
        futures = {key: self._future(key, chosen) for key in wanted}
        if tasks:
            message = _Messages(self, tasks, base, chosen)
            message.send({key: rank for rank, key in enumerate(order)})
        return futures

    # Order.

    def _order(self, wanted: list[Any]) -> list[Any]:
        """Return the keys that are needed, inputs first, in the best order to run."""
        from dask.order import order

        needed = self._cull(wanted)
        nodes = {key: self._nodes[key] for key in needed if key in self._nodes}
        if not nodes:
            return []
        known = self._ids.keys()
        dependencies = {
            key: {d for d in node.dependencies if d not in known}
            for key, node in nodes.items()
        }
        check_cycles(dependencies)
        ranks = order(nodes, dependencies)
        return sorted(nodes, key=ranks.__getitem__)

    def _cull(self, wanted: list[Any]) -> dict[Any, None]:
        needed: dict[Any, None] = {}
        todo = list(reversed(wanted))
        nodes = self._nodes
        while todo:
            key = todo.pop()
            if key in needed:
                continue
            needed[key] = None
            node = nodes.get(key)
            if node is not None:
                todo += node.dependencies
            elif key not in self._ids:
                raise UsageError(
                    f"the graph has no key {key!r}, but it is asked for, or a task "
                    f"depends on it"
                )
        return needed

    # Numbers.

    def _resolve(self, order: list[Any]) -> None:
        """Take out what needs no task of its own: other names, and large data."""
        from dask._task_spec import Alias, DataNode

        for key in order:
            node = self._nodes[key]
            if isinstance(node, Alias):
                self._aliases[key] = node.target
            elif isinstance(node, DataNode) and is_large(node.value):
                self._ids[key] = self._shelf.constant(node.value, label_of(key)).id
            else:
                continue
            del self._nodes[key]

    def id_of(self, key: Any) -> TaskId:
        """Return the number of the task that makes the value of *key*."""
        while key in self._aliases:
            key = self._aliases[key]
        return self._ids[key]

    def _future(self, key: Any, chosen: set[TaskId]) -> Future[Any]:
        task = self.id_of(key)
        wish = self._engine.wishes.find(task)
        if wish is not None:
            # On the cluster already, or wanted by another key as well.
            if wish.n > 1:
                for held in self._holds:
                    if isinstance(held, Future) and held.id == task:
                        return held
            wish.held += 1
            return Future(self._session, wish, 0)
        if not self._engine.owns(task):
            return self._client.future_of(task, label_of(key), None)
        wish = Range(task, 1, label_of(key), None)
        wish.held = 1
        wish.holds = self._holds
        self._engine.wishes.add(wish)
        chosen.add(task)
        return Future(self._session, wish, 0)

    # For the messages.

    def pack(self, packer: Packer, key: Any) -> tuple[TaskId, ...]:
        """Pack the arguments of one task; return what it needs."""
        node = self._nodes[key]
        inputs = {name: Ref(self.id_of(name)) for name in node.dependencies}
        with refs.capture() as found:
            pack_node(packer, self._shelf, node, inputs, label_of(key))
        return tuple(dict.fromkeys(found.task_ids))

    def options_of(self, key: Any) -> Options:
        """Return how one task is to be run."""
        return self._options.of(key)

    def take_functions(self, labels: list[str]) -> tuple[int, ...]:
        """Return the numbers of functions that run the nodes packed so far."""
        shelf = self._shelf
        different = set(labels)
        if len(different) > LABELS_MAX or (
            shelf.table_bytes > LABELLED_TABLE_BYTES_MAX and len(different) > 1
        ):
            labels = ["dask"] * len(labels)
            different = {"dask"}
        table = tuple(shelf.table)
        shelf.begin_table()
        number_of: Callable[[Any], int] = self._submitter.number_of
        numbers = {label: number_of(Nodes(label, table)) for label in different}
        return tuple([numbers[label] for label in labels])

    def post(self, message: SubmitGraph | Release) -> None:
        """Hand a message to the I/O thread."""
        self._engine.post(message)


class _Messages:
    """The messages of one graph."""

    def __init__(
        self,
        ingest: _Ingest,
        tasks: list[Any],
        base: TaskId,
        chosen: set[TaskId],
    ) -> None:
        self._ingest = ingest
        self._tasks = tasks
        self._base = base
        self._chosen = chosen
        self._several = len(tasks) > CHUNK_TASKS
        self._packer = Packer()
        self._needs: list[tuple[TaskId, ...]] = []
        self._posted = 0

    def send(self, ranks: dict[Any, int]) -> None:
        """Pack and post all of them."""
        last = len(self._tasks) - 1
        needs, packer = self._needs, self._packer
        try:
            for index, key in enumerate(self._tasks):
                needs.append(self._ingest.pack(packer, key))
                full = len(needs) >= CHUNK_TASKS or (
                    not len(needs) & 255 and packer.nbytes > CHUNK_BYTES
                )
                if full or index == last:
                    self._several = self._several or index != last
                    self._post(ranks)
        finally:
            # Also when a node cannot be packed: then nobody uses the others.
            if self._several and self._posted:
                sent = range(self._base, self._base + self._posted)
                spare = [task for task in sent if task not in self._chosen]
                self._ingest.post(Release(extents_of(spare)))

    def _post(self, ranks: dict[Any, int]) -> None:
        start, count = self._posted, len(self._needs)
        tasks = self._tasks[start : start + count]
        functions = self._ingest.take_functions([label_of(key) for key in tasks])
        pack = self._packer.take()
        kinds: list[Options] = []
        choice: list[int] = []
        for key in tasks:
            options = self._ingest.options_of(key)
            if not kinds or options is not kinds[choice[-1]]:
                if options not in kinds:
                    kinds.append(options)
                choice.append(kinds.index(options))
            else:
                choice.append(choice[-1])
        here = range(self._base + start, self._base + start + count)
        wanted: Iterable[TaskId] = here
        if not self._several:
            wanted = [task for task in here if task in self._chosen]
        self._ingest.post(
            SubmitGraph(
                here[0],
                functions,
                pack.sizes_bytes(),
                bytes(pack.data),
                tuple(self._needs),
                tuple([ranks[key] for key in tasks]),
                extents_of(wanted),
                tuple(kinds),
                tuple(choice) if len(kinds) > 1 else (),
            )
        )
        self._posted += count
        self._needs.clear()


def label_of(key: Any) -> str:
    """Return the name of a key without its token and position."""
    text = str(key[0]) if isinstance(key, tuple) and key else str(key)
    head, _, tail = text.rpartition("-")
    # A token may have dashes in it, if it is a UUID: inc-4122de2b-6d1d-4c65-...
    if len(tail) == 12 and text.count("-") >= 5:
        head = text.rsplit("-", 5)[0]
    return head if head and len(tail) >= 8 else text[:80]


def check_cycles(dependencies: dict[Any, set[Any]]) -> None:
    """Raise if the graph goes round in a circle.

    Raises:
        UsageError: it does; names the keys of one circle.
    """
    left = {key: len(sources) for key, sources in dependencies.items()}
    users: dict[Any, list[Any]] = {}
    for key, sources in dependencies.items():
        for source in sources:
            users.setdefault(source, []).append(key)
    ready = [key for key, count in left.items() if not count]
    seen = 0
    while ready:
        key = ready.pop()
        seen += 1
        for user in users.get(key, ()):
            left[user] -= 1
            if not left[user]:
                ready.append(user)
    if seen == len(dependencies):
        return
    at = next(key for key, count in left.items() if count)
    path: dict[Any, None] = {}
    while at not in path:
        path[at] = None
        at = next(source for source in dependencies[at] if left[source])
    circle = list(path)
    names = [repr(key) for key in [*circle[circle.index(at) :], at]]
    raise UsageError(f"the graph has a cycle: {' -> '.join(names)}")
