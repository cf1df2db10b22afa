"""Keyword arguments that go once, with the function, and are each call's own."""

from __future__ import annotations

import functools
import pickle

import pytest

from covey.serde.functions import label
from covey.serde.keywords import WithKeywords, with_keywords


def grow(number, values, **_):
    values.append(number)
    return values


def test_each_call_has_keywords_of_its_own():
    called = pickle.loads(pickle.dumps(with_keywords(grow, {"values": [0]})))
    one, other = called(1), called(2)
    assert (one, other) == ([0, 1], [0, 2])
    again = pickle.loads(pickle.dumps(called))
    assert again(3) == [0, 3]


def test_what_never_changes_is_not_made_anew():
    given = {"number": 1, "text": "t", "call": grow, "none": None}
    assert type(with_keywords(dict, given)) is functools.partial
    assert type(with_keywords(dict, {**given, "pair": (1, [])})) is WithKeywords
    both = with_keywords(grow, {"values": [], "number": 3}, {"values"})
    assert type(both) is functools.partial
    one, other = with_keywords(grow, {"values": []}, {"values"}), [1]
    assert one(1) is one(2)
    assert one(3) == [1, 2, 3] != other


@pytest.mark.parametrize("count", [10, 100_000])
def test_arrays_are_nobody_elses_to_write(count):
    numpy = pytest.importorskip("numpy")

    def write(array):
        array[0] += 1
        return array[0]

    called = with_keywords(write, {"array": numpy.zeros(count)})
    if count == 10:
        assert [called(), called()] == [1, 1]
    else:
        with pytest.raises(ValueError, match="read-only"):
            called()


def test_it_is_named_after_what_it_calls():
    assert label(with_keywords(grow, {"values": []})) == "partial(grow)"
    assert label(with_keywords(grow, {"values": 1})) == "partial(grow)"
