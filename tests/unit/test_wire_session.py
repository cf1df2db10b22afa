"""Sessions: whatever connections die, the stream has no gap and nothing twice."""

from __future__ import annotations

from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covey.errors import RemoteProtocolError
from covey.wire.client_link import DefineFunction, Notice
from covey.wire.framing import FrameReader, encode_ack, encode_frame
from covey.wire.session import ACK_BYTES, ACK_FRAMES, Pulse, Session

fast = settings(derandomize=True, deadline=None, max_examples=150)

Message: TypeAlias = DefineFunction | Notice


class Side:
    """One side as a link uses it: a session, a reader a life, an outbox."""

    def __init__(self, window_bytes):
        self.session = Session(7, window_bytes=window_bytes)
        self.outbox = []
        self.delivered = []
        #: Bytes on their way to the other side.
        self.wire = bytearray()
        self.reader = None

    def connect(self, other_received):
        self.reader = FrameReader(Message)
        self.reader.acks_allowed = True
        self.wire = bytearray(b"".join(self.session.resume(other_received)))
        self.flush()

    def say(self, text):
        self.outbox.append(Notice(text))
        if self.reader is not None:
            self.flush()

    def flush(self):
        while self.outbox and self.session.has_room:
            frame = encode_frame([self.outbox.pop(0)])
            self.session.push(frame)
            self.wire += frame

    def hear(self, data):
        self.reader.feed(data)
        while True:
            batch = self.reader.next_batch()
            if self.reader.ack is not None:
                ack, self.reader.ack = self.reader.ack, None
                self.session.on_ack(ack)
                self.flush()
            if batch is None:
                break
            self.session.take(self.reader.frame_bytes)
            self.delivered += [message.text for message in batch]
        if self.session.ack_is_due:
            self.wire += self.session.ack()

    def beat(self):
        self.wire += self.session.ack()


def connect(one, two):
    received = one.session.received, two.session.received
    one.connect(received[1])
    two.connect(received[0])


def move(source, target, nbytes):
    data = bytes(source.wire[:nbytes])
    del source.wire[:nbytes]
    target.hear(data)


steps = st.lists(
    st.tuples(
        st.sampled_from(["say", "say", "move", "move", "cut", "beat"]),
        st.booleans(),
        st.integers(0, 200),
    ),
    max_size=80,
)


@given(steps, st.sampled_from([1, 60, 1 << 20]))
@fast
def test_over_any_lives_the_stream_is_a_prefix_without_gaps(steps, window):
    sides = Side(window), Side(window)
    said = [], []
    connect(*sides)
    for what, first, amount in steps:
        one, two = sides if first else sides[::-1]
        if what == "say":
            lot = said[0 if first else 1]
            lot.append(f"{len(lot)}" * (1 + amount % 9))
            one.say(lot[-1])
        elif what == "move":
            move(one, two, amount)
        elif what == "beat":
            one.beat()
        else:
            # Whatever was on its way is lost, in the middle of a frame or not.
            connect(*sides)
        for side in sides:
            # One frame may go over the edge, never more.
            kept = side.session.kept_bytes
            assert kept < window + 16 + 9 * 4, kept
        assert sides[1].delivered == said[0][: len(sides[1].delivered)]
        assert sides[0].delivered == said[1][: len(sides[0].delivered)]
    # In the end a connection lasts, and all arrives.
    connect(*sides)
    for _ in range(3 * len(steps) + 3):
        for one, two in (sides, sides[::-1]):
            one.beat()
            move(one, two, len(one.wire))
    assert sides[1].delivered == said[0]
    assert sides[0].delivered == said[1]
    assert not any(side.session.kept_bytes for side in sides)


def test_what_came_is_acknowledged_in_time():
    session = Session(1)
    for _ in range(ACK_FRAMES - 1):
        session.take(10)
    assert not session.ack_is_due
    session.take(10)
    assert session.ack_is_due
    assert session.ack() == encode_ack(ACK_FRAMES)
    assert not session.ack_is_due
    session.take(ACK_BYTES)
    assert session.ack_is_due


def test_a_full_window_has_room_again_when_word_comes():
    session = Session(1, window_bytes=100)
    for _ in range(2):
        session.push(bytes(60))
    assert not session.has_room
    session.on_ack(1)
    assert session.has_room
    assert session.kept() == [bytes(60)]


@pytest.mark.parametrize("received", [0, 4])
def test_an_ack_of_what_never_was_is_refused(received):
    session = Session(1)
    for _ in range(3):
        session.push(b"frame")
    session.on_ack(1)
    assert not session.can_resume(received)
    with pytest.raises(RemoteProtocolError, match="the peer says that it has received"):
        session.on_ack(received)


def test_acks_are_no_frames_and_may_be_cut_anywhere():
    stream = encode_ack(3) + encode_frame([Notice("a")]) + encode_ack(9)
    reader = FrameReader(Message)
    reader.acks_allowed = True
    heard = []
    for byte in stream:
        reader.feed(bytes([byte]))
        batch = reader.next_batch()
        if reader.ack is not None:
            heard.append(reader.ack)
            reader.ack = None
        if batch is not None:
            heard += [message.text for message in batch]
    assert heard == [3, "a", 9]


def test_a_link_without_a_session_takes_no_acks():
    reader = FrameReader(Message)
    reader.feed(encode_ack(3))
    with pytest.raises(RemoteProtocolError, match="announced a frame"):
        reader.next_batch()


def test_silence_is_counted_in_own_beats():
    pulse = Pulse(3)
    assert pulse.beat(10)
    assert pulse.beat(10)
    assert pulse.beat(10)
    assert not pulse.beat(10)
    assert pulse.beat(11)
    # However long a stopped process slept, it is one beat.
    assert pulse.beat(11)
