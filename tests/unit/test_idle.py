"""What a worker does while it has nothing to do."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import pytest

from covey.worker.core.machine import WorkerCore
from covey.worker.counters import cpu_seconds
from covey.worker.memory import MemoryPlan
from covey.worker.pressure import Pressure
from covey.worker.results import Results
from covey.worker.storage import Storage

LOOKS_WHEN_IDLE = 1.0
LOOKS_OTHERWISE = 0.25


def test_processor_time_is_that_of_the_process():
    before = time.process_time()
    seen = cpu_seconds(os.getpid())
    # Where the kernel tells it in ticks, it may be one behind.
    assert before - 0.02 <= seen <= time.process_time()


def test_there_is_none_of_a_process_that_has_ended():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert cpu_seconds(process.pid) is None


@pytest.mark.skipif(sys.platform != "linux", reason="there it is asked for")
def test_to_look_how_busy_it_is_a_worker_imports_nothing():
    program = (
        "import sys; from covey.worker.sampling import Sampler; s = Sampler();"
        "s.sample([]); s.sample([]); sys.exit('psutil' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


class Worker:
    """The memory of a worker of one slot, without processes."""

    def __init__(self, loop, tmp_path):
        self.loop = loop
        self.state = WorkerCore(1, 1).state
        self.storage = Storage(1 << 40, str(tmp_path))
        plan = MemoryPlan(1 << 40, spill_directory=str(tmp_path))
        results = Results(self.storage, "w")
        nothing = [None]
        self.steps = []
        self.pressure = Pressure(
            "w",
            plan,
            self.state,
            self.storage,
            results,
            nothing,
            self.steps.append,
            lambda: None,
        )

    @property
    def next_look_seconds(self):
        return self.pressure._timer.when() - self.loop.time()

    async def close(self):
        self.pressure.close()
        await self.storage.close()


def with_worker(tmp_path, use):
    async def main():
        worker = Worker(asyncio.get_running_loop(), tmp_path)
        try:
            use(worker)
        finally:
            await worker.close()

    asyncio.run(main())


def test_while_nothing_runs_memory_is_looked_at_seldom(tmp_path):
    def use(worker):
        assert worker.pressure.rests
        assert LOOKS_OTHERWISE < worker.next_look_seconds <= LOOKS_WHEN_IDLE

    with_worker(tmp_path, use)


def test_a_task_or_a_value_ends_the_rest(tmp_path):
    def task(worker):
        worker.pressure.wake()
        assert not worker.pressure.rests
        assert worker.next_look_seconds <= LOOKS_OTHERWISE

    def value(worker):
        worker.storage.on_change()
        assert not worker.pressure.rests
        assert worker.next_look_seconds <= LOOKS_OTHERWISE

    with_worker(tmp_path, task)
    with_worker(tmp_path, value)
