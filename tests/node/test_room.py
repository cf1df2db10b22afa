"""Who waits for room at a worker is let in when what was free is free still."""

from __future__ import annotations

import asyncio

from covey.payload import Pack
from covey.worker.core.machine import WorkerCore
from covey.worker.memory import MemoryPlan
from covey.worker.pressure import Pressure
from covey.worker.results import Results
from covey.worker.storage import Storage

LIMIT = 1 << 40  # Far above what this machine has: nothing is written here.


def a_worker():
    """Return the store of a worker, and what watches its memory."""
    storage = Storage(LIMIT)
    state = WorkerCore(1, 1).state
    results = Results(storage, "w")
    plan = MemoryPlan(LIMIT)
    pressure = Pressure(
        "w", plan, state, storage, results, [None], lambda _: None, lambda: None
    )
    return storage, pressure


def test_those_who_wait_are_not_all_let_in_to_the_same_room():
    async def scenario():
        storage, pressure = a_worker()
        before = storage.promise(LIMIT * 9 // 10)
        inside = []

        async def come(number):
            assert not await pressure.room_for(LIMIT * 6 // 10)
            inside.append((number, storage.promise(LIMIT * 6 // 10)))

        coming = [asyncio.create_task(come(number)) for number in range(3)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert not inside
        for number in range(3):
            storage.redeem(before)
            storage.on_change()
            for _ in range(5):
                await asyncio.sleep(0)
            assert [who for who, _ in inside] == list(range(number + 1))
            before = inside[-1][1]
        await asyncio.gather(*coming)
        storage.redeem(before)
        pressure.close()
        await storage.close()

    asyncio.run(scenario())


def test_small_values_count_as_soon_as_they_come_and_have_no_room_on_a_full_disk():
    async def scenario():
        storage, pressure = a_worker()
        before = pressure.accounts().total
        storage.put(1, Pack.of([bytes(50_000)] * 20))
        assert pressure.accounts().total == before + 1_000_000
        room = storage.promise(LIMIT - pressure.accounts().total - 1000)
        assert pressure.full(2000) is None  # There is a disk.
        storage.disk_problem = "it is full"
        assert pressure.full(1000) is None
        assert "977 KiB hold values of tasks" in pressure.full(2000).message
        storage.drop(1, 20)
        storage.redeem(room)
        storage.promise(LIMIT)
        assert "none of it for values" in pressure.full(2000).message
        pressure.close()
        await storage.close()

    asyncio.run(scenario())
