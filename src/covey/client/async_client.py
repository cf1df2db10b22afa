"""``AsyncClient``: the client for programs that live in an event loop.

The same engine as ``Client`` has, with an I/O thread of its own; only waiting
differs.  It works in any asyncio loop, and what is awaited never blocks it.

``submit`` and ``map`` are not awaited: when they return, arguments have been pickled, and
large ones have been written to a worker, so that the program may change them.  That
takes as long as a copy does.  ``await client.scatter(value)`` does it in a thread.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable, Coroutine, Generator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from covey.client import publishing
from covey.client.base import BaseClient
from covey.client.checks import check_count, check_patience
from covey.client.choices import Choices, Functions, Serializer
from covey.client.environments import Requirements
from covey.client.extents import extents_of
from covey.client.future import Future, Futures, check_told
from covey.client.memory import MemoryTable, memory_table
from covey.client.nested import container, futures_in, only_futures, rebuild
from covey.client.options import names_of
from covey.client.showing import Shows
from covey.client.sizes import check_can_come
from covey.errors import UsageError
from covey.net.join_string import shy
from covey.secret import Secret

if TYPE_CHECKING:
    from covey.client.fetching import Errors

R = TypeVar("R")


class AsyncClient(BaseClient):
    """A connection to a cluster, to be awaited.

    ::

        async with AsyncClient() as client:
            future = client.submit(inc, 1)
            await future
            image = await client.scatter(large_array)  # By the side of the loop.
            await client.submit(brighten, image)

    Args:
        target: as for ``Client``.
        timeout: seconds to wait for the scheduler to answer.
        name: how this client is called in messages.
        secret: the cluster's, if neither a connection file nor a join string
            tells it: a ``covey.secret.Secret``.
        serializer: as for ``Client``, and so is the next one.
        functions: how functions travel.
        python: as for ``Client``, and so is the next one.
        environment: packages that runners shall have.
        prints: as for ``Client``, and so is the next one.
        progress: show bars whenever this client waits for tasks.
        **keywords: of ``LocalCluster``.
    """

    #: dask asks for this.
    asynchronous = True

    def __init__(
        self,
        target: Any = None,
        *,
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
        self._how = (target, secret, timeout, name, keywords, choices, shows)
        self._started = False

    async def start(self) -> Self:
        """Connect.  ``await AsyncClient(...)`` and ``async with`` do it."""
        if not self._started:
            await asyncio.to_thread(self._open, *self._how)
            self._started = True
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self.start().__await__()

    def __repr__(self) -> str:
        if not self._started:
            return f"<{type(self).__name__}: not connected yet; await it>"
        return super().__repr__()

    def _repr_html_(self) -> str:
        return super()._repr_html_() if self._started else html.escape(repr(self))

    def __getattr__(self, name: str) -> Any:
        if name in {"_engine", "_session", "_submitter", "_target"}:
            raise UsageError(
                "this AsyncClient is not connected yet: await it, or use it in "
                "`async with`"
            )
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    @overload
    async def gather(self, futures: Future[R], errors: Errors = ...) -> R: ...
    @overload
    async def gather(
        self, futures: Futures[R] | list[Future[R]], errors: Errors = ...
    ) -> list[R]: ...
    @overload
    async def gather(self, futures: Any, errors: Errors = ...) -> Any: ...
    async def gather(self, futures: Any, errors: Errors = "raise") -> Any:
        """Return the values of futures, in the shape in which they came.

        Args:
            futures: a future, or futures nested in lists, tuples, sets, dicts.
            errors: ``"raise"`` the first, ``"skip"`` what failed, or ``"return"``
                the exceptions in the values' places.
        """
        self._session.check_errors(errors)
        if isinstance(futures, Futures):
            await self._session.wait_async(futures)
            return await self._session.values_async(futures, errors)
        futures = container(futures)
        found = list(futures_in(futures))
        await self._session.wait_async(found)
        if errors == "skip":
            return rebuild(futures, await self._session.kept_async(found))
        values = await self._session.values_async(found, errors)
        return rebuild(futures, dict(zip(map(id, found), values, strict=True)))

    async def scatter(
        self,
        data: Any,
        broadcast: bool = False,
        workers: str | Iterable[str] | None = None,
        serializer: Serializer | None = None,
        replicas: int = 1,
    ) -> Any:
        """Put local data on the cluster; see ``Client.scatter``."""
        return await asyncio.to_thread(
            self._scatter, data, workers, broadcast, replicas, serializer
        )

    async def wait(self, futures: Any) -> None:
        """Wait until all of *futures* have ended."""
        found = only_futures(futures)
        await self._session.wait_async(found)
        check_told(found)

    async def wait_for_workers(
        self, n_workers: int = 1, timeout: float | None = None
    ) -> None:
        """Wait until *n_workers* workers have joined; see ``Client``."""
        check_count(n_workers, "n_workers=")
        check_patience(timeout)
        check_can_come(self.cluster, n_workers)
        work = self._engine.wait_for_workers(n_workers, timeout)
        await self._there(work)

    async def retire_workers(
        self, workers: str | Iterable[str], timeout: float | None = None
    ) -> list[str]:
        """Let workers leave in good order; see ``Client``."""
        work = self._engine.retire_workers(names_of(workers), timeout)
        return await self._there(work)

    async def _there(self, work: Coroutine[Any, Any, R]) -> R:
        """Have *work* done in the I/O thread, and wait for it."""
        try:
            self._engine.check()
        except BaseException:
            work.close()
            raise
        return await asyncio.wrap_future(self._engine.start(work))

    async def who_has(self, futures: Any) -> dict[str, list[str]]:
        """Return the names of the workers that hold each value, by key."""
        chosen = only_futures(futures)
        work = self._engine.ask("who_has", extents=extents_of(f.id for f in chosen))
        places = await self._there(work)
        by_id = {
            task: workers
            for base, n, workers in places
            for task in range(base, base + n)
        }
        return {future.key: list(by_id.get(future.id, [])) for future in chosen}

    async def memory(self) -> MemoryTable:
        """Return what each worker uses memory for, in bytes; prints as a table."""
        # Not by scheduler_info: see ``Client.memory``.
        return memory_table(await self._there(self._engine.ask("info")))

    async def scheduler_info(self) -> dict[str, Any]:
        """Return workers, clients, task states and counters as plain data."""
        work = self._engine.ask("info")
        info: dict[str, Any] = await self._there(work)
        return info

    async def run(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        workers: str | Iterable[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Run a function once on every worker; see ``Client.run``."""
        results: dict[str, Any] = await self.gather(
            self._run_everywhere(fn, args, workers, kwargs)
        )
        return results

    async def publish_dataset(self, name: str, value: Any) -> None:
        """Keep *value*, and the results of its futures, under *name*; see ``Client``."""
        await self._aside(publishing.publish, name, value)

    async def get_dataset(self, name: str) -> Any:
        """Return what is kept under *name*, with futures of this client in it.

        Raises:
            KeyError: nothing is.
        """
        return await self._aside(publishing.published, name)

    async def list_datasets(self) -> tuple[str, ...]:
        """Return the names under which something is kept."""
        return await self._aside(publishing.names)

    async def unpublish_dataset(self, name: str) -> None:
        """Keep nothing under *name* any more."""
        await self._aside(publishing.unpublish, name)

    async def _aside(self, ask: Callable[..., R], *args: Any) -> R:
        """Have something asked in a thread: what is kept may be large to pickle."""
        return await asyncio.to_thread(ask, self, *args)

    async def get(
        self, dsk: Any, keys: Any = None, sync: bool = True, **options: Any
    ) -> Any:
        """Run a dask graph and return the values of *keys*; see ``Client.get``."""
        # In a thread: lowering a large graph takes its time.
        futures = await asyncio.to_thread(
            self._dask().futures_of_keys, self, dsk, keys, **options
        )
        return await self.gather(futures) if sync else futures

    def compute(self, collections: Any, **options: Any) -> Any:
        """Return futures of the values of dask collections."""
        return self._dask().compute(self, collections, **options)

    def persist(self, collections: Any, **options: Any) -> Any:
        """Return collections of the same meaning whose parts live on the cluster."""
        return self._dask().persist(self, collections, **options)

    async def close(self) -> None:
        """Leave the cluster.  A cluster that this client made ends with it."""
        if self._started:
            await asyncio.to_thread(self._close, shutdown=False)

    async def shutdown(self) -> None:
        """End the whole cluster, and leave."""
        if self._started:
            await asyncio.to_thread(self._close, shutdown=True)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        await self.close()
