"""How the calls of a map that take futures travel."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from covey.client.mapping import Mapper
from covey.client.shapes import GROUP_MAX, NODE_INPUTS
from covey.payload import Pack
from covey.wire.base import DEFAULT_OPTIONS
from covey.wire.client_link import Submit, SubmitGraph


def sent(needs):
    """Return what leaves for calls that take these futures."""
    posted = []
    submitter = object.__new__(Mapper)
    submitter._engine = SimpleNamespace(post=posted.append)
    pack = Pack.of([b"%d" % i for i in range(len(needs))])
    marks = [*itertools.accumulate(map(len, needs))]
    ids = [*itertools.chain(*needs)]
    submitter._send_chunk(1000, lambda _: 7, pack, ids, marks, DEFAULT_OPTIONS)
    return posted


@pytest.mark.parametrize("g", [2, 3, GROUP_MAX])
def test_neighbours_group_by_group_stay_a_range(g):
    (message,) = sent([tuple(range(5 + g * i, 5 + g * i + g)) for i in range(100)])
    assert isinstance(message, Submit)
    assert (message.n, message.groups) == (100, ((5, g),))
    assert (message.aligned, message.whole) == ((), ())


def test_groups_in_any_order_and_what_else_is_taken():
    needs = [(1 + 2 * i, 800 + i, 2 * i, 700, 2 * i, 301 + 2 * i) for i in range(9)]
    assert isinstance(sent(needs)[0], SubmitGraph)
    (message,) = sent([(*these, 300 + 2 * i) for i, these in enumerate(needs)])
    assert message.groups == ((0, 2), (300, 2))
    assert (message.aligned, message.whole) == ((800,), ((700, 1),))


@pytest.mark.parametrize(
    "needs",
    [
        [(2 * i,) for i in range(9)],
        [(3 * i, 3 * i + 1) for i in range(9)],
        [(2 * i + 1, 2 * i + 2, 2 * i + 4) for i in range(9)],
        [(8 - 2 * i, 9 - 2 * i) for i in range(5)],
        [(65 * i, *range(65 * i, 65 * i + 10)) for i in range(5)],
    ],
)
def test_what_leaves_gaps_or_goes_backwards_is_a_graph(needs):
    (message,) = sent(needs)
    assert isinstance(message, SubmitGraph)
    assert message.wanted == ((1000, len(needs)),)


def test_results_one_for_one_stay_a_range():
    (message,) = sent([(i,) for i in range(100)])
    assert isinstance(message, Submit)
    assert (message.n, message.aligned) == (100, (0,))


def test_one_future_twice_is_one_input_and_some_take_none():
    (message,) = sent([(5, 5), (), (6, 9)])
    assert message.needs == ((5,), (), (6, 9))


def test_calls_that_take_many_name_them_as_stretches():
    most = tuple(range(NODE_INPUTS + 1))
    first, second = sent([most, (40, 50)])
    assert (first.n, first.whole) == (1, ((0, NODE_INPUTS + 1),))
    assert (second.n, second.aligned) == (1, (40, 50))
