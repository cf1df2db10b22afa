"""One scheduler, or one worker, as a process of its own: a cluster by hand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import shutil
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from covey import clock, config
from covey.cluster.cover import cover
from covey.cluster.door import Door, Places, open_door
from covey.cluster.rotation import Files
from covey.dashboard.launch import Dashboard
from covey.errors import CoveyError, UsageError
from covey.net.addresses import Address, host_identity
from covey.net.connection_file import (
    Life,
    file_for,
    fresh_directory,
    is_overtaken,
    leave_runtime_directory,
    left_behind,
    read_connection_file,
    remove_connection_file,
    turn,
    write_connection_file,
)
from covey.net.join_string import Connection
from covey.net.listen import Listener
from covey.net.loop import close_event_loop, new_event_loop
from covey.net.tls import Certificate
from covey.net.uplink import Owner, Uplink
from covey.scheduler.journal import JournalFile
from covey.scheduler.server import SchedulerServer
from covey.secret import Secret
from covey.store import descriptors
from covey.version import VERSION, cloudpickle_version
from covey.wire.introductions import Welcome, WorkerIntroduction
from covey.wire.keys import Keys, Role
from covey.wire.line import Line
from covey.wire.worker_link import FromWorker, ToWorker
from covey.worker import environments
from covey.worker.agent import WorkerAgent
from covey.worker.launching import heap_variables
from covey.worker.memory import MemoryPlan

T = TypeVar("T")

#: How long a worker waits for a scheduler that starts, and for its connection file.
FILE_SECONDS: Final = 30.0

#: A scheduler that is looked for so long is worth a line.
TELL_SECONDS: Final = 1.0

#: So often a scheduler looks whether another life of it has begun.
LOOK_SECONDS: Final = 5.0

#: How long a worker that is asked to leave may take to finish and hand over.
DRAIN_SECONDS: Final = 60.0

#: How long it waits meanwhile for a scheduler that is gone: whoever watches over that has
#: started it anew by then, and else there is nobody to hand over to.
GONE_SECONDS: Final = 10.0

IN_CLEAR_WARNING: Final = (
    "WARNING: nothing is encrypted. Whoever can listen in on this network can read "
    "your data, and can take the cluster over"
)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run *work* in an event loop of its own, in a process that is there for it."""
    descriptors.raise_limit()
    loop = new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(work)
    finally:
        close_event_loop(loop)


async def serve_scheduler(
    address: Address,
    in_clear: bool,
    connection_file: Path | None,
    announce: Callable[[Connection, Path, bool], None],
    record: Path | None = None,
    places: Places = Places(),  # noqa: B008  # it cannot be changed
    announce_dashboard: Callable[[Dashboard | None, str], None] = lambda _, __: None,
    *,
    fixed: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    journal: Path | None = None,
) -> str:
    """Run a scheduler until it ends; return why, or nothing if it was told to.

    Args:
        address: the interface and the port; if that is in use, another one is taken.
        in_clear: nothing need be encrypted, even if it is on a network.
        connection_file: one more place for the connection file.
        announce: called with the connection, its file, and whether the port moved.
        record: a file to write down in what happens.
        places: where the dashboard listens, and what Prometheus reads.
        announce_dashboard: called with it, or with why there is none.
        fixed: it is that port or none.
        tell: called with a line for people whenever a worker comes or goes.
        journal: a file for what is to outlive its clients and the scheduler.

    Raises:
        UsageError: nothing can listen there, or the journal cannot be used.
        StartFailed: a package is missing for the metrics.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[str] = loop.create_future()

    def end(reason: str = "") -> None:
        if not ended.done():
            ended.set_result(reason)

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, end)
    server, listener = await _listen(
        address, in_clear, connection_file, end, tell, journal
    )
    if fixed and listener.moved:
        await server.close()
        raise UsageError(
            f"port {address.port} is in use; end what uses it, or take another port"
        )
    life = Life(server.cluster, server.core.state.epoch)
    paths = [file_for(listener.address.port)]
    if connection_file is not None:
        paths.append(connection_file)
    files = Files(paths, listener, server.keys, life)

    def certificate(secret: Secret) -> Certificate | None:
        return cover(address, in_clear=in_clear, secret=secret)

    server.renew = lambda fresh: files.renew(fresh, certificate)
    try:
        files.write()
        if record is not None:
            server.record(record)
        _look_for_newer(server, paths, life)
        announce(files.connection, paths[-1], listener.moved)
        dashboard, problem = _let_watch(files, places)
        if dashboard is not None:
            server.core.state.dashboard = dashboard.place
        if dashboard is not None or problem:
            announce_dashboard(dashboard, problem)
        return await ended
    finally:
        for each in files.doors:
            each.close()
        files.remove()
        reason = ended.result() if ended.done() else ""
        await server.close(*filter(None, [reason]))
        leave_runtime_directory()


def _let_watch(files: Files, places: Places) -> tuple[Dashboard | None, str]:
    """Open the doors that are asked for; return the dashboard, or why there is none.

    Raises:
        UsageError: nothing can listen where Prometheus was told to ask.
        StartFailed: a package is missing for that.
    """
    if places.metrics is not None:
        files.doors.append(Door(files.connection, places.metrics, pages=False))
    door, problem = open_door(files.connection, places.dashboard)
    if door is None:
        return None, problem
    files.doors.append(door)
    return door.dashboard, ""


def _look_for_newer(server: SchedulerServer, files: list[Path], life: Life) -> None:
    """Step aside once there is a later life of this scheduler.

    This process may have stood still for so long that it was taken for dead.
    """
    if any(is_overtaken(path, life) for path in files):
        server.step_aside()
        return
    loop = asyncio.get_running_loop()
    loop.call_later(LOOK_SECONDS, _look_for_newer, server, files, life)


def is_in_clear(address: Address) -> bool:
    """Whether a scheduler at *address* has been told not to encrypt."""
    return not address.is_local and not address.fingerprint


def _left_behind(port: int, connection_file: Path | None) -> tuple[Keys, Life] | None:
    """Return what a scheduler left that died here, so that its peers can come back."""
    if connection_file is not None:
        return left_behind(connection_file)
    return left_behind(file_for(port)) if port else None


async def _listen(
    address: Address,
    in_clear: bool,
    connection_file: Path | None,
    end: Callable[[str], None],
    tell: Callable[[str], None],
    journal: Path | None,
) -> tuple[SchedulerServer, Listener]:
    """Listen as the next life of the scheduler that died here, or as a new one."""
    before = _left_behind(address.port, connection_file)
    server, listener = await _listen_as(
        before, address, in_clear, connection_file, end, tell, journal
    )
    if before is not None and connection_file is None and listener.moved:
        # Another scheduler has the port by now: nothing to go on with.
        await server.close()
        server, listener = await _listen_as(
            None, address, in_clear, connection_file, end, tell, journal
        )
    return server, listener


async def _listen_as(
    before: tuple[Keys, Life] | None,
    address: Address,
    in_clear: bool,
    connection_file: Path | None,
    end: Callable[[str], None],
    tell: Callable[[str], None],
    journal: Path | None,
) -> tuple[SchedulerServer, Listener]:
    """Listen as the next life of a scheduler, or as a new one."""
    keys, life = before or (Keys.of_client(Secret.fresh()), Life("", 0))
    server = SchedulerServer(
        keys=keys,
        version=VERSION,
        cluster=life.cluster,
        epoch=life.epoch + 1,
        on_closing=end,
        tell=tell,
        check=bool(os.environ.get("COVEY_CHECK_INVARIANTS")),
        journal=None if journal is None else JournalFile(journal),
        own_process=True,
    )
    certificate = cover(address, in_clear=in_clear, secret=keys.client)
    life = Life(server.cluster, life.epoch + 1)
    mark = certificate.fingerprint if certificate is not None else ""
    place = Connection(address._replace(fingerprint=mark), keys)
    return server, await server.listen(
        address, certificate, lambda: _written_before(place, connection_file, life)
    )


@contextlib.contextmanager
def _written_before(
    place: Connection, connection_file: Path | None, life: Life
) -> Iterator[Callable[[int], None]]:
    """Write the connection files of a port before anybody can connect to it.

    Another port than the one that was asked for may not be taken in the end: its files
    are written once it is.
    """
    written: list[tuple[Path, Connection]] = []

    def write(port: int) -> None:
        if place.address.port not in {0, port}:
            return
        told = place._replace(address=place.address._replace(port=port))
        for path in [file_for(port), *filter(None, [connection_file])]:
            written.append((path, told))
            write_connection_file(path, told, life=life)

    with turn():
        try:
            yield write
        except BaseException:
            for path, told in written:
                remove_connection_file(path, told)
            raise


def await_connection_file(path: Path, tell: Callable[[str], None]) -> Connection:
    """Read a connection file, waiting for it to appear.

    Args:
        path: where it is to be.
        tell: called with a line for people, if it is looked for in vain for a while.

    Raises:
        UsageError: it did not appear in time, or is none of ours.
    """
    start = clock.monotonic()
    told = False
    while not path.exists() and clock.monotonic() < start + FILE_SECONDS:
        if not told and clock.monotonic() > start + TELL_SECONDS:
            told = True
            tell(f"looks for the connection file {path} for up to {FILE_SECONDS:g} s")
        time.sleep(0.05)
    return read_connection_file(path)


class WorkerRole(Owner):
    """A worker with a scheduler elsewhere.

    Args:
        find: says where the scheduler is, at first and whenever it was lost.
        plan: what the worker offers.
        tell: called with a line for people when the scheduler is found, or lost.
    """

    def __init__(
        self,
        find: Callable[[], Connection],
        plan: dict[str, Any],
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._find = find
        self._connection = find()
        self.keys = self._connection.keys
        self._plan = plan
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._agent: WorkerAgent | None = None
        self._addresses: tuple[str, ...] = ()
        self._number = 0
        #: Of the scheduler that has taken us in.
        self._life = Life("", 0)
        self._python = ""
        self._pythons: tuple[str, ...] = ()
        self._leaving = False
        #: Whether the scheduler is out of reach, and what ends a leaving worker then.
        self._away = False
        self._alone: asyncio.TimerHandle | None = None
        self._uplink = Uplink(
            self,
            ToWorker,
            role=Role.WORKER,
            version=VERSION,
            patience_seconds=config.get().worker.reconnect_seconds,
        )

    def _end(self, reason: str = "") -> None:
        if not self._ended.done():
            self._ended.set_result(reason)

    def _on_signal(self) -> None:
        if self._leaving or self._agent is None or self._uplink.line is None:
            self._end()
            return
        self._leaving = True
        self._tell("leaves in order; a second signal ends it at once")
        self._agent.leave()
        self._loop.call_later(DRAIN_SECONDS, self._end)
        if self._away:
            self._wait_alone()

    def _wait_alone(self) -> None:
        """There is nobody to leave to: wait a little for another scheduler."""
        if self._alone is None:
            self._tell(
                f"the scheduler is gone: ends in {GONE_SECONDS:g} s, unless that is back"
            )
            self._alone = self._loop.call_later(GONE_SECONDS, self._end)

    def _found(self) -> None:
        """The scheduler is there."""
        self._away = False
        if self._alone is not None:
            self._alone.cancel()
            self._alone = None

    async def serve(self) -> str:
        """Work until the scheduler lets go; return why it ended, if not in order.

        Raises:
            ClusterError: the scheduler cannot be reached, or refuses.
        """
        loop = self._loop
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        directory = fresh_directory("worker")
        plan = self._plan
        try:
            found = await environments.from_plan(Path(directory), plan["pythons"])
        except UsageError:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        self._python = found.usual.version
        self._pythons = found.pythons()
        share = plan["memory_limit_bytes"] // plan["runners"]
        agent = self._agent = WorkerAgent(
            name=plan["name"],
            runners=plan["runners"],
            threads=plan["threads"],
            keys=self._connection.keys,
            version=VERSION,
            setup={
                "sys_path": [str(Path.cwd())],
                "cwd": str(Path.cwd()),
                "environ": heap_variables(share),
                **_login(self._connection),
            },
            memory=MemoryPlan(
                plan["memory_limit_bytes"],
                spill_directory=config.get().worker.spill_directory,
                tell=self._tell,
            ),
            environments=found,
            on_quit=self._end,
        )
        try:
            starting = asyncio.ensure_future(agent.start_runners())
            if not await self._reach():
                return await self._ended
            # Other workers reach this one where the scheduler sees it.
            host = plan["host"] or self._uplink.own_host or "127.0.0.1"
            places = [Address("", 0, f"{directory}/data"), Address(host, 0, "")]
            certificate = cover(
                places[1], in_clear=is_in_clear(self._connection.address)
            )
            self._addresses = await agent.listen(places, certificate)
            if await self._unless_told_to_end(self._uplink.greet()):
                await starting
            return await self._ended
        finally:
            self._uplink.close()
            await agent.close()
            await found.close()
            shutil.rmtree(directory, ignore_errors=True)
            leave_runtime_directory()

    async def _reach(self) -> bool:
        """Connect to the scheduler, which may be about to start; tell who waits for it.

        Returns:
            Whether it was reached, before a signal told us to end.
        """
        where = self._connection.address.shown
        line = f"looks for the scheduler at {where} for up to {FILE_SECONDS:g} s"
        telling = self._loop.call_later(TELL_SECONDS, self._tell, line)
        try:
            return await self._unless_told_to_end(self._uplink.connect(FILE_SECONDS))
        finally:
            telling.cancel()

    async def _unless_told_to_end(self, work: Coroutine[Any, Any, None]) -> bool:
        """Wait for *work*; return whether it ended before a signal told us to.

        If not, what became of it does not matter: the scheduler may have gone, too.
        """
        doing = asyncio.ensure_future(work)
        try:
            await asyncio.wait(
                (doing, self._ended), return_when=asyncio.FIRST_COMPLETED
            )
            if not self._ended.done():
                await doing
                return True
        finally:
            doing.cancel()
        await asyncio.gather(doing, return_exceptions=True)
        return False

    # The way to the scheduler.

    def on_new_keys(self, fingerprint: str) -> None:
        """Tell the runners, whose tasks may be clients."""
        place = self._connection.address._replace(fingerprint=fingerprint)
        self._connection = Connection(place, self.keys)
        if self._agent is not None:
            self._agent.tell_runners(_login(self._connection))
        self._tell("was told of new secrets")

    def find(self) -> Connection:
        """Return where the scheduler is now; it may have moved."""
        return self._find()

    def introduce(self, epoch: int) -> WorkerIntroduction:
        """Return what this worker offers."""
        plan = self._plan
        return WorkerIntroduction(
            plan["name"],
            plan["runners"] * plan["threads"],
            plan["resources"],
            self._addresses,
            host_identity(),
            plan["memory_limit_bytes"],
            VERSION,
            platform.python_version(),
            os.getpid(),
            self._python,
            epoch,
            self._number,
            self._pythons,
            # Runners of every Python are lent ours.
            cloudpickle_version(),
        )

    def on_welcome(self, line: Line, welcome: Welcome, old: Line | None) -> None:
        """The scheduler has taken us in; if it knows nothing of us, tell it all."""
        assert self._agent is not None
        self._found()
        self._number = welcome.peer
        life = Life(welcome.cluster, welcome.epoch)
        if old is None:
            self._agent.attach(line, self.where)
            self._tell(f"joined the scheduler at {self._connection.address.shown}")
        else:
            self._agent.report(line, old.unheard(FromWorker))
            self._tell(_with_whom(life, self._life))
        self._life = life

    def on_away(self, error: Exception | None) -> None:
        """The link is gone; it is looked for."""
        why = f" ({error})" if error is not None else ""
        self._away = True
        if self._leaving:
            self._wait_alone()
        elif not self._ended.done():
            seconds = config.get().worker.reconnect_seconds
            self._tell(
                f"lost the scheduler{why}, and looks for it for up to {seconds:g} s"
            )

    def on_back(self) -> None:
        """The session goes on."""
        self._found()
        self._tell("is back with the scheduler")

    def on_messages(self, link: Any, batch: list[Any]) -> None:
        """The scheduler said something."""
        assert self._agent is not None
        self._agent.on_messages(link, batch)

    def on_end(self, error: CoveyError) -> None:
        """The scheduler was not found again, or refuses us."""
        address = self._connection.address.shown
        text = f"the scheduler at {address} is gone ({error})"
        self._end("" if self._leaving else text)


def _with_whom(now: Life, before: Life) -> str:
    """Say which scheduler has taken a worker in that had lost one."""
    if now == before:
        return (
            "is with its scheduler again, which had heard nothing of it for too long and "
            "given it up"
        )
    return "is with a scheduler again, which was started anew"


def _login(connection: Connection) -> dict[str, str | None]:
    """Return what lets a task be a client itself; a worker has no use for it."""
    secret = connection.keys.client
    return {
        "address": str(connection.address),
        "token": secret.reveal() if secret is not None else None,
    }


async def serve_worker(
    find: Callable[[], Connection],
    plan: dict[str, Any],
    tell: Callable[[str], None] = lambda _: None,
) -> str:
    """Run a worker; return why it ended, or nothing if it left in order.

    Raises:
        ClusterError: the scheduler cannot be reached, or refuses.
    """
    return await WorkerRole(find, plan, tell).serve()


def default_worker_name() -> str:
    """Return a name that tells machine and process."""
    return f"{socket.gethostname()}-{os.getpid()}"
