"""Arguments of many calls that are written without pickle, and read by it."""

from __future__ import annotations

import pickle
import signal
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.serde.packing import Packer, loads_pack

EDGES = [0, 255, 256, (1 << 31) - 1, 1 << 31, -1, -(1 << 31), -(1 << 31) - 1, 1 << 70]
FOUR_BYTES = range(-(1 << 31), 1 << 31)


@given(
    st.one_of(
        st.lists(st.integers(-(1 << 31), (1 << 31) - 1), min_size=1),
        st.lists(st.integers() | st.sampled_from(EDGES), min_size=1),
        st.builds(
            lambda first, step, n: range(first, first + step * n, step),
            st.integers(),
            st.sampled_from([1, -1, 7, -(1 << 29)]),
            st.integers(1, 99),
        ),
        st.builds(
            lambda first, n: range(first, first + n),
            st.sampled_from(EDGES),
            st.integers(1, 99),
        ),
    )
)
def test_numbers_are_written_as_pickle_would_or_not_at_all(numbers):
    packer = Packer()
    added = packer.add_numbers(numbers)
    assert added == all(number in FOUR_BYTES for number in numbers)
    written = packer.take()
    if added:
        assert list(written.sizes) == [9] * len(numbers)
    found = list(loads_pack(written))
    assert found == ([(number,) for number in numbers] if added else [])
    assert {type(number) for (number,) in found} <= {int}


@pytest.mark.parametrize("stranger", [1.5, True, signal.SIGINT, "1", None, (1,)])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_what_is_no_whole_number_leaves_them_all_to_pickle(stranger, at):
    numbers = [1, 2]
    numbers.insert(at, stranger)
    packer = Packer()
    assert not packer.add_numbers(numbers)
    assert not packer.add_numbers([])
    assert len(packer) == packer.nbytes == 0


@given(st.lists(st.lists(st.integers(-5, 1 << 33), min_size=1), min_size=1))
def test_numbers_and_others_are_counted_one_by_one(batches):
    packer = Packer()
    calls = [[(number,) for number in batch] for batch in batches]
    for numbers, batch in zip(batches, calls, strict=True):
        assert packer.add_numbers(numbers) or packer.add_all(batch) > 0
    *kept, last = calls
    assert len(packer) == len(packer.sizes) == sum(map(len, calls))
    assert sum(packer.sizes) == packer.nbytes
    packer.drop_last(len(last))
    packer.add("between")
    assert packer.last() == payload_of("between")
    packer.add_numbers([1, 2])
    assert len(packer) == sum(map(len, kept)) + 3
    found = list(loads_pack(packer.take()))
    assert found == [*chain.from_iterable(kept), "between", (1,), (2,)]
    assert len(packer) == 0
    packer.add_numbers([7])
    assert pickle.loads(packer.take_single()) == (7,)


def payload_of(value):
    packer = Packer()
    packer.add(value)
    return packer.take_single()
