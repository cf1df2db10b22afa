"""The inputs of tasks, on their way to runners.

Small values are sent along with the tasks.  Large ones are named by place; a runner
maps them and keeps them mapped, in case that more tasks want them, until it is
told to forget them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from covey.ids import RunId, TaskId
from covey.payload import Buffer, Pack
from covey.wire.base import Extent
from covey.worker.core import orders
from covey.worker.functions import Functions
from covey.worker.processes import RunnerProcess
from covey.worker.runner_link import KEEP, Node, RunnerLink
from covey.worker.storage import Storage


class Inputs:
    """What runners are given, and what they keep of it.

    Args:
        storage: where the values are.
        processes: the runners, by number.
        functions: those that slots know.
    """

    def __init__(
        self,
        storage: Storage,
        processes: Sequence[RunnerProcess | None],
        functions: Functions,
    ) -> None:
        self._storage = storage
        self._processes = processes
        self._functions = functions
        #: The arguments of each run: those of which task on, and which; of a single task,
        #: just their bytes.
        self._arguments: dict[RunId, tuple[TaskId, Pack | bytes]] = {}
        #: What each runner keeps mapped, and the ids by which it knows it.
        self._mapped: dict[int, dict[TaskId, set[TaskId]]] = {}

    def keep_arguments(self, order: orders.KeepArguments) -> None:
        """Keep the arguments of a run until it ends."""
        held: Pack | bytes = order.data
        if len(order.sizes) > 4:
            held = Pack.from_wire(order.sizes, order.data)
        self._arguments[order.run] = (order.base, held)

    def end_run(self, run: RunId) -> None:
        """Let go of the arguments of a run, if they were kept."""
        self._arguments.pop(run, None)

    def dispatch(
        self,
        order: orders.Dispatch | orders.DispatchNodes,
        runner: int,
        link: RunnerLink,
    ) -> None:
        """Send tasks to a slot, with what they take."""
        if isinstance(order, orders.DispatchNodes):
            self._dispatch_nodes(order, runner, link)
            return
        if order.fn not in link.functions:
            self._functions.tell(link, order.fn)
        base, held = self._arguments[order.run]
        if isinstance(held, Pack):
            part = held.cut(order.base - base, order.base - base + order.n)
        elif not order.whole:
            self._dispatch_node(order, held, runner, link)
            return
        else:
            part = Pack.single(held)
        if order.n == 1 and not order.whole:
            self._dispatch_node(order, part.data, runner, link)
            return
        inputs: list[list[Any]] = []
        bodies: list[Buffer] = []
        if order.aligned or order.whole:
            inputs, bodies = self._collect_all(runner, order)
        link.tell(
            [
                "run",
                order.run,
                order.fn,
                order.base,
                order.n,
                part.nbytes,
                inputs,
                KEEP if order.keep else 0,
            ],
            part.sizes_bytes(),
            part.data,
            *bodies,
        )

    def _dispatch_node(
        self,
        order: orders.Dispatch,
        payload: Buffer,
        runner: int,
        link: RunnerLink,
    ) -> None:
        """Send a single task; what others took along with it is there already."""
        carried = link.begin_node()
        inputs: list[Any] = []
        body = [payload]
        names: Iterable[tuple[TaskId, TaskId]] = order.renamed
        if order.aligned:
            names = *((task, task) for task in order.aligned), *names
        for known_as, real in names:
            if real in order.owns:
                inputs.append(real if real == known_as else ["own", known_as, real])
            elif known_as not in carried:
                carried.add(known_as)
                self._add_single(runner, known_as, real, inputs, body)
        flags = KEEP if order.keep else 0
        node = (order.run, order.fn, order.base, flags, len(payload), inputs)
        link.tell_nodes((node,), body)

    def _dispatch_nodes(
        self, order: orders.DispatchNodes, runner: int, link: RunnerLink
    ) -> None:
        """Send single tasks that run one after the other."""
        for fn in {node.fn for node in order.nodes}:
            self._functions.tell(link, fn)
        carried, owns, keeps = link.begin_node(), order.owns, order.keeps
        body: list[Buffer] = []
        told: list[Node] = []
        single = self._storage.shelf.single
        for node in order.nodes:
            inputs: list[Any] = []
            body.append(node.data)
            for task in node.aligned:
                if task in owns:
                    inputs.append(task)
                elif task not in carried:
                    carried.add(task)
                    value = single(task)
                    if value is None:
                        self._add_mapped(runner, task, task, inputs)
                    else:
                        inputs.append(["in", task, len(value)])
                        body.append(value)
            task = node.base
            flags = KEEP if task in keeps else 0
            told.append((node.run, node.fn, task, flags, len(node.data), inputs))
        link.tell_nodes(told, body)

    def _add_single(
        self,
        runner: int,
        known_as: TaskId,
        real: TaskId,
        inputs: list[Any],
        body: list[Buffer],
    ) -> None:
        value = self._storage.shelf.single(real)
        if value is not None:
            inputs.append(["in", known_as, len(value)])
            body.append(value)
        else:
            self._add_mapped(runner, known_as, real, inputs)

    def _add_mapped(
        self, runner: int, known_as: TaskId, real: TaskId, inputs: list[Any]
    ) -> None:
        for _, _, stretch in self._storage.find(real, 1):
            segment = stretch.segment
            assert segment is not None
            inputs.append(["seg", known_as, segment.place, segment.size])
            self._is_mapped(runner, known_as, real)

    def _collect_all(
        self, runner: int, order: orders.Dispatch
    ) -> tuple[list[list[Any]], list[Buffer]]:
        """List the inputs of a dispatch: as operations, and bytes for small ones."""
        inputs: list[list[Any]] = []
        bodies: list[Buffer] = []
        owns = order.owns
        inputs += [["own", task, task] for task in owns]
        for first in order.aligned:
            if first not in owns:
                self._collect(runner, (first, order.n), inputs, bodies)
        for extent in order.whole:
            self._collect(runner, extent, inputs, bodies)
        for alias, real in order.renamed:
            if real in owns:
                inputs.append(["own", alias, real])
                continue
            start = len(inputs)
            self._collect(runner, (real, 1), inputs, bodies)
            for entry in inputs[start:]:
                # The arguments know it by another id.
                entry[1] = alias
                if entry[0] == "seg":
                    self._is_mapped(runner, alias, real)
        return inputs, bodies

    def _collect(
        self, runner: int, extent: Extent, inputs: list[list[Any]], bodies: list[Buffer]
    ) -> None:
        base, n = extent
        single = self._storage.small(base) if n == 1 else None
        if single is not None:
            inputs.append(["in", base, 1, single.nbytes])
            bodies += (single.sizes_bytes(), single.data)
            return
        for start, count, stretch in self._storage.find(base, n):
            segment = stretch.segment
            if segment is not None:
                inputs.append(["seg", start, segment.place, segment.size])
                self._is_mapped(runner, start, start)
            else:
                pack = stretch.part(start, count)
                inputs.append(["in", start, count, pack.nbytes])
                bodies += (pack.sizes_bytes(), pack.data)

    def mapped_bytes(self) -> int:
        """Return how much runners keep mapped: what two of them do counts twice."""
        segment_of = self._storage.shelf.segment
        found = (segment_of(task) for kept in self._mapped.values() for task in kept)
        return sum(segment.size for segment in found if segment is not None)

    def mapped_by(self, runner: int) -> list[TaskId]:
        """Return the values that a runner keeps mapped, or that kept until it ended."""
        return [*self._mapped.get(runner, ())]

    def _is_mapped(self, runner: int, known_as: TaskId, real: TaskId) -> None:
        self._mapped.setdefault(runner, {}).setdefault(real, set()).add(known_as)

    # Forgetting.

    def runner_started(self, runner: int) -> None:
        """A new process has nothing mapped."""
        self._mapped.pop(runner, None)

    def forget(self, extents: Iterable[Extent]) -> None:
        """Have runners let go of values that are dropped."""
        for runner, mapped in self._mapped.items():
            for base, n in extents if mapped else ():
                # Whichever is shorter: there may be many of both.
                if n <= len(mapped):
                    gone = [t for t in range(base, base + n) if t in mapped]
                else:
                    gone = [t for t in mapped if base <= t < base + n]
                self._forget(runner, gone)

    def forget_all_but(self, in_hand: Callable[[TaskId], bool]) -> None:
        """Have runners let go of what they keep only for tasks to come."""
        for runner, mapped in self._mapped.items():
            self._forget(runner, [task for task in mapped if not in_hand(task)])

    def _forget(self, runner: int, gone: Sequence[TaskId]) -> None:
        process = self._processes[runner]
        if gone and process is not None and process.control is not None:
            mapped = self._mapped[runner]
            known = [[task, 1] for real in gone for task in mapped.pop(real)]
            # A busy slot would not hear of it until its task has ended.
            process.control.tell(["forget", known])
