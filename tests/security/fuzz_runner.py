"""The target of ``fuzz.py`` behind the sockets of a runner.

User code owns that process, and may write anything into its sockets.  So a worker's agent
stands here whole, with the scheduler's core above it, and is told mutated frames of its
runners.  A runner that spoke nonsense has to be ended and started anew; the worker goes on, and
says nothing to its scheduler for which that would turn it away.
"""

from __future__ import annotations

import asyncio
import struct

import msgspec

from covey.errors import RemoteProtocolError
from covey.ids import first_task_id
from covey.payload import Pack
from covey.scheduler.core import invariants as scheduler_invariants
from covey.scheduler.core.machine import Joined, Left, Said, SchedulerCore
from covey.wire import client_link
from covey.wire.base import Failure
from covey.wire.framing import FrameReader, encode_frame
from covey.wire.worker_link import FromWorker, ToWorker
from covey.worker.agent import WorkerAgent
from covey.worker.core import invariants, orders
from covey.worker.memory import MemoryPlan
from covey.worker.processes import RunnerProcess
from covey.worker.runner_link import RunnerLink

HEAD = struct.Struct("<IQ")
TASKS = 20

#: What JSON may hold in the place of a number, a text or a list.
STRANGE = [
    b"0",
    b"-1",
    b"4294967296",
    b"9223372036854775807",
    b"18446744073709551616",
    b"1" * 400,
    b"1e308",
    b"1e999",
    b"NaN",
    b"null",
    b"true",
    b'"\\ud800"',
    b'"' + b"x" * 5000 + b'"',
    b"[]",
    b"{}",
    b"[" * 3000,
]


class Transport:
    """The agent's side of a socket: keeps what was written last."""

    def __init__(self):
        self.written = []

    def write(self, data):
        self.written = [*self.written[-9:], bytes(data)]

    def abort(self):
        """The other side of it is gone."""


class Runner(RunnerProcess):
    """A runner without a process: what it says is up to the fuzzer."""

    async def start(self):
        self.control = self._link(self._control_says)
        self.links = [self._link(self._slot_says(slot)) for slot in self.slots]

    def _link(self, on_says):
        link = RunnerLink(on_says, lambda: None, self._said_nonsense)
        link.connection_made(Transport())
        return link

    @property
    def pid(self):
        return 0

    @property
    def is_ending(self):
        return False

    def kill(self, because=""):
        if not self.killed_because:
            self.killed_because = because
            self._loop.call_soon(self._end)

    def executing(self):
        return ()

    def failure(self, worker):
        return Failure("died", "RunnerDied", self.killed_because)


class Upstream:
    """The link of the worker to its scheduler."""

    def __init__(self, say):
        self.send = say

    def hasten(self):
        """All is said at once."""

    def close(self):
        """There is nothing to close."""


def frame(operations, body=b""):
    header = msgspec.json.encode(operations)
    return HEAD.pack(len(header), len(body)) + header + body


class RunnerSays:
    """A worker's agent, behind frames of its runners.

    Args:
        keys: of the cluster.
        client: the introduction of a client.
        worker: the introduction of the worker.
        threads: how many slots its runner has.
    """

    def __init__(self, keys, client, worker, threads=2):
        self.keys, self.client, self.worker = keys, client, worker
        self.threads = threads
        self.scheduler = SchedulerCore(cluster="fuzz", keys=keys, events_kept=1000)
        self.agent = None
        self.problem = ""

    def renew(self):
        """The runners that were cut off are gone, and others have come."""
        if self.agent is None:
            plan = MemoryPlan(1 << 30)
            self.agent = WorkerAgent(
                name="w",
                runners=1,
                threads=self.threads,
                keys=self.keys,
                version="1",
                setup={},
                memory=plan,
                on_quit=self._quit,
                make_runner=Runner,
            )
            self.agent._upstream = Upstream(self._say)
            self._hear(Joined(2, self.worker))
            self.agent._run(self.agent._starting.spawn(0))
        if not self.agent.core.state.runs:
            self._ask_for_more()

    def _ask_for_more(self):
        """The client submits tasks, and others that take their results."""
        self._hear(Left(1))
        self._hear(Joined(1, self.client))
        base = first_task_id(self.client.client)
        made = Pack.of([b"x"] * TASKS)
        pack = made.sizes_bytes(), bytes(made.data)
        self._hear(
            Said(
                1,
                [
                    client_link.DefineFunction(1, b"digest", "inc", b"code"),
                    client_link.Submit(base, TASKS, 1, *pack),
                    client_link.Submit(base + TASKS, TASKS, 1, *pack, aligned=(base,)),
                ],
            )
        )

    def _quit(self, reason):
        self.problem = self.problem or f"the worker ended: {reason}"

    def _say(self, message):
        """The scheduler hears it as it comes over a link, and must not mind."""
        reader = FrameReader(FromWorker)
        reader.feed(encode_frame([message]))
        self._hear(Said(2, reader.next_batch()))

    def _hear(self, event):
        try:
            told = self.scheduler.step(event, 0.0).get(2, ())
        except RemoteProtocolError as error:
            raise AssertionError(
                f"the scheduler turns the worker away: {error}"
            ) from error
        if told:
            reader = FrameReader(ToWorker)
            reader.feed(encode_frame(told))
            batch = reader.next_batch()
            # As on a link: later, and not in the middle of what it is doing.
            self.agent._loop.call_soon(self.agent._step, orders.Told(batch))

    @property
    def runner(self):
        return self.agent._processes[0]

    async def settle(self):
        """Wait until a runner is there that can speak."""
        for _ in range(100):
            await asyncio.sleep(0)
            if self.runner and self.runner.links and not self.runner.killed_because:
                return
        raise AssertionError("no runner was started again")

    def _sound(self, choose):
        """Return what makes sense now, on a slot or the control socket: with its bytes."""
        one, many = Pack.of([b"value"]), Pack.of([b"one", b"two"])
        of_one = bytes(one.sizes_bytes()) + bytes(one.data)
        of_many = bytes(many.sizes_bytes()) + bytes(many.data)
        sound = [
            (["returned", 0, 0, 0, 0], b""),
            (["profiled", [[1, ["f", "g"], [5, 0, 0, 7, 1, 1, 9]]]], b""),
            (["stacks", "all of them"], b""),
        ]
        slots = self.agent.core.state.slots
        flights = [f for s in slots for f in (*s.flights, *s.parked.values())]
        for flight in choose.sample(flights, min(2, len(flights))):
            run, task = flight.run.run, flight.at
            last = flight.base + flight.n - 1
            sound += [
                (["ran", run, task, 1, 0.1, one.nbytes], of_one),
                (["ran", run, task, 1, 0.1, one.nbytes], of_one),
                (["ran", run, task, 2, 0.1, many.nbytes], of_many),
                (["failed", run, task, 0.1, "ValueError", "no", 3, ["a.B"]], b"why"),
                (["big", run, task, 0.1, "/proc/self/fd/0@5eed", 100, 1], b""),
                (["blocked", run, task], b""),
                (["resumed", run, task], b""),
                (["printed", run, task, "stdout", "hello\n"], b""),
                (["returned", 0, run, last, 1], b""),
            ]
        return sound

    def next(self, mutate):
        """Return the next input: what a runner says now, and mostly not quite."""
        choose = mutate.random
        at = choose.randrange(3)
        if not self.runner.ready:
            return 2, frame([["ready", {"pid": 1}]])
        sound = self._sound(choose)
        operation, body = choose.choice(sound)
        if choose.randrange(2):
            return at, frame([operation], body)
        other, others_body = choose.choice(sound)
        if choose.randrange(3) == 0:
            return at, mutate(frame([operation], body), [frame([other], others_body)])
        return at, self._exchanged(operation, other, body, choose)

    def _exchanged(self, operation, other, body, choose):
        """Exchange a word of the header; the head tells the truth again."""
        words = msgspec.json.encode([operation]).split(b",")
        strange = [*STRANGE, *msgspec.json.encode([other]).split(b",")]
        words[choose.randrange(len(words))] = choose.choice(strange)
        header = b",".join(words)
        if choose.randrange(8) == 0:
            header = header.replace(b"]]", b"]," + header[1:], 1)
        return HEAD.pack(len(header), len(body)) + header + body

    def take(self, aimed):
        """A runner says something; it is ended if that is nonsense."""
        at, data = aimed
        runner = self.runner
        link = runner.control if at == 2 else runner.links[at]
        link.data_received(data)
        assert not self.problem, self.problem
        assert not self.agent._broken
        if runner.killed_because:
            raise RemoteProtocolError(runner.killed_because)

    def check(self):
        assert not self.problem, self.problem
        invariants.check(self.agent.core.state)
        scheduler_invariants.check(self.scheduler.state)
