"""How the calls of a map that take futures travel."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

from covey.client.shapes import NODE_INPUTS
from covey.client.submission import Submitter
from covey.payload import Pack
from covey.wire.base import DEFAULT_OPTIONS
from covey.wire.client_link import Submit, SubmitGraph


def sent(needs):
    """Return what leaves for calls that take these futures."""
    posted = []
    submitter = object.__new__(Submitter)
    submitter._engine = SimpleNamespace(post=posted.append)
    pack = Pack.of([b"%d" % i for i in range(len(needs))])
    marks = [*itertools.accumulate(map(len, needs))]
    ids = [*itertools.chain(*needs)]
    submitter._send_chunk(1000, lambda _: 7, pack, ids, marks, DEFAULT_OPTIONS)
    return posted


def test_neighbours_pair_by_pair_are_one_graph():
    (message,) = sent([(2 * i, 2 * i + 1) for i in range(100)])
    assert isinstance(message, SubmitGraph)
    assert message.needs == tuple((2 * i, 2 * i + 1) for i in range(100))
    assert message.wanted == ((1000, 100),)
    assert set(message.fns) == {7}


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
