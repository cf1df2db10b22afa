"""Nothing counts that a task has made of what a disk has not kept.

A task maps spilled values from their files, and reads what the kernel gives it.  If the
disk has refused a file, that is what was written only as long as its memory is needed
for nothing else.  So before the outcome of a task is taken in, the kernel is asked about
the files that it was given and that may still be refused::

    dispatched ──► run, its files                      nothing ──► it counts
                         │                                 ▲
    outcome ─────────────┴──► asked: a microsecond each ───┤
                                                           ▼
                            refused ──► read and compared with its checksum
                                           │ as it was: it counts, since what has once
                                           │ left memory never comes back
                                           └─ not, or nobody knows: the value is lost,
                                              and the runner ends with all that it has
                                              made; its tasks run again
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import partial
from itertools import repeat
from typing import Any, Final, TypeAlias

import msgspec

from covey.errors import RemoteProtocolError
from covey.ids import RunId, TaskId
from covey.store.segments import Segment
from covey.store.writeback import Unwritten, read_whole
from covey.wire.base import Extent, Failure
from covey.worker.core import orders
from covey.worker.inputs import Inputs
from covey.worker.processes import RunnerProcess
from covey.worker.runner_link import SaysBig, SaysFailed, SaysRan, SaysRanNodes
from covey.worker.storage import Storage

_Outcome: TypeAlias = SaysRan | SaysRanNodes | SaysBig | SaysFailed
_OUTCOMES: Final = (SaysRan, SaysRanNodes, SaysBig, SaysFailed)

_BECAUSE: Final = "the disk has not kept what its task had read; the task runs again"


class Doubts:
    """What tasks were given that a disk may still refuse.

    Args:
        storage: where it is.
        inputs: knows what runners keep mapped.
        step: takes events to the core.
        run: runs a coroutine beside everything else.

    Attributes:
        given: files that the disk may still refuse, by run, each with the first of its
            tasks that takes it, and the first one behind the last that does.
    """

    def __init__(
        self,
        storage: Storage,
        inputs: Inputs,
        step: Callable[[orders.AnyEvent], None],
        run: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._storage = storage
        self._inputs = inputs
        self._step = step
        self._run = run
        self.given: dict[RunId, dict[Unwritten, tuple[TaskId, TaskId]]] = {}
        storage.rescue.on_lost = self.lost
        storage.rescue.on_moved = lambda task: inputs.forget(((task, 1),))

    def lost(self, task: TaskId, why: str) -> None:
        """A value is not what it was."""
        self._step(orders.Garbled(task, why))

    def dispatched(self, order: orders.Dispatch | orders.DispatchNodes) -> None:
        """Remember in which files the inputs of tasks lie that go to a slot."""
        if not self._storage.unsettled.any:
            return
        if isinstance(order, orders.DispatchNodes):
            for node in order.nodes:
                self._give(node.run, node.base, 1, ((t, 1) for t in node.aligned))
            return
        for first in order.aligned:
            for base, n, file in self._files((first, order.n)):
                self._enter(order.run, order.base + base - first, n, file)
        whole = [*order.whole, *((real, 1) for _, real in order.renamed)]
        self._give(order.run, order.base, order.n, whole)

    def _give(self, run: RunId, base: TaskId, n: int, inputs: Iterable[Extent]) -> None:
        for extent in inputs:
            for _, _, file in self._files(extent):
                self._enter(run, base, n, file)

    def _files(self, extent: Extent) -> Iterator[tuple[TaskId, int, Unwritten]]:
        for base, n, stretch in self._storage.shelf.find(*extent):
            if stretch.unwritten is not None:
                yield base, n, stretch.unwritten

    def _enter(self, run: RunId, base: TaskId, n: int, file: Unwritten) -> None:
        files = self.given.setdefault(run, {})
        # A run goes to a slot in many flights, and most often all take the same.
        lo, hi = files.get(file, (base, base + n))
        files[file] = min(lo, base), max(hi, base + n)

    def ended(self, run: RunId) -> None:
        """Nothing more will be said of a run."""
        self.given.pop(run, None)

    def check(self, process: RunnerProcess | None, says: Any) -> None:
        """See whether what a slot tells can be believed.

        Raises:
            RemoteProtocolError: it was made of something else than its inputs; the
                process ends, and nothing more that it says counts.
        """
        if not isinstance(says, _OUTCOMES):
            return
        files = {f for place in _places(says) for f in self._files_of(*place)}
        damaged = {f for f in files if f.in_doubt() and not f.is_intact()}
        if not damaged:
            return
        self._storage.rescue.lose(damaged)
        if process is not None:
            process.kill(_BECAUSE)
        raise RemoteProtocolError(_BECAUSE)

    def _files_of(self, run: RunId, base: TaskId, n: int) -> Iterator[Unwritten]:
        for file, (lo, hi) in self.given.get(run, {}).items():
            if lo < base + n and base < hi:
                yield file

    def tell_end(self, process: RunnerProcess, failure: Failure) -> None:
        """Tell the core that a runner has ended.

        One that has read what the disk does not give ends by SIGBUS.  Then it is first
        found out what cannot be read: its tasks are to run again without that.
        """
        ended = orders.RunnerEnded(process.number, process.executing(), failure)
        if process.ended_by == signal.SIGBUS:
            self._run(self._tell_later(process, ended))
        elif process.killed_because == _BECAUSE:
            self._step(msgspec.structs.replace(ended, blameless=True))
        else:
            self._step(ended)

    async def _tell_later(
        self, process: RunnerProcess, ended: orders.RunnerEnded
    ) -> None:
        if await self._read_all(process):
            ended = msgspec.structs.replace(ended, blameless=True)
        self._step(ended)

    async def _read_all(self, process: RunnerProcess) -> bool:
        """Lose those values that a process had mapped and that cannot be read.

        Returns:
            Whether there are any.
        """
        has_lost = False
        here = self._storage.shelf.segment
        for task in self._inputs.mapped_by(process.number):
            segment = here(task)
            if segment is None or not segment.on_disk:
                continue
            try:
                source = segment.again()
            except OSError:
                break  # Too many files are open.
            problem = await self._storage.in_thread(partial(_problem_of, source))
            if problem and here(task) is segment:
                self.lost(task, problem)
                has_lost = True
        return has_lost


def _places(says: _Outcome) -> Iterator[tuple[RunId, TaskId, int]]:
    """Yield what is told of: run, first task, and how many tasks."""
    if isinstance(says, SaysRanNodes):
        yield from zip(says.runs, says.tasks, repeat(1))
    elif isinstance(says, SaysRan):
        yield says.run, says.base, says.n
    else:
        yield says.run, says.task, 1


def _problem_of(source: Segment) -> str:
    """Return why a file cannot be read; empty if it can.  For a thread, and closes it."""
    try:
        checksum = read_whole(source.fd, source.size)[1]
    except OSError as error:
        return f"what was spilled cannot be read back: {error}"
    finally:
        source.close()
    if source.checksum in {None, checksum}:
        return ""
    return "what was spilled came back from the disk as something else"
