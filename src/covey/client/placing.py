"""Values of the client on their way to workers: scattered, or brought for a task.

Small ones are packed and go through the scheduler; a large one goes to a worker's
data port by itself, and the scheduler is told where it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from covey.client.choices import Where
from covey.client.core.ranges import Range
from covey.client.engine import Engine
from covey.client.fetching import Session
from covey.client.future import Future, Futures
from covey.client.writing import Writing
from covey.errors import ClusterError, UsageError
from covey.ids import TaskId
from covey.payload import Buffer, Pack
from covey.serde import bundled
from covey.serde.packing import Packer
from covey.wire.client_link import NotBrought, Placed, Release, Scatter, WorkerSeen

#: A chunk of a range is closed when it has this many tasks or bytes.
CHUNK_TASKS: Final = 2048
CHUNK_BYTES: Final = 128 << 10

#: The first chunk is small, so that the first worker has something to do.  That of a
#: scatter is, too: what a map takes of it one for one is then cut where that is.
FIRST_CHUNK_TASKS: Final = 64

#: Arguments, and values, are pickled so many at a time; more, if those before came to so
#: few bytes, and at most so many: that many of the largest fit into a frame.
BATCH_TASKS: Final = 32
BATCH_BYTES: Final = 4096
BATCH_TASKS_MAX: Final = 128


_ANYWHERE: Final = Where()

#: Large values that are brought together, and their bytes; the last may go beyond that.
CARGO_VALUES: Final = 64
CARGO_BYTES: Final = 8 << 20

#: The first of a map goes with these, so that somebody has something to do.
FIRST_CARGO_BYTES: Final = 256 << 10

#: Large arguments of neighbouring calls are one value, up to so many bytes.
BUNDLE_BYTES: Final = 1 << 20


class Cargo:
    """Large values on their way to workers, together.

    To wait until one is there before the next one goes takes longer than to copy them.

    Args:
        limit_bytes: it is full with so many; twice as many each time, up to the most.

    Attributes:
        values: the task of each, and its frames.
        streams: the first frame of all that was added.
        is_full: no more should be added.
    """

    __slots__ = (
        "_limit",
        "_nbytes",
        "_parts",
        "_parts_bytes",
        "is_full",
        "streams",
        "values",
    )

    def __init__(self, limit_bytes: int = CARGO_BYTES) -> None:
        self.values: list[tuple[TaskId, list[Buffer]]] = []
        self.streams: list[bytes] = []
        #: What the last value is to consist of, if it is to have parts.
        self._parts: list[list[Buffer]] = []
        self._nbytes = self._parts_bytes = 0
        self._limit = limit_bytes
        self.is_full = False

    def add(self, task: TaskId, frames: list[Buffer]) -> None:
        """One more is to go: the value of *task*."""
        self.close()
        self.values.append((task, frames))
        self._weigh(frames, _nbytes_of(frames))

    def add_part(
        self, frames: list[Buffer], most: int, promise: Callable[[], TaskId]
    ) -> tuple[TaskId, int]:
        """One more is to go, in one value with others.

        Args:
            frames: what it is.
            most: so many are in one value at most.
            promise: returns the task of a new value.

        Returns:
            The task whose value has it, and which part it is of that.
        """
        nbytes = _nbytes_of(frames)
        parts = self._parts
        if not parts or len(parts) >= most or self._parts_bytes + nbytes > BUNDLE_BYTES:
            self.close()
            self.values.append((promise(), []))
            parts, self._parts_bytes = self._parts, 0
        parts.append(frames)
        self._parts_bytes += nbytes
        self._weigh(frames, nbytes)
        return self.values[-1][0], len(parts) - 1

    def _weigh(self, frames: list[Buffer], nbytes: int) -> None:
        self.streams.append(bytes(frames[0]))
        self._nbytes += nbytes
        self.is_full = self._nbytes >= self._limit or len(self.streams) >= CARGO_VALUES

    def close(self) -> None:
        """No more parts are to go with those that were added last."""
        if self._parts:
            self.values[-1][1].extend(bundled.join(self._parts))
            self._parts = []

    def clear(self) -> None:
        """They are there."""
        self.values.clear()
        self.streams.clear()
        self._parts = []
        self._nbytes = self._parts_bytes = 0
        self._limit = min(2 * self._limit, CARGO_BYTES)
        self.is_full = False


def _nbytes_of(frames: list[Buffer]) -> int:
    return sum([memoryview(frame).nbytes for frame in frames])


class Placer:
    """Places values on workers."""

    def __init__(self, session: Session, writing: Writing) -> None:
        self._session = session
        self._engine: Engine = session.engine
        self.writing = writing
        self._turn = 0
        self._bringing: set[asyncio.Task[None]] = set()
        self._engine.bring_again = self._on_lost

    def _new_future(self, base: TaskId, label: str) -> Future[Any]:
        """Return the future of a new task, which is let go of if anything is raised."""
        wish = Range(base, 1, label, None)
        future: Future[Any] = Future(self._session, wish, 0)
        self._session.enter(wish)
        return future

    def _new_futures(self, base: TaskId, n: int, label: str) -> Futures[Any]:
        """Return the futures of a new range; see ``_new_future``."""
        wish = Range(base, n, label, None)
        futures: Futures[Any] = Futures(self._session, wish)
        self._session.enter(wish)
        return futures

    def scatter(
        self,
        values: list[Any],
        where: Where,
        serializer: str | None = None,
    ) -> Futures[Any]:
        """Place values on workers, written by *serializer* or as usual."""
        packer = self.writing.form(serializer).packer()
        self._engine.check()
        n = len(values)
        base = self._engine.new_tasks(n)
        futures = self._new_futures(base, n, "data")
        try:
            with self.writing.chosen():
                large = self._send_values(base, values, packer, where)
            if large and where.several:
                self._engine.call(self._wait_for_copies(large))
        except BaseException:
            # Nothing may be left on the cluster that nobody can ask for.
            del futures
            raise
        return futures

    def _send_values(
        self,
        base: TaskId,
        values: list[Any],
        packer: Packer,
        where: Where,
    ) -> list[TaskId]:
        """Send values on their way; return which of them are large."""
        sent = done = nbytes = 0
        large, cargo = [], Cargo()
        limit, at_once, alone = FIRST_CHUNK_TASKS, 1, 0
        while done < len(values):
            # Most often they are small and plain.  What begins small may go on large,
            # and all that is pickled at once is in memory at once.
            some = (
                () if alone else values[done : done + min(at_once, sent + limit - done)]
            )
            added = packer.add_all(some) if some else -1
            if added >= 0:
                done += len(some)
                nbytes += added
                at_once = more_at_once(at_once, added)
            else:
                # These one by one; and the next ones, if they are not as small as that.
                alone = (alone or len(some)) - 1
                frames = _add_one(packer, values[done], done)
                done += 1
                if frames is not None:
                    if len(packer):
                        self._scatter_chunk(base + sent, packer.take(), where)
                    cargo.add(base + done - 1, frames)
                    if cargo.is_full:
                        self.bring_all(cargo, where)
                    large.append(base + done - 1)
                    sent = done
                if not alone and (frames is not None or not packer.goes_on):
                    alone = BATCH_TASKS
                if not done % BATCH_TASKS or not alone:
                    nbytes = packer.nbytes
            if done - sent >= limit or nbytes > CHUNK_BYTES:
                self._scatter_chunk(base + sent, packer.take(), where)
                sent, nbytes, limit = done, 0, CHUNK_TASKS
        if sent < done:
            self._scatter_chunk(base + sent, packer.take(), where)
        self.bring_all(cargo, where)
        return large

    async def _wait_for_copies(self, tasks: list[TaskId]) -> None:
        """Wait until no worker is passing these values on to another any more."""
        ask = self._engine.ask
        await asyncio.gather(*(ask("spread", extents=((task, 1),)) for task in tasks))

    def _scatter_chunk(self, base: TaskId, pack: Pack, where: Where) -> None:
        sizes = pack.sizes_bytes()
        message = Scatter(base, len(pack), sizes, bytes(pack.data), *where)
        self._engine.post(message)

    def bring(self, frames: list[Buffer], label: str) -> Future[Any]:
        """Bring one large value to a worker and return a future of it."""
        future = self.promise(label)
        # If that fails, the future goes, and the task with it.
        self.fulfil(future, frames)
        return future

    def promise(self, label: str) -> Future[Any]:
        """Return a future of a value that will be brought: see ``fulfil``."""
        return self._new_future(self._engine.new_tasks(1), label)

    def fulfil(self, promised: Future[Any], frames: list[Buffer]) -> None:
        """Bring the value of a future, before anybody is told of who takes it."""
        cargo = Cargo()
        cargo.add(promised.id, frames)
        self.bring_all(cargo)

    def bring_all(self, cargo: Cargo, where: Where = _ANYWHERE) -> None:
        """Bring values to workers, and wait until all of them are there."""
        cargo.close()
        if cargo.values:
            self._session.await_worker()
            self._engine.call(self._place_all(cargo.values, where))
            cargo.clear()

    async def _place_all(
        self, values: list[tuple[TaskId, list[Buffer]]], where: Where
    ) -> None:
        chosen = await self._workers_for(where)
        if len(values) == 1:
            await self._place_on(chosen, *values[0], where)
            return
        outcomes = await asyncio.gather(
            *[self._place_on(chosen, task, frames, where) for task, frames in values],
            return_exceptions=True,
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    def _on_lost(self, task: TaskId) -> None:
        """A value was lost with its worker: bring it to another one."""
        bringing = self._engine.loop.create_task(self._bring_again(task))
        self._bringing.add(bringing)
        bringing.add_done_callback(self._bringing.discard)

    async def _bring_again(self, task: TaskId) -> None:
        """Bring what is still in this process, or say that it is not."""
        kept = self._engine.asker.kept(task)
        if kept is not None:
            try:
                await self._place_async(task, [*kept], Where())
                self._engine.asker.let_go(task)
                return
            except ClusterError:
                pass  # No worker takes it: then it is lost.
        self._engine.post(NotBrought(task))

    async def _place_async(
        self, task: TaskId, frames: list[Buffer], where: Where
    ) -> None:
        """Bring a value to one worker, from which the others have it."""
        await self._place_on(await self._workers_for(where), task, frames, where)

    async def _workers_for(self, where: Where) -> list[WorkerSeen]:
        """Return those that may have a value, of which there is one at least."""
        engine = self._engine
        await engine.wait_for_workers(1, None)
        known = sorted(engine.workers.values(), key=lambda seen: seen.worker)
        chosen = [
            seen
            for seen in known
            if not where.workers or {seen.name, *seen.addresses} & set(where.workers)
        ]
        if not chosen:
            names = ", ".join(seen.name for seen in known)
            raise UsageError(
                f"none of the workers {', '.join(where.workers)} is there; there are: "
                f"{names}"
            )
        return chosen

    async def _place_on(
        self,
        chosen: list[WorkerSeen],
        task: TaskId,
        frames: list[Buffer],
        where: Where,
    ) -> None:
        """Bring a value to one of these, in turn; to another one if that cannot be."""
        engine = self._engine
        self._turn += 1
        first = self._turn % len(chosen)
        nbytes = _nbytes_of(frames)
        problem: ClusterError | None = None
        for seen in chosen[first:] + chosen[:first]:
            left = partial(self._placed, task, seen.worker, nbytes, where, kept=False)
            try:
                kept = await engine.asker.put(
                    seen.addresses, task, frames, seen.host, seen.worker, left
                )
            except ClusterError as error:
                problem = error
                continue
            self._placed(task, seen.worker, nbytes, where, kept=kept)
            return
        assert problem is not None
        if len(chosen) > 1:
            problem.add_note(f"{len(chosen)} workers were tried; this is the last one")
        raise problem

    def _placed(
        self, task: TaskId, worker: int, nbytes: int, where: Where, *, kept: bool
    ) -> None:
        """A value is there, whether somebody still waits for that or not."""
        self._engine.post(Placed(task, worker, nbytes, *where, kept))
        if self._engine.wishes.find(task) is None:
            # It was let go of meanwhile, and is known, or known anew, by this.
            self._engine.post(Release(((task, 1),)))


def more_at_once(count: int, nbytes: int) -> int:
    """Return how many to pickle together, after *count* that came to so many bytes."""
    if count < BATCH_TASKS or (nbytes < BATCH_BYTES and count < BATCH_TASKS_MAX):
        return 2 * count
    return count if nbytes < 2 * BATCH_BYTES else BATCH_TASKS


def _add_one(packer: Packer, value: Any, index: int) -> list[Buffer] | None:
    """Add a value that may be large, or not plain."""
    try:
        return packer.add(value)
    except (TypeError, ValueError) as error:
        error.add_note(f"item {index} of what was to be scattered")
        raise
