"""The calls of a map, as they are read from its columns."""

from __future__ import annotations

from covey.client.calls import Calls
from covey.serde.call import Call


def test_calls_are_read_from_anywhere_and_end_where_the_map_does():
    calls = Calls([[1, 2, 3, 4], range(10, 20)], 3, {})
    assert calls.read(1, 2) == [(2, 11)]
    assert calls.read(1, 99) == [(2, 11), (3, 12)]
    assert calls.read(3, 99) == []


def test_what_comes_with_each_call_is_in_each():
    named = Calls([[1, 2]], 2, {"y": 3}).read(0, 2)
    assert [type(call) for call in named] == [Call, Call]
    assert [(call.args, call.kwargs) for call in named] == [
        ((1,), {"y": 3}),
        ((2,), {"y": 3}),
    ]
    assert Calls([[1, 2]], 2, {}, ("f",)).read(0, 2) == [("f", 1), ("f", 2)]


def test_only_calls_of_one_argument_are_single():
    assert Calls([[1]], 1, {}).single
    assert not Calls([[1], [2]], 1, {}).single
    assert not Calls([[1]], 1, {"y": 2}).single
    assert not Calls([[1]], 1, {}, ("f",)).single


def test_a_list_that_becomes_shorter_ends_them_and_one_that_grows_does_not_add_any():
    values = [1, 2, 3]
    calls = Calls([values], 3, {})
    values.append(4)
    assert list(calls.values(0, 99)) == [1, 2, 3]
    del values[1:]
    assert calls.read(0, 99) == [(1,)]
    assert calls.read(1, 99) == []
    assert list(calls.values(1, 99)) == []
