"""A dask graph on its way to the scheduler: lowered, ordered, numbered, packed.

::

    expression, layers or dict ──materialize──► values by key, annotations
        ──lower──► calls, and nodes of dask      (``dask_lowering``)
        ──cull, number──► nodes, inputs before their users    (``dask_order``)
        ──join──► one task for calls that only follow one another   (``dask_chains``)
        ──order──► task ids      (an alias has the id of what it names)
        ──pack──► SubmitGraph ...      one message, or many for a large graph

The last two go on side by side, so that the first tasks run while the others are still
being brought into an order.

Intermediates are wanted by nobody, so each goes as soon as its last user has
run (``dask_messages`` tells how that holds for a graph in many messages).
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import partial
from typing import Any, Final

from covey.client import advice
from covey.client.adopting import check_open
from covey.client.base import BaseClient
from covey.client.core.ranges import Range
from covey.client.engine import Engine
from covey.client.future import Future
from covey.errors import UsageError
from covey.ids import TaskId
from covey.interop import dask_annotations, dask_strangers, exchanges
from covey.interop.dask_advice import advise
from covey.interop.dask_annotations import Annotations, OptionsOf
from covey.interop.dask_chains import join
from covey.interop.dask_keywords import check_keywords
from covey.interop.dask_lowering import MISSING, Lowering, Plain
from covey.interop.dask_messages import Messages
from covey.interop.dask_names import Names, label_of
from covey.interop.dask_node import Chain, Named, Nodes
from covey.interop.dask_order import Sequencer, number, users_of
from covey.interop.dask_packing import Ref, Shelf, is_large, pack_call, pack_node
from covey.interop.pool import RemoteData
from covey.serde import refs
from covey.serde.packing import Packer
from covey.serde.places import PLACES_CODEC
from covey.units import counted
from covey.wire.base import Message

# Whoever makes tasks that nobody wrote by hand says what can be done about them.
advice.enter(advise)

#: So many kinds of tasks are told apart by their names.
LABELS_MAX: Final = 512
#: The same for tasks of one message that share a table of functions, which each
#: of these kinds takes a copy of; and how long the table may be for that.
TABLE_LABELS_MAX: Final = 64
TABLE_BYTES_MAX: Final = 1 << 14

#: How the keys of dask's stores on disk begin, those of data frames and of bags.
_DISK_HEADS: Final = ("zpartd-", "partd-")

#: Comes before the calls that are packed many at a time.
_IN_PLACES: Final = bytes((PLACES_CODEC,))

#: From so many tasks on, the garbage collector rests while a graph is sent.
MANY_TASKS: Final = 10_000


def futures_of_keys(
    client: BaseClient, dsk: Any, keys: Any = None, **options: Any
) -> Any:
    """Send a graph; return futures of *keys*, in the shape of *keys*.

    Args:
        client: where to.
        dsk: a dict, or anything that has a dask graph.
        keys: one key, or nested lists of keys; by default those that *dsk* names.
        **options: of ``Client.submit``; those of dask's own schedulers are ignored.

    Raises:
        UsageError: a key is missing from the graph, the graph has a cycle, or an option
            is nearly the name of one.
        NotPicklable: a node cannot travel; names the node and the culprit.
    """
    client.session.engine.check()
    check_keywords(options)
    if keys is None:
        if not hasattr(dsk, "__dask_keys__"):
            raise UsageError("say which keys of the graph you want: get(dsk, keys)")
        keys = dsk.__dask_keys__()
    graph, annotations = _materialize(dsk)
    options = dask_annotations.of_call(annotations, options, graph)
    wanted = list(dict.fromkeys(_flatten(keys)))
    with client.submitter.writing.chosen(), _collector_at_rest(len(graph)):
        # What was made for that alone is gone before the collector looks at it.
        try:
            futures = _Ingest(client, graph, annotations, options).send(wanted)
        except _Missing as missing:
            raise missing.told(dsk) from None
    return _shaped(keys, futures)


@contextlib.contextmanager
def _collector_at_rest(tasks: int) -> Iterator[None]:
    """Spare a large graph the garbage collector, which would go through all of it.

    Without that, a quarter of the time for 50,000 tasks is the collector's.
    """
    if tasks < MANY_TASKS or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _materialize(dsk: Any) -> tuple[dict[Any, Any], Annotations]:
    """Return a graph as a dict of keys and values, and its annotations by kind."""
    annotations = dask_annotations.of_graph(dsk)
    with dask_annotations.kept(annotations), exchanges.told():
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


class _Missing(Exception):
    """The graph lacks a key.

    Attributes:
        key: which one.
        users: what takes it; none if it was asked for.
    """

    def __init__(self, key: Any, users: list[Any]) -> None:
        super().__init__(key)
        self.key = key
        self.users = users

    def told(self, dsk: Any) -> UsageError:
        """Return what to say of it; *dsk* is the graph as it was given."""
        key, users = self.key, self.users
        stranger = dask_strangers.behind(dsk, key, users)
        if stranger is not None:
            return stranger
        if not users:
            return UsageError(f"the graph has no key {key!r}, and you asked for it")
        who = f"{users[0]!r} takes"
        if users[1:]:
            who = f"{users[0]!r} and {counted(len(users) - 1, 'other')} take"
        return UsageError(
            f"the graph has no key {key!r}, which {who}. Add it to the graph, or mend "
            f"the name in the task"
        )


def _refuse_one_disk(engine: Engine, head: str) -> None:
    """Raise if tasks of several hosts would exchange data over a disk of one.

    Each of them would read what was written on its own host, and nobody would notice.
    """
    if not head.startswith(_DISK_HEADS):
        return
    hosts = {seen.host for seen in engine.workers.values()}
    if len(hosts) > 1:
        raise UsageError(
            f"{head!r} is a shuffle over the disk of one machine, and the workers are "
            f"on {len(hosts)} hosts. Let dask shuffle by tasks: dask.config.set("
            f"{{'dataframe.shuffle.method': 'tasks'}}), as covey does while a client is "
            f"the default, or shuffle_method='tasks' (bags: shuffle='tasks')"
        )


class _Ours:
    """Futures inside a graph, as ones that the client who sends it holds.

    Attributes:
        holds: those futures.
    """

    def __init__(self, client: BaseClient, holds: list[object]) -> None:
        self.holds = holds
        self._client = client
        self._engine = client.session.engine
        #: The clients whose wishes have arrived, as far as they went before this graph.
        self._awaited: set[Engine] = set()

    def __call__(self, key: Any, future: Future[Any]) -> Future[Any]:
        """Return a future that this client holds, of the same task.

        Raises:
            UsageError: the future is one of another cluster, or its client was closed.
        """
        engine = future.session.engine
        if engine is self._engine:
            return future
        check_open(future, self._engine.name, repr(key))
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
        token = engine.token_of(future.id)
        ours = self._client.future_of(future.id, label_of(key), None, token)
        # If theirs is let go before ours is known, the task is gone.
        self.holds += (ours, future)
        return ours


class _Ingest:
    """One graph on its way to the scheduler."""

    def __init__(
        self,
        client: BaseClient,
        graph: dict[Any, Any],
        annotations: Annotations,
        options: dict[str, Any],
    ) -> None:
        self._client = client
        self._session = client.session
        self._engine = self._session.engine
        self._submitter = client.submitter
        #: Lives as long as a future of this graph; large constants join it.
        self._holds: list[object] = []
        self._ours = _Ours(client, self._holds)
        self._shelf = Shelf(self._submitter.promise, self._submitter.fulfil, self._ours)
        self._holds.append(self._shelf.holds)
        self.options = OptionsOf(annotations, options)
        self._lowering = Lowering(graph, self._shelf)
        #: How many nodes there are that are no calls.
        self._others = 0
        # No method of this object: it would hold itself, and with it the whole graph,
        # until the collector comes, which takes several times as long as to let go.
        self._names = Names(partial(_refuse_one_disk, self._engine))
        #: What other names name, and the other way round.
        self._target_of: dict[Ref, Ref] = {}
        self._named: dict[Ref, list[Ref]] = {}
        #: The wanted keys, and their futures, as far as these have been made.
        self._roots: set[Ref] = set()
        self._futures: dict[Ref, Future[Any]] = {}
        self._functions: dict[tuple[int, str], int] = {}
        #: The same by function and what the key begins with, where that is a tuple.
        self._numbers: dict[tuple[int, Any], int] = {}
        self._taken: list[int] = []

    def send(self, wanted: list[Any]) -> dict[Any, Future[Any]]:
        """Send what *wanted* needs; return the futures of the wanted keys."""
        roots = [self._lowering.ref(key) for key in wanted]
        nodes, inputs = number(roots, self._needs)
        if self._others:
            self._resolve(nodes, inputs)
        self._roots.update(roots)
        chosen = [self._target_of.get(root, root).number for root in roots]
        users = users_of(inputs)
        if not self.options.given and join(
            *(nodes, inputs, users, set(chosen), self._shelf, self._names),
            self._lowering.whole,
        ):
            users = users_of(inputs)
        count = sum([ref.node is not None for ref in nodes])
        if count:
            base = self._engine.new_tasks(count)
            sequencer = Sequencer(inputs, users)
            try:
                Messages(self, nodes, sequencer, base, chosen, self._named).send()
            finally:
                self._submitter.done_with(self._taken)
        for task in list(self._shelf.promised):
            self._shelf.bring(task)  # No call takes it, so somebody wants it itself.
        made = self._futures
        for root in roots:
            if root not in made:
                made[root] = self._future(root)  # It was no task of this graph.
        return {root.key: made[root] for root in roots}

    # What a key needs.

    def _needs(self, ref: Ref) -> Collection[Ref]:
        """Look up what a node is, and return what stands for those that it takes."""
        key, value = ref.key, ref.node
        if type(value) is not tuple:
            if value is MISSING:
                raise _Missing(key, self._lowering.users_of(key))
            future = _future_in(value)
            if future is not None:
                ours = self._ours(key, future)
                ref.task, ref.node = ours.id, None
                self._holds.append(ours)
                self._others += 1
                return ()
            dask_strangers.refuse(key, value)
        node = ref.node = self._lowering.node(key, value)
        if type(node) is Plain:
            return node.inputs
        self._others += 1
        return [self._lowering.ref(name) for name in node.dependencies]

    def _resolve(self, nodes: list[Ref], inputs: list[list[int]]) -> None:
        """Take out what needs no task of its own: other names, and large data.

        Who takes another name takes what it names: so *inputs* says then.
        """
        from dask._task_spec import Alias, DataNode

        target_of = self._target_of
        #: By the number of another name, that of what it names.
        real: dict[int, int] = {}
        for ref in nodes:
            node = ref.node
            if type(node) is Plain or node is None:
                continue
            if isinstance(node, Alias):
                target = self._lowering.ref(node.target)
                target = target_of.get(target, target)
                target_of[ref] = target
                self._named.setdefault(target, []).append(ref)
                real[ref.number] = target.number
                ref.task = target.task  # That is known if it needs no task, either.
                inputs[ref.number] = []
            elif isinstance(node, DataNode) and is_large(node.value):
                ref.task = self._shelf.later(node.value, label_of(ref.key)).id
            else:
                continue
            ref.node = None
        if real:
            for index, sources in enumerate(inputs):
                if not real.keys().isdisjoint(sources):
                    inputs[index] = list(dict.fromkeys(real.get(s, s) for s in sources))

    def hold(self, ref: Ref) -> None:
        """Hold the futures of the wanted keys of a task, which is about to be sent."""
        for key in (ref, *self._named.get(ref, ())):
            if key in self._roots:
                self._futures[key] = self._future(key)

    def _future(self, ref: Ref) -> Future[Any]:
        key, task = ref.key, ref.task
        wish = self._engine.wishes.find(task)
        if wish is not None:
            held = self._session.hold(wish, task - wish.base)
            if held is not None:
                # On the cluster already, or wanted by another key as well.
                return held
        if not self._engine.owns(task):
            return self._client.future_of(task, label_of(key), None)
        wish = Range(task, 1, self._names.of_task(ref), None)
        wish.holds = self._holds
        future: Future[Any] = Future(self._session, wish, 0)
        self._session.enter(wish)
        return future

    # For the messages.

    @property
    def promised(self) -> bool:
        """Whether any large constant is still to be brought."""
        return bool(self._shelf.promised)

    def bring(self, ref: Ref) -> int:
        """Bring the large constants that a task takes; return how many bytes that was."""
        shelf, node = self._shelf, ref.node
        if not shelf.promised:
            return 0
        if type(node) is Plain:
            inputs = node.inputs
        else:
            inputs = tuple([self._lowering.ref(name) for name in node.dependencies])
        return sum([shelf.bring(source.task) for source in inputs])

    def pack(
        self,
        packer: Packer,
        chosen: Sequence[Ref],
        needs: list[tuple[TaskId, ...]],
        functions: list[int | str],
    ) -> int:
        """Pack the arguments of some tasks.

        Args:
            packer: takes them in.
            chosen: which tasks.
            needs: is added what each of them takes.
            functions: is added what runs it: a function by number, or ``Nodes`` with
                the table of its message, to be shown under this label.

        Returns:
            How many bytes that took.
        """
        nodes = [ref.node for ref in chosen]
        if set(map(type, nodes)) == {Plain}:
            # Most often they are small, and nothing in them needs a second look.
            taken, calls, numbers = [], [], []
            # Where every node is a call, no two of them are the same task.
            all_differ = not self._others
            for ref, node in zip(chosen, nodes, strict=True):
                args, task = node.args, ref.task
                if all_differ and args and args is node.inputs:
                    # Most often, and then two calls less: see ``Plain``.
                    tasks = tuple([source.task for source in args])
                    distances = tuple([source - task for source in tasks])
                    calls.append((ref.key, distances, node.places))
                else:
                    tasks = node.taken()
                    calls.append(node.in_places(ref.key, task, tasks))
                taken.append(tasks)
                numbers.append(self._function_of(ref, node))
            nbytes = packer.add_all(calls, _IN_PLACES)
            if nbytes >= 0:
                needs += taken
                functions += numbers
                return nbytes
        before = packer.nbytes
        for ref, node in zip(chosen, nodes, strict=True):
            needed, function = self._pack_one(packer, ref, node)
            needs.append(needed)
            functions.append(function)
        return packer.nbytes - before

    def _pack_one(
        self, packer: Packer, ref: Ref, node: Any
    ) -> tuple[tuple[TaskId, ...], int | str]:
        label = self._names.of(ref.key)
        if type(node) is Plain:
            needs = node.taken()
            args, kwargs = node.args, node.kwargs
            more = pack_call(packer, self._shelf, ref.key, args, kwargs, label)
            if more is not None:
                needs = (*needs, more)
            return needs, self._function(node.function, label)
        inputs = {name: self._lowering.ref(name) for name in node.dependencies}
        with refs.capture() as found:
            pack_node(packer, self._shelf, node, inputs, label)
        return tuple(dict.fromkeys(found.task_ids)), self._names.of_task(ref)

    def _function_of(self, ref: Ref, node: Plain) -> int:
        key = ref.key
        if type(key) is not tuple or not key:
            return self._function(node.function, self._names.of(key))
        kind = (id(node.function), key[0])
        number = self._numbers.get(kind)
        if number is None:
            number = self._function(node.function, self._names.of(key))
            self._numbers[kind] = number
        return number

    def _function(self, function: Callable[..., Any], label: str) -> int:
        if type(function) is Chain:
            label = function.name(label)
        number = self._functions.get((id(function), label))
        if number is None:
            if len(self._functions) >= LABELS_MAX:
                label = getattr(function, "__name__", "dask")
            number = self._functions.get((id(function), label))
        if number is None:
            number = self._submitter.number_of(Named(label, function), self._taken)
            self._functions[id(function), label] = number
        return number

    def take_functions(self, chosen: list[int | str]) -> tuple[int, ...]:
        """Return the numbers of functions that run the tasks packed so far."""
        shelf = self._shelf
        labels = {label for label in chosen if type(label) is str}
        if not labels:
            return tuple(chosen)  # type: ignore[arg-type]  # there are no labels
        shared = len(labels) > TABLE_LABELS_MAX or (
            shelf.table_bytes > TABLE_BYTES_MAX and len(labels) > 1
        )
        table = tuple(shelf.table)
        shelf.begin_table()
        numbers: dict[int | str, int] = {}
        for label in {"dask"} if shared else labels:
            nodes = Nodes(str(label), table)
            numbers[label] = self._submitter.number_of(nodes, self._taken)
        return tuple(
            [
                fn if type(fn) is int else numbers["dask" if shared else fn]
                for fn in chosen
            ]
        )

    def post(self, message: Message) -> None:
        """Hand a message to the I/O thread."""
        self._engine.post(message)
