"""``concurrent.futures`` on a cluster: a true ``Executor`` with true futures.

For every library that asks for an executor: its futures work in
``concurrent.futures.wait`` and ``as_completed``, in ``asyncio.wrap_future`` and
``loop.run_in_executor``.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import functools
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar

from covey import clock
from covey.client.base import BaseClient
from covey.client.client import Client
from covey.client.countdown import all_done
from covey.client.future import Future, take
from covey.client.options import Retries, options_of
from covey.errors import Closed, TaskCancelled, UsageError
from covey.runner import context
from covey.wire.base import Options

T = TypeVar("T")

_SHUT_DOWN: Final = "the executor was shut down"

_SET_UP: Final = (
    "what each process needs, such as a set-up, goes into a module that the tasks "
    "import, which each process runs once"
)

#: What the standard library's executors take and ours do not, and what to do instead.
_INSTEAD: Final = {
    "initializer": _SET_UP,
    "initargs": _SET_UP,
    "mp_context": "leave it out: runners are processes of their own, started afresh and "
    "never forked from this one, and need no __main__ guard",
    "max_tasks_per_child": "leave it out: an idle runner that has grown is started anew "
    "when memory runs short, and memory_limit= says how much there is",
    "thread_name_prefix": "leave it out: tasks run in processes of their own",
}

#: Executors with a cluster of their own: what they were given is done at exit.
_alive: weakref.WeakSet[Executor] = weakref.WeakSet()


class _ClusterFuture(concurrent.futures.Future[T]):
    """A future of the standard library that follows one of ours."""

    def __init__(self, ours: Future[T]) -> None:
        super().__init__()
        #: The future of covey that it follows.
        self.ours = ours
        self._first_cancel = threading.Lock()

    def result(self, timeout: float | None = None) -> T:
        """Return the value, waiting for it; a task that waits gives its slot away."""
        if self.done():
            return super().result(timeout)
        with context.blocking():
            return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call raised, waiting for its end as ``result`` does."""
        if self.done():
            return super().exception(timeout)
        with context.blocking():
            return super().exception(timeout)

    def running(self) -> bool:
        """Whether a worker has been given the call: it runs, or is about to."""
        return not self.done() and self.ours.running()

    def add_done_callback(
        self, fn: Callable[[concurrent.futures.Future[T]], object]
    ) -> None:
        """Call *fn* when the call has ended, as ``covey.Future`` calls callbacks."""
        if self.done():
            super().add_done_callback(fn)
        else:
            callbacks = self.ours.session.callbacks
            super().add_done_callback(functools.partial(callbacks.soon, fn))

    def cancel(self) -> bool:
        """Cancel the task unless it has ended; a running one is stopped."""
        if not super().cancel():
            return False
        if self._first_cancel.acquire(blocking=False):
            self.ours.cancel("the future of the executor was cancelled")
            self.set_running_or_notify_cancel()
        return True


class ClientExecutor(concurrent.futures.Executor):
    """Runs calls as tasks of a client.

    Args:
        client: whose cluster to use.
        **options: of ``Client.submit``, for every call: ``priority``, ``retries``, ...

    Raises:
        UsageError: there is no such option, or a value makes no sense.
    """

    def __init__(self, client: BaseClient, **options: Any) -> None:
        unknown = [word for word in options if word not in _OPTIONS]
        if unknown:
            raise UsageError(
                f"an executor of a client takes no {unknown[0]}=; it takes "
                f"{', '.join(_OPTIONS)}"
            )
        self._client = client
        self._options = options
        self._pure = bool(options.get("pure", False))
        self._checked = _checked(**{k: v for k, v in options.items() if k != "pure"})
        self._pending: set[_ClusterFuture[Any]] = set()
        #: What ``map`` was asked for and is not done; each waits by itself.
        self._maps: list[Sequence[Future[Any]]] = []
        self._lock = threading.Lock()
        #: The loop holds its tasks weakly.
        self._delivering: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def _max_workers(self) -> int:
        # dask asks executors for this.
        return max(1, sum(self._client.ncores().values()))

    def submit(
        self, fn: Callable[..., T], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[T]:
        """Run ``fn(*args, **kwargs)`` on the cluster.

        Raises:
            RuntimeError: the executor was shut down.
        """
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        # Not by ``client.submit``, which would take some keywords for its own.
        ours: Future[T] = self._client.submitter.submit(
            fn, args, kwargs, self._checked, key=None, pure=self._pure
        )
        theirs = _ClusterFuture(ours)
        with self._lock:
            self._pending.add(theirs)
        ours.session.watch(ours, lambda done: self._ended(done, theirs))
        return theirs

    def _ended(self, ours: Future[Any], theirs: _ClusterFuture[Any]) -> None:
        """Hand an outcome over.  A value may have to be fetched: not in this thread."""
        if ours.status == "finished":
            engine = ours.session.engine
            work = _deliver(ours, theirs, self._forget)
            task = engine.loop.create_task(work)
            self._delivering.add(task)
            task.add_done_callback(self._delivering.discard)
            return
        self._forget(theirs)
        if theirs.cancelled():
            return
        try:
            error = ours.exception(0)
        except TaskCancelled:
            if theirs.cancel():
                return
            error = TaskCancelled(f"{ours.key} was cancelled")
        _set(theirs, None, error)

    def _forget(self, theirs: _ClusterFuture[Any]) -> None:
        with self._lock:
            self._pending.discard(theirs)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[T]:
        """Return the results of calls in the order of the elements.

        Args:
            fn: what to call.
            *iterables: arguments; read to the end at once.
            timeout: seconds until an unfinished result raises ``TimeoutError``.
            chunksize: taken for compatibility; covey sizes its batches itself.

        Raises:
            RuntimeError: the executor was shut down.
            UsageError: *chunksize* is less than 1.
        """
        if chunksize < 1:
            raise UsageError(f"chunksize= takes a number from 1 up, not {chunksize!r}")
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        deadline = None if timeout is None else clock.monotonic() + timeout
        futures: Sequence[Future[T]] = self._client.map(fn, *iterables, **self._options)
        with self._lock:
            self._maps = [known for known in self._maps if not all_done(known)]
            self._maps.append(futures)
        return _results(self._client, futures, deadline)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: return when all calls have ended.
            cancel_futures: cancel those that no worker has been given; what runs, or
                is about to, is done.
        """
        self._closed = True
        with self._lock:
            pending = list(self._pending)
            maps = list(self._maps)
        if cancel_futures:
            for futures in ([future.ours for future in pending], *maps):
                self._client.session.cancel_waiting(futures, _SHUT_DOWN)
        if wait:
            with context.blocking():
                concurrent.futures.wait(pending)
            for futures in maps:
                self._client.session.wait(futures, None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Shut down; what the block has raised comes before what fails in that."""
        try:
            self.shutdown()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(
                f"and the executor could not be shut down in order: "
                f"{type(failure).__name__}: {failure}"
            )


#: What an executor takes of the options of ``Client.submit``.
_OPTIONS: Final = (
    "pure",
    "priority",
    "retries",
    "timeout",
    "resources",
    "workers",
    "allow_other_workers",
)


def _checked(
    *,
    priority: float = 0,
    retries: Retries = 0,
    timeout: float | str | None = None,
    resources: dict[str, float] | None = None,
    workers: str | Iterable[str] | None = None,
    allow_other_workers: bool = False,
) -> Options:
    return options_of(
        priority, retries, timeout, resources, workers, allow_other_workers
    )


def _results(
    client: BaseClient, futures: Sequence[Future[T]], deadline: float | None
) -> Iterator[T]:
    """Yield values in order; let each go once it has been read."""
    index = 0
    wait = True
    try:
        for index in range(len(futures)):
            left = None
            if deadline is not None:
                left = max(0.0, deadline - clock.monotonic())
            try:
                # Not in a variable: who drops a value has dropped the last of it.
                yield take(futures[index], left)
            except TaskCancelled as error:
                raise concurrent.futures.CancelledError(str(error)) from error
    except GeneratorExit:
        # Perhaps the garbage collector came, in the midst of what the answer needs.
        wait = False
        raise
    finally:
        rest = [future for future in futures[index:] if not future.done()]
        if rest:
            why = "nobody reads the results any more"
            client.session.cancel(rest, why, wait=wait)


def _bring(client: BaseClient, futures: Sequence[Future[Any]]) -> None:
    """Have the values of ended tasks here, but for those that were let go of.

    Raises:
        Closed: the client was closed.
    """
    while True:
        try:
            client.session.values(futures, "return")
        except Closed:
            # Who reads the results, even now and in another thread, lets each go.
            held = [future for future in futures if not future.released]
            if len(held) == len(futures):
                raise
            futures = held
        else:
            return


async def _deliver(
    ours: Future[Any],
    theirs: _ClusterFuture[Any],
    forget: Callable[[_ClusterFuture[Any]], None],
) -> None:
    try:
        value = (await ours.session.values_here([ours]))[0]
    except BaseException as error:
        _set(theirs, None, error)
    else:
        _set(theirs, value, None)
    finally:
        forget(theirs)


def _set(
    theirs: concurrent.futures.Future[Any], value: Any, error: BaseException | None
) -> None:
    try:
        if error is not None:
            theirs.set_exception(error)
        else:
            theirs.set_result(value)
    except concurrent.futures.InvalidStateError:
        return  # It was cancelled in the meantime.


class Executor(ClientExecutor):
    """An executor that brings its own cluster, or uses one that is there.

    What a cluster of its own was given is done even when nobody shuts the executor
    down: when it is collected, and when the interpreter ends.

    Args:
        target: a client, or whatever ``Client`` takes: an address, a cluster,
            ``None`` for this machine's cores.
        max_workers: how many runners a cluster of its own has.
        **keywords: of ``LocalCluster``, when *target* is ``None``.

    There is no ``initializer=``: what each process needs goes into a module that the
    tasks import, which each process runs once.

    Raises:
        UsageError: there is no such keyword; says what to do instead.
    """

    def __init__(
        self, target: Any = None, *, max_workers: int | None = None, **keywords: Any
    ) -> None:
        self._own: Client | None = None
        if isinstance(target, int):
            raise UsageError(f"say how many runners by name: max_workers={target}")
        for name in keywords:
            if name in _INSTEAD:
                raise UsageError(f"an Executor takes no {name}=: {_INSTEAD[name]}")
        if max_workers is not None:
            if target is not None:
                raise UsageError(
                    "max_workers= is for a cluster of the executor's own, and this one "
                    "was given a client or the place of one"
                )
            keywords["n_workers"] = max_workers
        client = target
        if not isinstance(target, BaseClient):
            client = self._own = Client(target, set_as_default=False, **keywords)
        super().__init__(client)
        if self._own is not None:
            _alive.add(self)
            # What was registered last is called first: before the cluster goes.
            atexit.unregister(_finish)
            atexit.register(_finish)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and end a cluster that was made for this executor."""
        if self._own is None:
            super().shutdown(wait, cancel_futures=cancel_futures)
            return
        if cancel_futures and self._own.status == "running":
            super().shutdown(wait=False, cancel_futures=True)
        if wait:
            self._end()
        elif not self._ending:
            self._ending = True
            self._closed = True
            # As the standard library does: the interpreter waits for this thread.
            threading.Thread(target=self._end, name="covey-executor-end").start()

    _ending = False

    def _end(self) -> None:
        assert self._own is not None
        with self._lock:
            maps = list(self._maps)
        try:
            super().shutdown(wait=True)
            if self._own.status == "running":
                for futures in maps:
                    # They may be read when the cluster is gone.
                    _bring(self._own, futures)
        except Exception:
            # Or it would be tried again, and told again, at the end of the interpreter.
            self._own.close()
            raise
        self._own.close()

    def __del__(self) -> None:
        """Let what was submitted be done, as the standard library does."""
        own: Client | None = self.__dict__.get("_own")
        if own is not None and own.status == "running":
            self.shutdown(wait=False)


def _finish() -> None:
    """Do what is left to do, at the end of the interpreter."""
    for executor in list(_alive):
        executor.shutdown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_alive.clear)
