"""Handles that are let go, and values of ranges of which some were looked at."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.client.core.ranges import Range
from covey.client.decoding import Unreadable, decode_all
from covey.client.extents import extents_of, join_extents
from covey.client.handles import emptied, joined, taken_out
from covey.errors import TaskUnreadable
from covey.payload import Pack

RANGES = [Range(100, 50, "f", None), Range(200, 50, "f", None)]


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 1), st.integers(0, 40), st.integers(1, 5)),
            max_size=5,
        ),
        max_size=8,
    )
)
def test_nothing_is_lost_or_added_where_handles_are_joined(lists):
    dropped = [[(RANGES[r], lo, n) for r, lo, n in handles] for handles in lists]

    def each(handles):
        return sorted((w.base, i) for w, lo, n in handles for i in range(lo, lo + n))

    expected = each([handle for handles in dropped for handle in handles])
    assert each(joined(emptied(dropped))) == expected
    assert not any(dropped)


def test_what_is_taken_out_is_in_no_list_any_more():
    singles = [Range(base, 1, "f", None) for base in range(5)]
    handles = [[(wish, 0, 1)] for wish in singles]
    # Ctrl-C has come in the midst of letting go: the same list is there twice.
    dropped = [*handles, handles[2], [(RANGES[0], 3, 4)], []]
    assert taken_out(dropped, {2, 4, 103}) == [(singles[2], 0, 1), (singles[4], 0, 1)]
    kept = [wish.base for wish, _, _ in emptied(dropped)]
    assert kept == [0, 1, 3, 100]


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), max_size=9), st.data())
def test_extents_that_touch_are_one(lengths, data):
    extents, at = [], 0
    for n, gap in lengths:
        extents.append((at, n))
        at += n + gap
    ids = [task for base, n in extents for task in range(base, base + n)]
    shuffled = data.draw(st.permutations(extents))
    assert tuple(join_extents(shuffled)) == extents_of(ids)


def test_handles_of_single_tasks_are_passed_on_as_they_are():
    one, two = Range(1, 1, "f", None), Range(2, 1, "f", None)
    handles = [
        (RANGES[0], 3, 1),
        (one, 0, 1),
        (one, 0, 1),
        (two, 0, 1),
        (RANGES[0], 4, 1),
    ]
    assert sorted(joined(handles), key=lambda handle: handle[0].base) == [
        (one, 0, 1),
        (one, 0, 1),
        (two, 0, 1),
        (RANGES[0], 3, 2),
    ]


@pytest.mark.parametrize("step", [1, -1])
def test_a_million_neighbours_are_one(step):
    handles = [(RANGES[0], index, 1) for index in range(50)[::step]]
    other = [(RANGES[1], index, 1) for index in range(50)[::step]]
    assert list(joined([*handles, *other])) == [
        (RANGES[0], 0, 50),
        (RANGES[1], 0, 50),
    ]


def finished(values):
    wish = Range(100, len(values), "f", None)
    wish.finish(0, Pack.of([pickle.dumps(value) for value in values]))
    return wish


def test_who_has_asked_for_one_value_is_given_it_again():
    wish = finished([[i] for i in range(5)])
    mine = wish.values[3] = [3]
    values = decode_all(wish, plain=False)
    assert values == [[0], [1], [2], [3], [4]]
    assert values[3] is mine


def test_a_range_is_not_decoded_where_some_of_it_is_held_no_more():
    """Another thread may let go of it between the look and this."""
    wish = finished(range(10))
    wish.let_go(1, 9)
    assert decode_all(wish, plain=False) is None


def test_nor_where_one_stretch_stands_there_as_it_was_and_in_parts(monkeypatch):
    """The missing of another one would make up for what is there twice."""
    wish = finished(range(4))
    (_, whole), *_ = wish.packs()
    found = [(0, whole.cut(0, 2)), (1, whole.cut(1, 2)), (3, whole.cut(3, 4))]
    monkeypatch.setattr(Range, "packs", lambda self: found)
    assert decode_all(wish, plain=False) is None


def test_what_stands_for_a_value_that_could_not_be_had_is_none():
    wish = finished([0, 1])
    wish.values[1] = Unreadable(TaskUnreadable("no"))
    assert decode_all(wish, plain=False) == [0, 1]
