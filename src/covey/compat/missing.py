"""What ``distributed`` has and covey does not: there by name, and clear when it is used.

A program that only imports such a name, or asks whether something is one, goes on.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

from covey.errors import UsageError

_COORDINATION: Final = (
    "covey has nothing that tasks of several machines share besides their results. Let "
    "one task own it, or use a service that is made for it"
)
_ROLES: Final = "start one with `covey scheduler` or `covey worker`, or a LocalCluster"
_PLUGINS: Final = (
    "covey runs no code of others in its scheduler and workers. client.run(fn) runs a "
    "function on every worker; environment= and upload_file bring code there"
)
_CLUSTERS: Final = (
    "covey has no such cluster; `covey worker ADDRESS` joins from anywhere"
)

#: Why each name is not there, and what else will do.
WHY: Final = {
    **dict.fromkeys(
        ("Lock", "MultiLock", "Event", "Semaphore", "Queue", "Variable"), _COORDINATION
    ),
    **dict.fromkeys(("Actor", "ActorFuture", "BaseActorFuture"), _COORDINATION),
    **dict.fromkeys(("Nanny", "Scheduler", "Worker"), _ROLES),
    **dict.fromkeys(
        (
            *("NannyPlugin", "SchedulerPlugin", "WorkerPlugin", "InstallPlugin"),
            *("CondaInstall", "PipInstall", "Environ", "UploadDirectory", "UploadFile"),
        ),
        _PLUGINS,
    ),
    **dict.fromkeys(
        ("Adaptive", "SSHCluster", "SpecCluster", "SubprocessCluster"), _CLUSTERS
    ),
    "Security": "the connection file, or the join string, of a cluster says it all",
    "Reschedule": "raise an error and submit with retries=; covey.Retry says where again",
    "CompatibleExecutor": "client.get_executor() is a true Executor",
    "Status": "client.status and future.status are texts",
    "connect": "covey's links are its own",
    "rpc": "covey's links are its own",
    "get_task_metadata": "covey keeps no metadata of tasks",
    "get_task_stream": "covey.record() writes down all that happens",
    "performance_report": "covey.record() writes down all that happens",
    "span": "tasks are grouped by their functions",
}


def refuse(name: str, why: str) -> NoReturn:
    """Say that *name* is not to be had.

    Raises:
        UsageError: always.
    """
    raise UsageError(
        f"distributed.{name} is not to be had where covey stands in for it: {why}"
    )


def stand_in(name: str) -> type[Any]:
    """Return a class called *name* of which there can be no objects."""

    def made(*_: object, **__: object) -> NoReturn:
        refuse(name, WHY[name])

    return type(
        name, (), {"__init__": made, "__doc__": WHY[name], "__module__": __name__}
    )


def __getattr__(name: str) -> Any:
    """Make them as they are asked for; pickled by reference, they are found here."""
    if name not in WHY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = globals()[name] = stand_in(name)
    return made
