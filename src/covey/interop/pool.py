"""The interface of 2015: a pool whose results stay where they were made.

::

    pool = Pool("host:8786")
    arrays = pool.map(np.random.random, [10**6] * 1000)
    sums = pool.map(np.sum, arrays)  # runs where the arrays are
    total = pool.apply(np.sum, args=(sums,))
    total.get()  # now a number comes here
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, overload

from covey.client.client import Client
from covey.client.future import Future

_shared: dict[str, Client] = {}
_lock = threading.Lock()


def client_at(target: Any) -> Client:
    """Return a client of the cluster at *target*, the same one for the same address.

    Args:
        target: ``"host:port"``, ``(host, port)``, a cluster, or a client.
    """
    if isinstance(target, Client):
        return target
    if isinstance(target, tuple):
        host, port = target
        target = f"{host}:{port}"
    if not isinstance(target, str):
        return Client(target, set_as_default=False)
    with _lock:
        client = _shared.get(target)
        if client is None or client.status != "running":
            client = _shared[target] = Client(target, set_as_default=False)
    return client


class RemoteData:
    """A handle of one value on the cluster."""

    __slots__ = ("future",)

    def __init__(self, future: Future[Any]) -> None:
        self.future = future

    @property
    def key(self) -> str:
        """The name of the value."""
        return self.future.key

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the value and bring it here.

        Raises:
            TimeoutError: it did not come within *timeout* seconds.
            Closed: it was deleted.
            Exception: whatever the function raised.
        """
        return self.future.result(timeout)

    def delete(self) -> None:
        """Let the cluster drop the value."""
        self.future.release()

    def __repr__(self) -> str:
        if self.future.released:
            return f"RemoteData<deleted, key={self.key}>"
        address = self.future.session.engine.address
        return f"RemoteData<address={address}, key={self.key}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        # As an argument it is its future: the task gets the value.
        return self.future.__reduce__()


class RemoteList(Sequence[RemoteData]):
    """What ``Pool.map`` returns: a list of handles, each made when it is touched."""

    __slots__ = ("futures",)

    def __init__(self, futures: Sequence[Future[Any]]) -> None:
        self.futures = futures

    def __len__(self) -> int:
        return len(self.futures)

    @overload
    def __getitem__(self, index: int) -> RemoteData: ...
    @overload
    def __getitem__(self, index: slice) -> list[RemoteData]: ...
    def __getitem__(self, index: int | slice) -> RemoteData | list[RemoteData]:
        if isinstance(index, slice):
            return [RemoteData(future) for future in self.futures[index]]
        return RemoteData(self.futures[index])

    def __iter__(self) -> Iterator[RemoteData]:
        return map(RemoteData, self.futures)

    def __repr__(self) -> str:
        return f"<{len(self)} RemoteData>"

    def __reduce__(self) -> tuple[object, ...]:
        return (list, (list(self),))


class Pool:
    """Runs functions on a cluster and leaves the results there.

    Args:
        target: ``"host:port"``, ``(host, port)``, a client, a cluster, or ``None``
            for a cluster of this machine's cores.
    """

    def __init__(self, target: Any = None) -> None:
        self._owned = target is None
        self.client = (
            Client(set_as_default=False) if target is None else client_at(target)
        )

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any]) -> RemoteList:
        """Call *fn* once for each element; return handles of the results."""
        return RemoteList(self.client.map(fn, *map(_futures, iterables)))

    def apply(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> RemoteData:
        """Call *fn* once; handles among the arguments stand for their values."""
        # As a partial, so that no keyword is taken for one of ``submit``'s own.
        future = self.client.submit(_call, fn, args, kwargs or {})
        return RemoteData(future)

    def close(self) -> None:
        """Let go of a cluster that was made for this pool."""
        if self._owned:
            self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)


def _futures(iterable: Iterable[Any]) -> Iterable[Any]:
    """Return handles as futures, which ``map`` pairs without pickling each."""
    if isinstance(iterable, RemoteList):
        return iterable.futures
    if isinstance(iterable, list) and iterable and isinstance(iterable[0], RemoteData):
        return [
            item.future if isinstance(item, RemoteData) else item for item in iterable
        ]
    return iterable


def delete(target: Any, data: RemoteData | Iterable[RemoteData]) -> None:
    """Drop values from the cluster; their handles are of no use any more.

    Args:
        target: the cluster; kept from 2015, the handles know it themselves.
        data: one handle, or several.
    """
    del target
    if isinstance(data, RemoteData):
        data.delete()
        return
    for item in data:
        item.delete()
