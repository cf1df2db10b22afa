"""The interface of 2015: a pool whose results stay where they were made.

::

    pool = Pool("host:8786")
    arrays = pool.map(np.random.random, [10**6] * 1000)
    sums = pool.map(np.sum, arrays)  # runs where the arrays are
    total = pool.apply(np.sum, args=(sums,))
    total.get()  # now a number comes here
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, overload

from covey.client.client import Client
from covey.client.future import Future
from covey.errors import UsageError
from covey.wire.base import DEFAULT_OPTIONS

_shared: dict[Any, Client] = {}
_lock = threading.Lock()


def client_at(target: Any) -> Client:
    """Return a client of the cluster at *target*, the same one for the same cluster.

    Args:
        target: ``"host:port"``, ``(host, port)``, the path of a connection file, a
            cluster, or a client.
    """
    if isinstance(target, Client):
        return target
    if isinstance(target, tuple):
        host, port = target
        target = f"{host}:{port}"
    # A client keeps its cluster object, so while it is here that id is its own.
    place = str(target) if isinstance(target, str | os.PathLike) else id(target)
    with _lock:
        for known, client in list(_shared.items()):
            if client.status != "running":
                del _shared[known]
        if place not in _shared:
            _shared[place] = Client(target, set_as_default=False)
        return _shared[place]


if hasattr(os, "register_at_fork"):
    # A child makes clients of its own.
    os.register_at_fork(after_in_child=_shared.clear)


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
        # Not by ``client.submit``, which would take some keywords for its own.
        future = self.client.submitter.submit(
            fn, tuple(args), kwargs or {}, DEFAULT_OPTIONS, key=None, pure=False
        )
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


def _futures(iterable: Iterable[Any]) -> Iterable[Any]:
    """Return handles as futures, which ``map`` pairs without pickling each."""
    if isinstance(iterable, RemoteList):
        return iterable.futures
    if isinstance(iterable, list) and iterable and isinstance(iterable[0], RemoteData):
        return [
            item.future if isinstance(item, RemoteData) else item for item in iterable
        ]
    return iterable


def delete(target: Any, data: Any) -> None:
    """Drop values from the cluster; their handles are of no use any more.

    Args:
        target: the cluster; kept from 2015, the handles know it themselves.
        data: one handle, or lists of handles, nested as they like.

    Raises:
        UsageError: there is something else than handles in it.
    """
    if isinstance(data, RemoteData):
        data.delete()
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes):
        for item in data:
            delete(target, item)
    else:
        raise UsageError(
            f"delete takes RemoteData, or lists of it, not {type(data).__name__}"
        )
