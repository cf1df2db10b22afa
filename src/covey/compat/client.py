"""``Client``, with the arguments of ``distributed``.

What both have goes through; what only changes how ``distributed`` does something is passed
over; what asks for something that covey does not do is refused by name.  Two things
are covey's: calls are impure unless ``pure=True`` is said, and what ``map`` returns is a
sequence that makes its futures when they are touched.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import covey
from covey.client.current import default_client
from covey.client.options import options_here
from covey.compat.cluster import local_keywords
from covey.compat.missing import refuse
from covey.errors import UsageError
from covey.wire.base import Options


class _Calls:
    """What the two clients share: the arguments with which tasks are asked for."""

    submitter: Any

    def submit(  # noqa: PLR0913  (theirs has as many)
        self,
        func: Callable[..., Any],
        *args: Any,
        key: Any = None,
        workers: Any = None,
        resources: Any = None,
        retries: int | None = None,
        priority: float = 0,
        fifo_timeout: Any = None,
        allow_other_workers: bool = False,
        actor: bool = False,
        actors: bool = False,
        pure: bool = False,
        **kwargs: Any,
    ) -> covey.Future[Any]:
        """Run ``func(*args, **kwargs)``; all other keywords are the function's."""
        del fifo_timeout
        options = _options(
            workers, resources, retries, priority, allow_other_workers, actor or actors
        )
        key = key if key is None else str(key)
        future: covey.Future[Any] = self.submitter.submit(
            func, args, kwargs, options, key=key, pure=pure
        )
        return future

    def map(  # noqa: PLR0913  (theirs has as many)
        self,
        func: Callable[..., Any],
        *iterables: Any,
        key: Any = None,
        workers: Any = None,
        retries: int | None = None,
        resources: Any = None,
        priority: float = 0,
        allow_other_workers: bool = False,
        fifo_timeout: Any = None,
        actor: bool = False,
        actors: bool = False,
        pure: bool = False,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run ``func`` for each element; all other keywords are the function's."""
        del fifo_timeout, batch_size
        if key is None and not pure:
            options = _options(
                workers,
                resources,
                retries,
                priority,
                allow_other_workers,
                actor or actors,
            )
            return self.submitter.map(func, iterables, kwargs, options)
        rows = list(zip(*iterables, strict=False))
        names = _names(key, len(rows))
        return [
            self.submit(
                functools.partial(func, **kwargs) if kwargs else func,
                *row,
                key=name,
                workers=workers,
                resources=resources,
                retries=retries,
                priority=priority,
                allow_other_workers=allow_other_workers,
                actor=actor or actors,
                pure=pure,
            )
            for name, row in zip(names, rows, strict=True)
        ]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(
            f"Client.{name} is not to be had where covey stands in for distributed"
        )


def _names(key: Any, n: int) -> list[str | None]:
    if key is None:
        return [None] * n
    if isinstance(key, str):
        return [f"{key}-{index}" for index in range(n)]
    return [str(name) for name in key]


def _options(
    workers: Any,
    resources: Any,
    retries: int | None,
    priority: float,
    allow_other_workers: bool,
    actor: bool,
) -> Options:
    if actor:
        refuse("Actor", "covey has no actors")
    return options_here(
        priority, retries or 0, None, resources, workers, allow_other_workers
    )


def _target(
    address: Any,
    scheduler_file: Any,
    security: Any,
    others: dict[str, Any],
) -> tuple[Any, dict[str, Any]]:
    """Return what a client of covey is to be made with."""
    if security is not None:
        refuse("Security", "the connection file, or the join string, says it all")
    if scheduler_file is not None:
        return Path(scheduler_file), {}
    for name in ("serializers", "deserializers"):
        if others.pop(name, None):
            raise UsageError(
                f"{name}= is not to be had where covey stands in for distributed: "
                f"covey.Client takes serializer="
            )
    for name in ("loop", "heartbeat_interval", "direct_to_workers", "connection_limit"):
        others.pop(name, None)
    others.pop("extensions", None)
    if isinstance(address, int | float):
        others = {"n_workers": int(address), **others}
        address = None
    return address, local_keywords(others)


class AsyncClient(_Calls, covey.AsyncClient):  # type: ignore[misc]  # theirs
    """What ``Client(asynchronous=True)`` returns: await it."""

    def __init__(
        self,
        address: Any = None,
        *,
        timeout: Any = None,
        set_as_default: bool = True,
        scheduler_file: Any = None,
        security: Any = None,
        name: str | None = None,
        **others: Any,
    ) -> None:
        del set_as_default
        target, keywords = _target(address, scheduler_file, security, others)
        super().__init__(target, timeout=_seconds(timeout), name=name, **keywords)

    async def gather(
        self, futures: Any, errors: Any = "raise", direct: Any = None, **others: Any
    ) -> Any:
        """Return the values of futures."""
        del direct, others
        return await super().gather(futures, errors)

    async def scatter(  # type: ignore[override]  # as theirs has it
        self, data: Any, workers: Any = None, **others: Any
    ) -> Any:
        """Put local data on the cluster."""
        return await super().scatter(
            data, broadcast=bool(others.get("broadcast")), workers=workers
        )


class Client(_Calls, covey.Client):  # type: ignore[misc]  # theirs
    """A client of covey, made and used as one of ``distributed`` is."""

    def __new__(cls, *args: Any, asynchronous: bool = False, **keywords: Any) -> Any:
        """Make the client that is awaited, if that is asked for."""
        if asynchronous:
            return AsyncClient(*args, **keywords)
        return super().__new__(cls)

    def __init__(
        self,
        address: Any = None,
        loop: Any = None,
        timeout: Any = None,
        set_as_default: bool = True,
        scheduler_file: Any = None,
        security: Any = None,
        asynchronous: bool = False,
        name: str | None = None,
        **others: Any,
    ) -> None:
        del loop, asynchronous
        target, keywords = _target(address, scheduler_file, security, others)
        super().__init__(
            target,
            set_as_default=set_as_default,
            timeout=_seconds(timeout),
            name=name,
            **keywords,
        )

    @classmethod
    def current(cls, allow_global: bool = True) -> Any:
        """Return the client that is meant when nobody says.

        Raises:
            ValueError: there is none.
        """
        del allow_global
        client = default_client()
        if client is None:
            raise ValueError("there is no client: make one with Client()")
        return as_distributed(client)

    @property
    def id(self) -> str:
        """How this client is called."""
        return self.name

    @property
    def datasets(self) -> Mapping[str, Any]:
        """What is published, by name."""
        return Datasets(self)

    def gather(
        self,
        futures: Any,
        errors: Any = "raise",
        direct: Any = None,
        asynchronous: Any = None,
    ) -> Any:
        """Return the values of futures."""
        del direct, asynchronous
        return super().gather(futures, errors)

    def scatter(  # type: ignore[override]  # as theirs has it
        self,
        data: Any,
        workers: Any = None,
        broadcast: Any = False,
        direct: Any = None,
        hash: bool = True,  # noqa: A002  (the name of theirs)
        timeout: Any = None,
        asynchronous: Any = None,
    ) -> Any:
        """Put local data on the cluster."""
        del direct, hash, timeout, asynchronous
        return super().scatter(data, broadcast=bool(broadcast), workers=workers)

    def run(  # type: ignore[override]  # as theirs has it
        self,
        function: Callable[..., Any],
        *args: Any,
        workers: Any = None,
        wait: bool = True,
        nanny: bool = False,
        on_error: str = "raise",
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Run a function once on every worker, in one of its runners."""
        if nanny or not wait or on_error != "raise":
            raise UsageError(
                "Client.run takes none of wait=False, nanny=True and on_error= where "
                "covey stands in for distributed"
            )
        return super().run(function, *args, workers=workers, **kwargs)

    def cancel(self, futures: Any, *others: Any, reason: str = "", **more: Any) -> None:
        """Cancel tasks, running or not."""
        del others, more
        super().cancel(futures, reason or "")

    def retry(self, futures: Any, asynchronous: Any = None) -> None:
        """Run failed tasks once more."""
        del asynchronous
        super().retry(futures)

    def who_has(self, futures: Any = None, **others: Any) -> dict[str, list[str]]:
        """Return which workers hold each value."""
        del others
        return super().who_has(futures)

    def scheduler_info(self, n_workers: int = -1, **others: Any) -> dict[str, Any]:
        """Return what there is, with the workers by their names."""
        del n_workers, others
        info = super().scheduler_info()
        workers = {
            worker["name"]: {
                **worker,
                "nthreads": worker["slots"],
                "memory_limit": worker["memory_limit_bytes"],
            }
            for worker in info["workers"]
        }
        return {**info, "type": "Scheduler", "workers": workers}

    def nthreads(self, workers: Any = None) -> dict[str, int]:
        """Return how many slots each worker has."""
        chosen = {workers} if isinstance(workers, str) else workers
        return {
            name: n
            for name, n in super().ncores().items()
            if chosen is None or name in chosen
        }

    ncores = nthreads

    def publish_dataset(
        self, *args: Any, name: str | None = None, override: bool = False, **kwargs: Any
    ) -> None:
        """Keep results under names: ``publish_dataset(x=future)``, or ``name=``."""
        chosen = dict(kwargs)
        if args:
            if name is None or len(args) > 1:
                raise UsageError(
                    "publish_dataset takes one value and name=, or x=value"
                )
            chosen[name] = args[0]
        for each, value in chosen.items():
            if override and each in self.list_datasets():
                self.unpublish_dataset(each)
            super().publish_dataset(each, value)

    def get_dataset(self, name: str, default: Any = refuse) -> Any:
        """Return what is kept under *name*."""
        try:
            return super().get_dataset(name)
        except KeyError:
            if default is refuse:
                raise
            return default

    def upload_file(self, filename: Any, load: bool = True) -> None:
        """Let a file of code go along with every task from now on."""
        del load
        super().upload_file(filename)

    def close(self, timeout: Any = None) -> None:
        """Leave the cluster."""
        del timeout
        super().close()

    def run_on_scheduler(self, *args: Any, **kwargs: Any) -> None:
        """Refuse it: the scheduler of covey runs no code of users."""
        del args, kwargs
        refuse("Client.run_on_scheduler", "covey's scheduler runs no code of users")

    def restart(self, *args: Any, **kwargs: Any) -> None:
        """Refuse it: runners are processes that can be replaced one by one."""
        del args, kwargs
        refuse(
            "Client.restart",
            "client.cancel stops tasks, also running ones, and a runner that dies is "
            "replaced",
        )

    def register_plugin(self, *args: Any, **kwargs: Any) -> None:
        """Refuse it: nothing of covey but runners runs code of users."""
        del args, kwargs
        refuse("Client.register_plugin", "use client.run(fn), or environment=")

    register_worker_plugin = register_scheduler_plugin = register_plugin


class Datasets(Mapping[str, Any]):
    """What is published on a cluster, by name."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getitem__(self, name: str) -> Any:
        return self._client.get_dataset(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self._client.publish_dataset(value, name=name)

    def __delitem__(self, name: str) -> None:
        self._client.unpublish_dataset(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._client.list_datasets())

    def __len__(self) -> int:
        return len(self._client.list_datasets())


def _seconds(timeout: Any) -> float | None:
    return None if timeout in {None, "__no_default__"} else float(timeout)


def as_distributed(client: covey.Client) -> Any:
    """Return *client* with the arguments of ``distributed``: the same in other clothes."""
    if type(client) is not covey.Client:
        return client
    twin = object.__new__(Client)
    # Whatever becomes of the one becomes of the other.
    twin.__dict__ = client.__dict__
    return twin
