"""Arguments of many calls that are written without pickle, and read by it."""

from __future__ import annotations

import pickle
import signal
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from covey.serde.call import Call
from covey.serde.packing import CALLS_MAX, Packer, loads_pack

EDGES = [0, 255, 256, (1 << 31) - 1, 1 << 31, -1, -(1 << 31), -(1 << 31) - 1, 1 << 70]


@given(
    st.one_of(
        st.lists(st.tuples(st.integers(-(1 << 31), (1 << 31) - 1)), min_size=1),
        st.lists(st.tuples(st.integers() | st.sampled_from(EDGES)), min_size=1),
        st.lists(st.tuples(st.integers() | st.booleans() | st.text()), min_size=1),
        st.lists(st.tuples(st.integers(), st.integers()), min_size=1),
        st.lists(st.just(()), min_size=1),
    )
)
def test_calls_that_take_a_number_are_what_any_calls_are(calls):
    packer = Packer()
    added = packer.add_calls(calls)
    assert added == packer.nbytes
    found = list(loads_pack(packer.take()))
    assert found == calls
    assert [[*map(type, call)] for call in found] == [[*map(type, c)] for c in calls]


def test_a_number_of_ones_own_kind_stays_one():
    packer = Packer()
    packer.add_calls([(1,), (signal.SIGINT,), (2,)])
    found = list(loads_pack(packer.take()))
    assert [type(number) for (number,) in found] == [int, signal.Signals, int]


def test_calls_with_keywords_are_left_to_pickle():
    packer = Packer()
    assert packer.add_calls([Call((1,), {"y": 2}), Call((2,), {"y": 3})]) > 0
    assert [call.kwargs["y"] for call in loads_pack(packer.take())] == [2, 3]


def test_numbers_take_few_bytes():
    packer = Packer()
    packer.add_calls([(number,) for number in range(1000)])
    assert packer.nbytes == 9 * 1000


@given(st.lists(st.lists(st.integers(-5, 1 << 33), min_size=1), min_size=1))
def test_numbers_and_others_are_counted_one_by_one(batches):
    packer = Packer()
    calls = [[(number,) for number in batch] for batch in batches]
    for batch in calls:
        packer.add_calls(batch)
    *kept, last = calls
    assert len(packer) == len(packer.sizes) == sum(map(len, calls))
    assert sum(packer.sizes) == packer.nbytes
    packer.drop_last(len(last))
    packer.add("between")
    assert packer.last() == payload_of("between")
    packer.add_calls([(1,), (2,)])
    assert len(packer) == sum(map(len, kept)) + 3
    found = list(loads_pack(packer.take()))
    assert found == [*chain.from_iterable(kept), "between", (1,), (2,)]
    assert len(packer) == 0
    packer.add_calls([(7,)])
    assert pickle.loads(packer.take_single()) == (7,)


def test_many_calls_at_once_are_of_numbers():
    numbers = [(number,) for number in range(CALLS_MAX)]
    for stranger in ((1.5,), (1, 2), (True,), (1 << 31,), Call((1,), {})):
        packer = Packer()
        assert packer.add_calls([*numbers, stranger]) == -1
        assert packer.add_calls([stranger, *numbers]) == -1
        assert len(packer) == 0
        assert packer.add_calls([*numbers[1:], stranger]) > 0
    assert packer.add_calls([*numbers, (1,)]) > 0


def payload_of(value):
    packer = Packer()
    packer.add(value)
    return packer.take_single()
