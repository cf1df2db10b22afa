"""How often large arguments are pickled, copied and waited for, on their way to workers."""

from __future__ import annotations

import asyncio
import importlib
import math
import os
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from covey.client import submission
from covey.client.along import ALONG_BYTES, ALONG_BYTES_ALL
from covey.client.core.ranges import Wishes
from covey.client.fetching import Session
from covey.client.mapping import Mapper
from covey.client.modules import OwnModules
from covey.client.placing import (
    BUNDLE_BYTES,
    CARGO_BYTES,
    CARGO_VALUES,
    FIRST_CARGO_BYTES,
)
from covey.client.writing import Writing
from covey.errors import ClusterError
from covey.payload import Pack
from covey.serde import packing, refs, values
from covey.serde.packing import loads_pack
from covey.serde.values import loads
from covey.wire.base import DEFAULT_OPTIONS
from covey.wire.client_link import DefineFunction, Placed, Submit, SubmitGraph

SIZE = 1_000_000

#: So many go by fewer, each by twice as many as the one before, so that somebody has
#: something to do.
FEWER = (CARGO_BYTES // FIRST_CARGO_BYTES).bit_length() - 1


class Desk:
    """A client's side of calls, and a worker that takes all values."""

    def __init__(self):
        #: What was said, in order, and which values came.
        self.posted = []
        self.values = {}
        self.waits = 0
        self.refuse = None
        self.next = 1000
        self.engine = SimpleNamespace(
            post=self.posted.append,
            call=self._call,
            wishes=Wishes(),
            workers={
                1: SimpleNamespace(worker=1, name="w", addresses=("a",), host="h")
            },
            wait_for_workers=self._ready,
            asker=SimpleNamespace(put=self._put),
            check=lambda: None,
            new_tasks=self._new_tasks,
            closed=True,  # What is dropped is told to nobody.
            in_thread=False,
            lull_is_coming=False,
            look=lambda: None,
            outbox=SimpleNamespace(catch_up=None, say=self.posted.append),
        )
        self.session = Session(self.engine)
        self.modules = OwnModules(auto=True)
        writing = Writing(self.engine, functions="value", modules=self.modules)
        self.mapper = Mapper(self.session, writing)

    def _new_tasks(self, n):
        self.next += n
        return self.next - n

    def _call(self, work):
        self.waits += 1
        return asyncio.run(work)

    async def _ready(self, *_):
        pass

    async def _put(self, addresses, task, frames, host, worker, on_left):
        await asyncio.sleep(0)
        if task == self.refuse:
            raise ClusterError("it is full")
        self.values[task] = [bytes(frame) for frame in frames]
        return False

    def map(self, *columns):
        return self.mapper.map(len, columns, {}, DEFAULT_OPTIONS)

    def submit(self, *args, **kwargs):
        how = {"key": None, "pure": False}
        return self.mapper.submit(len, args, kwargs, DEFAULT_OPTIONS, **how)

    def calls(self):
        """Return the arguments of all calls, in order, as a runner would read them."""
        placed, found = set(), []
        for message in self.posted:
            if isinstance(message, Placed):
                placed.add(message.task)
            if isinstance(message, Submit | SubmitGraph):
                # What a call takes is there before the call is told of.
                inputs = {t: loads(f) for t, f in self.values.items() if t in placed}
                with refs.inputs_as(inputs):
                    pack = Pack.from_wire(message.sizes, message.data)
                    found += loads_pack(pack)
        return found


@pytest.fixture
def desk():
    return Desk()


class Pickled:
    """Counts how many bytes pickle writes, in whatever way."""

    def __init__(self, monkeypatch):
        self.nbytes = 0
        for module, name in (
            (packing, "_dumps"),
            (values, "pickle_by_reference"),
            (values, "pickle_by_value"),
            (packing, "pickle_by_reference"),
            (packing, "pickle_by_value"),
        ):
            monkeypatch.setattr(module, name, self._counting(getattr(module, name)))
        counted = SimpleNamespace(dumps=self._counting(pickle.dumps))
        monkeypatch.setattr(submission, "pickle", counted)

    def _counting(self, write):
        def wrapped(*args, **kwargs):
            stream = write(*args, **kwargs)
            self.nbytes += len(stream)
            return stream

        return wrapped


def test_bytes_of_a_map_are_not_pickled_and_are_waited_for_together(desk, monkeypatch):
    pickled = Pickled(monkeypatch)
    column = [os.urandom(SIZE) for _ in range(30)]
    desk.map(column, range(30))
    # The first of them tells that these are large.
    assert pickled.nbytes < SIZE + 30 * 500
    assert desk.waits <= math.ceil(30 * SIZE / CARGO_BYTES) + FEWER
    assert desk.calls() == [*zip(column, range(30), strict=True)]


def test_medium_values_of_a_map_are_pickled_once_each(desk, monkeypatch):
    pickled = Pickled(monkeypatch)
    column = [[bytes([i % 250]) * 70_000] for i in range(200)]
    desk.map(column)
    assert pickled.nbytes < 202 * 71_000
    most = math.ceil(200 / min(CARGO_VALUES, CARGO_BYTES // 70_000))
    assert desk.waits <= most + FEWER
    assert desk.calls() == [(value,) for value in column]


@pytest.mark.parametrize("large", [(0,), (63,), (64,), (3, 4, 99), range(0, 300, 7)])
def test_large_arguments_among_small_ones_keep_their_places(desk, large):
    column = [
        bytes(100_000) + bytes([i % 256]) if i in large else i for i in range(300)
    ]
    desk.map(column)
    assert desk.calls() == [(value,) for value in column]


@pytest.mark.parametrize("refused", [1004, 1006])
def test_a_value_that_cannot_be_brought_is_an_error_of_the_map(desk, refused):
    desk.refuse = refused
    with pytest.raises(ClusterError, match="it is full"):
        desk.map([bytes(SIZE) for _ in range(4)])
    submitted = [m for m in desk.posted if isinstance(m, Submit | SubmitGraph)]
    taken = {task for m in submitted for task, _ in m.whole}
    assert taken == {*range(1004, refused)}


def test_large_arguments_of_neighbours_are_one_value_and_one_range(desk):
    column = [os.urandom(70_000) for _ in range(500)]
    desk.map(column)
    assert desk.calls() == [(value,) for value in column]
    # Whole values of 1 MiB, but for the last of what is brought together.
    nbytes = [sum(map(len, frames)) for frames in desk.values.values()]
    assert max(nbytes) <= BUNDLE_BYTES + 500
    assert len(nbytes) <= 500 * 70_000 / BUNDLE_BYTES + 2 * desk.waits
    placed = [m for m in desk.posted if isinstance(m, Placed)]
    submitted = [m for m in desk.posted if isinstance(m, Submit | SubmitGraph)]
    assert len(placed) == len(submitted) == len(nbytes)
    assert [m.n for m in desk.posted if isinstance(m, SubmitGraph)] == []


def test_each_worker_gets_some_of_a_few_large_arguments(desk):
    (one,) = desk.engine.workers.values()
    desk.engine.workers = dict.fromkeys(range(8), one)
    desk.map([os.urandom(70_000) for _ in range(64)])
    assert 32 <= len(desk.values) < 32 + desk.waits


def test_what_is_no_large_argument_goes_with_its_calls_however_many(desk):
    """There it outlives every worker."""
    column = [bytes(40_000) for _ in range(80)]
    desk.map(column)
    assert not desk.values
    assert desk.calls() == [(value,) for value in column]


def test_each_part_of_a_value_is_read_by_itself(desk):
    shared = [0.5] * 20_000
    desk.map([shared] * 40, [{"it": shared}] * 40)
    calls = desk.calls()
    assert len({id(first) for first, _ in calls}) == 40
    assert all(first is second["it"] for first, second in calls)


def test_futures_inside_of_large_arguments_are_inputs(desk):
    before = desk.submit(1)
    desk.values[before.id] = [pickle.dumps("made")]
    desk.posted.append(Placed(before.id, 1, 1))
    desk.map([[0.5] * 20_000] * 40, [{"it": before}] * 40)
    assert [second for _, second in desk.calls()[1:]] == [{"it": "made"}] * 40


@pytest.mark.parametrize(
    "value",
    [
        *(os.urandom(SIZE), bytearray(SIZE), "x" * SIZE, "ü" * SIZE),
        *("\ud800\U0001f600" * (SIZE // 2), [0.5] * 100_000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_large_argument_of_a_call_is_pickled_once_at_most(desk, monkeypatch, value):
    pickled = Pickled(monkeypatch)
    desk.submit(value, 1)
    whole = type(value) in (list, bytearray)
    assert pickled.nbytes < (SIZE + 1000 if whole else 500)
    assert desk.waits == 1
    assert desk.calls() == [(value, 1)]


@pytest.mark.parametrize("way", ["map", "submit"])
def test_the_same_bytes_twice_are_brought_once_and_are_one_object(desk, way):
    value = os.urandom(SIZE)
    if way == "map":
        desk.map([value], [value])
    else:
        desk.submit(value, value)
    ((first, second),) = desk.calls()
    assert first is second
    assert first == value
    (frames,) = desk.values.values()
    assert sum(map(len, frames)) < SIZE + 1000


@pytest.mark.parametrize("way", ["map", "submit"])
def test_what_can_be_changed_is_one_object_for_all_who_hold_it(desk, way):
    value = bytearray(SIZE)
    if way == "map":
        desk.map([value], [{"it": value}])
    else:
        desk.submit(value, {"it": value})
    ((first, second),) = desk.calls()
    assert first is second["it"]


def test_a_large_argument_beside_a_future_waits_for_that_too(desk):
    before = desk.submit(1)
    desk.submit(bytes(SIZE), [before])
    message = desk.posted[-1]
    assert before.id in {*message.whole, *message.aligned}
    assert {*desk.values} <= {*message.whole, *message.aligned}


@pytest.mark.parametrize("odd", ["large", "future", "by value"])
def test_one_odd_element_leaves_the_others_alike(desk, monkeypatch, odd):
    one = {
        "large": lambda: bytes(100_000),
        "future": lambda: [desk.submit(1)],
        "by value": lambda: [lambda: 5],
    }[odd]()
    alone, add = [], packing.Packer.add
    monkeypatch.setattr(
        packing.Packer,
        "add",
        lambda self, value, name="value": alone.append(value) or add(self, value, name),
    )
    desk.map([one, *map(float, range(9_999))])
    assert len(alone) < 200


NAME = "a_module_of_large_things"


@pytest.fixture
def things(tmp_path, monkeypatch):
    """Return a module of its user, with a class."""
    (tmp_path / f"{NAME}.py").write_text("class Thing(list):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module(NAME)
    del sys.modules[NAME]


@pytest.mark.parametrize("way", ["map", "submit", "map of one among others"])
def test_modules_that_a_large_argument_names_go_along(desk, things, way):
    large = things.Thing([0.5] * 20_000)
    column = [1, 2, large, 3] if way.endswith("others") else [large] * 3
    if way == "submit":
        desk.submit(large)
    else:
        desk.map(column)
    functions = {m.fn: m for m in desk.posted if isinstance(m, DefineFunction)}
    called = []
    for message in desk.posted:
        if isinstance(message, Submit):
            called += [message.fn] * message.n
        elif isinstance(message, SubmitGraph):
            called += message.fns
    taking = called[2:3] if way.endswith("others") else called
    assert taking
    for fn in taking:
        assert NAME.encode() in functions[fn].payload


def test_large_plain_data_is_not_searched_for_modules(desk, things, monkeypatch):
    searched = []
    named_in = OwnModules.named_in
    monkeypatch.setattr(
        OwnModules,
        "named_in",
        lambda self, payload: searched.append(len(payload)) or named_in(self, payload),
    )
    desk.map([[0.5] * 100_000 for _ in range(10)])
    assert sum(searched) < 10 * 500


LONG = 100_000


@pytest.mark.parametrize(
    "value",
    [bytes(LONG), "x" * LONG, "ü" * LONG, [0.5] * 10_000, {"k": ["y" * LONG]}],
    ids=lambda value: f"{type(value).__name__}",
)
@pytest.mark.parametrize("way", ["place", "name"])
def test_plain_data_that_is_not_very_long_goes_along(desk, value, way):
    if way == "name":
        value = value if isinstance(value, bytes | str) else str(value)
    future = desk.submit(value) if way == "place" else desk.submit(it=value)
    assert desk.waits == 0
    assert [type(message) for message in desk.posted][-1] is Submit
    (call,) = desk.calls()
    assert call == (value,) if way == "place" else call.kwargs == {"it": value}
    del future


@pytest.mark.parametrize(
    "value",
    [
        *(bytes(ALONG_BYTES), "ü" * (ALONG_BYTES // 2), [0.5] * 40_000),
        *(np.zeros(20_000), [np.zeros(20_000)], bytearray(ALONG_BYTES)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_longer_or_is_not_plain_is_brought(desk, value):
    future = desk.submit(value)
    assert desk.waits == 1
    assert len(desk.values) == 1
    del future


def test_futures_in_long_arguments_are_inputs_still(desk):
    before = desk.submit(1)
    future = desk.submit([bytes(LONG), before])
    assert desk.waits == 1
    message = desk.posted[-1]
    assert before.id in {*message.whole, *message.aligned} or before.id in {
        task for base, n in message.whole for task in range(base, base + n)
    }
    del future


def test_a_call_with_a_name_is_written_in_one_way(desk):
    how = {"key": "one", "pure": False}
    args = (bytes(LONG),)
    first = desk.mapper.submit(len, args, {}, DEFAULT_OPTIONS, **how)
    assert desk.waits == 1
    del first


def test_only_so_many_bytes_go_along_for_futures_that_are_held(desk):
    futures = [desk.submit(bytes(LONG)) for _ in range(100)]
    assert desk.waits == 100 - ALONG_BYTES_ALL // (LONG + 50)
    assert desk.mapper._along.nbytes <= ALONG_BYTES_ALL
    # As a range has none any more that is let go of: see ``Session._release``.
    for future in futures:
        future._range.holds = ()
    assert desk.mapper._along.nbytes == 0
