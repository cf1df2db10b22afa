"""The pool: every byte is counted, and nothing is used again while it is read."""

from __future__ import annotations

from counting import calls_of
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from covey.store import pool
from covey.store.pool import Pool, capacity_for

BYTES_MAX = 1 << 20


class FakeSegment:
    """Knows who maps it, and whether it was closed."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.readers = 0
        self.closed = 0
        self.valid = True
        self.reusable = capacity % 11 != 0

    def reclaim(self):
        assert self.reusable and not self.closed
        if self.readers:
            return False
        if self.capacity % 13 == 0:
            raise OSError(28, "No space left on device")
        self.valid = False
        return True

    def close(self):
        self.closed += 1


class PoolMachine(RuleBasedStateMachine):
    """Segments given and taken while readers come and go."""

    def __init__(self):
        super().__init__()
        self.pool = Pool(BYTES_MAX)
        self.now = 0.0
        self.inside = []
        self.taken = []

    @rule(nbytes=st.integers(1, 2 * BYTES_MAX), readers=st.integers(0, 2))
    def give_new(self, nbytes, readers):
        self._give(FakeSegment(capacity_for(nbytes)), readers)

    @rule(readers=st.integers(0, 2))
    def give_again(self, readers):
        assume(self.taken)
        self._give(self.taken.pop(), readers)

    def _give(self, segment, readers):
        segment.readers = readers
        segment.valid = True
        self.inside.append(segment)
        self.pool.give(segment, self.now)

    @rule(nbytes=st.integers(1, BYTES_MAX))
    def take(self, nbytes):
        segment = self.pool.take(nbytes, self.now)
        if segment is not None:
            assert not segment.readers and not segment.closed and not segment.valid
            assert nbytes <= segment.capacity <= 2 * nbytes
            self.inside.remove(segment)
            self.taken.append(segment)

    @rule(data=st.data())
    def a_reader_lets_go(self, data):
        read = [s for s in self.inside if s.readers]
        assume(read)
        data.draw(st.sampled_from(read)).readers -= 1

    @rule(seconds=st.sampled_from([0.0, 1.0, pool.WARM_SECONDS]))
    def sweep(self, seconds):
        self.now += seconds
        self.pool.sweep(self.now)
        # Who may be used again has been found, and is not kept for ever.
        live = [s for s in self.inside if not s.closed]
        assert self.pool.lingering_bytes == sum(s.capacity for s in live if s.readers)

    @rule(nbytes=st.integers(-5, BYTES_MAX))
    def shrink(self, nbytes):
        before = self.pool.free_bytes
        closed = self.pool.shrink(nbytes)
        assert closed == before - self.pool.free_bytes
        assert closed >= min(nbytes, before)

    @rule()
    def clear(self):
        self.pool.clear()
        assert all(s.closed for s in self.inside)

    @invariant()
    def every_byte_is_counted(self):
        self.inside = [s for s in self.inside if not s.closed]
        held = self.pool.free_bytes + self.pool.lingering_bytes
        assert held == sum(s.capacity for s in self.inside)
        assert len(self.pool) == len(self.inside)
        assert 0 <= self.pool.free_bytes <= BYTES_MAX
        assert not any(s.closed for s in self.taken)
        # What somebody else may still open holds what it held.
        assert all(s.valid for s in self.inside if s.readers)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(
    derandomize=True, deadline=None, max_examples=60, stateful_step_count=30
)


class Asked(FakeSegment):
    """Counts how often anybody asked who maps it."""

    def __init__(self, capacity):
        super().__init__(capacity)
        self.readers = 1
        self.asked = 0

    def reclaim(self):
        self.asked += 1
        return super().reclaim()


def test_however_many_are_mapped_few_are_asked_about():
    kept = Pool(BYTES_MAX)
    segments = [Asked(4096 * 12) for _ in range(2_000)]
    for segment in segments:
        kept.give(segment, 0.0)

    def asked():
        return sum(s.asked for s in segments)

    before = asked()
    for _ in range(10):
        assert kept.take(4096 * 12, 0.0) is None
    assert asked() - before <= 10 * 32
    before = asked()
    kept.sweep(0.0)
    assert asked() - before <= 256
    # In the end each is asked about, and found when nobody maps it any more.
    segments[-1].readers = segments[7].readers = 0
    for _ in range(20):
        kept.sweep(0.0)
    assert kept.lingering_bytes == sum(s.capacity for s in segments if s.readers)
    assert kept.free_bytes == 2 * 4096 * 12


def test_capacities_waste_little():
    for nbytes in (1, 4096, 65_537, 1_000_000, 400_000_129, (1 << 30) + 1):
        capacity = capacity_for(nbytes)
        assert nbytes <= capacity <= max(4096, nbytes * 1.125 + 4096)
        assert capacity % 4096 == 0


def test_to_give_a_segment_takes_no_look_at_those_that_are_free():
    kept = Pool(1 << 40)

    def one():
        kept.give(FakeSegment(4096 * 12), 0.0)

    few = calls_of(one)
    for _ in range(pool.FREE_MAX - 3):
        one()
    assert calls_of(one) == few
    assert kept.free_bytes == (pool.FREE_MAX - 1) * 4096 * 12


def test_so_many_are_free_and_those_that_are_beyond_are_closed_one_by_one():
    kept = Pool(1 << 40)
    segments = [FakeSegment(4096 * (1 + index % 7)) for index in range(3_000)]
    for number, segment in enumerate(segments, 1):
        kept.give(segment, 0.0)
        assert sum(s.closed for s in segments) == max(0, number - pool.FREE_MAX)
    # Those that were free for the longest time.
    assert all(s.closed for s in segments[: -pool.FREE_MAX])
    assert len(kept) == pool.FREE_MAX
