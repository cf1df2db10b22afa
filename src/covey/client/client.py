"""``Client``: what users type."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from covey.client import current, publishing
from covey.client.base import BaseClient
from covey.client.checks import check_count, check_patience, check_text
from covey.client.choices import Choices, Functions, Serializer
from covey.client.environments import Requirements
from covey.client.extents import extents_of
from covey.client.future import Future, Futures
from covey.client.memory import MemoryTable, memory_table
from covey.client.nested import container, futures_in, only_futures, rebuild
from covey.client.options import names_of
from covey.client.showing import Shows
from covey.client.sizes import check_can_come
from covey.net.join_string import shy
from covey.secret import Secret

if TYPE_CHECKING:
    from covey.client.fetching import Errors

R = TypeVar("R")


class Client(BaseClient):
    """A connection to a cluster; with no argument, to one of this machine's cores.

    Args:
        target: ``None``, ``"HOST:PORT"``, a join string, the path of a connection
            file, or a cluster object.  With ``None``, ``$COVEY_ADDRESS`` or
            ``$COVEY_CONNECTION_FILE`` decides if set; else a ``LocalCluster``
            is made and is gone with this client.
        set_as_default: become the client that dask and ``get_client`` find.
        timeout: seconds to wait for the scheduler to answer; default: the setting
            ``client.connect_timeout_seconds``.
        name: how this client is called in messages.
        secret: the cluster's, if neither a connection file nor a join string
            tells it: a ``covey.secret.Secret``.
        serializer: how arguments and results travel: ``"pickle"``, or as plain
            data: ``"msgpack"``, ``"json"``, ``"arrow"``.
        functions: how functions and classes travel that cannot be imported on the
            other side: ``"value"`` (as bytecode, for the same minor version of
            Python), ``"source"`` (as text, for any), or ``"auto"``: by source as
            soon as a worker has another minor version than this process.
            ``"import"`` sends names only; with a serializer of plain data, no
            pickle is read anywhere then.
        python: the version that the runners of its tasks shall have: ``"3.12"``,
            or ``"same"`` for that of this process; each worker looks for it among
            what ``covey worker --python`` names, ``$PATH``, pyenv and uv.
        environment: packages that these runners shall have: requirements as pip
            has them, or the path of a file of them; each worker builds it once.
        prints: show here what tasks of this client print, each line with the key of
            its task.  Those of a cluster of this process come here anyway.
        progress: show bars whenever this client waits for tasks.
        **keywords: of ``LocalCluster``: ``n_workers``, ``threads_per_worker``,
            ``memory_limit``, ``processes``, ...

    Raises:
        NoScheduler: nobody answers at the address.
        Refused: the scheduler refuses us: another version, or a wrong secret.
    """

    #: dask asks for this.
    asynchronous = False

    def __init__(  # noqa: PLR0913  (what users choose, each by its name)
        self,
        target: Any = None,
        *,
        set_as_default: bool = True,
        timeout: float | None = None,
        name: str | None = None,
        secret: Secret | None = None,
        serializer: Serializer = "pickle",
        functions: Functions = "auto",
        python: str | None = None,
        environment: Requirements = None,
        prints: bool = False,
        progress: bool = False,
        **keywords: Any,
    ) -> None:
        target = shy(target)
        choices = Choices(functions, serializer, python, environment)
        shows = Shows(prints, progress)
        self._open(target, secret, timeout, name, keywords, choices, shows)
        _dask_default().begin(self)
        if set_as_default:
            current.set_default(self)
            _dask_default().set_default(self)

    # Results.

    @overload
    def gather(self, futures: Future[R], errors: Errors = ...) -> R: ...
    @overload
    def gather(
        self, futures: Futures[R] | list[Future[R]], errors: Errors = ...
    ) -> list[R]: ...
    @overload
    def gather(self, futures: Any, errors: Errors = ...) -> Any: ...
    def gather(self, futures: Any, errors: Errors = "raise") -> Any:
        """Return the values of futures, in the shape in which they came.

        Args:
            futures: a future, or futures nested in lists, tuples, sets, dicts.
            errors: ``"raise"`` the first error; ``"skip"`` what failed (in lists);
                or ``"return"`` the exceptions in the values' places.

        Raises:
            Exception: what the first failed task raised.
        """
        self._session.check_errors(errors)
        if isinstance(futures, Future):
            return futures.result() if errors == "raise" else self._one(futures, errors)
        if isinstance(futures, Futures):
            self._session.wait(futures, None)
            return self._session.values(futures, errors)
        futures = container(futures)
        found = list(futures_in(futures))
        self._session.wait(found, None)
        if errors == "skip":
            return rebuild(futures, self._session.kept(found))
        values = self._session.values(found, errors)
        return rebuild(futures, dict(zip(map(id, found), values, strict=True)))

    def _one(self, future: Future[Any], errors: Errors) -> Any:
        self._session.wait([future], None)
        values = self._session.values([future], errors)
        return values[0] if values else None

    def scatter(
        self,
        data: Any,
        broadcast: bool = False,
        workers: str | Iterable[str] | None = None,
        serializer: Serializer | None = None,
        replicas: int = 1,
    ) -> Any:
        """Put local data on the cluster.

        Args:
            data: a list, tuple, set or dict, whose items become futures; anything
                else becomes one future.
            broadcast: put a copy on every worker; they pass it on among themselves.
            workers: names or addresses of the workers to use.
            serializer: the family in which the items go; default: that of the client.
            replicas: put copies on so many workers, on different machines if there
                are such; a copy that is lost with a worker is made anew.

        Returns:
            Futures in the shape of *data*.

        Raises:
            NotPicklable: an item cannot travel.
        """
        return self._scatter(data, workers, broadcast, replicas, serializer)

    # The cluster.

    def run(
        self,
        fn: Callable[..., R],
        /,
        *args: Any,
        workers: str | Iterable[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, R]:
        """Run a function once on every worker, in a runner, ahead of other tasks.

        It does not reach every process: of a worker with several runners, one runs it,
        and a warning says so; nor those that are started later.  What each process
        needs goes into a module that the tasks import, which each process runs once.

        Args:
            fn: what to call.
            *args: its arguments.
            workers: the name or address of a worker, or several; default: all.
            **kwargs: further arguments, or options of ``submit``.

        Returns:
            The results by the name of the worker.

        Raises:
            UsageError: there is no such worker; nothing was run.
        """
        futures = self._run_everywhere(fn, args, workers, kwargs)
        results: dict[str, R] = self.gather(futures)
        return results

    def who_has(self, futures: Any = None) -> dict[str, list[str]]:
        """Return the names of the workers that hold each value, by key."""
        chosen = only_futures(futures) if futures is not None else []
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

    def memory(self) -> MemoryTable:
        """Return what each worker uses memory for, in bytes; prints as a table.

        What it tells is up to about two seconds old, and what was let go of just now may
        be counted for a few seconds more.
        """
        # Not by scheduler_info, which tells it in another shape where covey stands in
        # for distributed.
        return memory_table(self._session.ask("info"))

    def scheduler_info(self) -> dict[str, Any]:
        """Return workers, clients, task states and counters as plain data."""
        info: dict[str, Any] = self._session.ask("info")
        info["address"] = self.address
        return info

    def overview(self) -> dict[str, Any]:
        """Return workers, functions and counters: cheap, however many tasks there are."""
        view: dict[str, Any] = self._session.ask("overview")
        return view

    def explain(self, key: str) -> str:
        """Say in a sentence how the task called *key* stands, whoever submitted it."""
        names = (check_text(key, "key="),)
        answer = self._session.ask("explain", names=names)
        return f"{key}: {answer['text']}"

    def logs(self, futures: Any = None) -> list[tuple[str, str, str]]:
        """Return what tasks have printed, the latest last, as long as it is kept.

        Of very much, the last 4 MiB.

        Args:
            futures: whose lines; without them, those of all tasks.

        Returns:
            The key of the task, the stream (``stdout`` or ``stderr``) and the text.
        """
        chosen = () if futures is None else only_futures(futures)
        extents = extents_of(future.id for future in chosen)
        if futures is not None and not extents:
            return []
        return [
            (f"{label}-{task:x}", stream, text)
            for _, _, task, label, _, stream, text, _ in self._session.ask(
                "logs", extents=extents
            )
        ]

    # What outlives clients.

    def publish_dataset(self, name: str, value: Any) -> None:
        """Keep *value* on the cluster under *name*, with the results of its futures.

        They are kept, and made again if they are lost, until somebody takes the name
        back: whoever leaves, and over the death of the scheduler if that has a
        ``--journal``.

        Args:
            name: for all clients of the cluster.
            value: a future, futures nested in lists and dicts, or a persisted dask
                collection.

        Raises:
            UsageError: the name is taken.
        """
        publishing.publish(self, name, value)

    def get_dataset(self, name: str) -> Any:
        """Return what is kept under *name*, with futures of this client in it.

        Raises:
            KeyError: nothing is.
        """
        return publishing.published(self, name)

    def list_datasets(self) -> tuple[str, ...]:
        """Return the names under which something is kept."""
        return publishing.names(self)

    def unpublish_dataset(self, name: str) -> None:
        """Keep nothing under *name* any more."""
        publishing.unpublish(self, name)

    def wait_for_workers(
        self, n_workers: int = 1, timeout: float | None = None
    ) -> None:
        """Wait until *n_workers* workers have joined.

        A ``LocalCluster`` is one worker (or as many as its ``machines=``), whose
        runners are what its own ``n_workers=`` counts.

        Raises:
            TimeoutError: they have not within *timeout* seconds.
            UsageError: it is one of fewer, and no other can join.
        """
        check_count(n_workers, "n_workers=")
        check_patience(timeout)
        self._engine.check()
        check_can_come(self.cluster, n_workers)
        self._engine.call(self._engine.wait_for_workers(n_workers, timeout))

    def retire_workers(
        self, workers: str | Iterable[str], timeout: float | None = None
    ) -> list[str]:
        """Let workers leave in good order, and wait until they are gone.

        They are given nothing more, finish what they have begun, and hand over the
        data that only they have: nothing has to be computed again.

        Args:
            workers: a name or address, or several.
            timeout: for how many seconds to wait; they go on leaving after that.

        Returns:
            The names of those that have left.

        Raises:
            UsageError: there is no such worker.
            TimeoutError: they have not gone within *timeout* seconds.
        """
        check_patience(timeout)
        self._engine.check()
        names = names_of(workers)
        return self._engine.call(self._engine.retire_workers(names, timeout))

    def events(self, since: int = 0) -> tuple[int, list[tuple[Any, ...]], int]:
        """Return what happened on the cluster since event number *since*.

        Returns:
            The number of the first event, the events, and how many were missed
            because they are too old to be kept.
        """
        number = check_count(since, "since=")
        first, events, dropped = self._session.ask("events", number=number)
        return first, [tuple(event) for event in events], dropped

    def events_after(self, number: int) -> tuple[int, list[tuple[Any, ...]], int]:
        """Wait until something happens after event *number* - 1, and return it.

        As ``events``, and up to a tenth of a second late.
        """
        from msgspec import msgpack

        number = check_count(number, "number=")
        first, _, dropped, data, _ = self._session.ask("watch", number=number)
        return first, [tuple(event) for event in msgpack.decode(data)], dropped

    # dask.

    def get(self, dsk: Any, keys: Any = None, sync: bool = True, **options: Any) -> Any:
        """Run a dask graph (a dict, or an expression) and return the values.

        This is the function that dask calls when this client is the scheduler.  Without
        *sync* it returns futures, nested as the keys are, and does not wait.
        """
        return self._dask().get(self, dsk, keys, sync=sync, **options)

    def compute(self, collections: Any, sync: bool = False, **options: Any) -> Any:
        """Compute dask collections: futures of their values, or with *sync* the values.

        Anything that is no dask collection is returned as it is.
        """
        return self._dask().compute(self, collections, sync=sync, **options)

    def persist(self, collections: Any, **options: Any) -> Any:
        """Return dask collections of the same meaning whose parts live on the cluster."""
        return self._dask().persist(self, collections, **options)

    # Life.

    def as_current(self) -> AbstractContextManager[None]:
        """Let this client be the one that is meant inside a ``with`` block."""
        return current.as_current(self)

    def _close(self, shutdown: bool) -> None:
        current.unset_default(self)
        _dask_default().unset_default(self)
        _dask_default().end(self)
        super()._close(shutdown)

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


def fire_and_forget(futures: Any) -> None:
    """Let tasks run to their end though nobody keeps their futures."""
    # It is here with the first client; this file is loaded before a cluster is started.
    from covey.client.fetching import by_session

    for session, chosen in by_session(only_futures(futures)):
        session.detach(chosen)
