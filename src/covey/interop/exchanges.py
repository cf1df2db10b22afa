"""The exchange of ``dask.distributed`` (p2p), asked for by name where it cannot be had.

dask takes it from the package ``distributed``, and where that is not installed it raises
an error that tells of a missing module.  On a client of covey it would not work with the
module either: it is carried out by workers of ``distributed``.  So we say that.

Most often dask looks for the module when a graph is made of an expression; arrays, and
``shuffle`` of a frame, look when they are called, and are asked by way of us.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Final

from covey.errors import UsageError
from covey.interop.on_import import OnImport, put_in_front, scheduling_client

#: What to choose instead, for messages.
BY_TASKS: Final = (
    "Let dask go by tasks, as it does by default on covey: shuffle_method='tasks' "
    "(rechunk: method='tasks'), or dask.config.set({'dataframe.shuffle.method': 'tasks', "
    "'array.rechunk.method': 'tasks'})"
)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Say what is meant, if dask looks for ``distributed`` in here and does not find it.

    Raises:
        UsageError: it did.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "distributed":
            raise
        raise UsageError(
            f"this asks for the exchange (p2p) that only workers of dask.distributed carry "
            f"out. {BY_TASKS}"
        ) from error


def begin() -> None:
    """Look after dask's functions from now on, if they are there or once they are."""
    _arrays.begin()
    _frames.begin()


def end() -> None:
    """Wait for no more imports.  What has been put in place asks whose turn it is."""
    _arrays.end()
    _frames.end()


def _told(theirs: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(theirs)
    def call(*args: Any, **kwargs: Any) -> Any:
        if scheduling_client() is None:
            return theirs(*args, **kwargs)
        with told():
            return theirs(*args, **kwargs)

    return call


def _in_frames() -> None:
    from dask.dataframe.dask_expr import _collection

    frame: Any = _collection.FrameBase
    if not hasattr(frame.shuffle, "__wrapped__"):
        frame.shuffle = _told(frame.shuffle)


_arrays: Final = OnImport(
    "dask.array.rechunk", lambda: put_in_front("dask", "rechunk", _told)
)
_frames: Final = OnImport("dask.dataframe.dask_expr._collection", _in_frames)
