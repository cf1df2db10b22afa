"""One scheduler, or one worker, as a process of its own: a cluster by hand."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from covey import clock, config
from covey.cluster.cover import cover
from covey.errors import Disconnected, Refused, UsageError
from covey.net.addresses import Address, host_identity
from covey.net.connect import open_link
from covey.net.connection_file import (
    file_for,
    fresh_directory,
    leave_runtime_directory,
    read_connection_file,
    remove_connection_file,
    write_connection_file,
)
from covey.net.join_string import Connection
from covey.net.link import Link
from covey.net.loop import close_event_loop, new_event_loop
from covey.net.tls import Certificate
from covey.scheduler.server import SchedulerServer
from covey.secret import Secret
from covey.version import VERSION
from covey.wire.introductions import Reception, Refusal, Welcome, WorkerIntroduction
from covey.wire.keys import Keys, Role
from covey.wire.worker_link import ToWorker
from covey.worker import interpreters
from covey.worker.agent import WorkerAgent
from covey.worker.interpreters import Interpreter
from covey.worker.memory import MemoryPlan

T = TypeVar("T")

#: How long a worker waits for the connection file of a scheduler that starts.
FILE_SECONDS: Final = 30.0

#: How long a worker that is asked to leave may take to finish and hand over.
DRAIN_SECONDS: Final = 60.0

IN_CLEAR_WARNING: Final = (
    "WARNING: nothing is encrypted. Whoever can listen in on this network can read "
    "your data, and can take the cluster over"
)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run *work* in an event loop of its own."""
    loop = new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(work)
    finally:
        close_event_loop(loop)


async def serve_scheduler(
    address: Address,
    certificate: Certificate | None,
    connection_file: Path | None,
    announce: Callable[[Connection, Path, bool], None],
    record: Path | None = None,
) -> str:
    """Run a scheduler until it ends; return why, or nothing if it was told to.

    Args:
        address: the interface and the port; if that is in use, another one is taken.
        certificate: what it shows, if it is on a network.
        connection_file: one more place for the connection file.
        announce: called with the connection, its file, and whether the port moved.
        record: a file to write down in what happens.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[str] = loop.create_future()

    def end(reason: str = "") -> None:
        if not ended.done():
            ended.set_result(reason)

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, end)
    keys = Keys.of_client(Secret.fresh())
    server = SchedulerServer(keys=keys, version=VERSION, on_closing=end)
    if record is not None:
        server.record(record)
    listener = await server.listen(address, certificate)
    connection = Connection(listener.address, keys)
    files = [file_for(listener.address.port)]
    if connection_file is not None:
        files.append(connection_file)
    try:
        for path in files:
            write_connection_file(path, connection)
        announce(connection, files[-1], listener.moved)
        return await ended
    finally:
        for path in files:
            remove_connection_file(path, connection)
        reason = ended.result() if ended.done() else ""
        await server.close(*filter(None, [reason]))
        leave_runtime_directory()


def is_in_clear(address: Address) -> bool:
    """Whether a scheduler at *address* has been told not to encrypt."""
    return not address.is_local and not address.fingerprint


def await_connection_file(path: Path) -> Connection:
    """Read a connection file, waiting for it to appear.

    Raises:
        UsageError: it did not appear in time, or is none of ours.
    """
    deadline = clock.monotonic() + FILE_SECONDS
    while not path.exists() and clock.monotonic() < deadline:
        time.sleep(0.05)
    return read_connection_file(path)


class WorkerRole:
    """A worker with a scheduler elsewhere."""

    def __init__(self, connection: Connection, plan: dict[str, Any]) -> None:
        self._connection = connection
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._welcome: asyncio.Future[None] = self._loop.create_future()
        self._agent: WorkerAgent | None = None
        self._leaving = False

    def _end(self, reason: str = "") -> None:
        if not self._ended.done():
            self._ended.set_result(reason)

    def _on_signal(self) -> None:
        if self._leaving or self._agent is None:
            self._end()
            return
        self._leaving = True
        self._agent.leave()
        self._loop.call_later(DRAIN_SECONDS, self._end)

    async def serve(self) -> str:
        """Work until the scheduler lets go; return why it ended, if not in order.

        Raises:
            ClusterError: the scheduler cannot be reached, or refuses.
        """
        loop = self._loop
        loop.add_signal_handler(signal.SIGTERM, self._on_signal)
        loop.add_signal_handler(signal.SIGINT, self._end)
        directory = fresh_directory("worker")
        address = self._connection.address
        plan = self._plan
        # With it a task can be a client itself; a worker has no use for it.
        secret = self._connection.keys.client
        try:
            python = await self._python(Path(directory))
        except UsageError:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        agent = WorkerAgent(
            name=plan["name"],
            runners=plan["runners"],
            threads=plan["threads"],
            keys=self._connection.keys,
            version=VERSION,
            setup={
                "sys_path": [str(Path.cwd())],
                "cwd": str(Path.cwd()),
                "environ": {},
                "address": str(address),
                "token": secret.reveal() if secret is not None else None,
            },
            memory=MemoryPlan(
                plan["memory_limit_bytes"],
                spill_directory=config.get().worker.spill_directory,
            ),
            python=python,
            on_quit=self._end,
        )
        try:
            starting = asyncio.ensure_future(agent.start_runners())
            link = await self._join(address, agent)
            # Other workers reach this one where the scheduler sees it.
            host = plan["host"] or link.own_host or "127.0.0.1"
            places = [Address("", 0, f"{directory}/data"), Address(host, 0, "")]
            certificate = cover(places[1], in_clear=is_in_clear(address))
            places_told = await agent.listen(places, certificate)
            link.send(self._introduction(places_told, python))
            await self._welcome
            self._agent = agent
            agent.attach(link)
            await starting
            return await self._ended
        finally:
            await agent.close()
            shutil.rmtree(directory, ignore_errors=True)
            leave_runtime_directory()

    async def _join(self, address: Address, agent: WorkerAgent) -> Link:
        def on_messages(link: Link, batch: list[Any]) -> None:
            if not self._welcome.done():
                self._on_reception(link, batch[0])
                batch = batch[1:]
            if batch:
                agent.on_messages(link, batch)

        return await open_link(
            address,
            Reception,
            role=Role.WORKER,
            keys=self._connection.keys,
            version=VERSION,
            on_messages=on_messages,
            on_lost=self._on_lost,
        )

    async def _python(self, directory: Path) -> Interpreter:
        """Return the interpreter for the runners: the first that was named, or ours."""
        named = self._plan["pythons"]
        if not named:
            return interpreters.own()
        links = interpreters.link_folder(directory / "python")
        return await interpreters.probe(named[0], links)

    def _introduction(
        self, addresses: tuple[str, ...], python: Interpreter
    ) -> WorkerIntroduction:
        plan = self._plan
        return WorkerIntroduction(
            plan["name"],
            plan["runners"] * plan["threads"],
            plan["resources"],
            addresses,
            host_identity(),
            plan["memory_limit_bytes"],
            VERSION,
            platform.python_version(),
            os.getpid(),
            python.version,
        )

    def _on_reception(self, link: Link, message: Welcome | Refusal) -> None:
        if isinstance(message, Refusal):
            self._welcome.set_exception(Refused(message.reason))
            return
        link.decode_as(ToWorker)
        self._welcome.set_result(None)

    def _on_lost(self, link: Link, error: Exception | None) -> None:
        del link
        why = f" ({error})" if error is not None else ""
        text = f"the scheduler at {self._connection.address.shown} is gone{why}"
        if not self._welcome.done():
            self._welcome.set_exception(Disconnected(text))
        self._end("" if self._leaving else text)


async def serve_worker(connection: Connection, plan: dict[str, Any]) -> str:
    """Run a worker; return why it ended, or nothing if it left in order.

    Raises:
        ClusterError: the scheduler cannot be reached, or refuses.
    """
    return await WorkerRole(connection, plan).serve()


def default_worker_name() -> str:
    """Return a name that tells machine and process."""
    return f"{socket.gethostname()}-{os.getpid()}"
