"""A session of a client: waiting for ranges, fetching values, letting them go.

This is what futures lean on.  It belongs to an ``Engine`` and is shared by
``Client`` and ``AsyncClient``.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal, get_args

from covey.client.bringing import Bringer
from covey.client.callbacks import Callbacks
from covey.client.core.ranges import Range, Status
from covey.client.countdown import Countdown, End, Signal, all_done
from covey.client.decoding import Lazy, Unreadable, decode, decode_all
from covey.client.dropping import Dropper
from covey.client.engine import Engine
from covey.client.extents import extents_of
from covey.client.future import Future, Futures
from covey.client.keeping import keep_until_done
from covey.client.listening import listen
from covey.client.midst import check_free
from covey.client.outcome import error_of
from covey.client.warn import warn
from covey.errors import ClusterError, DataLost, TaskUnreadable, UsageError
from covey.ids import TaskId
from covey.runner import context
from covey.wire.client_link import Cancel, Detach, Retry

_FINISHED: Final = int(Status.FINISHED)

Errors = Literal["raise", "skip", "return"]
_ERRORS: Final = get_args(Errors)

#: Who waits so long where there is no worker is told that there is none.
NO_WORKER_SECONDS: Final = 3.0


class Session(Dropper):
    """Everything about results that a client does on behalf of its futures."""

    def __init__(
        self, engine: Engine, *, plain: bool = False, asynchronous: bool = False
    ) -> None:
        super().__init__(engine)
        #: Whether users call from their event loop, and expect not to hold it up.
        self.asynchronous = asynchronous
        #: Whether to refuse values and exceptions that pickle wrote.
        self.plain = plain
        self.bringer = Bringer(engine, plain=plain)
        #: What calls the users' callbacks.
        self.callbacks = Callbacks(engine)

    # Names.

    def key_of(self, task: TaskId) -> str | None:
        """Return the key of a task of this client."""
        wish = self.engine.wishes.find(task)
        return wish.key(task - wish.base) if wish is not None else None

    # Waiting.

    def countdown(
        self, futures: Iterable[Future[Any]], on_done: Callable[[], None]
    ) -> Countdown:
        """Call *on_done* when all of *futures* have ended.

        Raises:
            Closed: one that has not ended was released, and is told no more.
            UsageError: the process is a fork, where no news come.
        """
        self.engine.check_process()
        countdown = Countdown(on_done)
        whole = futures.whole if type(futures) is Futures else None
        if whole is not None:
            countdown.add(whole, range(whole.n))
        else:
            countdown.add_futures(futures)
        countdown.armed()
        self.engine.look()
        return countdown

    def wait(self, futures: Sequence[Future[Any]], timeout: float | None) -> None:
        """Wait until all of *futures* have ended.

        Raises:
            TimeoutError: they did not in time; says what the first one waits for.
        """
        if all_done(futures):
            return
        if type(futures) is list and len(futures) == 1 and not futures[0].released:
            self.wait_for(futures[0], timeout)
            return
        self.engine.check_free()
        self.engine.check()
        signal = Signal()
        countdown = self.countdown(futures, signal.fire)
        try:
            with context.blocking():
                done = self._await(signal, timeout)
        finally:
            countdown.stop()
        if not done:
            # Some may have ended since, and even all of them.
            late = [future for future in futures if not future.done()]
            if late:
                raise TimeoutError(self._why_not(late, timeout))

    def wait_for(self, future: Future[Any], timeout: float | None) -> None:
        """Wait until *future*, which is held, has ended.

        Raises:
            TimeoutError: it did not in time; says what it waits for.
        """
        self.engine.check_free()
        self.engine.check()
        end = End(future._range, future._index)
        try:
            if context.here.loop is None:
                done = self._await(end, timeout)
            else:
                with context.blocking():
                    done = self._await(end, timeout)
        finally:
            end.stop()
        if not (done or future.done()):
            raise TimeoutError(self._why_not([future], timeout))

    def _await(self, ended: Signal, timeout: float | None) -> bool:
        if not self.engine.workers and (timeout is None or timeout > NO_WORKER_SECONDS):
            if ended.wait(NO_WORKER_SECONDS):
                return True
            self._tell_of_no_worker()
            timeout = None if timeout is None else timeout - NO_WORKER_SECONDS
        if type(ended) is End:
            self.part()
            return listen(self.engine, ended, timeout)
        return ended.wait(timeout)

    def await_worker(self) -> None:
        """Give a first worker time to join; say so if none does.

        What is large goes to a worker at once, and waits here for one.

        Raises:
            UsageError: an event loop would have to wait for it.
        """
        if self.engine.workers:
            return
        if self.asynchronous and _in_a_loop():
            raise UsageError(
                f"there is no worker at {self.engine.address} yet, and what is large goes "
                f"to one at once, for which this event loop would have to stand still. "
                f"Say `await client.wait_for_workers()` before, or `await "
                f"client.scatter(value)`, which waits by the side of the loop"
            )
        try:
            self.engine.call(self.engine.wait_for_workers(1, NO_WORKER_SECONDS))
        except TimeoutError:
            self._tell_of_no_worker("what is large waits here")

    def _tell_of_no_worker(self, what: str = "tasks wait") -> None:
        engine = self.engine
        if not engine.workers and not engine.why_away():
            warn(
                f"there is no worker at {engine.address}: {what} until one joins. "
                f"`covey worker` starts one"
            )

    def _why_not(self, futures: list[Future[Any]], timeout: float | None) -> str:
        late = futures[0]
        others = f" (and {len(futures) - 1} others)" if len(futures) > 1 else ""
        try:
            reason = self.engine.why_away()
            reason = reason or self.ask("explain", 1.0, extents=((late.id, 1),))["text"]
        except (ClusterError, TimeoutError):
            reason = "the scheduler does not answer"
        return f"{late.key}{others} has not ended within {timeout:g} s: {reason}"

    async def wait_async(
        self, futures: Sequence[Future[Any]], *, single: bool = False
    ) -> Any:
        """Wait in the running loop; with *single*, return the value of the one."""
        if not all_done(futures):
            self.engine.check()
            loop = asyncio.get_running_loop()
            ended: asyncio.Future[None] = loop.create_future()

            def end() -> None:
                if not ended.done():
                    ended.set_result(None)

            def on_done() -> None:
                try:
                    loop.call_soon_threadsafe(end)
                except RuntimeError:
                    return  # The loop was closed: nobody waits any more.

            countdown = self.countdown(futures, on_done)
            patience = loop.call_later(NO_WORKER_SECONDS, self._tell_of_no_worker)
            try:
                with context.blocking():
                    await ended
            finally:
                patience.cancel()
                countdown.stop()
        if single:
            return (await self.values_async(futures))[0]
        return None

    def watch(
        self, future: Future[Any], callback: Callable[[Future[Any]], object]
    ) -> None:
        """Call *callback* once, when *future* has ended, wherever that is learned.

        Most often that is the I/O thread: *callback* must be quick, and raise nothing.
        """
        countdown: list[Countdown] = []

        def on_done() -> None:
            callback(future)
            if countdown:
                # Taken out, so that nothing goes on to hold the future.
                countdown.pop().stop()

        countdown.append(self.countdown([future], on_done))

    def detach(self, futures: Sequence[Future[Any]]) -> None:
        """Let tasks run to their end, whoever leaves.

        While this client lives it keeps them itself, so that they survive the
        scheduler, too.
        """
        if futures:
            self.engine.post(Detach(extents_of(future.id for future in futures)))
        keep_until_done(futures)

    # Asking.

    def ask(self, topic: str, timeout: float | None = None, **fields: Any) -> Any:
        """Ask the scheduler something."""
        self.engine.check()
        return self.engine.call(self.engine.ask(topic, **fields), timeout)

    def cancel(
        self, futures: Iterable[Future[Any]], reason: str, *, wait: bool = True
    ) -> None:
        """Cancel unfinished tasks, and wait until the scheduler has said how they end.

        Not where that would hold up an event loop, nor for one that is away, nor without
        *wait*, as in a finalizer: then they stay pending until it says so.
        """
        for session, chosen in by_session([f for f in futures if not f.done()]):
            session._cancel(Cancel(extents_of(f.id for f in chosen), reason), wait)

    def cancel_waiting(self, futures: Iterable[Future[Any]], reason: str) -> None:
        """Cancel tasks that no worker has been given; the scheduler says which."""
        self.engine.check()
        todo = [future.id for future in futures if not future.done()]
        if todo:
            self.engine.post(Cancel(extents_of(todo), reason, running=False))

    def retry(self, futures: Iterable[Future[Any]]) -> None:
        """Run failed tasks once more; their futures are pending at once."""
        for session, chosen in by_session(futures):
            session._write(functools.partial(session._retry, chosen))

    def _write(self, change: Callable[[], None]) -> None:
        """Change ranges in the I/O thread, which alone writes into them."""
        self.engine.check()
        if self.engine.in_thread:
            change()
            return

        async def there() -> None:
            change()

        self.engine.call(there())

    def _cancel(self, message: Cancel, wait: bool) -> None:
        engine = self.engine
        engine.check()
        engine.post(message)
        settled = engine.cancels.settle(message)
        if not wait or engine.in_thread or self.asynchronous or engine.why_away():
            engine.start(settled)
        else:
            engine.call(settled)

    def _retry(self, futures: list[Future[Any]]) -> None:
        # That a task of another client has failed may not have been told here yet.
        todo = [
            future
            for future in futures
            if future.status == "error"
            or not (future.done() or self.engine.owns(future.id))
        ]
        if todo:
            self.engine.post(Retry(extents_of(future.id for future in todo)))
        for future in todo:
            wish, index = future._range, future._index
            wish.revert(index, 1)
            wish.values.pop(index, None)

    # Fetching.

    @staticmethod
    def check_errors(errors: Errors) -> None:
        """Refuse a word that says nothing about errors.

        Raises:
            UsageError: it is none of the three.
        """
        if errors not in _ERRORS:
            words = ", ".join(map(repr, _ERRORS))
            raise UsageError(f"errors= is one of {words}, not {errors!r}")

    def values(
        self,
        futures: Sequence[Future[Any]],
        errors: Errors = "raise",
        deadline: float | None = None,
    ) -> list[Any]:
        """Return the values of ended tasks.

        What was lost since is waited for until *deadline*, of the steady clock; what
        is there is brought, however long that takes.

        Raises:
            Exception: of the first task that failed, unless *errors* says otherwise.
            TimeoutError: a value that was lost is not there again.
        """
        self._bring(futures, deadline)
        return self._collect(futures, errors)

    def value(self, future: Future[Any], deadline: float | None = None) -> Any:
        """Return the value of one ended task; see ``values``."""
        wish, index = future._range, future._index
        if wish.status[index] == _FINISHED:
            value = self._value(wish, index)
            if not isinstance(value, Unreadable):
                return value
        return self.values([future], deadline=deadline)[0]

    async def values_async(
        self, futures: Sequence[Future[Any]], errors: Errors = "raise"
    ) -> list[Any]:
        """Return the values of ended tasks, fetching in the background."""
        await self._bring_async(futures)
        return self._collect(futures, errors)

    def _bring(
        self, futures: Sequence[Future[Any]], deadline: float | None = None
    ) -> None:
        for session, stored in self._stored(futures):
            session.bringer.check(stored)
            session.engine.call(session.bringer.fetch(stored, deadline))

    async def _bring_async(self, futures: Sequence[Future[Any]]) -> None:
        for session, stored in self._stored(futures):
            session.bringer.check(stored)
            await asyncio.wrap_future(
                session.engine.start(session.bringer.fetch(stored))
            )

    def kept(self, futures: Sequence[Future[Any]]) -> dict[int, Any]:
        """Return the values that can be had, by the ``id`` of their futures."""
        self._bring(futures)
        return self._kept(futures)

    async def kept_async(self, futures: Sequence[Future[Any]]) -> dict[int, Any]:
        """Return the values that can be had, fetching in the background."""
        await self._bring_async(futures)
        return self._kept(futures)

    def _kept(self, futures: Sequence[Future[Any]]) -> dict[int, Any]:
        return {
            id(future): value
            for future in futures
            for value in self._collect([future], "skip")
        }

    async def values_here(self, futures: Sequence[Future[Any]]) -> list[Any]:
        """Return the values of ended tasks, for work inside the I/O thread."""
        await self._bring_async(futures)
        return self._collect(futures, "raise")

    def _stored(
        self, futures: Sequence[Future[Any]]
    ) -> list[tuple[Session, list[tuple[Range, int]]]]:
        """Return whose values rest on a worker and were not fetched yet.

        What has ended, and was lost with its worker since, is one of them.  Each by its
        own session: another client's workers do not know ours.
        """
        whole = futures.whole if type(futures) is Futures else None
        if whole is not None:
            if not (whole.pending or whole.status.count(Status.STORED)):
                return []
            stored = [(whole, index) for index in range(whole.n) if whole.lacks(index)]
            return [(futures[0].session, stored)] if stored else []
        found: dict[Session, list[tuple[Range, int]]] = {}
        for f in futures:
            if f._range.lacks(f._index):
                found.setdefault(f.session, []).append((f._range, f._index))
        return list(found.items())

    def _collect(self, futures: Sequence[Future[Any]], errors: Errors) -> list[Any]:
        whole = futures.whole if type(futures) is Futures else None
        if whole is not None and whole.status.count(Status.FINISHED) == whole.n:
            try:
                decoded = decode_all(whole, self.plain)
                if decoded is not None:
                    return decoded
            except TaskUnreadable:
                if errors == "raise":
                    raise
            # Some values can be read, or are still there: one by one, then.
        values = []
        for future in futures:
            if future.released:
                raise future._closed()
            wish, index = future._range, future._index
            failure = wish.failure(index) if wish.status[index] >= 3 else None
            if failure is None:
                value = self._value(wish, index)
                if not isinstance(value, Unreadable):
                    values.append(value)
                    continue
                # It may have been raised before; what that left is not ours.
                error: BaseException = value.error.with_traceback(None)
            else:
                error = error_of(failure, future.key, self.key_of, plain=self.plain)
            if errors == "raise":
                raise error
            if errors == "return":
                values.append(error)
        return values

    def _value(self, wish: Range, index: int) -> Any:
        values = wish.values
        if index in values:
            value = values[index]
            if isinstance(value, Lazy):
                value = values[index] = decode(value.payload, wish, index, self.plain)
            return value
        payload = wish.payload(index)
        if payload is None:
            lost = DataLost(
                f"{wish.key(index)}: its value could not be fetched from any worker"
            )
            return Unreadable(lost)
        value = values[index] = decode(payload, wish, index, self.plain)
        return value

    def type_of(self, wish: Range, index: int) -> type[Any] | None:
        """Return the type of a value that is here and was looked at."""
        value = wish.values.get(index, _UNKNOWN)
        known = not isinstance(value, Lazy | Unreadable)
        return type(value) if known and value is not _UNKNOWN else None

    # Holding.

    def enter(self, wish: Range) -> None:
        """Have news of a new range's tasks entered into it, whose futures are there."""
        check_free(self._holding)
        with self._holding:
            self.engine.wishes.add(wish)

    def hold(self, wish: Range, index: int = 0) -> Future[Any] | None:
        """Return one more future of a task; ``None`` if nobody holds it any more.

        Then the I/O thread has let go of the task, and a new one is to be made.
        """
        future: Future[Any] = Future(None, wish, index)
        check_free(self._holding)
        with self._holding:
            if wish.held <= 0 or wish.is_let_go(index):
                return None
            if wish.n == 1:
                wish.held += 1
            else:
                self._copies.add(wish.base + index)
            future._session = self  # At once: an interrupt comes with a call only.
        return future


def _in_a_loop() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def by_session(
    futures: Iterable[Future[Any]],
) -> Iterable[tuple[Session, list[Future[Any]]]]:
    """Return futures by the clients that hold them, which alone write into them."""
    found: dict[Session, list[Future[Any]]] = {}
    for future in futures:
        found.setdefault(future.session, []).append(future)
    return found.items()


_UNKNOWN: Final = object()
