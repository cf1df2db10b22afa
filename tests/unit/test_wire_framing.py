"""Frames: whatever is said is heard, and nonsense is refused, never believed."""

from __future__ import annotations

import itertools
import struct
import tracemalloc
from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covey.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from covey.wire import client_link, data_link, framing, introductions, worker_link
from covey.wire.base import Failure, Options
from covey.wire.client_link import Finished, FromClient, Release, Submit, ToClient
from covey.wire.data_link import FromAsker, FromKeeper
from covey.wire.framing import (
    BATCH_BYTES,
    BATCH_MESSAGES_MAX,
    FRAME_BYTES_MAX,
    FrameReader,
    batches,
    encode_frame,
    fits,
    weight,
)
from covey.wire.introductions import Introduction, Reception, WorkerIntroduction
from covey.wire.worker_link import FromWorker, Run, ToWorker

UNIONS = [
    FromClient,
    ToClient,
    FromWorker,
    ToWorker,
    FromAsker,
    FromKeeper,
    Introduction,
    Reception,
]

ids = st.integers(0, (1 << 63) - 1)
counts = st.integers(1, 1 << 32)
extents = st.lists(st.tuples(ids, counts), max_size=3).map(tuple)
texts = st.text(max_size=12)

fast = settings(derandomize=True, deadline=None, max_examples=80)

messages = st.one_of(
    st.builds(
        Submit,
        ids,
        counts,
        ids,
        st.binary(max_size=40),
        st.binary(max_size=200),
        st.builds(
            Options,
            priority=st.integers(-(1 << 31), 1 << 31)
            | st.floats(allow_nan=False, allow_infinity=False),
            retries=st.integers(0, 100),
            timeout_seconds=st.floats(0, 1e9),
            resources=st.dictionaries(texts, st.floats(0, 1e15), max_size=2),
            workers=st.lists(texts, max_size=2).map(tuple),
            allow_other_workers=st.booleans(),
        ),
        st.lists(ids, max_size=3).map(tuple),
        extents,
        st.none() | texts,
    ),
    st.builds(Release, extents),
    st.builds(client_link.Goodbye, st.booleans()),
    st.builds(client_link.DefineFunction, ids, st.binary(), texts, st.binary()),
    st.builds(client_link.Cancel, extents, texts),
)


def pieces_of(data, cuts):
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def read_all(reader):
    batch = reader.next_batch()
    found = []
    while batch is not None:
        found.append(batch)
        batch = reader.next_batch()
    return found


@fast
@given(
    st.lists(st.lists(messages, max_size=4), max_size=4),
    st.lists(st.integers(0, 1 << 16), max_size=12),
)
def test_what_is_said_is_heard_however_the_stream_is_cut(said, cuts):
    reader = FrameReader(FromClient)
    heard = []
    for piece in pieces_of(b"".join(map(encode_frame, said)), cuts):
        reader.feed(piece)
        heard += read_all(reader)
    assert heard == said
    assert reader.next_batch() is None


@fast
@given(st.lists(messages, min_size=1, max_size=3))
def test_byte_by_byte(said):
    reader = FrameReader(FromClient)
    data = encode_frame(said)
    for at in range(len(data) - 1):
        reader.feed(data[at : at + 1])
        assert reader.next_batch() is None
    reader.feed(data[-1:])
    assert reader.next_batch() == said


@fast
@given(
    st.lists(messages, min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(1, 255)), min_size=1),
    st.sampled_from(UNIONS),
)
def test_mutated_bytes_are_messages_or_a_protocol_error(said, mutations, union):
    data = bytearray(encode_frame(said))
    for place, change in mutations:
        data[place % len(data)] ^= change
    reader = FrameReader(union)
    reader.feed(data)
    try:
        batch = reader.next_batch()
    except ProtocolError as error:
        assert type(error) is RemoteProtocolError
    else:
        assert batch is None or all(isinstance(m, get_args(union)) for m in batch)


@fast
@given(st.binary(max_size=200), st.sampled_from(UNIONS))
def test_noise_is_a_protocol_error_or_not_a_frame_yet(noise, union):
    reader = FrameReader(union)
    reader.feed(struct.pack("<I", len(noise)) + noise)
    try:
        batch = reader.next_batch()
    except RemoteProtocolError:
        return
    assert batch is not None
    assert all(isinstance(m, get_args(union)) for m in batch)


def test_a_bomb_of_nested_lists_is_refused():
    body = b"\x91" * 100_000 + b"\xc0"
    reader = FrameReader(ToClient)
    reader.feed(struct.pack("<I", len(body)) + body)
    with pytest.raises(RemoteProtocolError):
        reader.next_batch()


def test_a_claimed_length_allocates_nothing():
    reader = FrameReader(FromClient)
    tracemalloc.start()
    try:
        reader.feed(struct.pack("<I", FRAME_BYTES_MAX))
        assert reader.next_batch() is None
        # A byte string in the body claims four gigabytes.
        reader.feed(b"\x91\x95\x01\x00\xc6\xff\xff\xff\xff")
        assert reader.next_batch() is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_a_claimed_length_inside_a_frame_is_refused():
    body = b"\x91\x95\x01\x00\xc6\xff\xff\xff\xff"
    reader = FrameReader(FromClient)
    reader.feed(struct.pack("<I", len(body)) + body)
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            reader.next_batch()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_a_frame_over_the_limit_is_refused_before_it_has_come():
    reader = FrameReader(FromClient, frame_bytes_max=1000)
    reader.feed(struct.pack("<I", 1001))
    with pytest.raises(RemoteProtocolError, match=r"1,001 bytes; the limit is 1,000"):
        reader.next_batch()


def test_a_flood_of_tiny_messages_is_refused_before_it_is_decoded():
    """Each would be two bytes on the wire, and fifty times as much in memory."""
    count = BATCH_MESSAGES_MAX + 1
    body = b"\xdd" + struct.pack(">I", count) + b"\x91\x40" * count
    reader = FrameReader(FromWorker)
    reader.feed(struct.pack("<I", len(body)) + body)
    tracemalloc.start()
    with pytest.raises(RemoteProtocolError, match="length"):
        reader.next_batch()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 64 << 10
    reader = FrameReader(FromWorker)
    reader.feed(encode_frame([worker_link.ReturnDone()] * BATCH_MESSAGES_MAX))
    assert len(reader.next_batch()) == BATCH_MESSAGES_MAX


def test_a_batch_over_the_limit_is_not_sent():
    with pytest.raises(LocalProtocolError, match="Finished"):
        encode_frame([Finished(0, 1, b"", bytes(FRAME_BYTES_MAX))])


@pytest.mark.parametrize(
    "message",
    [
        Release(((-1, 1),)),
        client_link.Goodbye(),
        introductions.ClientIntroduction(1, "a", "0", "3", "here"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_of_another_link_is_refused(message):
    reader = FrameReader(ToWorker)
    reader.feed(encode_frame([message]))
    with pytest.raises(RemoteProtocolError, match="none of ours"):
        reader.next_batch()


@pytest.mark.parametrize(
    ("union", "message"),
    [
        (FromClient, Submit(0, 0, 1, b"", b"")),
        (FromClient, Submit(-1, 1, 1, b"", b"")),
        (FromClient, Submit(1 << 63, 1, 1, b"", b"")),
        (FromClient, Submit(0, 1, 1, b"", b"", Options(retries=-1))),
        (FromClient, Submit(0, 1, 1, b"", b"", Options(priority=1 << 40))),
        (FromClient, Submit(0, 1, 1, b"", b"", Options(priority=float("nan")))),
        (FromClient, Submit(0, 1, 1, b"", b"", Options(priority=float("-inf")))),
        (FromClient, Submit(0, 1, 1, b"", b"", Options(timeout_seconds=-1.0))),
        (FromClient, Submit(0, 1, 1, b"", b"", Options(resources={"a": -1.0}))),
        (FromClient, Submit(0, 1, 1, b"", b"", Options(resources={"a": 1e99}))),
        (
            FromClient,
            Submit(0, 1, 1, b"", b"", Options(resources={"a": float("nan")})),
        ),
        (FromWorker, worker_link.Ran(1, 1, 0, 0.0, b"", b"")),
        (Introduction, WorkerIntroduction("a", 0, {}, (), "h", 0, "0", "3", 1)),
        (Introduction, WorkerIntroduction("a", -1, {}, (), "h", 0, "0", "3", 1)),
        (
            Introduction,
            WorkerIntroduction("a", 1, {"g": -1.0}, (), "h", 0, "0", "3", 1),
        ),
    ],
)
def test_numbers_out_of_bounds_are_refused(union, message):
    reader = FrameReader(union)
    reader.feed(encode_frame([message]))
    with pytest.raises(RemoteProtocolError):
        reader.next_batch()


def test_a_newer_neighbour_may_say_more_and_an_older_one_less():
    more = msgspec.msgpack.encode([[6, [[1, 2]], "a field of the future"]])
    less = msgspec.msgpack.encode([[2, 1, 1, 1, b"", b""]])
    for body, message in (
        (more, Release(((1, 2),))),
        (less, Submit(1, 1, 1, b"", b"")),
    ):
        reader = FrameReader(FromClient)
        reader.feed(struct.pack("<I", len(body)) + body)
        assert reader.next_batch() == [message]


def test_the_union_can_change_between_two_frames():
    reader = FrameReader(Reception)
    welcome = introductions.Welcome(1, "c", 1, "0")
    reader.feed(encode_frame([welcome]) + encode_frame([worker_link.Leave()]))
    assert reader.next_batch() == [welcome]
    reader.decode_as(ToWorker)
    assert reader.next_batch() == [worker_link.Leave()]


@fast
@given(st.binary(max_size=300), st.integers(0, 400))
def test_raw_bytes_behind_a_frame_are_handed_out_as_they_came(raw, limit):
    reader = FrameReader(FromKeeper)
    head = data_link.Raw(1, 2, len(raw))
    reader.feed(encode_frame([head]) + raw)
    assert reader.next_batch() == [head]
    assert reader.take_raw(limit) == raw[:limit]
    assert reader.take_raw(1000) == raw[limit:]


# Cutting into batches.

N = 1000


@fast
@given(st.lists(st.integers(0, 2 * BATCH_BYTES), min_size=1, max_size=12))
def test_batches_keep_the_order_and_stay_moderate(sizes):
    said = [Finished(i, 1, b"", bytes(size)) for i, size in enumerate(sizes)]
    cut = list(batches(said))
    assert [message for batch in cut for message in batch] == said
    for batch in cut:
        assert batch
        assert len(batch) == 1 or sum(map(weight, batch)) <= BATCH_BYTES


def test_who_sends_one_batch_of_many_weighs_no_more_than_that(monkeypatch):
    said = [Finished(i, 1, b"", bytes(BATCH_BYTES // 4)) for i in range(1000)]
    weighed = []
    monkeypatch.setattr(framing, "weight", lambda m: weighed.append(m) or weight(m))
    assert len(next(batches(said))) == 3
    assert len(weighed) == 4


def test_failures_with_much_in_them_do_not_share_a_frame():
    failure = Failure("raised", "ValueError", "no", bytes(4 << 20))
    said = [client_link.Failed(i, 1, failure) for i in range(5)]
    assert [len(batch) for batch in batches(said)] == [1] * 5


@pytest.mark.parametrize(
    "message",
    [
        Run(1, 1, 1 << 41, 1, b"", b"", (0, 1, 0), tuple(range(1 << 41, (1 << 41) + N))),
        Run(1, 1, 1 << 41, 1, b"", b"", (0, 1, 0), (), ((1 << 41, 1),) * N),
        Run(
            1, 1, 1 << 41, 1, b"", b"", (0, 1, 0), (), ((1 << 41, N),),
            ((1 << 41, 1, 1 << 40),) * N, spares=((1 << 41, 1, 1 << 40),) * 2 * N,
        ),
        Run(
            1, 1, 1 << 41, 1, b"", b"", (0, 1, 0), (1 << 41,) * N,
            renamed=((1 << 41, 1 << 41),) * N, awaits=(1 << 41,) * N,
        ),
        worker_link.Returned(1, 1, 1, ((1 << 41, 1, 1 << 40),) * N),
        worker_link.Profiled("f", (), (1 << 20,) * N),
        worker_link.Printed(1 << 41, "stdout", "x" * 64 * N),
        client_link.Notice("x" * 64 * N),
        client_link.Held(((1 << 41, 1),) * N, ((1 << 41, 1),) * N),
        client_link.Recalled(((1 << 41, 1),) * N, (bytes(16),) * N),
        client_link.Submit(1, 1, 1, b"", b"", whole=((1 << 41, 1),) * N),
        client_link.Want(((1 << 41, 1),) * N, (bytes(16),) * N),
    ],
    ids=lambda message: type(message).__name__,
)  # fmt: skip
def test_what_a_message_names_is_weighed(message):
    """So that messages that are cut into batches by weight fit into frames."""
    assert weight(message) >= 0.8 * len(encode_frame([message]))


def test_what_fits_can_be_encoded():
    assert fits(Finished(1, 1, b"", bytes(FRAME_BYTES_MAX - 100)))
    assert not fits(Finished(1, 1, b"", bytes(FRAME_BYTES_MAX)))


def test_failures_survive_the_wire():
    failure = Failure("raised", "ValueError", "no", b"x", 7, {"exit_code": None})
    reader = FrameReader(ToClient)
    reader.feed(encode_frame([client_link.Failed(1, 2, failure)]))
    assert reader.next_batch() == [client_link.Failed(1, 2, failure)]


def test_a_run_survives_the_wire():
    run = Run(
        1, 2, 3, 4, b"", b"", (-1, 2, 3), (5,), ((6, 7),), ((8, 9, 10),), 1.5, 0.1,
        reply=False, renamed=((11, 12),),
    )  # fmt: skip
    reader = FrameReader(ToWorker)
    reader.feed(encode_frame([run]))
    assert reader.next_batch() == [run]
