"""Several values in one payload."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from covey.errors import TaskUnreadable
from covey.payload import Pack
from covey.serde import refs
from covey.serde.bundled import Bundle, join
from covey.serde.packing import loads_pack
from covey.serde.values import dumps, loads, loads_without_pickle, refuse_pickle

VALUES = ["one", bytes(100_000), np.arange(10_000), [1, [2.0]], {"k": "x" * 70_000}]


def test_each_value_comes_out_as_it_went_in():
    bundle = loads(join([dumps(value) for value in VALUES]))
    for index in (3, 0, 4, 1, 2, 1):
        np.testing.assert_equal(bundle.part(index), VALUES[index])


def test_one_part_is_read_and_no_other():
    frames = join([dumps("good"), [b"\x80\x05no pickle"], dumps("good, too")])
    bundle = loads(frames)
    assert (bundle.part(0), bundle.part(2)) == ("good", "good, too")
    with pytest.raises(pickle.UnpicklingError):
        bundle.part(1)


@pytest.mark.parametrize("index", [-1, 2, 1 << 40])
def test_there_are_no_other_parts(index):
    with pytest.raises(TaskUnreadable):
        loads(join([dumps(1), dumps(2)])).part(index)


def test_what_is_broken_is_no_bundle():
    head, *frames = join([dumps(1), dumps(2)])
    for broken in (head[:1], head[:-1], head[:-4], head + bytes(4)):
        with pytest.raises(TaskUnreadable):
            Bundle(broken, frames)
    with pytest.raises(TaskUnreadable):
        Bundle(head, frames[:1])


def test_who_reads_no_pickle_reads_none_in_a_bundle():
    head, *_ = join([dumps(1)])
    with pytest.raises(TaskUnreadable, match="written by pickle"):
        refuse_pickle(head)
    with pytest.raises(TaskUnreadable, match="written by pickle"):
        loads_without_pickle(head)


def test_arguments_stand_for_a_part_and_name_what_it_is_part_of():
    with refs.capture() as found:
        written = pickle.dumps((refs.PartOf(7, 1), "more"))
    assert found.task_ids == [7]
    inputs = {7: loads(join([dumps("no"), dumps("it")]))}
    with refs.inputs_as(inputs):
        assert list(loads_pack(Pack.of([written]))) == [("it", "more")]
