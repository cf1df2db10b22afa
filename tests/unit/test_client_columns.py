"""The arguments of a map are read as ``map`` itself reads them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.client.columns import columns_of, results_of
from covey.client.core.ranges import Range
from covey.client.future import Future
from covey.errors import UsageError
from covey.payload import Pack
from covey.serde.columns import columns_in, columns_payload, strides_payload
from covey.serde.columns import columns_of as columns_of_pack


class Frame:
    """Like a data frame: as long as its rows, and yields the names of its columns."""

    def __init__(self, rows, names):
        self.rows = rows
        self.names = names

    def __len__(self):
        return self.rows

    def __iter__(self):
        return iter(self.names)


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_what_comes_counts_and_not_what_len_says(rows):
    assert columns_of((Frame(rows, "ab"),)) == ([["a", "b"]], 2)
    assert columns_of((Frame(rows, "ab"), [1, 2, 3])) == ([["a", "b"], [1, 2]], 2)


def test_the_shortest_ends_it_though_others_are_endless():
    columns, n = columns_of(([1, 2, 3], itertools.repeat(2), itertools.count()))
    assert n == 3
    assert columns == [[1, 2, 3], [2, 2, 2], [0, 1, 2]]


def test_no_more_is_read_than_map_would_read():
    read = []

    def numbers():
        for number in itertools.count():
            read.append(number)
            yield number

    assert columns_of(([1, 2], numbers()))[1] == 2
    assert read == [0, 1]


def test_plain_sequences_are_taken_as_they_are():
    one, two = [1, 2, 3], range(2)
    columns, n = columns_of((one, two))
    assert columns[0] is one
    assert columns[1] is two
    assert n == 2


def test_nothing_at_all():
    assert columns_of((iter([]), [1])) == ([[], []], 0)
    with pytest.raises(UsageError, match="at least one"):
        columns_of(())


class Holder:
    """A session, as far as its futures know."""

    def release(self, wish, index, n):
        """Nobody is told."""

    def let_go(self, handles):
        """Nor then."""


def futures(holder, base, n):
    wish = Range(base, n, "f", None)
    return [Future(holder, wish, index) for index in range(n)]


def test_arguments_that_are_results_are_known_by_their_ids():
    here = Holder()
    one, two, three = futures(here, 70, 3)
    assert results_of((two, one, two), here) == [71, 70, 71]
    assert results_of((), here) is None
    assert results_of((one, 1), here) is None
    assert results_of(([one],), here) is None
    assert results_of((one,) * 17, here) is None
    assert results_of((one, *futures(Holder(), 5, 1)), here) is None
    three.release()
    assert results_of((three,), here) is None


@given(
    base=st.integers(0, 1 << 62),
    columns=st.lists(
        st.tuples(st.integers(0, 1 << 62), st.integers(1, 64)), min_size=1, max_size=5
    ),
    n=st.integers(1, 5),
    skipped=st.integers(0, 3000),
)
def test_where_inputs_with_strides_lie_is_the_same_in_each_payload(
    base, columns, n, skipped
):
    pack = Pack.of([strides_payload(base, columns)] * n)
    found = columns_of_pack(pack)
    task = base + skipped
    taken = [offset + stride * task for offset, stride in found]
    assert taken == [first + stride * skipped for first, stride in columns]


@given(
    distances=st.lists(st.integers(-(1 << 62), 1 << 62), min_size=1, max_size=5),
    task=st.integers(0, 1 << 62),
)
def test_distances_are_columns_of_stride_one(distances, task):
    found = columns_in(columns_payload(distances))
    assert [offset + stride * task for offset, stride in found] == [
        task + distance for distance in distances
    ]


def test_payloads_that_differ_or_are_pickles_are_no_columns():
    one, other = strides_payload(0, [(5, 2)]), strides_payload(1, [(5, 2)])
    assert columns_of_pack(Pack.of([one, other])) is None
    assert columns_of_pack(Pack.of([b"\x80\x05N."])) is None
    assert columns_of_pack(Pack.of([])) is None
