"""The ring of events, against a list that forgets nothing."""

from __future__ import annotations

from weakref import WeakSet

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.errors import UsageError
from covey.events import Ring


def test_a_reader_walks_along():
    ring = Ring[str](8)
    ring.append("a")
    assert ring.next == 1
    ring.append("b")
    assert ring.since(0) == (0, ["a", "b"], 0)
    assert ring.since(2) == (2, [], 0)
    ring.extend("cd")
    assert ring.since(2) == (2, ["c", "d"], 0)
    assert ring.since(1, limit=2) == (1, ["b", "c"], 0)


def test_a_late_reader_is_told_what_it_missed():
    ring = Ring[int](3)
    ring.extend(range(10))
    assert ring.since(0) == (7, [7, 8, 9], 7)
    assert ring.since(6) == (7, [7, 8, 9], 1)
    assert ring.since(8) == (8, [8, 9], 0)
    assert len(ring) == 3
    assert ring.oldest == 7


def test_an_event_gives_way_to_another_as_long_as_it_is_here():
    ring = Ring[str](3, start=5)
    ring.extend("abcde")
    for number in (4, 6, 7, 10, 99):
        ring.replace(number, "x")
    assert ring.since(0).events == ["x", "d", "e"]
    ring.replace(9, "y")
    assert ring.since(0).events == ["x", "d", "y"]


def test_a_reader_from_the_future_gets_nothing():
    ring = Ring[int](3)
    ring.append(1)
    assert ring.since(99) == (1, [], 0)


def test_a_reader_of_an_earlier_stream_goes_on_in_the_next():
    ring = Ring[int](3, start=1 << 32)
    assert ring.since(5000) == (1 << 32, [], 0)
    ring.extend(range(2))
    assert ring.since(5000) == (1 << 32, [0, 1], 0)
    ring.extend(range(2, 10))
    assert ring.since(5000) == ((1 << 32) + 7, [7, 8, 9], 7)


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_ring_holds_something(capacity):
    with pytest.raises(UsageError, match="at least one event"):
        Ring(capacity)


@given(
    capacity=st.integers(1, 9),
    count=st.integers(0, 40),
    number=st.integers(-3, 45),
    limit=st.none() | st.integers(-1, 12),
    start=st.integers(0, 9),
)
def test_a_ring_is_the_end_of_an_endless_list(capacity, count, number, limit, start):
    ring = Ring[int](capacity, start)
    for event in range(count):
        assert ring.next == start + event
        ring.append(event)
    assert ring.next == start + count
    first, events, dropped = ring.since(start + number, limit)
    first -= start
    kept = [event for event in range(count)[-capacity:] if event >= number]
    wanted = kept if limit is None else kept[: max(0, limit)]
    assert events == wanted
    assert dropped == max(0, min(count - capacity, count) - max(0, number))
    assert first == min(count, max(0, number, count - capacity))
    if events:
        assert events[0] == first


def test_little_more_is_kept_than_can_be_read():
    class Event:
        pass

    living = WeakSet[Event]()
    ring = Ring[Event](80)
    for _ in range(1000):
        event = Event()
        living.add(event)
        ring.append(event)
        assert len(living) <= 91
    assert set(ring.since(0).events) <= set(living)


@given(st.integers(1, 5), st.integers(0, 12))
def test_backwards_is_the_reverse_of_all_that_is_kept(capacity, count):
    ring = Ring[int](capacity)
    ring.extend(range(count))
    assert list(ring.backwards()) == ring.since(0).events[::-1]
