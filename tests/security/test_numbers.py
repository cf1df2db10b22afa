"""Senseless numbers from a peer: refused, or without a consequence for anybody else.

Frames that make sense are said to a core, with one number exchanged for an extreme
one.  Whatever becomes of the peer that says it, the core's tables stay in order, and
all others are told only what they can read: nobody may lose his connection because of
a number that somebody else made up.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

import fuzz

from covey.errors import RemoteProtocolError
from covey.scheduler.core import invariants
from covey.scheduler.core.machine import Joined, SchedulerCore
from covey.wire.base import SECONDS_MAX
from covey.wire.client_link import Answer, ToClient
from covey.wire.framing import FrameReader, encode_frame
from covey.wire.introductions import Introduction
from covey.wire.worker_link import ToWorker
from covey.worker import runner_link

sys.path.pop(0)

EXTREMES = [-(1 << 63), -1, 0, 1 << 32, 1 << 48, (1 << 63) - 1, (1 << 64) - 1]
EXTREMES += [math.nan, math.inf, -math.inf, 1e300, SECONDS_MAX]


def places(value, at=()):
    """Yield the places of all numbers inside plain data."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*at, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*at, index))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield at


def put(value, at, number):
    """Exchange the number at a place."""
    *path, last = at
    for step in path:
        value = value[step]
    value[last] = number


def cases(frames):
    """Return (number of a frame, place of a number in it), but not of tags."""
    found = []
    for index, frame in enumerate(frames):
        batch = msgspec.msgpack.decode(frame[4:])
        found += [(index, at) for at in places(batch) if at[1:] != (0,)]
    return found


def changed(frame, exchanges):
    batch = msgspec.msgpack.decode(frame[4:])
    for at, number in exchanges:
        put(batch, at, number)
    body = msgspec.msgpack.encode(batch)
    return len(body).to_bytes(4, "little") + body


READS = {1: ToClient, 2: ToWorker, 3: ToWorker}


class Scheduler(fuzz.Scheduler):
    """Checks that all peers can read what they are told."""

    def renew(self):
        self.lives = 0
        super().renew()

    def step(self, event):
        said = self.core.step(event, 1.0)
        for orders in (said, self.core.tell_audience(1.0)):
            for peer, messages in orders.items():
                reader = FrameReader(READS[peer])
                reader.feed(encode_frame(messages))
                assert reader.next_batch() is not None

    def say(self, frames):
        """Say all of it, until the peer is thrown out; others go on."""
        try:
            for frame in frames:
                self.take(frame)
        except RemoteProtocolError:
            pass
        invariants.check(self.core.state)
        # What the cluster is asked about itself can be said, whatever is in it.
        encode_frame([Answer(1, self.core.overview(1.0))])


CORPUS = {role: Scheduler(role).corpus for role in (1, 2)}
WAYS = {role: cases(frames) for role, frames in CORPUS.items()}


@pytest.mark.parametrize("number", EXTREMES)
@pytest.mark.parametrize("role", CORPUS)
def test_one_senseless_number(role, number):
    target = Scheduler(role)
    frames = CORPUS[role]
    target.say(frames)
    if role == 2:
        # It makes sense as it is, or little would be tried here.
        assert target.core.state.counters["tasks_done"] >= 2
    for index, at in WAYS[role]:
        target.renew()
        strange = changed(frames[index], [(at, number)])
        target.say([*frames[:index], strange, *frames[index + 1 :]])


@settings(max_examples=100)
@given(st.data())
def test_several_senseless_numbers(data):
    role = data.draw(st.sampled_from(sorted(CORPUS)))
    target = Scheduler(role)
    ways = data.draw(st.lists(st.sampled_from(WAYS[role]), min_size=2, max_size=5))
    frames = list(CORPUS[role])
    for index, at in ways:
        number = data.draw(st.sampled_from(EXTREMES))
        frames[index] = changed(frames[index], [(at, number)])
    target.say(frames)


@pytest.mark.parametrize("number", EXTREMES)
def test_introductions(number):
    for frame in fuzz.introduction_frames():
        for _, at in cases([frame]):
            core = SchedulerCore(cluster="c", epoch=3, keys=fuzz.KEYS)
            try:
                reader = FrameReader(Introduction)
                reader.feed(changed(frame, [(at, number)]))
                (hello,) = reader.next_batch()
                if not hasattr(hello, "epoch"):
                    continue
                peer = core.peer_for(hello)
                core.step(Joined(peer, hello), 1.0)
            except RemoteProtocolError:
                pass
            # Whoever comes next gets a number that can be said.
            encode_frame([Answer(core.next_peer(), core.overview(1.0))])
            assert core.next_peer() < 1 << 62
            invariants.check(core.state)


@pytest.mark.parametrize("number", [1 << 62, 5, "client"])
def test_a_worker_cannot_make_up_who_it_was(number):
    core = SchedulerCore(cluster="c", keys=fuzz.KEYS)
    client = core.next_peer()
    hello = msgspec.msgpack.decode(fuzz.introduction_frames()[0][4:])
    (hello,) = msgspec.convert([hello[0]], list[Introduction])
    core.step(Joined(client, hello), 0.0)
    number = client if number == "client" else number
    claim = msgspec.structs.replace(fuzz.worker("w"), epoch=1, number=number)
    with pytest.raises(RemoteProtocolError, match="nobody of that number"):
        core.peer_for(claim)
    assert core.next_peer() == client + 1


@pytest.mark.parametrize("number", EXTREMES)
def test_values_that_are_asked_for(number):
    frames = fuzz.asker_frames()

    async def story():
        target = fuzz.Data()
        for index, at in cases(frames):
            target.renew()
            for frame in (*frames[:index], changed(frames[index], [(at, number)])):
                try:
                    target.take(frame)
                except RemoteProtocolError:
                    break
                await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(story())


SAID = [
    ["ran", 1, 2, 1, 0.1, 5],
    ["big", 1, 2, 0.1, "/proc/1/fd/3", 100, 1],
    ["failed", 1, 2, 0.1, "ValueError", "no", 3],
    ["blocked", 1, 2],
    ["returned", 0, 1, 2, 1],
]


@pytest.mark.parametrize("number", [n for n in EXTREMES if math.isfinite(n)])
def test_what_a_runner_gone_mad_says(number):
    """User code owns that process, and may write anything into its sockets."""
    body = (5).to_bytes(4, "little") + b"value"
    for operation in SAID:
        for at in places(operation):
            strange = json.loads(json.dumps(operation))
            put(strange, at, number)
            try:
                header = json.dumps([strange]).encode()
                for says, part in runner_link._split(header, body):
                    assert not hasattr(says, "seconds") or 0 <= says.seconds <= 1e10
                    if isinstance(says, runner_link.SaysRan):
                        runner_link.read_pack(says, part)
            except (RemoteProtocolError, msgspec.MsgspecError):
                continue  # Its link ends, and its process.
