"""What comes from slots, until it lies in the store.

Small values come in packs.  A large one stands in a segment: in one that was lent
to the runner before, and is warm, or else in one of its own, which the worker
takes over::

    agent ── lend place ──────────► runner       while warm memory is there
          ◄── big place, size ─────              written where it was lent
          ◄── big place, size, handle            or in a segment of the runner
          ── took handle ─────────►
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from covey import clock
from covey.ids import RunId, TaskId
from covey.payload import Buffer, Pack
from covey.store import digests
from covey.store.pool import WARM_SECONDS
from covey.store.segments import Segment, adopt
from covey.wire.base import Failure
from covey.wire.worker_link import Ran, RanNodes, RanStored, Vouches
from covey.worker.core import orders
from covey.worker.processes import RunnerProcess
from covey.worker.runner_link import RunnerLink, SaysBig
from covey.worker.storage import Storage

_AboutValues: TypeAlias = Ran | RanStored | RanNodes | Vouches

#: So many segments are lent to a runner at a time.
_LOANS_MAX: Final = 2

_NO_NODES: Final[tuple[Sequence[TaskId], Pack]] = ((), Pack.of([]))


class _Loan:
    """A segment that a runner may write into."""

    __slots__ = ("runner", "segment", "since")

    def __init__(self, runner: int, segment: Segment) -> None:
        self.runner = runner
        self.segment = segment
        self.since = clock.monotonic()


class Results:
    """Values on their way from slots into the store.

    Args:
        storage: where they go.
        worker: the name of the worker, for errors.

    Attributes:
        full: returns the failure of a task whose result has no room.
    """

    def __init__(self, storage: Storage, worker: str) -> None:
        self._storage = storage
        self._worker = worker
        self.full: Callable[[int], Failure | None] = lambda _: None
        #: What has just come from a slot, while the core decides on it.
        self._arrived: tuple[TaskId, Pack | Segment] | None = None
        self._nodes = _NO_NODES
        #: Segments that runners may write into, by their path.
        self._loans: dict[str, _Loan] = {}

    def messages(self, order: orders.Telling) -> Iterable[_AboutValues]:
        """Return what tells the scheduler of values that rest in the store."""
        if isinstance(order, orders.Report):
            value = self._storage.shelf.single(order.base) if order.n == 1 else None
            if value is not None:
                return (self._of_one(order, value),)
            return self._with_values(order)
        if isinstance(order, orders.Vouch):
            return self._vouched(order)
        if isinstance(order, orders.ReportNodes):
            return self._of_nodes(order)
        return self._without(order)

    def _of_one(self, order: orders.Report, value: Buffer) -> Ran:
        """Return what tells the scheduler of one small value."""
        return Ran(
            order.run,
            order.base,
            1,
            order.seconds,
            len(value).to_bytes(4, sys.byteorder),
            bytes(value),
            order.slot,
            digests.of_one(value) if order.digests else b"",
        )

    def _of_nodes(
        self, order: orders.ReportNodes
    ) -> Iterator[Ran | RanStored | RanNodes]:
        """Yield what tells of small values of single tasks that stay here.

        A large one of an earlier attempt, which has come meanwhile, is told of by itself.
        """
        small: list[tuple[RunId, TaskId, float, int]] = []
        sums = array("I")
        single = self._storage.shelf.single
        columns = zip(order.runs, order.tasks, order.seconds, order.nbytes, strict=True)
        for run, task, seconds, nbytes in columns:
            value = single(task)
            if value is None:
                how = (run, task, 1, seconds, nbytes, order.slot)
                yield from self._without(orders.ReportStored(*how))
                continue
            small.append((run, task, seconds, nbytes))
            sums.append(digests.of_small(value))
        if small:
            runs, tasks, took, sizes = zip(*small, strict=True)
            yield RanNodes(runs, tasks, took, sizes, order.slot, sums.tobytes())

    def _with_values(self, order: orders.Report) -> Iterator[Ran | RanStored]:
        """Yield what tells the scheduler of small values that rest in the store.

        Or of a large one: a copy of an earlier attempt may have come meanwhile, which
        stays in place of the new one.
        """
        seconds = order.seconds / order.n
        for base, n, stretch in self._storage.find(order.base, order.n):
            if stretch.segment is not None:
                nbytes = stretch.segment.size
                stored = orders.ReportStored(
                    order.run, base, n, seconds, nbytes, order.slot
                )
                yield from self._without(stored)
                continue
            pack = stretch.part(base, n)
            sizes, data = pack.sizes_bytes(), bytes(pack.data)
            known = digests.of_pack(pack) if order.digests else b""
            yield Ran(order.run, base, n, seconds * n, sizes, data, order.slot, known)

    def _without(self, order: orders.ReportStored) -> Iterator[RanStored]:
        """Yield what tells the scheduler of values that stay here."""
        run, n, slot = order.run, order.n, order.slot
        for base, k, stretch in self._storage.find(order.base, n):
            known = digests.of_stretch(stretch, base, k)
            seconds, nbytes = order.seconds * k / n, order.nbytes * k // n
            yield RanStored(run, base, k, seconds, nbytes, slot, known)

    def _vouched(self, order: orders.Vouch) -> Iterator[Vouches]:
        """Yield what tells the digests of values that the scheduler knows of."""
        for base, n, stretch in self._storage.find(order.base, order.n):
            yield Vouches(base, n, digests.of_stretch(stretch, base, n))

    def bring_pack(self, base: TaskId, pack: Pack) -> None:
        """Hold small values until it is known which of them are wanted."""
        self._arrived = (base, pack)

    def bring_nodes(self, tasks: Sequence[TaskId], pack: Pack) -> None:
        """The same for values of single tasks."""
        self._nodes = (tasks, pack)

    def stow_nodes(self, order: orders.StowNodes) -> None:
        """Keep those of them that are wanted."""
        (tasks, pack), self._nodes = self._nodes, _NO_NODES
        put = self._storage.shelf.put_single
        if len(tasks) == 1:
            if order.places:
                put(tasks[0], pack.data)
            return
        payloads = [*pack]
        for at in order.places:
            put(tasks[at], payloads[at])

    def take_big(
        self,
        slot: int,
        says: SaysBig,
        process: RunnerProcess | None,
        link: RunnerLink | None,
    ) -> orders.SlotRan | orders.SlotFailed | None:
        """Take a large value over; return what that means for its task.

        That is nothing, for the time being, if its process has ended: what becomes
        of the task is decided when it is known how.
        """
        if process is None:
            return None
        failure = self.full(says.size)
        try:
            self._bring_segment(process.number, says)
        except (OSError, ValueError) as error:
            if process.is_ending:
                return None
            text = f"the result could not be taken over from the runner: {error}"
            details: dict[str, str | int | float | None] = {"worker": self._worker}
            failure = Failure("lost", "DataLost", text, details=details)
        if link is not None:
            if says.handle:
                link.tell(["took", [says.handle]])
            self._lend(process.number, says.size, link)
        run, task, seconds = says.run, says.task, says.seconds
        if failure is not None:
            return orders.SlotFailed(slot, run, task, seconds, failure)
        return orders.SlotRan(slot, run, task, 1, seconds, says.size, inline=False)

    def _bring_segment(self, runner: int, says: SaysBig) -> None:
        """Hold a large value until it is known whether it is wanted.

        Raises:
            OSError: its segment is gone.
            ValueError: its segment is shorter than it said.
        """
        loan = self._loans.get(says.path.partition("@")[0])
        if loan is not None and loan.runner == runner:
            loan.segment.filled(says.size)
            del self._loans[loan.segment.path]
            segment = loan.segment
        else:
            segment = self._storage.admit(adopt(says.path, says.size))
        self._arrived = (says.task, segment)

    def stow(self, base: TaskId, n: int) -> None:
        """Keep what has just come, or a part of it."""
        assert self._arrived is not None
        first, values = self._arrived
        if isinstance(values, Segment):
            self._arrived = None
            self._storage.keep(first, values)
        else:
            lo = base - first
            self._storage.put(base, values.cut(lo, lo + n))

    def settle(self) -> None:
        """Let go of what nobody wanted."""
        arrived, self._arrived = self._arrived, None
        if arrived is not None and isinstance(arrived[1], Segment):
            self._storage.take_back(arrived[1])

    # Lending.

    def _lend(self, runner: int, nbytes: int, link: RunnerLink) -> None:
        """Lend warm memory to a runner that has just exported *nbytes* bytes."""
        if sum(loan.runner == runner for loan in self._loans.values()) >= _LOANS_MAX:
            return
        offered = self._storage.offer_warm(nbytes)
        if offered is not None:
            segment, place = offered
            self._loans[segment.path] = _Loan(runner, segment)
            link.tell(["lend", segment.capacity, place])

    def runner_ended(self, runner: int) -> None:
        """Take back what a runner had not used."""
        for path, loan in list(self._loans.items()):
            if loan.runner == runner:
                del self._loans[path]
                self._storage.take_back(loan.segment)

    def revoke(self, *, unused_seconds: float = WARM_SECONDS) -> None:
        """Take back what runners have not used for so long."""
        now = clock.monotonic()
        for path, loan in list(self._loans.items()):
            if now - loan.since < unused_seconds:
                continue
            if loan.segment.withdraw():
                del self._loans[path]
                self._storage.take_back(loan.segment)
