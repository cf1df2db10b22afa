"""A worker's agent whose runners have no processes: what they say is ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import sys
from pathlib import Path

from covey.ids import ClientId
from covey.payload import Pack
from covey.store.segments import Segment
from covey.wire.introductions import ClientIntroduction

sys.path.insert(0, str(Path(__file__).parent))
from fuzz import KEYS, worker
from fuzz_runner import HEAD, RunnerSays


def frame(operations, body=b""):
    header = json.dumps(operations).encode()
    return HEAD.pack(len(header), len(body)) + header + body


async def beginning():
    """Return a worker whose only slot has begun, and the run and task that it has."""
    client = ClientIntroduction(ClientId(3), "c", "1", "3.11.7", "host")
    world = RunnerSays(KEYS, client, worker("w"), threads=1)
    world.renew()
    await world.settle()
    await ready(world)
    flight = world.agent.core.state.slots[0].flights[0]
    return world, flight.run.run, flight.at


async def ready(world):
    world.runner.control.data_received(frame([["ready", {"pid": 1}]]))
    for _ in range(10):
        await asyncio.sleep(0)


def test_nonsense_in_the_middle_of_a_frame_stops_nothing_but_its_runner():
    async def scenario():
        world, run, task = await beginning()
        first = world.runner
        pack = Pack.of([b"value"])
        body = bytes(pack.sizes_bytes()) + bytes(pack.data)
        ran = ["ran", run, task, 1, 0.1, pack.nbytes]
        # Two values of a byte each cannot fill five bytes.
        senseless = ["ran", run, task, 2, 0.1, 5]
        first.links[0].data_received(
            frame([senseless, ran], struct.pack("<2I", 1, 1) + b"value" + body)
        )
        assert first.killed_because
        await world.settle()
        assert world.runner is not first
        await ready(world)
        assert any(slot.flights for slot in world.agent.core.state.slots)
        world.check()

    asyncio.run(scenario())


def test_a_large_result_of_a_task_that_the_slot_has_not_leaves_nothing_behind():
    async def scenario():
        world, _, _ = await beginning()
        pack = Pack.of([b"value"])
        body = bytes(pack.sizes_bytes()) + bytes(pack.data)
        while (flight := world.agent.core.state.slots[0].flights[0]).left < 2:
            run, task = flight.run.run, flight.at
            ran = ["ran", run, task, 1, 0.0, pack.nbytes]
            world.runner.links[0].data_received(frame([ran], body))
            await asyncio.sleep(0)
        run, task = flight.run.run, flight.at
        with contextlib.closing(Segment.create(1 << 20)) as made:
            big = ["big", run, task + 1, 0.1, made.offer(), 1 << 20, 1]
            world.runner.links[0].data_received(frame([big]))
        assert world.runner.killed_because
        assert world.agent.storage.lent_bytes == 0
        assert world.agent._results._arrived is None

    asyncio.run(scenario())
