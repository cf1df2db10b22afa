"""What a runner keeps of large inputs, and what each task has for itself."""

from __future__ import annotations

import pickle
import sys
from array import array
from collections import defaultdict
from contextlib import closing
from operator import getitem, setitem

import pytest

from covey.errors import TaskUnreadable
from covey.runner.batch import Inputs
from covey.runner.looked import LOOKED_BYTES, Looked
from covey.runner.mapped import MAPPED_VALUES_MAX, MappedInputs
from covey.serde.packing import Packer
from covey.serde.refs import ById, capture, inputs_as
from covey.serde.values import dumps
from covey.store import descriptors
from covey.store.segments import Segment


@pytest.fixture
def large():
    """Return what makes a value an input: task, place, size."""
    segments = []

    def made(value, task=7):
        segments.append(Segment.of(dumps(value)))
        return task, segments[-1].place, segments[-1].size

    yield made
    for segment in segments:
        segment.close()


def test_each_who_asks_has_objects_of_his_own_in_memory_that_is_mapped_once(large):
    numpy = pytest.importorskip("numpy")
    mapped, found = MappedInputs(), large({"a": numpy.ones(100_000), "b": []})
    one, other = (mapped.value(*found, plain=False) for _ in range(2))
    one["b"].append(1)
    one["a"].shape = (2, -1)
    assert other["b"] == []
    assert other["a"].shape == (100_000,)
    assert numpy.shares_memory(one["a"], other["a"])
    assert len(mapped) == 1


def test_a_copy_is_not_kept(large, monkeypatch):
    """Where descriptors are short, what is read is private memory."""
    monkeypatch.setattr(descriptors, "room_for_copy_of", lambda _: False)
    mapped, found = MappedInputs(), large({"a": [1]})
    assert mapped.value(*found, plain=False) == {"a": [1]}
    assert mapped.looked(*found)[0] == {"a": [1]}
    assert (len(mapped), mapped.shared_bytes) == (0, 0)


def test_a_value_that_was_made_again_is_mapped_anew(large):
    mapped = MappedInputs()
    assert mapped.value(*large([1]), plain=False) == [1]
    assert mapped.value(*large([2]), plain=False) == [2]
    assert len(mapped) == 1


def test_who_may_read_no_pickle_reads_none_that_others_have(large):
    mapped, found = MappedInputs(), large([1])
    mapped.value(*found, plain=False)
    mapped.function(*found, plain=False)
    for read in (mapped.value, mapped.function):
        with pytest.raises(TaskUnreadable):
            read(*found, plain=True)


def test_a_function_is_one_object_for_all(large):
    mapped, found = MappedInputs(), large([1])
    first = mapped.function(*found, plain=False)
    assert not mapped.shares  # Nobody has to see when to let go of it.
    mapped.unshare()
    assert mapped.function(*found, plain=False) is first
    assert mapped.value(*found, plain=False) is not first
    assert mapped.shared_bytes == 0


def test_what_is_looked_into_is_shared_by_those_who_look(large):
    mapped, found = MappedInputs(), large({"a": [1]})
    first, shared = mapped.looked(*found)
    again, _ = mapped.looked(*found)
    assert shared
    assert again is first
    assert mapped.value(*found, plain=False) is not first
    assert mapped.shares
    mapped.unshare()
    assert not mapped.shares
    assert mapped.looked(*found)[0] is not first


@pytest.mark.parametrize(
    "value",
    [
        defaultdict(int),
        b"no container",
        ["long" * LOOKED_BYTES],
        [array("d", [0.0]) * LOOKED_BYTES],
    ],
    ids=["runs code", "no container", "long stream", "copies"],
)
def test_what_may_change_or_is_large_is_shared_by_nobody(large, value):
    mapped, found = MappedInputs(), large(value)
    first, shared = mapped.looked(*found)
    assert first == value
    assert not shared
    assert mapped.shared_bytes == 0
    assert mapped.looked(*found)[0] is not first


def test_what_takes_in_the_value_of_another_task_is_shared_by_nobody(large):
    with capture():
        found = large([ById(1)])
    mapped = MappedInputs()
    with inputs_as({1: "one"}):
        assert mapped.looked(*found) == (["one"], False)


def test_what_is_shared_is_bounded_by_the_bytes_of_its_streams(large):
    mapped = MappedInputs()
    half = ["x" * (LOOKED_BYTES // 2)]
    found = [large(half, task) for task in range(4)]
    for each in found:
        mapped.looked(*each)
        assert mapped.shared_bytes <= LOOKED_BYTES
    assert mapped.shared_bytes > 0
    assert len(mapped) == 4


def test_the_oldest_mapping_goes_first(large):
    mapped = MappedInputs()
    place = large([1])[1:]
    for task in range(MAPPED_VALUES_MAX + 1):
        mapped.value(task, *place, plain=False)
    assert len(mapped) == MAPPED_VALUES_MAX
    mapped.forget([[0, 1]])
    assert len(mapped) == MAPPED_VALUES_MAX


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel")
@pytest.mark.parametrize("ranges", [[[7, 1]], [[0, 1 << 40]]])
def test_what_is_forgotten_is_mapped_no_more(ranges):
    mapped = MappedInputs()
    with closing(Segment.of(dumps({"a": bytearray(1 << 17)}))) as segment:
        mapped.looked(7, segment.place, segment.size)
        assert not segment.unshared()
        mapped.forget(ranges)
        assert segment.unshared()
    assert mapped.shared_bytes == 0


def test_another_thread_may_map_while_one_forgets(large):
    mapped = MappedInputs()
    place = large([1])[1:]

    class Asked(int):
        """A task whose number is looked at, and meanwhile another one is mapped."""

        def __sub__(self, other):
            mapped.value(99, *place, plain=False)
            return int(self) - other

    for task in (Asked(5), Asked(6)):
        mapped.value(task, *place, plain=False)
    mapped.forget([[0, 10]])
    assert len(mapped) == 1


@pytest.fixture
def calls(large):
    """Return what gives the arguments of calls, one after the other."""

    def made(function, value, *arguments, small):
        inputs = Inputs(MappedInputs(), Looked())
        if small:
            inputs.add_own(7, pickle.dumps(value))
        else:
            inputs.add_segment(*large(value))
        inputs.are_for(function)
        packer = Packer()
        with capture():
            for each in arguments:
                packer.add(each)
        with inputs_as(inputs):
            return list(inputs.calls(packer.take()))

    return made


@pytest.mark.parametrize("small", [True, False])
def test_calls_that_only_look_share_what_they_look_into(calls, small):
    taken = (ById(7), "a")
    (one, _), (other, _) = calls(getitem, {"a": [1]}, taken, taken, small=small)
    assert one is other


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("function", [setitem, getitem])
def test_calls_that_may_change_it_share_nothing(calls, small, function):
    value = defaultdict(list, a=[1]) if function is getitem else {"a": [1]}
    taken = (ById(7), "a")
    (one, _), (other, _) = calls(function, value, taken, taken, small=small)
    assert one == other
    assert one is not other


def test_a_call_that_was_given_its_keys_looks_into_a_value_of_its_own(calls):
    """What is looked into runs code, so the key in it may not be another one's, either."""
    taken = (defaultdict(int), ById(7))
    found = calls(getitem, [1, 2], taken, taken, small=True)
    assert found[0][1] is not found[1][1]
