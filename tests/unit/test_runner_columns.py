"""Arguments from results that lie side by side: the same as if each were looked up."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.payload import Pack
from covey.runner.batch import Inputs
from covey.runner.looked import Looked
from covey.runner.mapped import MappedInputs
from covey.serde.refs import MissingInput

BAD = b"\x80\x05garbage"


def payload(task):
    return BAD if task % 7 == 3 else pickle.dumps([task])


def inputs_of(lo, cuts, hi):
    """Return the results of the tasks *lo* to *hi*, in packs that begin at *cuts*."""
    inputs = Inputs(MappedInputs(), Looked())
    bounds = sorted({lo, hi, *(cut for cut in cuts if lo < cut < hi)})
    for a, b in reversed([*pairwise(bounds)]):
        inputs.add_pack(a, Pack.of([payload(task) for task in range(a, b)]))
    return inputs


def taken(rows):
    """Take all of *rows*; what could not be decoded is told by its kind of error."""
    found = []
    while True:
        try:
            found.append(next(rows))
        except StopIteration:
            return found
        except (pickle.UnpicklingError, MissingInput) as error:
            found.append(type(error))


def looked_up(first, count, columns, lo, hi):
    """The same, one by one."""
    found = []
    for task in range(first, first + count):
        sources = [offset + stride * task for offset, stride in columns]
        kinds = [
            MissingInput if not lo <= s < hi else pickle.UnpicklingError
            for s in sources
            if not lo <= s < hi or payload(s) == BAD
        ]
        found.append(kinds[0] if kinds else tuple([s] for s in sources))
    return found


@given(st.data())
def test_rows_are_what_they_would_be_one_by_one(data):
    lo, n = 1000, data.draw(st.integers(1, 60))
    hi = lo + n
    cuts = data.draw(st.lists(st.integers(lo, hi), max_size=6))
    first, count = 5000, data.draw(st.integers(1, 20))
    columns = tuple(
        (data.draw(st.integers(lo, hi)) - stride * first, stride)
        for stride in data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
    )
    rows = inputs_of(lo, cuts, hi).rows(first, count, columns)
    assert taken(rows) == looked_up(first, count, columns, lo, hi)


def test_a_row_that_cannot_be_decoded_moves_no_other():
    inputs = inputs_of(0, [4], 14)
    rows = inputs.rows(100, 7, ((-200, 2), (-199, 2)))
    bad = pickle.UnpicklingError
    found = [([0], [1]), bad, ([4], [5]), ([6], [7]), ([8], [9]), bad, ([12], [13])]
    assert taken(rows) == found


def test_no_two_tasks_share_an_object():
    inputs = inputs_of(0, [], 3)
    (a, b), (c, d) = inputs.rows(100, 2, ((-100, 1), (-99, 1)))
    assert (a, b, c, d) == ([0], [1], [1], [2])
    assert b is not c


def test_a_task_that_takes_a_result_twice_is_given_one_object():
    inputs = inputs_of(0, [], 2)
    for left, right in inputs.rows(100, 2, ((-100, 1), (-100, 1))):
        assert left is right


@pytest.mark.parametrize("count", [1, 2])
def test_where_no_pickle_is_to_be_read_none_is(count):
    inputs = Inputs(MappedInputs(), Looked(), plain=True)
    inputs.add_pack(0, Pack.of([pickle.dumps(task) for task in range(4)]))
    rows = inputs.rows(100, count, ((-100, 1), (-98, 1)))
    with pytest.raises(Exception, match="was written by pickle"):
        next(rows)
