"""dask's collections on covey: the scheduler protocol of dask, and graph ingest.

dask hands a scheduler an expression (or a dict) and keys.  The graph is lowered
to nodes here, put into the order in which ``dask.order`` wants them run, packed,
and sent as tasks that name each other by number.  Intermediates are wanted by
nobody, so each goes as soon as its last user has run.

Whatever is embedded in a graph and large (an array in ``da.from_array``) is
brought to a worker once, and the tasks take it as an input.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from covey.client.client import Client
from covey.client.core.ranges import Range
from covey.client.fetching import extents_of
from covey.client.future import Future
from covey.client.options import options_of
from covey.errors import UsageError
from covey.ids import TaskId
from covey.interop.pool import RemoteData
from covey.serde import refs
from covey.serde.packing import Packer
from covey.wire.base import DEFAULT_OPTIONS, Options
from covey.wire.client_link import Release, SubmitGraph

#: A graph whose payloads take more than this is sent in several messages.
CHUNK_BYTES: Final = 4 << 20
CHUNK_TASKS: Final = 20_000

#: The annotations of dask that we honour, which are ``submit``'s options.
_ANNOTATIONS: Final = frozenset(
    {"priority", "retries", "resources", "workers", "allow_other_workers"}
)


class Ref:
    """Stands for the result of another task of the graph, inside a payload."""

    __slots__ = ("task",)

    def __init__(self, task: TaskId) -> None:
        self.task = task

    def __reduce__(self) -> tuple[object, ...]:
        refs.note(self.task)
        return (refs.resolve, (self.task,))


def run_node(node: Any, inputs: dict[Any, Any]) -> Any:
    """Run one node of a dask graph, on a runner."""
    return node(inputs)


# The protocol.


def get(client: Client, dsk: Any, keys: Any, **options: Any) -> Any:
    """Run a graph; return the values of *keys*, in the shape of *keys*."""
    futures = futures_of_keys(client, dsk, keys, **options)
    return client.gather(futures)


def compute(
    client: Client,
    collections: Any,
    *,
    sync: bool = False,
    optimize_graph: bool = True,
    traverse: bool = True,
    **options: Any,
) -> Any:
    """Return futures of the values of collections; with *sync* the values."""
    from dask._expr import FinalizeCompute
    from dask.base import collections_to_expr, is_dask_collection
    from dask.core import flatten

    single = not isinstance(collections, list | tuple | set | frozenset)
    given = [collections] if single else list(collections)
    if traverse:
        given = [_delayed_if_nested(item) for item in given]
    chosen = [item for item in given if is_dask_collection(item)]
    futures: list[Future[Any]] = []
    if chosen:
        expr = FinalizeCompute(collections_to_expr(chosen, optimize_graph)).optimize()
        keys = list(flatten(expr.__dask_keys__()))
        futures = futures_of_keys(client, expr, keys, **options)
    found = iter(futures)
    results = [next(found) if is_dask_collection(i) else i for i in given]
    if sync:
        values = client.gather([r for r in results if isinstance(r, Future)])
        brought = iter(values)
        results = [next(brought) if isinstance(r, Future) else r for r in results]
    return results[0] if single else results


def _delayed_if_nested(item: Any) -> Any:
    """Return a list or dict with collections inside as one delayed object."""
    from dask.base import unpack_collections

    if not isinstance(item, list | tuple | set | dict):
        return item
    collections, _ = unpack_collections(item)
    if not collections:
        return item
    from dask.delayed import delayed

    return delayed(item)


def persist(
    client: Client,
    collections: Any,
    *,
    optimize_graph: bool = True,
    traverse: bool = True,
    **options: Any,
) -> Any:
    """Return collections of the same meaning whose parts are on the cluster."""
    del traverse
    from dask import base
    from dask._expr import _ExprSequence
    from dask.base import collections_to_expr, is_dask_collection
    from dask.core import flatten

    single = is_dask_collection(collections)
    chosen = [collections] if single else list(collections)
    expr = collections_to_expr(chosen, optimize_graph)
    parts = list(expr.operands) if isinstance(expr, _ExprSequence) else [expr]
    composite = _composite_type()
    has_composite = composite is not None and any(
        isinstance(part, composite) for part in parts
    )
    expr = expr.optimize()
    if has_composite:
        parts = list(expr.operands) if isinstance(expr, _ExprSequence) else [expr]
    all_keys = expr.__dask_keys__()
    per_collection = [
        list(flatten(keys))
        for keys in (all_keys if isinstance(expr, _ExprSequence) else [all_keys])
    ]
    if len(per_collection) != len(chosen):
        per_collection = [list(flatten(keys)) for keys in all_keys]
    flat = [key for keys in per_collection for key in keys]
    futures = dict(
        zip(flat, futures_of_keys(client, expr, flat, **options), strict=True)
    )
    rebuilt = []
    for collection, part, keys in zip(chosen, parts, per_collection, strict=True):
        if has_composite and composite is not None and isinstance(part, composite):
            rebuilt.append(
                base._rebuild_composite_collection(  # noqa: SLF001  (dask's own way)
                    collection, part, futures, cull_to_child_keys=True
                )
            )
            continue
        rebuild, state = collection.__dask_postpersist__()
        rebuilt.append(rebuild({key: futures[key] for key in keys}, *state))
    return rebuilt[0] if single else rebuilt


def _composite_type() -> Any:
    import dask._expr as expressions

    return getattr(expressions, "CompositeExpr", None)


# Lowering.


def _materialize(dsk: Any) -> tuple[dict[Any, Any], dict[str, dict[Any, Any]]]:
    """Return a graph as a dict of keys and values, and its annotations by kind."""
    annotations: dict[str, dict[Any, Any]] = {}
    if hasattr(dsk, "__dask_annotations__"):
        annotations = dict(dsk.__dask_annotations__())
    elif hasattr(dsk, "layers"):
        annotations = _layer_annotations(dsk)
    if hasattr(dsk, "__dask_graph__"):
        dsk = dsk.__dask_graph__()
    if not isinstance(dsk, Mapping):
        raise UsageError(
            f"a graph is a dict or a dask expression, not {type(dsk).__name__}"
        )
    return dict(dsk), annotations


def _layer_annotations(graph: Any) -> dict[str, dict[Any, Any]]:
    found: dict[str, dict[Any, Any]] = {}
    for layer in graph.layers.values():
        for kind, value in (layer.annotations or {}).items():
            found.setdefault(kind, {}).update(dict.fromkeys(layer, value))
    return found


def _future_in(value: Any) -> Future[Any] | None:
    """Return the future, if a value of a graph is nothing but one."""
    if isinstance(value, RemoteData):
        return value.future
    return value if isinstance(value, Future) else None


def futures_of_keys(client: Client, dsk: Any, keys: Any, **options: Any) -> Any:
    """Send a graph; return futures of *keys*, in the shape of *keys*.

    Raises:
        UsageError: a key is missing from the graph, or the graph has a cycle.
    """
    graph, annotations = _materialize(dsk)
    ingest = _Ingest(client, graph, annotations, options)
    wanted = list(dict.fromkeys(_flatten(keys)))
    futures = ingest.send(wanted)
    return _shaped(keys, futures)


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


class _Ingest:
    """One graph on its way to the scheduler."""

    def __init__(
        self,
        client: Client,
        graph: dict[Any, Any],
        annotations: dict[str, dict[Any, Any]],
        options: dict[str, Any],
    ) -> None:
        from dask._task_spec import convert_legacy_graph

        self._client = client
        self._session = client.session
        self._engine = self._session.engine
        self._submitter = client.submitter
        self._annotations = annotations
        self._common = _options({k: v for k, v in options.items() if k in _OPTIONS})
        #: Keys that stand for what is on the cluster already.
        self._ids: dict[Any, TaskId] = {}
        self._holds: list[object] = []
        rest = {}
        for key, value in graph.items():
            future = _future_in(value)
            if future is None:
                rest[key] = value
            else:
                self._ids[key] = future.id
                self._holds.append(future)
        # Keys that a node may name: those of the graph, and those of futures.
        self._nodes: dict[Any, Any] = convert_legacy_graph(rest, all_keys=set(graph))
        self._aliases: dict[Any, Any] = {}

    def send(self, wanted: list[Any]) -> dict[Any, Future[Any]]:
        """Send what *wanted* needs; return the futures of the wanted keys."""
        order = self._order(wanted)
        self._resolve_aliases()
        tasks = [key for key in order if key in self._nodes]
        base = self._engine.new_tasks(max(1, len(tasks)))
        for index, key in enumerate(tasks):
            self._ids[key] = base + index
        futures: dict[Any, Future[Any]] = {}
        chosen: set[TaskId] = set()
        for key in wanted:
            futures[key] = self._future(key, chosen)
        if tasks:
            self._send_tasks(tasks, base, chosen, {k: i for i, k in enumerate(order)})
        return futures

    def _order(self, wanted: list[Any]) -> list[Any]:
        """Return the keys that are needed, inputs first, in the best order to run."""
        from dask.order import order

        needed = self._cull(wanted)
        nodes = {key: self._nodes[key] for key in needed if key in self._nodes}
        known = self._ids.keys()
        dependencies = {
            key: {d for d in node.dependencies if d not in known}
            for key, node in nodes.items()
        }
        if not nodes:
            return []
        _check_cycles(dependencies)
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

    def _resolve_aliases(self) -> None:
        """A node that only names another one needs no task of its own."""
        from dask._task_spec import Alias

        for key, node in list(self._nodes.items()):
            if isinstance(node, Alias):
                self._aliases[key] = node.target
                del self._nodes[key]

    def _id(self, key: Any) -> TaskId:
        while key in self._aliases:
            key = self._aliases[key]
        return self._ids[key]

    def _future(self, key: Any, chosen: set[TaskId]) -> Future[Any]:
        task = self._id(key)
        wish = self._engine.wishes.find(task)
        if wish is not None:
            # On the cluster already, or wanted by another key as well.
            wish.held += 1 if wish.n == 1 else 0
            if wish.n > 1:
                for held in self._holds:
                    if isinstance(held, Future) and held.id == task:
                        return held
            return Future(self._session, wish, 0)
        if not self._engine.owns(task):
            return self._client.future_of(task, _label(key), None)
        wish = Range(task, 1, _label(key), None)
        wish.held = 1
        wish.holds = self._holds
        self._engine.wishes.add(wish)
        chosen.add(task)
        return Future(self._session, wish, 0)

    # Packing.

    def _send_tasks(
        self,
        tasks: list[Any],
        base: TaskId,
        chosen: set[TaskId],
        ranks: dict[Any, int],
    ) -> None:
        fn = self._submitter.number_of(run_node)
        packer = Packer()
        needs: list[tuple[TaskId, ...]] = []
        order: list[int] = []
        options: list[Options] = []
        start = 0
        chunks = 0
        several = len(tasks) > CHUNK_TASKS
        for index, key in enumerate(tasks):
            needs.append(self._pack(packer, key))
            order.append(ranks[key])
            options.append(self._options_of(key))
            full = len(needs) >= CHUNK_TASKS or (
                not len(needs) & 255 and packer.nbytes > CHUNK_BYTES
            )
            last = index + 1 == len(tasks)
            if not full and not last:
                continue
            several = several or not last
            count = len(needs)
            # Of a graph in several messages nothing may go before all is there.
            here = range(base + start, base + start + count)
            wanted = here if several else [t for t in here if t in chosen]
            self._post(base + start, fn, packer, needs, order, options, wanted)
            start, chunks = index + 1, chunks + 1
            needs, order, options = [], [], []
        if several:
            spare = [t for t in range(base, base + len(tasks)) if t not in chosen]
            self._engine.post(Release(extents_of(spare)))

    def _post(
        self,
        base: TaskId,
        fn: int,
        packer: Packer,
        needs: list[tuple[TaskId, ...]],
        order: list[int],
        options: list[Options],
        wanted: Iterable[TaskId],
    ) -> None:
        pack = packer.take()
        kinds: list[Options] = []
        choice: list[int] = []
        for one in options:
            if one not in kinds:
                kinds.append(one)
            choice.append(kinds.index(one))
        self._engine.post(
            SubmitGraph(
                base,
                (fn,) * len(needs),
                pack.sizes_bytes(),
                bytes(pack.data),
                tuple(needs),
                tuple(order),
                extents_of(wanted),
                tuple(kinds),
                tuple(choice) if len(kinds) > 1 else (),
            )
        )

    def _pack(self, packer: Packer, key: Any) -> tuple[TaskId, ...]:
        """Pack the arguments of one task; return what it needs."""
        node = self._nodes[key]
        inputs = {name: Ref(self._id(name)) for name in node.dependencies}
        with refs.capture() as found:
            frames = packer.add((node, inputs), _label(key))
            if frames is not None:
                future = self._submitter.bring(frames, _label(key))
                self._holds.append(future)
                packer.add(Ref(future.id))
        return tuple(dict.fromkeys(found.task_ids))

    def _options_of(self, key: Any) -> Options:
        if not self._annotations:
            return self._common
        chosen = {
            kind: values[key]
            for kind, values in self._annotations.items()
            if kind in _ANNOTATIONS and key in values
        }
        return _options(chosen) if chosen else self._common


_OPTIONS: Final = _ANNOTATIONS | {"timeout"}


def _options(chosen: dict[str, Any]) -> Options:
    if not chosen:
        return DEFAULT_OPTIONS
    return options_of(
        chosen.get("priority", 0),
        chosen.get("retries", 0),
        chosen.get("timeout"),
        chosen.get("resources"),
        chosen.get("workers"),
        bool(chosen.get("allow_other_workers", False)),
    )


def _label(key: Any) -> str:
    """Return the name of a key without its token and position."""
    text = str(key[0]) if isinstance(key, tuple) and key else str(key)
    head, _, tail = text.rpartition("-")
    return head if head and len(tail) >= 8 else text[:80]


def _check_cycles(dependencies: dict[Any, set[Any]]) -> None:
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
    path: list[Any] = []
    while at not in path:
        path.append(at)
        at = next(source for source in dependencies[at] if left[source])
    circle = " -> ".join(repr(key) for key in [*path[path.index(at) :], at])
    raise UsageError(f"the graph has a cycle: {circle}")
