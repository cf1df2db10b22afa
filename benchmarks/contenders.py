"""covey and its peers, behind the few calls that the jobs make.

Each gets two worker processes of one thread.  ``can`` says which jobs make sense:
``submit`` one by one, ``map``, ``graph`` (results as arguments of other tasks).
Nothing here tunes covey or a peer: every call is what its own manual shows first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

WORKERS = 2


class Contender:
    """What a job may ask for; the base of all contenders."""

    can: frozenset[str] = frozenset()
    #: What is imported for it beyond the standard library.
    package = ""
    #: Whether it takes a millisecond a task, and nobody wants to wait for it.
    slow = False

    def start(self) -> None:
        """Start two workers."""
        raise NotImplementedError

    def stop(self) -> None:
        """End everything that was started."""
        raise NotImplementedError

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return a handle of one call."""
        raise NotImplementedError

    def map(self, function: Callable[..., Any], *columns: Iterable[Any]) -> Any:
        """Return handles of one call for each element."""
        raise NotImplementedError

    def gather(self, handles: Any) -> list[Any]:
        """Return the values of handles."""
        raise NotImplementedError

    def result(self, handle: Any) -> Any:
        """Return the value of one handle."""
        return self.gather([handle])[0]


class Covey(Contender):
    """This project."""

    package = "covey"
    can = frozenset(
        {"submit", "map", "graph", "scatter", "collections", "sizes", "covey"}
    )
    client: Any = None

    def start(self, *, workers: int = WORKERS, threads: int = 1) -> None:
        """Start a cluster: of two runners of one thread, if not told otherwise."""
        from covey import Client

        self.client = Client(n_workers=workers, threads_per_worker=threads)

    def stop(self) -> None:
        """End the cluster."""
        self.client.close()

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return a future."""
        return self.client.submit(function, *args)

    def map(self, function: Callable[..., Any], *columns: Iterable[Any]) -> Any:
        """Return futures."""
        return self.client.map(function, *columns)

    def gather(self, handles: Any) -> list[Any]:
        """Return values."""
        values: list[Any] = self.client.gather(handles)
        return values

    def result(self, handle: Any) -> Any:
        """Return one value."""
        return handle.result()


class Apart(Covey):
    """This project as ``covey scheduler`` and ``covey worker`` start it.

    In a local cluster scheduler and worker share a process.  Here each has one of its
    own, so that what they use can be told apart; two runners of one thread, as there.
    """

    site: Any = None

    def start(self, *, workers: int = WORKERS, threads: int = 1) -> None:
        """Start a scheduler, and a worker with its runners."""
        from benchmarks.site import Site

        self.site = Site("covey", full=False)
        try:
            self.site.start_worker(threads, runners=workers)
            self.client = self.site.client()
            self.client.wait_for_workers(1, timeout=60)
        except BaseException:
            self.site.close()
            raise

    def stop(self) -> None:
        """End all of it."""
        self.client.close()
        self.site.end()


class Distributed(Covey):
    """``dask.distributed``, whose client has the same calls."""

    package = "distributed"
    can = frozenset({"submit", "map", "graph", "scatter", "collections", "sizes"})
    slow = True

    def start(self, *, workers: int = WORKERS, threads: int = 1) -> None:
        """Start a local cluster, of two workers as well, without its dashboard."""
        from distributed import Client

        self.client = Client(
            n_workers=workers, threads_per_worker=threads, dashboard_address=None
        )

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return a future of a call that shares nothing with equal ones."""
        return self.client.submit(function, *args, pure=False)

    def map(self, function: Callable[..., Any], *columns: Iterable[Any]) -> Any:
        """Return futures of such calls."""
        return self.client.map(function, *columns, pure=False)


class Ray(Contender):
    """Ray's tasks."""

    package = "ray"
    can = frozenset({"submit", "map", "graph"})
    slow = True

    def start(self) -> None:
        """Start a Ray of two CPUs."""
        import ray

        self.ray = ray
        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
        self.remotes: dict[Any, Any] = {}

    def stop(self) -> None:
        """End it."""
        self.ray.shutdown()

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return an object reference."""
        remote = self.remotes.get(function)
        if remote is None:
            remote = self.remotes[function] = self.ray.remote(function)
        return remote.remote(*args)

    def map(self, function: Callable[..., Any], *columns: Iterable[Any]) -> Any:
        """Return object references."""
        return [self.submit(function, *args) for args in zip(*columns, strict=True)]

    def gather(self, handles: Any) -> list[Any]:
        """Return values."""
        values: list[Any] = self.ray.get(list(handles))
        return values


class ProcessPool(Contender):
    """``concurrent.futures.ProcessPoolExecutor``."""

    can = frozenset({"submit", "map"})

    def start(self) -> None:
        """Start a pool of two processes."""
        from concurrent.futures import ProcessPoolExecutor

        self.pool = ProcessPoolExecutor(WORKERS)

    def stop(self) -> None:
        """End it."""
        self.pool.shutdown()

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return a future."""
        return self.pool.submit(function, *args)

    def map(self, function: Callable[..., Any], *columns: Iterable[Any]) -> Any:
        """Return futures, each with an outcome of its own."""
        return [self.submit(function, *args) for args in zip(*columns, strict=True)]

    def gather(self, handles: Any) -> list[Any]:
        """Return values."""
        return [handle.result() for handle in handles]


class ChunkedPool(ProcessPool):
    """The same, in hand-made chunks of 1,000: all or nothing for each chunk."""

    can = frozenset({"map"})

    def map(self, function: Callable[..., Any], *columns: Iterable[Any]) -> Any:
        """Return an iterator of values."""
        return self.pool.map(function, *columns, chunksize=1000)

    def gather(self, handles: Any) -> list[Any]:
        """Return values."""
        return list(handles)


class Joblib(Contender):
    """joblib over loky, with its automatic batches."""

    package = "joblib"
    can = frozenset({"map"})

    def start(self) -> None:
        """Start two loky processes."""
        from joblib import Parallel, delayed

        self.delayed = delayed
        self.parallel = Parallel(n_jobs=WORKERS)
        self.parallel.__enter__()
        self.parallel(delayed(abs)(i) for i in range(WORKERS))

    def stop(self) -> None:
        """End them."""
        from joblib.externals.loky import get_reusable_executor

        self.parallel.__exit__(None, None, None)
        get_reusable_executor().shutdown()

    def map(self, function: Callable[..., Any], *columns: Iterable[Any]) -> Any:
        """Return values: joblib has no handles."""
        call = self.delayed(function)
        return self.parallel(call(*args) for args in zip(*columns, strict=True))

    def gather(self, handles: Any) -> list[Any]:
        """Return values."""
        return list(handles)


class Pool(Contender):
    """``multiprocessing.Pool``, element by element."""

    can = frozenset({"map"})

    def start(self) -> None:
        """Start two processes."""
        import multiprocessing

        self.pool = multiprocessing.Pool(WORKERS)

    def stop(self) -> None:
        """End them."""
        self.pool.terminate()
        self.pool.join()

    def map(self, function: Callable[..., Any], *columns: Iterable[Any]) -> Any:
        """Return values."""
        return self.pool.starmap(function, zip(*columns, strict=True), chunksize=1)

    def gather(self, handles: Any) -> list[Any]:
        """Return values."""
        return list(handles)


class Threads(Contender):
    """dask's own scheduler of threads, which knows collections only."""

    package = "dask"
    can = frozenset({"collections"})


CONTENDERS: dict[str, type[Contender]] = {
    "covey": Covey,
    "apart": Apart,
    "dask": Distributed,
    "ray": Ray,
    "futures": ProcessPool,
    "chunked": ChunkedPool,
    "joblib": Joblib,
    "pool": Pool,
    "threads": Threads,
}

#: Who is no peer: the project itself, in both ways to start it.
OURS = ("covey", "apart")
