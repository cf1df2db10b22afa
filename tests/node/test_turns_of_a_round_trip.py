"""A task that comes alone, and its result: neither waits for another turn of the loop.

Scheduler and worker are those of an embedded cluster; the client's socket, and that of
the runner, are ours.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from pathlib import Path

import pytest

import covey
from covey.ids import ClientId, first_task_id
from covey.payload import Pack
from covey.scheduler.core.machine import Joined
from covey.scheduler.server import SchedulerServer
from covey.secret import Secret
from covey.wire import client_link
from covey.wire.framing import FrameReader
from covey.wire.introductions import ClientIntroduction, WorkerIntroduction
from covey.wire.keys import Keys, Role
from covey.wire.line import Line
from covey.wire.session import Session
from covey.worker.agent import WorkerAgent
from covey.worker.memory import MemoryPlan
from covey.worker.processes import RunnerProcess
from covey.worker.runner_link import RunnerLink

KEYS = Keys.of_client(Secret(b"s" * 32))
HEAD = struct.Struct("<IQ")
CLIENT = ClientId(3)
ONE = Pack.of([b"one"])
SOURCE = str(Path(covey.__file__).parent)


class Transport:
    """Of the socket to a runner."""

    def __init__(self):
        self.written = []

    def write(self, data):
        header_size, _ = HEAD.unpack_from(data)
        self.written += json.loads(data[HEAD.size : HEAD.size + header_size])

    def abort(self):
        """Nobody is there."""


class Runner(RunnerProcess):
    """A runner without a process."""

    pid, is_ending = 0, False

    async def start(self):
        self.transport = Transport()
        self.control = self._link(self._control_says, Transport())
        self.links = [self._link(self._slot_says(self.slots[0]), self.transport)]

    def _link(self, on_says, transport):
        link = RunnerLink(on_says, lambda: None, self._said_nonsense)
        link.connection_made(transport)
        return link

    def kill(self, because=""):
        """There is nothing to kill."""


class Wire:
    """A client's link, as far as a line has to do with it."""

    bytes_received = 0

    def __init__(self):
        self.frames = []

    def carry(self, session, on_ack):
        """Nothing is acknowledged."""

    def write(self, frame):
        reader = FrameReader(client_link.ToClient)
        reader.feed(frame)
        self.frames.append(reader.next_batch())

    def close(self):
        """There is nothing to close."""


class Cluster:
    """An embedded cluster with one slot, and a client that has sent a function."""

    async def start(self, *, check=True):
        loop = asyncio.get_running_loop()
        self.server = SchedulerServer(keys=KEYS, version="0", check=check)
        self.agent = WorkerAgent(
            name="w",
            runners=1,
            threads=1,
            keys=KEYS,
            version="0",
            setup={},
            memory=MemoryPlan(1 << 30),
            make_runner=Runner,
        )
        hello = WorkerIntroduction("w", 1, {}, (), "here", 1 << 30, "0", "3.11", 1)
        self.agent.attach(self.server.attach_worker(hello, self.agent.on_messages))
        await self.agent._starting.spawn(0)
        self.runner = self.agent._processes[0]
        self.runner.control.data_received(_frame([["ready", {"pid": 1}]]))
        self.line = Line(Session(1), Role.CLIENT, pytest.fail, loop.call_soon)
        self.line.peer = self.server.core.next_peer()
        self.wire = Wire()
        self.line.attach(self.wire, 0)
        self.server.attendance.speakers[self.line.peer] = self.line
        client = ClientIntroduction(CLIENT, "c", "0", "3.11", "here")
        self.server._step(Joined(self.line.peer, client))
        self.say(client_link.DefineFunction(1, b"digest", "inc", b"code"))
        await self.turns()
        self.wire.frames.clear()
        return self

    def say(self, *messages):
        self.server._said(self.line, list(messages))

    def submit(self, number):
        task = first_task_id(CLIENT) + number
        pack = ONE.sizes_bytes(), bytes(ONE.data)
        self.say(client_link.Submit(task, 1, 1, *pack))
        return task

    def answers(self):
        return [[answer.request for answer in frame] for frame in self.wire.frames]

    def given(self):
        """Return the tasks that the runner was given, and forget them."""
        written, self.runner.transport.written = self.runner.transport.written, []
        return [t for op in written if op[0] == "nodes" for t in op[3]]

    def returns(self, task):
        run = self.agent.core.state.slots[0].flights[0].run.run
        body = bytes(ONE.sizes_bytes()) + bytes(ONE.data)
        ran = ["rans", [run], [task], [1000], len(ONE.data)]
        self.runner.links[0].data_received(_frame([ran], body))

    async def turns(self):
        for _ in range(5):
            await asyncio.sleep(0)

    async def close(self):
        await self.agent.close()
        await self.server.close()


def _frame(operations, body=b""):
    header = json.dumps(operations).encode()
    return HEAD.pack(len(header), len(body)) + header + body


def test_a_task_and_its_result_pass_through_in_the_turn_in_which_they_come(run):
    async def scenario():
        cluster = await Cluster().start()
        task = cluster.submit(0)
        assert cluster.given() == [task]
        await cluster.turns()
        assert not cluster.given()
        cluster.returns(task)
        ((finished,),) = cluster.wire.frames
        assert (finished.base, finished.data) == (task, b"one")
        await cluster.turns()
        assert len(cluster.wire.frames) == 1
        await cluster.close()

    run(scenario())


def test_what_follows_in_the_same_turn_travels_together(run):
    async def scenario():
        cluster = await Cluster().start()
        for number in (1, 2, 3):
            cluster.say(client_link.Ask(number, "info"))
        assert cluster.answers() == [[1]]
        await cluster.turns()
        assert cluster.answers() == [[1], [2, 3]]
        cluster.say(client_link.Ask(4, "info"))
        assert cluster.answers() == [[1], [2, 3], [4]]
        await cluster.close()

    run(scenario())


def test_a_worker_is_given_at_the_end_of_the_turn_what_follows_in_it(run):
    async def scenario():
        cluster = await Cluster().start()
        first, second = cluster.submit(0), cluster.submit(1)
        runs = cluster.agent.core.state.runs
        assert [run.base for run in runs.values()] == [first]
        await cluster.turns()
        assert [run.base for run in runs.values()] == [first, second]
        await cluster.close()

    run(scenario())


def test_a_slot_with_more_to_do_has_its_news_wait_for_the_end_of_the_turn(run):
    async def scenario():
        cluster = await Cluster().start()
        cluster.returns(cluster.submit(0))  # It is known now to be short.
        await cluster.turns()
        cluster.wire.frames.clear()
        first, second = cluster.submit(1), cluster.submit(2)
        await cluster.turns()
        assert cluster.given() == [first - 1, first, second]
        cluster.returns(first)
        assert not cluster.wire.frames
        await cluster.turns()
        assert [finished.base for (finished,) in cluster.wire.frames] == [first]
        cluster.returns(second)
        assert len(cluster.wire.frames) == 2
        await cluster.close()

    run(scenario())


def test_a_round_trip_costs_scheduler_and_worker_few_calls(run):
    """Who waits for each task waits for every function that is called on the way."""
    calls = 0

    def count(frame, event, _arg):
        nonlocal calls
        ours = frame.f_code.co_filename.startswith(SOURCE)
        calls += ours and event == "call"

    async def scenario():
        cluster = await Cluster().start(check=False)
        for number in range(100):
            if number == 50:
                sys.setprofile(count)
            task = cluster.submit(number)
            cluster.returns(task)
            await cluster.turns()
        sys.setprofile(None)
        assert len(cluster.wire.frames) == 100
        await cluster.close()

    try:
        run(scenario())
    finally:
        sys.setprofile(None)
    sys.stdout.write(f"{calls / 50:.1f} calls a round trip\n")
    assert calls / 50 < 145
