"""What is told of a task that was stopped for its memory, and where."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from covey.client.outcome import error_of
from covey.errors import TaskOutOfMemory
from covey.wire.base import Attempt, Failure
from covey.worker.core.machine import WorkerCore
from covey.worker.memory import MemoryPlan
from covey.worker.pressure import Pressure
from covey.worker.results import Results
from covey.worker.storage import Storage

LIMIT = 1 << 40


class Process:
    """A runner whose first thread is at task 31 of run 7."""

    number, pid, ready, verdict = 0, 0, False, None

    def __init__(self):
        self.ended = []

    def executing(self):
        return ((7, 31),)

    def kill(self, why):
        self.ended.append(why)


def test_the_worker_says_what_it_stops_and_why_and_who_it_is(tmp_path):
    async def scenario():
        said = []
        storage = Storage(LIMIT, str(tmp_path))
        core, process = WorkerCore(1, 1), Process()
        core.state.runs[7] = SimpleNamespace(fn=3)
        pressure = Pressure(
            "anna",
            MemoryPlan(LIMIT, tell=said.append),
            core.state,
            storage,
            Results(storage, "anna"),
            [process],
            lambda _: None,
            lambda: None,
            {3: "grow"}.get,
        )
        process.pid = 4711
        pressure._peak[4711] = 3 << 30
        pressure._stop(0, pressure.accounts())
        pressure.close()
        await storage.close()
        return said, process

    (said,), process = asyncio.run(scenario())
    assert said == (
        "stops grow (task 1f): its process (pid 4711) had grown to 3 GiB, and the "
        "worker's limit is 1 TiB"
    )
    assert process.ended == ["its task used too much memory"]
    error = error_of(process.verdict, "grow-1", {}.get)
    assert (error.worker, error.peak, error.limit) == ("anna", 3 << 30, LIMIT)
    assert "pid 4711 on anna" in str(error)


def test_the_error_tells_of_all_attempts():
    attempts = (
        Attempt("anna", "memory", "TaskOutOfMemory", "too much"),
        Attempt("bob", "memory", "TaskOutOfMemory", "too much"),
    )
    details = {"worker": "bob", "peak_bytes": 3, "limit_bytes": 2}
    failure = Failure(
        "memory", "TaskOutOfMemory", "no", details=details, attempts=attempts
    )
    error = error_of(failure, "grow-1", {}.get)
    assert isinstance(error, TaskOutOfMemory)
    assert (error.task, error.worker) == ("grow-1", "bob")
    assert error.attempts == (
        ("anna", "TaskOutOfMemory: too much"),
        ("bob", "TaskOutOfMemory: too much"),
    )
