"""``joblib`` on a cluster: a backend for ``parallel_config("covey")``.

joblib cuts its work into batches and hands them to a backend one by one; each is a
task here.  Two things are ours to care for:

- *Large arguments.*  A batch holds the arguments of its calls, and the same array may be
  in all of them.  It is brought to the cluster once, and batches hold a future of it.
- *Nesting.*  A task that calls ``Parallel`` itself uses the same backend, with the client
  that tasks have; while it waits, its slot is given to its batches.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from joblib import parallel
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

from covey.client.client import Client
from covey.client.current import default_client, get_client
from covey.client.future import Future
from covey.errors import UsageError
from covey.interop.futures import ClientExecutor
from covey.runner import context
from covey.serde.packing import LIMIT_BYTES

#: A batch as joblib makes it: functions with their arguments.
Calls = list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]

_NAME: Final = "covey"


def register() -> None:
    """Let ``joblib.parallel_config("covey")`` mean this backend."""
    parallel.register_parallel_backend(_NAME, CoveyBackend)


def run_batch(calls: Calls, nested: tuple[Any, Any]) -> list[Any]:
    """Run a batch, on a runner."""
    backend, n_jobs = nested
    with parallel.parallel_config(backend=backend, n_jobs=n_jobs):
        return [function(*args, **kwargs) for function, args, kwargs in calls]


class CoveyBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """Runs joblib's batches as tasks.

    Args:
        client: whose cluster to use; default: the default client, inside a task its own,
            and if there is none, a cluster of this machine's cores.
        nesting_level: how deep in other ``Parallel`` calls.
        **options: of ``Client.submit``, for every batch: ``priority``, ``retries``, ...

    Raises:
        UsageError: the options make no sense.
    """

    default_n_jobs = -1
    supports_retrieve_callback = True
    supports_sharedmem = False
    uses_threads = False

    def __init__(
        self,
        client: Client | None = None,
        nesting_level: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level or 0)
        self._client = client if client is not None else _client_here()
        if not isinstance(self._client, Client):
            raise UsageError(f"client= takes a covey.Client, not {client!r:.80}")
        self._options = options
        self._executor = ClientExecutor(self._client, **options)
        #: What was submitted and has not been heard of.
        self._batches: set[concurrent.futures.Future[Any]] = set()
        #: Large arguments that are on the cluster, by ``id``, with what keeps that id.
        self._brought: dict[int, tuple[Any, Future[Any]]] = {}
        self._in_call = False
        #: Whether joblib has stopped what runs, and wants to hear no more of it.
        self._aborted = False

    # What joblib asks.

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many calls can run at a time.

        Raises:
            ValueError: *n_jobs* is 0.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        slots = max(1, sum(self._client.ncores().values()))
        if n_jobs is None:
            return slots
        return n_jobs if n_jobs > 0 else max(1, slots + 1 + n_jobs)

    def get_nested_backend(self) -> tuple[_Nested, int]:
        """Return what stands for the backend of ``Parallel`` calls inside of tasks."""
        return _Nested(self.nesting_level + 1, self._options), -1

    def start_call(self) -> None:
        """A call of ``Parallel`` begins."""
        self._aborted = False
        self._in_call = True

    def stop_call(self) -> None:
        """It has ended: nothing of it stays on the cluster."""
        self._brought.clear()
        self._in_call = False

    def submit(
        self,
        func: parallel.BatchedCalls,
        callback: Callable[[concurrent.futures.Future[Any]], Any] | None = None,
    ) -> concurrent.futures.Future[Any]:
        """Submit a batch; *callback* is called with its future when it has ended."""
        calls = [
            (
                function,
                tuple(self._lift(value) for value in args),
                {name: self._lift(value) for name, value in kwargs.items()},
            )
            for function, args, kwargs in func.items
        ]
        batch = self._executor.submit(run_batch, calls, self.get_nested_backend())
        self._batches.add(batch)
        batch.add_done_callback(lambda done: self._ended(done, callback))
        return batch

    def retrieve_result_callback(self, out: concurrent.futures.Future[Any]) -> Any:
        """Return the results of a batch that has ended, or raise what it raised."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Stop what runs: somebody raised, or nobody reads the results."""
        del ensure_ready
        self._aborted = True
        for batch in list(self._batches):
            batch.cancel()

    @contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """Give the slot of a task away while it waits for its own batches."""
        task = context.current()
        if task is None:
            yield
            return
        with task.blocking():
            yield

    # Inside.

    def _ended(
        self,
        batch: concurrent.futures.Future[Any],
        callback: Callable[[concurrent.futures.Future[Any]], Any] | None,
    ) -> None:
        self._batches.discard(batch)
        if callback is None or not self._in_call:
            return
        if self._aborted and batch.cancelled():
            return
        # The next batch is submitted from there, which may have to wait for the cluster.
        callback(batch)

    def _lift(self, value: Any) -> Any:
        """Return a large argument as a future, brought once for the whole call."""
        nbytes = getattr(value, "nbytes", None)
        if not isinstance(nbytes, int) or nbytes <= LIMIT_BYTES:
            return value
        known = self._brought.get(id(value))
        if known is None:
            known = (value, self._client.scatter(value))
            self._brought[id(value)] = known
        return known[1]


class _Nested:
    """Stands for the backend of a task, until it is there."""

    def __init__(self, nesting_level: int, options: dict[str, Any]) -> None:
        self._made_of = (nesting_level, options)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_nested_backend, self._made_of)


def _nested_backend(nesting_level: int, options: dict[str, Any]) -> CoveyBackend:
    return CoveyBackend(nesting_level=nesting_level, **options)


def _client_here() -> Client:
    """Return the client that is meant, or one of a new cluster of this machine."""
    if context.current() is not None:
        return get_client()
    client = default_client()
    return client if client is not None else _client_of_our_own()


_own: list[Client] = []


def _client_of_our_own() -> Client:
    """Return the client of a cluster that is started once, and ends with the process."""
    if not _own or _own[0].closed:
        _own[:] = [Client(set_as_default=False)]
    return _own[0]
