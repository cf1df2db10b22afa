"""Futures that ``delayed`` is given, in graphs that any scheduler of dask can run.

``delayed(future)``, ``from_delayed(future)`` and ``delayed(f)(future)`` put the future
itself into a graph.  A client of covey takes its value, but dask's own schedulers would
hand the function a future.  So dask's ``unpack_collections``, which looks at each
argument, is asked here first, and puts in what all of them understand (``dask_held``).
A future deeper inside an argument, in a list of futures, stays what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from covey.client.future import Future
from covey.interop.on_import import OnImport, put_in_front


def begin() -> None:
    """Look after dask's function from now on, if it is there or once it is."""
    _delayed.begin()


def end() -> None:
    """Wait for no more imports.  What has been put in place stays."""
    _delayed.end()


def _with_held(theirs: Callable[..., Any]) -> Callable[..., Any]:
    from covey.interop.dask_held import Held

    @wraps(theirs)
    def unpack(expr: Any, *args: Any, **kwargs: Any) -> Any:
        if type(expr) is Future:
            return Held(None, expr), ()
        return theirs(expr, *args, **kwargs)

    return unpack


def _in_delayed() -> None:
    put_in_front("dask", "unpack_collections", _with_held, home="dask.delayed")


_delayed: Final = OnImport("dask.delayed", _in_delayed)
