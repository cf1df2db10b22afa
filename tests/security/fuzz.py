"""Feeds mutated bytes to everything that listens, and tolerates protocol errors only.

    python tests/security/fuzz.py [COUNT] [SEED]        (make fuzz)

Each target is what stands behind a listening socket, without the socket: the
handshakes of both doors, the scheduler's core behind frames of a client and of a
worker, and the data server of a worker; and a worker's agent behind frames of its
runners, whose sockets user code can write to (``fuzz_runner``).  The bytes are frames
that make sense, with bits turned, parts left out, doubled, exchanged, and numbers made
huge.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from types import SimpleNamespace

import psutil
from fuzz_runner import RunnerSays

from covey.errors import ProtocolError, RemoteProtocolError
from covey.ids import ClientId, first_task_id
from covey.payload import Pack
from covey.scheduler.core import invariants
from covey.scheduler.core.machine import Joined, Left, Said, SchedulerCore
from covey.secret import Secret
from covey.wire import client_link, data_link, worker_link
from covey.wire.base import Failure, Options
from covey.wire.framing import FrameReader, encode_frame
from covey.wire.handshake import CallerHandshake, ListenerHandshake
from covey.wire.introductions import (
    AskerIntroduction,
    ClientIntroduction,
    Introduction,
    WorkerIntroduction,
)
from covey.wire.keys import Keys, Role
from covey.worker.serving import DataServer
from covey.worker.storage import Storage

KEYS = Keys.of_client(Secret(b"k" * 32))
CLIENT = ClientId(77)
BASE = first_task_id(CLIENT)

#: After so many inputs a target starts anew, as a peer that was cut off would.
LIFE = 200

#: Numbers at which programs go wrong, as msgpack writes them.
EXTREMES = [
    b"\x00",
    b"\xff",
    b"\xc0",
    b"\x90",
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xcf\x3f\xff\xff\xff\xff\xff\xff\xff",
    b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
    b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
]


def pack(*payloads):
    made = Pack.of(payloads)
    return made.sizes_bytes(), bytes(made.data)


def client_frames():
    """Return frames of a client that make sense one after the other."""
    define = client_link.DefineFunction(1, b"digest", "inc", b"code")
    two = pack(b"one", b"two")
    one = pack(b"one")
    options = Options(1, 2, 3.0, {"gpu": 1.0}, ("w",), True)
    say = [
        [define],
        [client_link.Submit(BASE, 2, 1, *two)],
        [client_link.Submit(BASE + 2, 2, 1, *two, aligned=(BASE,))],
        [client_link.Submit(BASE + 4, 1, 1, *one, options, whole=((BASE, 4),))],
        [client_link.Submit(BASE + 5, 1, 1, *one, name="a name", identity=b"16")],
        [client_link.Submit(BASE + 6, 1, 1, *one, name="a name", identity=b"16")],
        [
            client_link.SubmitGraph(
                BASE + 10,
                (1, 1),
                *two,
                ((), (BASE + 10, BASE)),
                (0, 1),
                ((BASE + 11, 1),),
                (options,),
                (0, 0),
            )
        ],
        [client_link.Scatter(BASE + 20, 2, *two, ("w",), True)],
        [client_link.Placed(BASE + 30, 1, 1000)],
        [client_link.Want(((BASE, 2), (5, 1)), (b"t" * 16,))],
        [client_link.Retry(((BASE, 4),)), client_link.Detach(((BASE + 4, 1),))],
        [client_link.Rewrite(client_link.Submit(BASE, 2, 1, *two))],
        [client_link.Ask(1, "explain", ((BASE, 1),)), client_link.Ask(2, "info")],
        [client_link.Ask(3, "events", number=3), client_link.Ask(4, "who_has")],
        [client_link.Ask(5, "overview"), client_link.Ask(6, "logs", ((BASE, 2),))],
        [client_link.Cancel(((BASE + 1, 2),), "why")],
        [client_link.Release(((BASE, 6),))],
    ]
    return [encode_frame(batch) for batch in say]


def worker_frames(runs=((1, BASE, 2), (2, BASE + 2, 2))):
    """Return frames of a worker that has been given *runs*: number, first task, n."""
    one = pack(b"value")
    failure = Failure("raised", "ValueError", "no", b"", -1, {"worker": "w"})
    say = []
    for run, base, n in runs:
        last = base + n - 1
        say += [
            [worker_link.Blocked(run, base), worker_link.Resumed(run, base)],
            [worker_link.Engaged(n), worker_link.Engaged(0)],
            [worker_link.Ran(run, base, 1, 0.1, *one)],
            [worker_link.RanStored(run, last, 1, 0.1, 1000)],
            [worker_link.RunFailed(run, last, 0.1, failure)],
            [worker_link.Returned(run, last, 1, ((BASE, 1, 1),))],
        ]
    say += [
        [worker_link.ReturnDone(), worker_link.Status({"pid": 1, "memory": {}})],
        [worker_link.Holds(BASE, 2, 100), worker_link.Lacks(((BASE, 1),))],
        [worker_link.Unfetched(((BASE, 1),), 1)],
        [worker_link.Leaving()],
    ]
    return [encode_frame(batch) for batch in say]


def asker_frames():
    """Return frames of somebody who asks for values."""
    say = [
        [AskerIntroduction("a", "host")],
        [data_link.Get(1, ((BASE, 3), (9, 1)), True, (b"t" * 16,))],
        [data_link.Get(2, ((BASE, 1 << 30),))],
        [data_link.Borrow(3, 1000), data_link.PutSegment(4, BASE + 50, 3, 1000)],
        [data_link.Borrow(5, 1000), data_link.GiveBack(5)],
        [data_link.Unwrapped(1)],
        [data_link.Borrow(6, 1000, same_host=False)],
        [data_link.PutLarge(7, BASE + 60, 6, 1000)],
        [data_link.Borrow(8, 1000, same_host=False)],
        [data_link.PutLarge(9, BASE + 61, 8, 1000, checked=True, in_blocks=True)],
        [data_link.Block(9, 1, 900, 30, 7)],
        [data_link.Block(9, 0, 100, 100, 8)],
        [data_link.Borrow(10, 2 << 20, makes=True)],
        [data_link.PutSegment(11, BASE + 62, 10, 2 << 20, "/proc/1/fd/3@5", 1)],
    ]
    return [encode_frame(batch) for batch in say]


def introduction_frames():
    """Return the first frames of a client and of a worker."""
    return [
        encode_frame([ClientIntroduction(CLIENT, "c", "1", "3.11.7", "host")]),
        encode_frame([worker("w")]),
        encode_frame([AskerIntroduction("a", "host")]),
    ]


def worker(name):
    return WorkerIntroduction(
        name, 2, {"gpu": 1.0}, ("unix:/s",), "host", 1 << 30, "1", "3.11.7", 1
    )


class Mutator:
    """Changes bytes a little, or much."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def __call__(self, data, others):
        choose = self.random
        made = bytearray(data)
        for _ in range(choose.choice((1, 1, 1, 2, 4, 8))):
            at = choose.randrange(len(made) + 1)
            match choose.randrange(7):
                case 0 if at < len(made):
                    made[at] ^= 1 << choose.randrange(8)
                case 1 if at < len(made):
                    made[at] = choose.randrange(256)
                case 2:
                    extreme = choose.choice(EXTREMES)
                    made[at : at + choose.choice((0, 1, len(extreme)))] = extreme
                case 3:
                    del made[at : at + choose.randrange(1, 9)]
                case 4:
                    end = at + choose.randrange(1, 33)
                    made[at:at] = made[at:end] * choose.choice((1, 1, 2, 50))
                case 5:
                    other = choose.choice(others)
                    cut = choose.randrange(len(other))
                    made[at:] = other[cut:]
                case _:
                    made[at:at] = choose.randbytes(choose.randrange(1, 9))
        if choose.randrange(4) and len(made) >= 4:
            # Mostly a frame says truly how long it is, or nothing is decoded.
            made[:4] = (len(made) - 4).to_bytes(4, "little")
        return bytes(made)


class Target:
    """Something that is fed mutated frames of its corpus."""

    async def settle(self):
        """Let it do what it has begun, before the next input."""

    def next(self, mutate):
        """Return the next input."""
        data = mutate.random.choice(self.corpus)
        return mutate(data, self.corpus) if mutate.random.randrange(8) else data


class Handshakes(Target):
    """Strangers at the doors of a scheduler and of a worker."""

    frames_are_framed = False

    def __init__(self):
        self.corpus = [
            CallerHandshake(role, KEYS, "1", number=number).start() + bytes(32)
            for role in Role
            for number in (0, 77)
        ]

    def renew(self):
        """Nothing is kept from one stranger to the next."""

    def take(self, data):
        for door in (Role.SCHEDULER, Role.KEEPER):
            listener = ListenerHandshake(door, KEYS, "1")
            half = len(data) // 2
            listener.receive(data[:half])
            if not listener.refused:
                listener.receive(data[half:])
            assert not listener.done, "a stranger was let in"

    def check(self):
        """There is no state."""


class Introductions(Target):
    """Peers that have proved a role, and present themselves."""

    def __init__(self):
        self.corpus = introduction_frames()

    def renew(self):
        self.reader = FrameReader(Introduction)

    def take(self, data):
        self.reader.feed(data)
        while self.reader.next_batch() is not None:
            pass

    def check(self):
        """There is no state."""


class Scheduler(Target):
    """The scheduler's core, behind frames of a client or of a worker."""

    def __init__(self, role):
        self.role = role
        self.union = client_link.FromClient if role == 1 else worker_link.FromWorker
        self.corpus = client_frames() if role == 1 else worker_frames()
        self.lives = 0
        self.renew()

    def renew(self):
        if self.lives % 50 == 0:
            # What clients define is kept as long as a scheduler lives.
            self.core = SchedulerCore(cluster="fuzz", keys=KEYS, events_kept=1000)
        else:
            for peer in (1, 2, 3):
                self.step(Left(peer))
        self.lives += 1
        self.step(Joined(1, ClientIntroduction(CLIENT, "c", "1", "3.11.7", "host")))
        self.step(Joined(2, worker("w")))
        self.reader = FrameReader(self.union)
        reader = FrameReader(client_link.FromClient)
        try:
            for frame in client_frames()[:5]:
                reader.feed(frame)
                self.step(Said(1, reader.next_batch()))
        except RemoteProtocolError:
            # Something of an earlier life was detached, and lives on.
            self.lives = 0
            self.renew()
            return
        self.step(Joined(3, worker("other")))
        if self.role != 1:
            spans = self.core.state.spans.values()
            self.corpus = worker_frames([(s.run, *s.extent) for s in spans if s.run])

    def step(self, event):
        self.core.step(event, 0.0)

    def take(self, data):
        self.reader.feed(data)
        while (batch := self.reader.next_batch()) is not None:
            self.step(Said(self.role, batch))

    def check(self):
        invariants.check(self.core.state)


class Link:
    """What a data server sees of a link: it swallows what is sent."""

    other_number = CLIENT
    lost = False
    guarded = False
    queued = 0

    def send(self, message):
        """Nobody reads it."""

    def abort(self):
        """There is nothing to abort."""

    async def drain(self):
        """There is always room."""

    def expect_raw(self, nbytes, sink):
        sink.give_up()

    def send_bulk(self, head, *data, checked=False):
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


class Data(Target):
    """A worker's data server, behind frames of a client."""

    def __init__(self):
        self.corpus = asker_frames()
        self.link = None
        self.union = data_link.FromAsker | AskerIntroduction

    def renew(self):
        if self.link is None:
            self.storage = Storage(1 << 30)
            self.server = DataServer(self.storage, KEYS, "1", self.room)
            self.storage.put(BASE, Pack.of([b"one", b"two", b"three"]))
        else:
            self.link.lost = True
            self.server._on_lost(self.link, RemoteProtocolError("it is over"))
        self.link = Link()
        self.server._on_open(self.link)
        self.reader = FrameReader(self.union)

    async def room(self, _):
        return ""

    def take(self, data):
        self.reader.feed(data)
        while (batch := self.reader.next_batch()) is not None:
            self.server._on_messages(self.link, batch)

    def check(self):
        """What it holds is watched as memory of the process."""


TARGETS = {
    "handshakes": Handshakes,
    "introductions": Introductions,
    "scheduler, as a client": lambda: Scheduler(1),
    "scheduler, as a worker": lambda: Scheduler(2),
    "data server": Data,
    "agent, as a runner": lambda: RunnerSays(
        KEYS, ClientIntroduction(CLIENT, "c", "1", "3.11.7", "host"), worker("w")
    ),
}


async def fuzz(name, count, seed):
    """Feed *count* inputs to a target.

    Returns:
        How each ended (by the name of the error, or ``taken``), the seconds, and by
        how many bytes this process has grown.

    Raises:
        AssertionError: something else than a protocol error came out; tells the input.
    """
    target = TARGETS[name]()
    problems = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: problems.append(context))
    mutate = Mutator(seed)
    ends = Counter()
    target.renew()
    memory = psutil.Process().memory_info
    before, start = memory().rss, time.perf_counter()
    for number in range(count):
        if number % LIFE == 0:
            target.check()
            target.renew()
            # Let tasks that were begun go on.
            await asyncio.sleep(0)
            assert not problems, f"{name}: {problems} before input {number}"
        await target.settle()
        data = target.next(mutate)
        try:
            target.take(data)
            ends["taken"] += 1
        except ProtocolError as error:
            ends[type(error).__name__] += 1
            target.renew()
        except Exception as error:
            raise AssertionError(
                f"{name}: {error!r} came of input {number} of seed {seed}: {data!r}"
            ) from error
    target.check()
    return SimpleNamespace(
        ends=ends,
        seconds=time.perf_counter() - start,
        grown_bytes=memory().rss - before,
    )


def main(count=1_000_000, seed=0):
    """Fuzz every target and say how it went."""
    for name in TARGETS:
        found = asyncio.run(fuzz(name, count, seed))
        ends = ", ".join(f"{n:,} {end}" for end, n in sorted(found.ends.items()))
        print(
            f"{name:24} {ends}; {found.seconds:.0f} s, "
            f"{found.grown_bytes / (1 << 20):+.0f} MiB"
        )
        assert found.grown_bytes < 64 << 20, f"{name} keeps what strangers send"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
