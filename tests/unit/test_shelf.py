"""The shelf against a plain dict: nothing gets lost, and every byte is counted."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from covey import payload as payload_room
from covey.payload import Pack
from covey.store import shelf as shelf_room
from covey.store.segments import Segment
from covey.store.shelf import Shelf

bases = st.integers(0, 60)
values = st.lists(st.binary(max_size=6), min_size=1, max_size=12)


class FakeSegment:
    """Bytes of a large value; knows whether it was closed."""

    def __init__(self, size):
        self.size = size
        self.path = "/nowhere"
        self.closed = 0

    def close(self):
        self.closed += 1


class ShelfMachine(RuleBasedStateMachine):
    """Small values and segments, put, found and dropped in any order."""

    def __init__(self):
        super().__init__()
        self.shelf = Shelf()
        self.model = {}
        self.segments = []

    @rule(base=bases, payloads=values)
    def put(self, base, payloads):
        self.shelf.put(base, Pack.of(payloads))
        for task, payload in enumerate(payloads, base):
            self.model.setdefault(task, payload)

    @rule(task=bases, size=st.integers(1, 100))
    def put_segment(self, task, size):
        segment = FakeSegment(size)
        self.segments.append(segment)
        self.shelf.put_segment(task, segment)
        self.model.setdefault(task, segment)
        assert segment.closed == (self.model[task] is not segment)

    @rule(base=bases, n=st.integers(1, 30))
    def drop(self, base, n):
        self.shelf.drop(base, n)
        for task in range(base, base + n):
            self.model.pop(task, None)

    @rule(base=bases, n=st.sampled_from([1 << 20, 1 << 40]))
    def drop_absurdly_much(self, base, n):
        self.shelf.drop(base, n)
        self.model = {t: v for t, v in self.model.items() if t < base}

    @rule(base=bases, n=st.integers(1, 30))
    def find(self, base, n):
        found = {}
        end = base
        for start, count, stretch in self.shelf.find(base, n):
            assert end <= start < start + count <= base + n
            end = start + count
            if stretch.segment is not None:
                assert count == 1
                found[start] = stretch.segment
            else:
                found |= enumerate(map(bytes, stretch.part(start, count)), start)
        expected = {t: v for t, v in self.model.items() if base <= t < base + n}
        assert found == expected

    @rule(nbytes=st.integers(1, 40), late=st.booleans(), base=bases)
    def file_small_ones(self, nbytes, late, base):
        stretches = self.shelf.loose(nbytes)
        assert not any(s.on_disk or s.segment for s in stretches)
        packs = [bytes(s.view(s.base, s.n).data) for s in stretches]
        sizes = [s.view(s.base, s.n).sizes for s in stretches]
        if late:
            # While they are being written, some of them go.
            self.drop(base, 3)
        before = self.shelf.small_bytes
        for stretch, data, lengths in zip(stretches, packs, sizes, strict=True):
            self.shelf.file(stretch, Pack(lengths, memoryview(data)))
        assert late or before - self.shelf.small_bytes == sum(map(len, packs))

    @rule()
    def clear(self):
        self.shelf.clear()
        self.model.clear()

    @invariant()
    def every_byte_is_counted(self):
        small = [v for v in self.model.values() if isinstance(v, bytes)]
        large = [v for v in self.model.values() if not isinstance(v, bytes)]
        assert self.shelf.small_bytes + self.shelf.filed_bytes == sum(map(len, small))
        loose = self.shelf.loose(1 << 30)
        assert self.shelf.loose_bytes == sum(s.nbytes for s in loose)
        assert 0 <= self.shelf.loose_bytes <= self.shelf.small_bytes
        assert self.shelf.segment_bytes == sum(s.size for s in large)
        assert len(self.shelf) == len(self.model)

    @invariant()
    def little_stays_of_what_was_dropped(self):
        loose = [s for s in self.shelf._stretches.values() if s.pack and not s.on_disk]
        packs = {id(s.pack): s.pack.nbytes for s in loose}
        assert sum(packs.values()) <= 4 * self.shelf.small_bytes + 2 * len(loose)

    @invariant()
    def a_segment_is_closed_once_and_only_when_it_is_gone(self):
        kept = {id(v) for v in self.model.values()}
        for segment in self.segments:
            assert segment.closed == (id(segment) not in kept)


@pytest.fixture(autouse=True)
def _everything_is_worth_a_file(monkeypatch):
    monkeypatch.setattr(shelf_room, "_WORTH_BYTES", 2)


TestShelf = ShelfMachine.TestCase
TestShelf.settings = settings(
    derandomize=True, deadline=None, max_examples=80, stateful_step_count=30
)


def test_a_stretch_that_was_cut_gives_its_parts():
    shelf = Shelf()
    shelf.put(10, Pack.of([b"a", b"bb", b"", b"dddd", b"e"]))
    shelf.drop(12, 1)
    parts = [(b, n, list(s.part(b, n))) for b, n, s in shelf.find(0, 100)]
    assert parts == [(10, 2, [b"a", b"bb"]), (13, 2, [b"dddd", b"e"])]
    assert [s.nbytes for _, _, s in shelf.find(0, 100)] == [3, 5]


@pytest.mark.parametrize("backwards", [True, False])
def test_who_keeps_every_hundredth_value_keeps_no_more(backwards):
    shelf = Shelf()
    data = [b"%04d" % i * 25 for i in range(10_000)]
    shelf.put(0, Pack.of(data))
    gone = [i for i in range(10_000) if i % 100]
    for task in gone[::-1] if backwards else gone:
        shelf.drop(task, 1)
    kept = {b: bytes(s.part(b, n)[0]) for b, n, s in shelf.find(0, 10_000)}
    assert kept == {i: data[i] for i in range(0, 10_000, 100)}
    packs = {id(s.pack): s.pack.nbytes for _, _, s in shelf.find(0, 10_000)}
    assert sum(packs.values()) <= 4 * shelf.small_bytes == 4 * 100 * 100


def test_what_is_there_stays_as_it_is():
    shelf = Shelf()
    shelf.put(1, Pack.of([b"first"]))
    shelf.put(0, Pack.of([b"x", b"second", b"y"]))
    assert [bytes(s.part(b, n).data) for b, n, s in shelf.find(0, 3)] == [
        b"x",
        b"first",
        b"y",
    ]


def test_a_real_segment_is_closed_with_its_value():
    shelf = Shelf()
    segment = Segment.of([b"large"])
    shelf.put_segment(5, segment)
    ((_, _, stretch),) = shelf.find(5, 1)
    assert stretch.nbytes == segment.size == shelf.segment_bytes
    shelf.drop(5, 1)
    assert segment.fd == -1
    assert shelf.segment_bytes == 0


@pytest.mark.parametrize("n", [1, 1000])
def test_an_empty_shelf_has_nothing(n):
    shelf = Shelf()
    shelf.drop(0, n)
    assert list(shelf.find(0, n)) == []
    assert len(shelf) == 0


def test_values_that_are_served_one_by_one_are_added_up_once(monkeypatch):
    shelf = Shelf()
    shelf.put(0, Pack.of([b"a" * (1 + i % 3) for i in range(100)]))
    added_up = []
    monkeypatch.setattr(
        payload_room,
        "accumulate",
        lambda sizes: added_up.append(1) or accumulate(sizes),
    )
    for task in range(100):
        ((base, n, stretch),) = shelf.find(task, 1)
        assert bytes(stretch.view(base, n)[0]) == b"a" * (1 + task % 3)
    assert len(added_up) == 1
