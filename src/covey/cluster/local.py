"""``LocalCluster``: a cluster of this machine's cores.

Scheduler and worker live in one child process, started by exec, so neither the
GIL of the user's program nor a ``__main__`` guard matters; the runners are
children of that one.  It listens on a unix socket in a private directory.  When
this process ends, in whatever way, everything goes.  When the child is killed, it
is started again, and what was not done is done again.
"""

from __future__ import annotations

import operator
import os
import shutil
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from covey import config
from covey.client.resolve import check_keywords
from covey.client.warn import warn
from covey.cluster import machine
from covey.cluster.keeper import Keeper
from covey.errors import Closed, UsageError
from covey.net.addresses import parse_address
from covey.net.connection_file import (
    file_for,
    fresh_directory,
    leave_runtime_directory,
    remove_connection_file,
    write_connection_file,
)
from covey.net.join_string import Connection
from covey.secret import Secret
from covey.units import counted, format_bytes, parse_bytes
from covey.wire.keys import Keys

if TYPE_CHECKING:
    from covey.client.client import Client
    from covey.dashboard.launch import Dashboard


#: What a runner takes that has nothing to do, rounded up, and what a worker takes itself.
LEAST_BYTES: Final = 16 << 20

#: Of the code of a function with ``**keywords`` (``inspect`` takes a while to import).
_TAKES_ANY: Final = 0x08


class LocalCluster:
    """Runners on the cores of this machine, with a scheduler of their own.

    Args:
        n_workers: how many runner processes; default: as many as give every
            core one thread.
        threads_per_worker: threads in each runner; default 1.
        memory_limit: bytes for all together, as a number or ``"4GiB"``;
            default: the memory of the machine.
        processes: ``False`` runs everything in threads of this process, for
            debugging and for Pythons without a GIL.
        machines: split the runners under so many workers, as if on so many
            machines.
        host: listen on a TCP port of this interface as well.  Beyond this machine
            all traffic is encrypted, which takes ``covey[tls]``.
        port: which one; 0 takes any free port.
        resources: amounts that each worker offers, for ``resources=``.
        dashboard_address: where ``dashboard_link`` starts the dashboard; ``None`` means
            that there is none.
        name: how the worker is called.

    Attributes:
        host, port: where it listens for TCP, if asked to.

    Raises:
        UsageError: the numbers make no sense.
        StartFailed: the processes did not come up; carries what they said.
    """

    def __new__(cls, *args: Any, **keywords: Any) -> Self:
        """Tell who has mistyped a keyword which one was meant."""
        del args
        code = cls.__init__.__code__
        if not code.co_flags & _TAKES_ANY:
            known = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
            check_keywords(keywords, known, cls.__name__)
        return super().__new__(cls)

    def __init__(
        self,
        n_workers: int | None = None,
        threads_per_worker: int | None = None,
        *,
        memory_limit: float | str | None = None,
        processes: bool = True,
        machines: int = 1,
        host: str | None = None,
        port: int = 0,
        resources: dict[str, float] | None = None,
        name: str = "local",
        dashboard_address: str | None = ":8787",
    ) -> None:
        self._dashboard_address = dashboard_address
        self._dashboard: Dashboard | None = None
        #: Whether it was said that there can be no dashboard.
        self._warned = False
        if processes not in (True, False):
            raise UsageError(
                f"processes= takes True or False: whether there are any, not "
                f"{processes!r}; n_workers= says how many runners"
            )
        runners, threads = shape(n_workers, threads_per_worker, processes)
        if not _is_count(machines) or machines > runners:
            raise UsageError(
                f"machines={machines!r}: {runners} runners can be split under 1 to "
                f"{runners} workers"
            )
        limit = memory(memory_limit, runners)  # or refuse, before anything is made
        self.name = name
        self._closed = False
        self._pid = os.getpid()
        directory = fresh_directory("local")
        secret = Secret.fresh()
        plan = make_plan(
            directory=directory,
            token=secret.reveal(),
            host=host,
            port=port,
            name=name,
            machines=_split(runners, machines),
            threads=threads,
            memory_limit=limit,
            resources=resources,
        )
        self._keeper = Keeper(plan) if processes else None
        try:
            if self._keeper is not None:
                facts = self._keeper.start()
                stop, self._check = self._keeper.stop, self._keeper.check
            else:
                facts, stop, self._check = _start_threads(plan)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        self._tcp = parse_address(facts["tcp"]) if facts["tcp"] else None
        self.host = self._tcp.host if self._tcp else ""
        self.port = self._tcp.port if self._tcp else 0
        if facts.get("moved"):
            warn(f"port {port} is in use; the cluster listens on {self.port} instead")
        self.connection = Connection(
            parse_address(facts["address"]), Keys.of_client(secret)
        )
        if self._tcp is not None:
            told = self.connection._replace(address=self._tcp)
            write_connection_file(file_for(self.port), told)
        else:
            told = None
        self.n_workers = runners
        self._machines = machines
        self.threads_per_worker = threads
        self._finalizer = weakref.finalize(
            self, _finish, stop, directory, told, os.getpid()
        )

    def find(self) -> Connection:
        """Return where the scheduler is, for clients that have lost it.

        Raises:
            Closed: the cluster was closed.
            StartFailed: it has ended by itself, and why; or its process died, and could
                not be started again.
        """
        if self._closed:
            raise Closed("this cluster has been closed; make a new one")
        self._check()
        return self.connection

    def when_over(self, call: Callable[[], None]) -> None:
        """Call *call*, in some thread, once the processes have ended for good."""
        if self._keeper is not None:
            self._keeper.when_over(call)

    def when_started_again(self, call: Callable[[str], None]) -> None:
        """Call *call* with the reason, in some thread, when they have been started anew."""
        if self._keeper is not None:
            self._keeper.when_started_again = call

    def check(self) -> None:
        """Raise if the cluster's processes have failed, and will not come back.

        Raises:
            StartFailed: they died too often, or could not be started again.
        """
        if self._keeper is not None and not self._keeper.ended_in_order:
            self._keeper.check()

    @property
    def workers_most(self) -> int | None:
        """As many workers as it can ever have; ``None`` where that is not settled.

        Others can join where it listens on a port.
        """
        return None if self._machines > 1 or self._tcp is not None else 1

    @property
    def slots_of_a_process(self) -> int:
        """How many slots one process has that runs tasks."""
        if self._keeper is None:
            return self.n_workers * self.threads_per_worker
        return self.threads_per_worker

    @property
    def scheduler_address(self) -> str:
        """Where the scheduler listens."""
        return (self._tcp or self.connection.address).shown

    @property
    def prints_here(self) -> bool:
        """Whether what its tasks print goes to the standard streams of this process."""
        return True

    @property
    def dashboard_link(self) -> str | None:
        """A link to the dashboard, good for one visit; it is started when asked for.

        ``None`` when ``dashboard_address=None`` said that there shall be none, and,
        with a warning, when its packages are not installed.

        Raises:
            StartFailed: it cannot be started, and why.
            UsageError: nothing can listen at that address.
        """
        if self._dashboard_address is None or self._closed:
            return None
        if self._dashboard is None or not self._dashboard.alive:
            from covey.dashboard.launch import Dashboard, problem

            missing = problem()
            if missing:
                if not self._warned:
                    self._warned = True
                    warn(missing)
                return None
            dashboard = Dashboard(self.connection, self._dashboard_address)
            weakref.finalize(self, dashboard.close)
            dashboard.start()
            dashboard.wait()
            self._dashboard = dashboard
        return self._dashboard.link()

    def get_client(self) -> Client:
        """Return a new client of this cluster."""
        from covey.client.client import Client

        return Client(self)

    def close(self, timeout: float | None = None) -> None:
        """End all processes of the cluster.  Idempotent."""
        del timeout
        self._closed = True
        if self._dashboard is not None:
            self._dashboard.close()
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def _repr_html_(self) -> str:
        from covey.client.html import card

        rows = (
            ("scheduler", self.scheduler_address),
            (
                "runners",
                f"{self.n_workers}, of {counted(self.threads_per_worker, 'thread')} each",
            ),
            ("status", "closed" if self._closed else "running"),
            ("dashboard", "cluster.dashboard_link"),
        )
        return card("LocalCluster", rows)

    def __repr__(self) -> str:
        state = " (closed)" if self._closed else ""
        return (
            f"<LocalCluster: {counted(self.n_workers, 'runner')} x "
            f"{counted(self.threads_per_worker, 'thread')}, {self.scheduler_address}{state}>"
        )


def make_plan(
    *,
    directory: str,
    token: str,
    host: str | None,
    port: int,
    machines: list[int],
    threads: int,
    name: str = "local",
    memory_limit: float | str | None = None,
    resources: dict[str, float] | None = None,
) -> dict[str, Any]:
    """Return all that an ``EmbeddedCluster`` needs to know, in plain types.

    Raises:
        UsageError: the memory limit makes no sense.
    """
    return {
        "token": token,
        "epoch": 1,
        "directory": directory,
        "host": host,
        "port": port,
        "name": name,
        "machines": machines,
        "threads": threads,
        "resources": resources or {},
        "memory_limit_bytes": memory(memory_limit, sum(machines)),
        "spill_directory": config.get().worker.spill_directory,
        "sys_path": [path or str(Path.cwd()) for path in sys.path],
        "cwd": str(Path.cwd()),
        "check": bool(os.environ.get("COVEY_CHECK_INVARIANTS")),
    }


def shape(
    n_workers: int | None, threads: int | None, processes: bool
) -> tuple[int, int]:
    """Return how many runners, and how many threads in each.

    Raises:
        UsageError: a number makes no sense.
    """
    for label, value in (("n_workers", n_workers), ("threads_per_worker", threads)):
        if value is not None and not _is_count(value):
            raise UsageError(f"{label}= takes a whole number from 1 up, not {value!r}")
    if not processes:
        return n_workers or 1, threads or machine.cores()
    if n_workers is None:
        n_workers = max(1, machine.cores() // (threads or 1))
    return n_workers, threads or 1


def _is_count(value: Any) -> bool:
    try:
        return operator.index(value) >= 1
    except TypeError:
        return False


def _split(runners: int, machines: int) -> list[int]:
    return [
        runners // machines + (index < runners % machines) for index in range(machines)
    ]


def memory(limit: float | str | None, runners: int) -> int:
    """Return a memory limit in bytes; ``None`` and ``"auto"`` mean all there is.

    Raises:
        UsageError: it is no size, or one that so many *runners* cannot live with.
    """
    total = machine.memory_bytes()
    if limit is None or limit == "auto":
        return total
    if isinstance(limit, float) and limit <= 1:
        nbytes = int(limit * total)
    else:
        nbytes = parse_bytes(limit)
    least = (1 + runners) * LEAST_BYTES
    if nbytes < least:
        raise UsageError(
            f"a memory limit of {format_bytes(nbytes)} is too little for "
            f"{counted(runners, 'runner')}: with nothing to do they and their worker "
            f"take up to {format_bytes(least)}. Give at least that (a number is one of "
            f"bytes; write a unit, such as '4GiB')"
        )
    return nbytes


def _finish(
    stop: Callable[[], None], directory: str, told: Connection | None, pid: int
) -> None:
    """End a cluster, from the process that made it only.

    *told* is what its connection file says, if it listens on a port.
    """
    if os.getpid() == pid:
        stop()
        if told is not None:
            remove_connection_file(file_for(told.address.port), told)
        shutil.rmtree(directory, ignore_errors=True)
        leave_runtime_directory()


# In threads of this process.


def _start_threads(
    plan: dict[str, Any],
) -> tuple[dict[str, Any], Callable[[], None], Callable[[], None]]:
    from covey.cluster.threads import start

    return start(plan)
