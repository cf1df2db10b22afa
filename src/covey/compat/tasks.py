"""The functions of ``distributed``, with its arguments, on covey."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import covey
from covey.client.current import default_client as _default_client
from covey.client.nested import futures_in, is_persisted
from covey.compat.client import Client, as_distributed
from covey.runner import context


def get_client(
    address: Any = None, timeout: Any = None, resolve_address: bool = True
) -> Client:
    """Return the client of this task, or the default one.

    Raises:
        UsageError: there is neither (a ``ValueError``).
    """
    del timeout, resolve_address
    if address is not None:
        return Client(address, set_as_default=False)
    client: Client = as_distributed(covey.get_client())
    return client


def default_client(c: Any = None) -> Any:
    """Return *c*, or the default client.

    Raises:
        ValueError: there is none.
    """
    client = c or _default_client()
    if client is None:
        raise ValueError("there is no client: make one with Client()")
    return client if c else as_distributed(client)


def futures_of(o: Any, client: Any = None) -> list[covey.Future[Any]]:
    """Return the futures in *o*: nested in containers, or of a persisted collection."""
    del client
    if hasattr(o, "__dask_graph__") and not is_persisted(o):
        return []
    if isinstance(o, Iterable) or hasattr(o, "__dask_graph__"):
        return list(futures_in(o))
    return [o] if isinstance(o, covey.Future) else []


class as_completed(covey.as_completed[Any]):  # noqa: N801  (the name users type)
    """``covey.as_completed``, with the arguments of ``distributed``."""

    def __init__(
        self,
        futures: Any = (),
        loop: Any = None,
        with_results: bool = False,
        raise_errors: bool = True,
        *,
        timeout: float | None = None,
    ) -> None:
        del loop
        super().__init__(
            futures,
            with_results=with_results,
            raise_errors=raise_errors,
            timeout=timeout,
        )


def wait(fs: Any, timeout: Any = None, return_when: Any = "ALL_COMPLETED") -> Any:
    """Wait for futures, or for the parts of persisted collections."""
    # What a dict is keyed by may be what is meant, which ``futures_of`` does not tell.
    chosen = fs if isinstance(fs, dict) else futures_of(fs)
    return covey.wait(chosen, timeout, return_when)


def progress(
    *futures: Any,
    notebook: bool | None = None,
    multi: bool = True,
    complete: bool = True,
    **others: Any,
) -> Any:
    """Show how far tasks are; in a script, until they have ended."""
    del multi, complete, others
    shown = covey.progress(*futures, notebook=notebook)
    if not notebook:
        shown.wait()
    return shown


# Inside of tasks.


def secede() -> None:
    """Do nothing: a task of covey gives its slot away by itself, whenever it waits.

    Raises:
        ValueError: no task runs in this thread.
    """
    get_worker()


def rejoin() -> None:
    """Do nothing; see ``secede``."""
    get_worker()


@contextlib.contextmanager
def worker_client(
    timeout: Any = None, separate_thread: bool = True
) -> Iterator[Client]:
    """Yield the client of this task; it gives its slot away whenever it waits."""
    del timeout, separate_thread
    yield get_client()


class WorkerHere(NamedTuple):
    """The worker that runs this task, as far as the task may know of it."""

    name: str
    address: str


def get_worker() -> WorkerHere:
    """Return the worker that runs this task.

    Raises:
        ValueError: no task runs in this thread.
    """
    task = context.current()
    if task is None:
        raise ValueError("no task runs in this thread, so there is no worker here")
    return WorkerHere(task.worker, task.worker)
