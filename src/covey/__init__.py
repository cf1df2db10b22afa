"""covey spreads Python work over the cores of a laptop or the machines of a cluster.

::

    from covey import Client

    client = Client()  # this machine's cores
    futures = client.map(inc, range(1000))
    client.gather(futures)

Names are loaded when they are first used, so that ``import covey`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from covey.version import __version__

if TYPE_CHECKING:
    from covey.client.async_client import AsyncClient as AsyncClient
    from covey.client.client import Client as Client
    from covey.client.client import fire_and_forget as fire_and_forget
    from covey.client.current import get_client as get_client
    from covey.client.drawing import visualize as visualize
    from covey.client.explaining import explain as explain
    from covey.client.future import Future as Future
    from covey.client.options import Retry as Retry
    from covey.client.progress import progress as progress
    from covey.client.recording import record as record
    from covey.client.waiting import as_completed as as_completed
    from covey.client.waiting import wait as wait
    from covey.cluster.local import LocalCluster as LocalCluster
    from covey.errors import CoveyError as CoveyError
    from covey.interop.futures import Executor as Executor
    from covey.interop.pool import Pool as Pool
    from covey.interop.pool import RemoteData as RemoteData
    from covey.interop.pool import delete as delete
    from covey.serde.mapped import writable as writable

_HOMES = {
    "AsyncClient": "covey.client.async_client",
    "Client": "covey.client.client",
    "CoveyError": "covey.errors",
    "Executor": "covey.interop.futures",
    "Future": "covey.client.future",
    "LocalCluster": "covey.cluster.local",
    "Pool": "covey.interop.pool",
    "RemoteData": "covey.interop.pool",
    "Retry": "covey.client.options",
    "as_completed": "covey.client.waiting",
    "delete": "covey.interop.pool",
    "explain": "covey.client.explaining",
    "fire_and_forget": "covey.client.client",
    "get_client": "covey.client.current",
    "progress": "covey.client.progress",
    "record": "covey.client.recording",
    "visualize": "covey.client.drawing",
    "wait": "covey.client.waiting",
    "writable": "covey.serde.mapped",
}

#: What is a module of its own, for users, and is found as an attribute as well.
_MODULES = {"compat", "dask", "errors", "joblib"}

__all__ = [
    "AsyncClient",
    "Client",
    "CoveyError",
    "Executor",
    "Future",
    "LocalCluster",
    "Pool",
    "RemoteData",
    "Retry",
    "__version__",
    "as_completed",
    "delete",
    "explain",
    "fire_and_forget",
    "get_client",
    "progress",
    "record",
    "visualize",
    "wait",
    "writable",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"covey.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'covey' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
