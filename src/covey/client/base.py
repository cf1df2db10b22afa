"""What ``Client`` and ``AsyncClient`` share: a connection, and submitting over it."""

from __future__ import annotations

import atexit
import itertools
import os
import weakref
from collections.abc import Callable, Coroutine, Iterable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from covey import config
from covey.client import adopting, interrupts, taken
from covey.client.checks import (
    REASON_LENGTH_MAX,
    check_patience,
    check_text,
    names_for,
)
from covey.client.choices import Choices, Serializer, Where
from covey.client.columns import columns_of
from covey.client.environments import environment_text
from covey.client.finding import dashboard_of
from covey.client.future import Future, Futures
from covey.client.nested import only_futures
from covey.client.options import Retries, names_of, options_here, options_of
from covey.client.resolve import Target, resolve_target
from covey.client.showing import Shown, Shows
from covey.client.sizes import warn_of_other_runners
from covey.errors import UsageError
from covey.net.join_string import Connection
from covey.secret import Secret
from covey.units import counted
from covey.wire.base import DEFAULT_OPTIONS

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from covey.client.engine import Engine
    from covey.client.fetching import Session
    from covey.client.mapping import Mapper

R = TypeVar("R")

_numbers = itertools.count(1)
_alive: weakref.WeakSet[BaseClient] = weakref.WeakSet()


class BaseClient:
    """What ``Client`` and ``AsyncClient`` share: one connection, and submitting."""

    #: Whether its methods are awaited; dask asks for this, too.
    asynchronous: bool
    _session: Session
    _submitter: Mapper
    _engine: Engine
    _target: Target
    _shown: list[Shown]

    def _open(
        self,
        place: Any,
        secret: Secret | None,
        timeout: float | None,
        name: str | None,
        keywords: dict[str, Any],
        choices: Choices,
        shows: Shows,
    ) -> None:
        check_patience(timeout)
        environment = environment_text(choices.python, choices.environment)
        if timeout is None:
            timeout = config.get().client.connect_timeout_seconds
        self.name = check_text(
            name or f"client-{os.getpid()}-{next(_numbers)}", "name="
        )
        self._target = target = resolve_target(place, secret, keywords, timeout)
        from covey.client.opening import open_at  # Not earlier: see there.

        self._engine, self._session, self._submitter = open_at(
            target,
            self.name,
            choices,
            environment,
            timeout,
            asynchronous=self.asynchronous,
        )
        self._shown = shows.begin(self._engine, target.cluster)
        _alive.add(self)
        interrupts.bring_again()

    # For the surroundings.

    @property
    def session(self) -> Session:
        """What waits, fetches and releases on behalf of this client's futures."""
        return self._session

    @property
    def submitter(self) -> Mapper:
        """What turns calls into messages."""
        return self._submitter

    # Code.

    def upload_package(self, package: ModuleType | str | os.PathLike[str]) -> None:
        """Let a module or package of yours go along with every task from now on.

        That is done without asking for modules that a function or its arguments
        name, if this client was made with an address.  Say it for modules that are
        only known by other means, and after you changed one of a cluster of your own.

        Args:
            package: a module, or the path of a package (a folder).

        Raises:
            UsageError: there is no Python code there.
        """
        self._submitter.writing.modules.add(package)

    def upload_file(self, filename: str | os.PathLike[str]) -> None:
        """Let a ``.py`` or ``.zip`` file go along with every task from now on.

        Args:
            filename: the path of a module, or of a zip file of modules and packages.

        Raises:
            UsageError: there is no such file.
        """
        self._submitter.writing.modules.add(filename)

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
    def connection(self) -> Connection:
        """The scheduler's address, and what opens it at present."""
        place = self._engine.place or self._target.connection
        return place._replace(keys=self._engine.keys)

    @property
    def cluster(self) -> Any:
        """The cluster object this client was made with or made itself, if any."""
        return self._target.cluster

    @property
    def status(self) -> str:
        """``"running"``, ``"closed"``, ``"reconnecting"`` or ``"disconnected"``."""
        if self.closed:
            return "closed"
        if self._engine.broken is not None:
            return "disconnected"
        return "running" if self._engine.away_since is None else "reconnecting"

    @property
    def dashboard_link(self) -> str | None:
        """A link to the dashboard, good for one visit; ``None``, with a warning, if there is none.

        A local cluster starts its dashboard when it is asked for.
        """
        if self._target.cluster is not None:
            link: str | None = getattr(self._target.cluster, "dashboard_link", None)
            return link
        return dashboard_of(self._session)

    # Submitting.

    @overload
    def submit(
        self,
        fn: Callable[..., Coroutine[Any, Any, R]],
        /,
        *args: Any,
        key: str | None = ...,
        pure: bool = ...,
        priority: float = ...,
        retries: Retries = ...,
        timeout: float | str | None = ...,
        resources: dict[str, float] | None = ...,
        workers: str | Iterable[str] | None = ...,
        allow_other_workers: bool = ...,
        serializer: Serializer | None = ...,
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
        priority: float = ...,
        retries: Retries = ...,
        timeout: float | str | None = ...,
        resources: dict[str, float] | None = ...,
        workers: str | Iterable[str] | None = ...,
        allow_other_workers: bool = ...,
        serializer: Serializer | None = ...,
        **kwargs: Any,
    ) -> Future[R]: ...
    def submit(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        key: str | None = None,
        pure: bool = False,
        priority: float = 0,
        retries: Retries = 0,
        timeout: float | str | None = None,
        resources: dict[str, float] | None = None,
        workers: str | Iterable[str] | None = None,
        allow_other_workers: bool = False,
        serializer: Serializer | None = None,
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
            priority: any number; higher runs first.
            retries: how many more times to run it if it fails; or a ``covey.Retry``,
                which says for which failures, when and where.
            timeout: seconds (or ``"5m"``) after which a run is stopped.
            resources: amounts that it holds while it runs, as offered by
                ``covey worker --resources``.
            workers: names or addresses of workers it may run on, or of their hosts,
                which stand for all workers there.
            allow_other_workers: take ``workers`` as a wish only: others take what
                these have not begun in half a second, and at once if none is there.
            serializer: the family in which arguments and result travel; default:
                that of the client.
            **kwargs: further arguments of *fn*.

        Returns:
            The future of the result.

        Raises:
            NotPicklable: function or arguments cannot travel; names the culprit.
            KeyConflict: *key* names another task already.
            Closed: this client was closed.
        """
        options = options_here(
            priority, retries, timeout, resources, workers, allow_other_workers
        )
        if options is not DEFAULT_OPTIONS or pure or key or serializer:
            taken.tell(
                *(fn, args, key, pure, priority, retries, timeout, resources, workers),
                *(allow_other_workers, serializer),
            )
        return self._submitter.submit(
            fn, args, kwargs, options, key=key, pure=pure, serializer=serializer
        )

    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, R]],
        /,
        *iterables: Iterable[Any],
        key: str | Sequence[str] | None = ...,
        pure: bool = ...,
        priority: float = ...,
        retries: Retries = ...,
        timeout: float | str | None = ...,
        resources: dict[str, float] | None = ...,
        workers: str | Iterable[str] | None = ...,
        allow_other_workers: bool = ...,
        serializer: Serializer | None = ...,
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
        priority: float = ...,
        retries: Retries = ...,
        timeout: float | str | None = ...,
        resources: dict[str, float] | None = ...,
        workers: str | Iterable[str] | None = ...,
        allow_other_workers: bool = ...,
        serializer: Serializer | None = ...,
        **kwargs: Any,
    ) -> Futures[R]: ...
    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        key: str | Sequence[str] | None = None,
        pure: bool = False,
        priority: float = 0,
        retries: Retries = 0,
        timeout: float | str | None = None,
        resources: dict[str, float] | None = None,
        workers: str | Iterable[str] | None = None,
        allow_other_workers: bool = False,
        serializer: Serializer | None = None,
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
            priority: any number; higher runs first.
            retries: how many more times to run an element that fails, or a
                ``covey.Retry``.
            timeout: seconds after which a run of an element is stopped.
            resources: amounts that each element holds while it runs.
            workers: names or addresses of workers, or of their hosts.
            allow_other_workers: take ``workers`` as a wish only: others take what
                these have not begun in half a second, and at once if none is there.
            serializer: the family in which arguments and result travel; default:
                that of the client.
            **kwargs: further arguments, the same for every task.

        Returns:
            A ``Futures``: a sequence that makes each future when it is touched; with
            ``key=`` or ``pure=`` a plain list.

        Raises:
            NotPicklable: names the element and the culprit.
        """
        options = options_here(
            priority, retries, timeout, resources, workers, allow_other_workers
        )
        if options is not DEFAULT_OPTIONS or pure or key or serializer:
            taken.tell(
                *(
                    fn,
                    iterables,
                    key,
                    pure,
                    priority,
                    retries,
                    timeout,
                    resources,
                    workers,
                ),
                *(allow_other_workers, serializer),
            )
        if key is None and not pure:
            return self._submitter.map(fn, iterables, kwargs, options, serializer)
        columns, n = columns_of(iterables)
        calls = list(itertools.islice(zip(*columns, strict=False), n))
        names: Sequence[str | None] = names_for(key, len(calls))
        return [
            self._submitter.submit(
                fn, args, kwargs, options, key=name, pure=pure, serializer=serializer
            )
            for name, args in zip(names, calls, strict=True)
        ]

    def _scatter(
        self,
        data: Any,
        workers: str | Iterable[str] | None,
        broadcast: bool,
        replicas: int,
        serializer: str | None,
    ) -> Any:
        if replicas < 1:
            raise UsageError(f"replicas= takes a number from 1 up, not {replicas!r}")
        chosen = options_of(0, 0, None, None, workers, False).workers
        where = Where(chosen, broadcast, replicas)

        def place(values: list[Any]) -> Any:
            if not {Future, Futures}.isdisjoint(map(type, values)):
                raise UsageError(
                    "scatter takes data, and there are futures here: their values are on "
                    "the cluster already. Pass the futures themselves to tasks"
                )
            return self._submitter.scatter(values, where, serializer)

        if isinstance(data, dict):
            return dict(zip(data, place(list(data.values())), strict=True))
        if isinstance(data, list | tuple | set | frozenset | range):
            scattered = place(list(data))
            if isinstance(data, list | range):
                return scattered
            if isinstance(data, tuple) and hasattr(data, "_fields"):
                return type(data)(*scattered)
            return type(data)(scattered)
        return place([data])[0]

    # Handles.

    def future_of(
        self, task_id: int, label: str, name: str | None, token: bytes = b""
    ) -> Future[Any]:
        """Return a future of a task that another client, or this one, made.

        *token* came along with the future of another client, and lets us hold it.
        """
        return adopting.future_of(self._session, task_id, label, name, token)

    def cancel(self, futures: Any, reason: str = "") -> None:
        """Cancel all futures in *futures* (one, or nested in lists and dicts).

        Here, and wherever futures alone are wanted (``wait``, ``as_completed``, ``retry``,
        ``release``, ...), a dict keyed by futures means its keys, another one its
        values; and if anything else is among them, nothing is done.

        Tasks that run are stopped, for every client that waits for them; what
        depends on them fails with ``TaskCancelled``.  What has ended stays, also if
        that is not known here yet: the scheduler says which, before this returns.  (An
        ``AsyncClient`` does not wait for it, nor is it waited for while it is away.)
        """
        check_text(reason, "reason=", REASON_LENGTH_MAX)
        self._session.cancel(only_futures(futures), reason)

    def retry(self, futures: Any) -> None:
        """Run failed tasks once more, with the failed inputs that they have."""
        self._session.retry(only_futures(futures))

    def detach(self, futures: Any) -> None:
        """Let tasks run to their end even when every future of them is gone."""
        self._session.detach(only_futures(futures))

    def release(self, futures: Any) -> None:
        """Let go of futures without waiting for them to be collected."""
        for future in only_futures(futures):
            future.release()

    def _run_everywhere(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        workers: str | Iterable[str] | None,
        kwargs: dict[str, Any],
    ) -> dict[str, Future[Any]]:
        """Submit a call for every worker, ahead of other tasks.

        Raises:
            UsageError: one of *workers* is not there; nothing was submitted.
        """
        self._engine.check()
        there = list(self._engine.workers.values())
        chosen = None if workers is None else set(names_of(workers))
        unknown = set() if chosen is None else set(chosen)
        for seen in there:
            unknown -= {seen.name, *seen.addresses}
        if unknown:
            known = ", ".join(seen.name for seen in there) or "none"
            raise UsageError(
                f"there is no worker {', '.join(sorted(unknown))}; there are: {known}. "
                f"Nothing was run"
            )
        meant = [
            seen
            for seen in there
            if chosen is None or chosen & {seen.name, *seen.addresses}
        ]
        warn_of_other_runners(self.cluster, meant)
        return {
            seen.name: self.submit(
                fn, *args, workers=seen.name, priority=1 << 30, **kwargs
            )
            for seen in meant
        }

    def ncores(self) -> dict[str, int]:
        """Return how many slots each worker has, by name."""
        self._engine.check()
        return {seen.name: seen.slots for seen in self._engine.workers.values()}

    nthreads = ncores

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

    def _dask(self) -> Any:
        self._submitter.writing.demand_pickle("dask")
        from importlib import import_module

        return import_module("covey.interop.dask")

    def _close(self, shutdown: bool) -> None:
        shown, self._shown = self._shown, []
        for each in shown:
            each.close()
        self._engine.close(shutdown=shutdown)
        self._session.callbacks.close()
        self._target.close_owned()
        _alive.discard(self)

    def __repr__(self) -> str:
        if not hasattr(self, "_engine"):
            # In the traceback of what kept it from being made.
            return f"<{type(self).__name__}: not connected>"
        workers = self._engine.workers
        state = "" if self.status == "running" else f" ({self.status})"
        return (
            f"<{type(self).__name__}: {self.address}, "
            f"{counted(len(workers), 'worker')}, {counted(self._slots(), 'slot')}{state}>"
        )

    def _repr_html_(self) -> str:
        from covey.client.html import card

        workers = self._engine.workers
        rows = (
            ("scheduler", self.address),
            ("workers", f"{len(workers)}, with {counted(self._slots(), 'slot')}"),
            ("status", self.status),
            ("dashboard", "client.dashboard_link"),
        )
        return card(type(self).__name__, rows)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any] | None:
        """Live, where a notebook can do that."""
        from covey.client.widget import bundle_of

        return bundle_of(self)

    def _slots(self) -> int:
        return sum(seen.slots for seen in self._engine.workers.values())

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError(
            "a client cannot be sent to another process; inside a task, call "
            "covey.get_client()"
        )


# What Python says of a call without a function shall name what users know.
for _shared in (BaseClient.submit, BaseClient.map):
    _shared.__qualname__ = f"Client.{_shared.__name__}"


# Clusters end by ``weakref.finalize``, all of which are called where the first of them
# was made.  What is registered after that is called before: clients leave first.
weakref.finalize(BaseClient, list).detach()


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
