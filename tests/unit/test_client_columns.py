"""The arguments of a map are read as ``map`` itself reads them."""

from __future__ import annotations

import itertools

import pytest

from covey.client.columns import columns_of
from covey.errors import UsageError


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
