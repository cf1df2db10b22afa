"""A scheduler and its workers in one event loop: what an embedded cluster is inside.

``embedded`` runs it in a process of its own, ``threads`` in a thread of the user's.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from covey.cluster.cover import cover
from covey.net.addresses import Address, host_identity, parse_address
from covey.net.tls import Certificate
from covey.scheduler.server import SchedulerServer
from covey.secret import Secret
from covey.store.early import make_page
from covey.version import VERSION, cloudpickle_version
from covey.wire.introductions import WorkerIntroduction
from covey.wire.keys import Keys
from covey.worker.agent import WorkerAgent
from covey.worker.environments import Environments, on_stderr
from covey.worker.launching import heap_variables
from covey.worker.memory import MemoryPlan
from covey.worker.processes import RunnerProcess


class EmbeddedCluster:
    """A scheduler and its workers, joined within one event loop."""

    def __init__(
        self,
        plan: dict[str, Any],
        make_runner: Callable[..., RunnerProcess] = RunnerProcess,
        *,
        own_processes: bool = True,
    ) -> None:
        self.plan = plan
        self._make_runner = make_runner
        self.keys = Keys.of_client(Secret.of_digits(plan["token"]))
        self.directory = Path(plan["directory"])
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.server = SchedulerServer(
            keys=self.keys,
            version=VERSION,
            epoch=plan.get("epoch", 1),
            on_closing=self.end,
            check=bool(plan.get("check")),
            own_process=own_processes,
        )
        # Threads of the user's own process have no other Python than that.
        self._environments = Environments(
            self.directory if own_processes else None, tell=on_stderr
        )
        #: Where runners can tell early words, for their setup.  Threads of one process
        #: would only keep each other from going on.
        self._early: dict[str, str] = {}
        if own_processes:
            with contextlib.suppress(OSError):
                make_page(plan["directory"])
                self._early["early"] = plan["directory"]
        self.workers: list[WorkerAgent] = []
        self._certificate: Certificate | None = None
        self._left = 0
        self._closing: set[asyncio.Future[None]] = set()

    def end(self, reason: str = "") -> None:
        """Let the cluster end."""
        if not self.ended.done():
            self.ended.set_result(reason)

    async def start(self) -> dict[str, Any]:
        """Listen, and start all workers; return where the scheduler is."""
        plan = self.plan
        unix = Address("", 0, str(self.directory / "scheduler"))
        await self.server.listen(unix)
        facts: dict[str, Any] = {"address": str(unix), "tcp": "", "moved": False}
        if plan["host"] is not None:
            wanted = Address(plan["host"], plan["port"], "")
            self._certificate = cover(wanted, secret=self.keys.client)
            listener = await self.server.listen(wanted, self._certificate)
            facts.update(tcp=str(listener.address), moved=listener.moved)
        machines = plan["machines"]
        for number, runners in enumerate(machines):
            await self._start_worker(number, runners, len(machines), str(unix))
        return facts

    async def _start_worker(
        self, number: int, runners: int, machines: int, address: str
    ) -> None:
        plan = self.plan
        name = plan["name"] if machines == 1 else f"{plan['name']}-{number + 1}"
        limit = plan["memory_limit_bytes"] // machines
        setup = {
            "sys_path": plan["sys_path"],
            "cwd": plan["cwd"],
            "environ": heap_variables(limit // runners),
            "address": address,
            "token": plan["token"],
            **self._early,
        }
        worker = WorkerAgent(
            name=name,
            runners=runners,
            threads=plan["threads"],
            keys=self.keys,
            version=VERSION,
            setup=setup,
            memory=MemoryPlan(limit, 1 / machines, plan["spill_directory"]),
            environments=self._environments,
            on_quit=functools.partial(self._worker_quits, number),
            make_runner=self._make_runner,
        )
        self.workers.append(worker)
        starting = asyncio.ensure_future(worker.start_runners())
        places = [Address("", 0, str(self.directory / f"data-{number}"))]
        if plan["host"] is not None:
            places.append(Address(plan["host"], 0, ""))
        addresses = await worker.listen(places, self._certificate)
        introduction = WorkerIntroduction(
            name,
            runners * plan["threads"],
            plan["resources"],
            addresses,
            host_identity(),
            limit,
            VERSION,
            # As ``platform`` has it, which takes 3 ms to import: somebody waits.
            sys.version.partition(" ")[0],
            os.getpid(),
            pythons=self._environments.pythons(),
            cloudpickle=cloudpickle_version(),
        )
        upstream = self.server.attach_worker(introduction, worker.on_messages)
        worker.attach(upstream, lambda: parse_address(address))
        await starting

    def _worker_quits(self, number: int, reason: str) -> None:
        self._left += 1
        if reason or self._left == len(self.workers):
            self.end(reason)
            return
        # It has left in good order; the others go on.
        closing = asyncio.ensure_future(self.workers[number].close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def first_runner(self) -> None:
        """Wait until some runner is ready.

        Raises:
            ClusterError: none came up.
        """
        waiting = [asyncio.ensure_future(w.first_runner()) for w in self.workers]
        done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        for task in done:
            task.result()

    async def close(self) -> None:
        """End everything, in order; clients are told why."""
        reason = self.ended.result() if self.ended.done() else ""
        for worker in self.workers:
            await worker.close()
        await self._environments.close()
        await self.server.close(*filter(None, [reason]))
