"""Values that tasks only look into are decoded once for many of them."""

import collections
import operator
import pickle
from typing import Any

import pytest

from covey.errors import TaskUnreadable
from covey.interop.dask_node import Named
from covey.runner.looked import LOOKED_BYTES, Looked, NotPlain, looking
from covey.runner.mapped import MappedInputs
from covey.runner.nodes import Node, NodeInputs, Nodes


class Decoder:
    """Counts what it decodes."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, payload: bytes) -> Any:
        self.count += 1
        return pickle.loads(payload)


def written(value: Any) -> bytes:
    return pickle.dumps(value, 5)


@pytest.fixture
def decode() -> Decoder:
    return Decoder()


class Frames(dict):
    """As dask has them: a dict that knows more than others."""


@pytest.mark.parametrize("value", [{"a": [1]}, [1, 2], (1, 2), Frames(a=1)])
def test_what_is_looked_into_twice_is_decoded_once(value, decode):
    looked, payload = Looked(), written(value)
    first = looked.value(7, payload, decode)
    assert looked.value(7, bytes(bytearray(payload)), decode) is first
    assert (first, decode.count) == (value, 1)
    assert looked.nbytes == len(payload)


def test_a_value_that_was_made_again_and_differs_is_decoded_again(decode):
    looked = Looked()
    looked.value(7, written({"a": 1}), decode)
    assert looked.value(7, written({"a": 2, "b": 3}), decode) == {"a": 2, "b": 3}
    assert looked.nbytes == len(written({"a": 2, "b": 3}))


class Odd(dict):
    def __missing__(self, key):
        self[key] = key
        return key


class Own:
    def __getitem__(self, key):
        return key


@pytest.mark.parametrize("value", [collections.defaultdict(int), Odd(), Own()])
def test_what_may_change_when_it_is_looked_into_is_not_shared(value, decode):
    looked, payload = Looked(), written(value)
    assert looked.value(7, payload, decode) is not looked.value(7, payload, decode)
    assert (decode.count, looked.nbytes) == (2, 0)


def test_what_nobody_looked_into_for_longest_goes_first(decode):
    looked = Looked()
    big = {n: written([n, bytes(LOOKED_BYTES // 4)]) for n in range(4)}
    for n in (0, 1, 2, 0, 3):
        looked.value(n, big[n], decode)
    assert looked.nbytes <= LOOKED_BYTES
    decode.count = 0
    looked.value(0, big[0], decode)
    assert decode.count == 0
    looked.value(1, big[1], decode)
    assert decode.count == 1


def test_a_value_larger_than_all_that_may_be_kept_drives_nothing_out(decode):
    looked = Looked()
    looked.value(1, written([1]), decode)
    looked.value(2, written([bytes(LOOKED_BYTES)]), decode)
    assert looked.nbytes == len(written([1]))


def test_functions_that_only_look():
    assert looking(operator.getitem)({"a": 1}, "a") == 1
    assert looking(Named("split", operator.getitem))("key", ([5, 6], 1)) == 6
    assert looking(operator.setitem) is None
    assert looking(lambda x: x) is None
    assert looking(Named("change", operator.setitem)) is None


def test_a_call_that_makes_no_sense_fails_as_it_would_without_us():
    for args, keywords in (((), {}), (({},), {"key": 1})):
        with pytest.raises(NotPlain):
            looking(operator.getitem)(*args, **keywords)
    with pytest.raises(TypeError, match="getitem"):
        looking(operator.getitem)({})


class Answers:
    """As a proxy does: whatever it is asked for, there is something."""

    def __getattr__(self, name):
        return lambda *_: {}

    def __call__(self, value):
        value.append(1)
        return len(value)


class Refuses(Answers):
    def __getattr__(self, name):
        raise KeyError(name)


@pytest.mark.parametrize("kind", [Answers, Refuses])
def test_nobody_is_asked_who_is_not_ours(kind):
    assert looking(kind()) is None


def call(looked: Looked, payload: bytes, function: Any, *rest: Any) -> Any:
    """Have task 6 call *function* with what task 5 made, and with more."""

    inputs = NodeInputs(MappedInputs(), looked, plain=False)
    inputs.payloads[5] = payload
    arguments = b"\x03" + written(("key", (-1, *rest), (0,)))
    node = Node(1, 1, 6, arguments, (), keep=False)
    return Nodes([node], inputs).caller(Named("node", function))(node)


def test_tasks_that_look_into_a_value_share_it():
    looked, payload = Looked(), written({"a": [1], "b": [2]})
    parts = [call(looked, payload, operator.getitem, "a") for _ in range(2)]
    assert parts[0] is parts[1]


def test_tasks_that_may_change_a_value_have_it_for_themselves():
    looked, payload = Looked(), written({"a": [1]})
    assert call(looked, payload, operator.getitem, "a") == [1]
    call(looked, payload, operator.setitem, "a", 2)
    call(looked, payload, lambda value: value["a"].append(3))
    assert call(looked, payload, operator.getitem, "a") == [1]


def test_a_call_that_does_more_than_look_reads_what_it_takes_once():
    read: list[int] = []

    class Large(MappedInputs):
        def value(self, task: int, *_: object, plain: bool) -> Any:
            read.append(task)
            return [task]

    inputs = NodeInputs(Large(), Looked(), plain=False)
    inputs.segments[5] = ("path", 1)
    arguments = b"\x03" + written(("key", (-1,), (0,)))
    node = Node(1, 1, 6, arguments, (), keep=False)
    assert Nodes([node], inputs).caller(Named("node", sum))(node) == 5
    assert read == [5]


class Grows:
    """An object that changes the key that it is asked for."""

    def __getitem__(self, key):
        key.append(len(key))
        return list(key)


def test_a_key_is_not_shared_with_an_object_that_may_change_it():
    looked = Looked()

    inputs = NodeInputs(MappedInputs(), looked, plain=False)
    inputs.payloads = {4: written(Grows()), 5: written([0])}
    arguments = b"\x03" + written(("key", (-2, -1), (0, 1)))
    node = Node(1, 1, 6, arguments, (), keep=False)
    calls = Nodes([node], inputs).caller(Named("node", operator.getitem))
    assert [calls(node) for _ in range(2)] == [[0, 1], [0, 1]]


def test_who_may_not_read_pickles_gets_none_that_another_one_has_read():
    looked, payload = Looked(), written({"a": 1})
    read = NodeInputs(MappedInputs(), looked, plain=False)
    read.payloads[5] = payload
    read.begin(looks=True)
    assert read[5] == {"a": 1}
    strict = NodeInputs(MappedInputs(), looked, plain=True)
    strict.payloads[5] = payload
    strict.begin(looks=True)
    with pytest.raises(TaskUnreadable):
        strict[5]


def test_whose_work_is_over_keeps_nothing():
    looked = Looked()
    looked.value(5, written([1]), pickle.loads)
    assert looked
    looked.clear()
    assert (len(looked), looked.nbytes) == (0, 0)
