"""``Client``: what users type."""

from __future__ import annotations

import atexit
import itertools
import os
import weakref
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from covey.client import current
from covey.client.core.ranges import Range
from covey.client.engine import Engine
from covey.client.fetching import Errors, Session, extents_of
from covey.client.future import Future, Futures
from covey.client.nested import futures_in, rebuild
from covey.client.resolve import Target, resolve_target
from covey.client.submission import Submitter, options_of
from covey.errors import UsageError
from covey.wire.client_link import Detach, Release, Retry, Want

if TYPE_CHECKING:
    from concurrent.futures import Executor

R = TypeVar("R")

_numbers = itertools.count(1)
_alive: weakref.WeakSet[BaseClient] = weakref.WeakSet()


class BaseClient:
    """What ``Client`` and ``AsyncClient`` share: one connection, and submitting."""

    _session: Session
    _submitter: Submitter
    _engine: Engine
    _target: Target

    def _open(
        self,
        target: Any,
        secret: bytes | None,
        timeout: float,
        name: str | None,
        keywords: dict[str, Any],
    ) -> None:
        self._target = resolve_target(target, secret, keywords)
        self.name = name or f"client-{os.getpid()}-{next(_numbers)}"
        self._engine = Engine(self._target.address, self._target.secret, self.name)
        try:
            self._engine.call(self._engine.connect(timeout))
        except BaseException:
            self._engine.close()
            self._target.close_owned()
            raise
        self._session = Session(self._engine)
        self._submitter = Submitter(self._session)
        _alive.add(self)

    # For the surroundings.

    @property
    def session(self) -> Session:
        """What waits, fetches and releases on behalf of this client's futures."""
        return self._session

    @property
    def submitter(self) -> Submitter:
        """What turns calls into messages."""
        return self._submitter

    # Facts.

    @property
    def closed(self) -> bool:
        """Whether this client has been closed."""
        return self._engine.closed

    @property
    def address(self) -> str:
        """Where the scheduler listens."""
        return str(self._engine.address)

    @property
    def cluster(self) -> Any:
        """The cluster object this client was made with or made itself, if any."""
        return self._target.cluster

    @property
    def status(self) -> str:
        """``"running"``, ``"closed"`` or ``"disconnected"``."""
        if self.closed:
            return "closed"
        return "running" if self._engine.broken is None else "disconnected"

    @property
    def dashboard_link(self) -> str | None:
        """The address of the dashboard, if one was started."""
        return getattr(self._target.cluster, "dashboard_link", None)

    # Submitting.

    @overload
    def submit(
        self,
        fn: Callable[..., Coroutine[Any, Any, R]],
        /,
        *args: Any,
        key: str | None = ...,
        pure: bool = ...,
        priority: int = ...,
        retries: int = ...,
        timeout: float | str | None = ...,
        resources: dict[str, float] | None = ...,
        workers: str | Iterable[str] | None = ...,
        allow_other_workers: bool = ...,
        **kwargs: Any,
    ) -> Future[R]: ...
    @overload
    def submit(
        self,
        fn: Callable[..., R],
        /,
        *args: Any,
        key: str | None = ...,
        pure: bool = ...,
        priority: int = ...,
        retries: int = ...,
        timeout: float | str | None = ...,
        resources: dict[str, float] | None = ...,
        workers: str | Iterable[str] | None = ...,
        allow_other_workers: bool = ...,
        **kwargs: Any,
    ) -> Future[R]: ...
    def submit(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        key: str | None = None,
        pure: bool = False,
        priority: int = 0,
        retries: int = 0,
        timeout: float | str | None = None,
        resources: dict[str, float] | None = None,
        workers: str | Iterable[str] | None = None,
        allow_other_workers: bool = False,
        **kwargs: Any,
    ) -> Future[Any]:
        """Run ``fn(*args, **kwargs)`` on the cluster.

        Args:
            fn: any callable, ``async def`` as well.
            *args: its arguments.  Futures among them, however deep, are waited
                for on the cluster and replaced by their values.
            key: a name for the task; submitting the same key again gives the
                same task.
            pure: derive the key from function and arguments, so that equal
                calls run once.
            priority: higher runs first.
            retries: how many more times to run it if it fails.
            timeout: seconds (or ``"5m"``) after which a run is stopped.
            resources: amounts that it holds while it runs, as offered by
                ``covey worker --resources``.
            workers: names or addresses of workers it may run on.
            allow_other_workers: take ``workers`` as a wish only.
            **kwargs: further arguments of *fn*.

        Returns:
            The future of the result.

        Raises:
            NotPicklable: function or arguments cannot travel; names the culprit.
            KeyConflict: *key* names another task already.
            Closed: this client was closed.
        """
        options = options_of(
            priority, retries, timeout, resources, workers, allow_other_workers
        )
        return self._submitter.submit(fn, args, kwargs, options, key=key, pure=pure)

    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, R]],
        /,
        *iterables: Iterable[Any],
        key: str | Sequence[str] | None = ...,
        pure: bool = ...,
        priority: int = ...,
        retries: int = ...,
        timeout: float | str | None = ...,
        resources: dict[str, float] | None = ...,
        workers: str | Iterable[str] | None = ...,
        allow_other_workers: bool = ...,
        **kwargs: Any,
    ) -> Futures[R]: ...
    @overload
    def map(
        self,
        fn: Callable[..., R],
        /,
        *iterables: Iterable[Any],
        key: str | Sequence[str] | None = ...,
        pure: bool = ...,
        priority: int = ...,
        retries: int = ...,
        timeout: float | str | None = ...,
        resources: dict[str, float] | None = ...,
        workers: str | Iterable[str] | None = ...,
        allow_other_workers: bool = ...,
        **kwargs: Any,
    ) -> Futures[R]: ...
    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        key: str | Sequence[str] | None = None,
        pure: bool = False,
        priority: int = 0,
        retries: int = 0,
        timeout: float | str | None = None,
        resources: dict[str, float] | None = None,
        workers: str | Iterable[str] | None = None,
        allow_other_workers: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Run ``fn`` once for each element of the iterables, as ``map`` does.

        Each element is a task of its own: with its own future, error, retries
        and cancellation.  The iterables are read to their end before this
        returns; the shortest one counts.

        Args:
            fn: any callable.
            *iterables: sequences or iterators of arguments; they may be futures.
            key: a list of names, one for each task, or a prefix for them.
            pure: as in ``submit``, and so are the following, for each task.
            priority: higher runs first.
            retries: how many more times to run an element that fails.
            timeout: seconds after which a run of an element is stopped.
            resources: amounts that each element holds while it runs.
            workers: names or addresses of workers.
            allow_other_workers: take ``workers`` as a wish only.
            **kwargs: further arguments, the same for every task.

        Returns:
            A list of futures, each made when it is touched.

        Raises:
            NotPicklable: names the element and the culprit.
        """
        options = options_of(
            priority, retries, timeout, resources, workers, allow_other_workers
        )
        if key is None and not pure:
            return self._submitter.map(fn, iterables, kwargs, options)
        calls = list(zip(*iterables, strict=False))
        names: Sequence[str | None] = _names(key, len(calls))
        return [
            self._submitter.submit(fn, args, kwargs, options, key=name, pure=pure)
            for name, args in zip(names, calls, strict=True)
        ]

    def _scatter(
        self, data: Any, workers: str | Iterable[str] | None, broadcast: bool
    ) -> Any:
        options = options_of(0, 0, None, None, workers, False)
        if isinstance(data, dict):
            futures = self._submitter.scatter(
                list(data.values()), options.workers, broadcast
            )
            return dict(zip(data, futures, strict=True))
        if isinstance(data, list | tuple | set | frozenset | range):
            scattered = self._submitter.scatter(list(data), options.workers, broadcast)
            if isinstance(data, list | range):
                return scattered
            return type(data)(scattered)
        return self._submitter.scatter([data], options.workers, broadcast)[0]

    # Handles.

    def future_of(self, task_id: int, label: str, name: str | None) -> Future[Any]:
        """Return a future of a task that another client, or this one, made."""
        known = self._engine.wishes.find(task_id)
        if known is not None and known.n == 1:
            known.held += 1
            return Future(self._session, known, 0)
        if self._engine.owns(task_id):
            raise UsageError(
                f"the future of task {task_id:x} was released before it came back here"
            )
        wish = Range(task_id, 1, label, name)
        wish.held = 1
        self._engine.wishes.add(wish)
        self._engine.post(Want(((task_id, 1),)))
        return Future(self._session, wish, 0)

    def cancel(self, futures: Any, reason: str = "") -> None:
        """Cancel all futures in *futures* (one, or nested in lists and dicts).

        Tasks that run are stopped, for every client that waits for them; what
        depends on them fails with ``TaskCancelled``.  What has ended stays.
        """
        self._session.cancel(futures_in(futures), reason)

    def retry(self, futures: Any) -> None:
        """Run failed tasks once more, with the failed inputs that they have."""
        chosen = list(futures_in(futures))
        self._engine.post(Retry(extents_of(future.id for future in chosen)))
        for future in chosen:
            if future.status == "error":
                future._range.revert(future._index, 1)

    def detach(self, futures: Any) -> None:
        """Let tasks run to their end even when every future of them is gone."""
        chosen = list(futures_in(futures))
        if chosen:
            self._engine.post(Detach(extents_of(future.id for future in chosen)))

    def release(self, futures: Any) -> None:
        """Let go of futures without waiting for them to be collected."""
        for future in futures_in(futures):
            future.release()

    def _close(self, shutdown: bool) -> None:
        if isinstance(self, Client):
            current.unset_default(self)
            _dask_default().unset_default(self)
        self._engine.close(shutdown=shutdown)
        self._target.close_owned()
        _alive.discard(self)

    def __repr__(self) -> str:
        workers = self._engine.workers
        slots = sum(seen.slots for seen in workers.values())
        state = "" if self.status == "running" else f" ({self.status})"
        return (
            f"<{type(self).__name__}: {self.address}, {len(workers)} workers, "
            f"{slots} slots{state}>"
        )

    def _repr_html_(self) -> str:
        from html import escape

        workers = self._engine.workers
        slots = sum(seen.slots for seen in workers.values())
        return (
            f"<b>{type(self).__name__}</b> <code>{escape(self.address)}</code>"
            f"<ul><li>Workers: {len(workers)}</li><li>Slots: {slots}</li>"
            f"<li>Status: {self.status}</li></ul>"
        )

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError(
            "a client cannot be sent to another process; inside a task, call "
            "covey.get_client()"
        )


class Client(BaseClient):
    """A connection to a cluster; with no argument, to one of this machine's cores.

    Args:
        target: ``None``, ``"HOST:PORT"``, a join string, the path of a connection
            file, or a cluster object.  With ``None``, ``$COVEY_ADDRESS`` or
            ``$COVEY_CONNECTION_FILE`` decides if set; else a ``LocalCluster``
            is made and is gone with this client.
        set_as_default: become the client that dask and ``get_client`` find.
        timeout: seconds to wait for the scheduler to answer.
        name: how this client is called in messages.
        secret: the cluster's secret, if it is not in a connection file.
        **keywords: of ``LocalCluster``: ``n_workers``, ``threads_per_worker``,
            ``memory_limit``, ``processes``, ...

    Raises:
        NoScheduler: nobody answers at the address.
        Refused: the scheduler refuses us: another version, or a wrong secret.
    """

    #: dask asks for this.
    asynchronous = False

    def __init__(
        self,
        target: Any = None,
        *,
        set_as_default: bool = True,
        timeout: float = 10.0,
        name: str | None = None,
        secret: bytes | None = None,
        **keywords: Any,
    ) -> None:
        self._open(target, secret, timeout, name, keywords)
        if set_as_default:
            current.set_default(self)
            _dask_default().set_default(self)

    # Results.

    def gather(self, futures: Any, errors: Errors = "raise") -> Any:
        """Return the values of futures, in the shape in which they came.

        Args:
            futures: a future, or futures nested in lists, tuples, sets, dicts.
            errors: ``"raise"`` the first error; ``"skip"`` what failed (in lists);
                or ``"return"`` the exceptions in the values' places.

        Raises:
            Exception: what the first failed task raised.
        """
        if isinstance(futures, Future):
            return futures.result() if errors == "raise" else self._one(futures, errors)
        if isinstance(futures, Futures):
            self._session.wait(futures, None)
            return self._session.values(futures, errors)
        found = list(futures_in(futures))
        self._session.wait(found, None)
        if errors == "skip":
            return rebuild(futures, self._kept(found))
        values = self._session.values(found, errors)
        return rebuild(futures, dict(zip(map(id, found), values, strict=True)))

    def _one(self, future: Future[Any], errors: Errors) -> Any:
        self._session.wait([future], None)
        values = self._session.values([future], errors)
        return values[0] if values else None

    def _kept(self, found: list[Future[Any]]) -> dict[int, Any]:
        good = [f for f in found if f.status == "finished"]
        values = self._session.values(good)
        return dict(zip(map(id, good), values, strict=True))

    def scatter(
        self,
        data: Any,
        broadcast: bool = False,
        workers: str | Iterable[str] | None = None,
    ) -> Any:
        """Put local data on the cluster.

        Args:
            data: a list, tuple, set or dict, whose items become futures; anything
                else becomes one future.
            broadcast: put a copy on every worker.
            workers: names or addresses of the workers to use.

        Returns:
            Futures in the shape of *data*.

        Raises:
            NotPicklable: an item cannot travel.
        """
        return self._scatter(data, workers, broadcast)

    # The cluster.

    def run(
        self,
        fn: Callable[..., R],
        /,
        *args: Any,
        workers: Iterable[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, R]:
        """Run a function once on every worker, in a runner, ahead of other tasks.

        Returns:
            The results by the name of the worker.
        """
        self._engine.check()
        chosen = set(workers) if workers is not None else None
        names = [
            seen.name
            for seen in self._engine.workers.values()
            if chosen is None or chosen & {seen.name, *seen.addresses}
        ]
        futures = {
            name: self.submit(fn, *args, workers=name, priority=1 << 30, **kwargs)
            for name in names
        }
        results: dict[str, R] = self.gather(futures)
        return results

    def who_has(self, futures: Any = None) -> dict[str, list[str]]:
        """Return the names of the workers that hold each value, by key."""
        chosen = list(futures_in(futures)) if futures is not None else []
        found: dict[str, list[str]] = {}
        places = self._session.ask("who_has", extents=extents_of(f.id for f in chosen))
        by_id = {
            task: workers
            for base, n, workers in places
            for task in range(base, base + n)
        }
        for future in chosen:
            found[future.key] = list(by_id.get(future.id, []))
        return found

    def scheduler_info(self) -> dict[str, Any]:
        """Return workers, clients, task states and counters as plain data."""
        info: dict[str, Any] = self._session.ask("info")
        info["address"] = self.address
        return info

    def ncores(self) -> dict[str, int]:
        """Return how many slots each worker has, by name."""
        self._engine.check()
        return {seen.name: seen.slots for seen in self._engine.workers.values()}

    nthreads = ncores

    def wait_for_workers(
        self, n_workers: int = 1, timeout: float | None = None
    ) -> None:
        """Wait until *n_workers* workers have joined.

        Raises:
            TimeoutError: they have not within *timeout* seconds.
        """
        self._engine.check()
        self._engine.call(self._engine.wait_for_workers(n_workers, timeout))

    def get_executor(self, **options: Any) -> Executor:
        """Return a ``concurrent.futures.Executor`` that runs on this cluster.

        Args:
            **options: of ``submit``: ``priority``, ``retries``, ...
        """
        from importlib import import_module

        # A surrounding of ours, one floor up: found by name, when asked for.
        module = import_module("covey.interop.futures")
        executor: Executor = module.ClientExecutor(self, **options)
        return executor

    def events(self, since: int = 0) -> tuple[int, list[tuple[Any, ...]], int]:
        """Return what happened on the cluster since event number *since*.

        Returns:
            The number of the first event, the events, and how many were missed
            because they are too old to be kept.
        """
        first, events, dropped = self._session.ask("events", number=since)
        return first, [tuple(event) for event in events], dropped

    # dask.

    def get(self, dsk: Any, keys: Any = None, **options: Any) -> Any:
        """Run a dask graph (a dict, or an expression) and return the values.

        This is the function that dask calls when this client is the scheduler.
        """
        return self._dask().get(self, dsk, keys, **options)

    def compute(self, collections: Any, sync: bool = False, **options: Any) -> Any:
        """Compute dask collections: futures of their values, or with *sync* the values.

        Anything that is no dask collection is returned as it is.
        """
        return self._dask().compute(self, collections, sync=sync, **options)

    def persist(self, collections: Any, **options: Any) -> Any:
        """Return dask collections of the same meaning whose parts live on the cluster."""
        return self._dask().persist(self, collections, **options)

    def _dask(self) -> Any:
        from importlib import import_module

        return import_module("covey.interop.dask")

    # Life.

    def as_current(self) -> AbstractContextManager[None]:
        """Let this client be the one that is meant inside a ``with`` block."""
        return current.as_current(self)

    def close(self) -> None:
        """Leave the cluster.  A cluster that this client made ends with it."""
        self._close(shutdown=False)

    def shutdown(self) -> None:
        """End the whole cluster, and leave."""
        self._close(shutdown=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()


def _dask_default() -> Any:
    from importlib import import_module

    # A surrounding of ours, one floor up: found by name.
    return import_module("covey.interop.dask_default")


def _names(key: str | Sequence[str] | None, n: int) -> Sequence[str | None]:
    if key is None:
        return [None] * n
    if isinstance(key, str):
        return [f"{key}-{index}" for index in range(n)]
    if len(key) != n:
        raise UsageError(f"there are {len(key)} keys for {n} tasks")
    return key


def fire_and_forget(futures: Any) -> None:
    """Let tasks run to their end though nobody keeps their futures."""
    for future in futures_in(futures):
        future.session.engine.post(Detach(((future.id, 1),)))


@atexit.register
def _close_all() -> None:
    for client in list(_alive):
        client._close(shutdown=False)


def _forget_after_fork() -> None:
    """A child must neither use nor close what belongs to its parent."""
    for client in list(_alive):
        client._target.disown()
    _alive.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)

__all__ = ["BaseClient", "Client", "Release", "fire_and_forget"]
