"""A worker's agent whose runners have no processes: what they say is ours."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from pathlib import Path

from covey.ids import ClientId
from covey.payload import Pack
from covey.wire.introductions import ClientIntroduction

sys.path.insert(0, str(Path(__file__).parent))
from fuzz import KEYS, worker
from fuzz_runner import HEAD, RunnerSays


def frame(operations, body=b""):
    header = json.dumps(operations).encode()
    return HEAD.pack(len(header), len(body)) + header + body


def test_nonsense_in_the_middle_of_a_frame_stops_nothing_but_its_runner():
    async def scenario():
        client = ClientIntroduction(ClientId(3), "c", "1", "3.11.7", "host")
        world = RunnerSays(KEYS, client, worker("w"), threads=1)
        world.renew()
        await world.settle()
        first = world.runner
        first.control.data_received(frame([["ready", {"pid": 1}]]))
        for _ in range(10):
            await asyncio.sleep(0)
        slot = world.agent.core.state.slots[0]
        run, task = slot.flights[0].run.run, slot.flights[0].at
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
        world.runner.control.data_received(frame([["ready", {"pid": 1}]]))
        for _ in range(10):
            await asyncio.sleep(0)
        assert any(slot.flights for slot in world.agent.core.state.slots)
        world.check()

    asyncio.run(scenario())
