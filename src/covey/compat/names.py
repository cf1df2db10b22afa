"""Which module called ``distributed...`` has which names."""

from __future__ import annotations

import builtins
import inspect
import warnings
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

import covey
from covey.compat import missing, tasks
from covey.compat.client import AsyncClient, Client
from covey.compat.cluster import LocalCluster
from covey.errors import RunnerDied, TaskCancelled

#: All that is there of what ``distributed`` has at its top.
_NAMES: Final[dict[str, Any]] = {
    "AsyncClient": AsyncClient,
    "CancelledError": TaskCancelled,
    "Client": Client,
    "Future": covey.Future,
    "KilledWorker": RunnerDied,
    "LocalCluster": LocalCluster,
    "TimeoutError": TimeoutError,
    "as_completed": tasks.as_completed,
    "default_client": tasks.default_client,
    "fire_and_forget": covey.fire_and_forget,
    "futures_of": tasks.futures_of,
    "get_client": tasks.get_client,
    "get_worker": tasks.get_worker,
    "local_client": tasks.worker_client,
    "print": builtins.print,
    "progress": tasks.progress,
    "rejoin": tasks.rejoin,
    "secede": tasks.secede,
    "wait": tasks.wait,
    "warn": warnings.warn,
    "worker_client": tasks.worker_client,
}

_UTILS: Final[dict[str, Any]] = {
    "CancelledError": TaskCancelled,
    "TimeoutError": TimeoutError,
    "iscoroutinefunction": inspect.iscoroutinefunction,
}

#: Which of these names, or of those that are missing, each module has.
MODULES: Final[dict[str, tuple[str, ...]]] = {
    "distributed": (*_NAMES, *missing.WHY),
    "distributed.client": (
        *("Client", "Future", "as_completed", "default_client", "fire_and_forget"),
        *("futures_of", "get_task_metadata", "performance_report", "wait"),
        "CompatibleExecutor",
    ),
    "distributed.actor": ("Actor", "ActorFuture", "BaseActorFuture"),
    "distributed.deploy": ("Adaptive", "LocalCluster", "SSHCluster", "SpecCluster"),
    "distributed.deploy.local": ("LocalCluster",),
    "distributed.diagnostics": ("progress",),
    "distributed.diagnostics.plugin": (
        *("NannyPlugin", "SchedulerPlugin", "WorkerPlugin", "UploadDirectory"),
        *("Environ", "PipInstall", "CondaInstall", "UploadFile", "InstallPlugin"),
    ),
    "distributed.diagnostics.progressbar": ("progress",),
    "distributed.event": ("Event",),
    "distributed.lock": ("Lock",),
    "distributed.multi_lock": ("MultiLock",),
    "distributed.nanny": ("Nanny",),
    "distributed.queues": ("Queue",),
    "distributed.scheduler": ("KilledWorker", "Scheduler"),
    "distributed.security": ("Security",),
    "distributed.semaphore": ("Semaphore",),
    "distributed.utils": tuple(_UTILS),
    "distributed.variable": ("Variable",),
    "distributed.worker": (
        *(
            "Reschedule",
            "Worker",
            "get_client",
            "get_worker",
            "print",
            "secede",
            "warn",
        ),
    ),
    "distributed.worker_client": ("local_client", "worker_client"),
}


def fill(module: ModuleType) -> None:
    """Put the names into a module that belong there."""
    names = MODULES[module.__name__]
    table = _UTILS if module.__name__ == "distributed.utils" else _NAMES
    for name in names:
        value = table[name] if name in table else getattr(missing, name)
        setattr(module, name, value)
    module.__dict__["__all__"] = sorted(names)
    module.__doc__ = "covey, in the place of distributed."
    if module.__name__ == "distributed":
        module.__dict__["__version__"] = f"covey {covey.__version__}"
        _let_dask_rechunk_by_tasks()


def _let_dask_rechunk_by_tasks() -> None:
    """Where it sees ``distributed``, dask may choose a way that only that one has."""
    if find_spec("dask") is None:
        return
    from dask import config

    if config.get("array.rechunk.method", None) is None:
        config.set({"array.rechunk.method": "tasks"})
