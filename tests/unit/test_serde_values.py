"""Values to frames and packs, and back."""

from __future__ import annotations

import array
import datetime as dt
import functools
import pickle
import sys
import threading
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.errors import NotPicklable, TaskUnreadable
from covey.payload import Pack, layout_parts
from covey.runner.batch import loads_payload
from covey.serde import registry
from covey.serde.arrays import array_of
from covey.serde.call import Call
from covey.serde.culprit import find_culprit
from covey.serde.functions import dumps_function, label, loads_function
from covey.serde.mapped import read_value, writable
from covey.serde.packing import LIMIT_BYTES, Packer, loads_pack
from covey.serde.values import (
    dumps,
    dumps_inline,
    loads,
    loads_inline,
    loads_without_pickle,
    refuse_pickle,
)
from covey.store.segments import Segment

numpy = pytest.importorskip("numpy")

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner)
    ),
    max_leaves=10,
)


@given(VALUES)
def test_any_value_survives(value):
    assert loads(dumps(value)) == value
    assert loads_inline(dumps_inline(value)) == value


@given(st.lists(VALUES), st.lists(VALUES))
def test_many_values_at_once_are_as_one_by_one(first, second):
    single, many = Packer(), Packer()
    for value in (*first, *second):
        assert single.add(value) is None
    for values in (first, second):
        before = many.nbytes
        added = many.add_all(values)
        if added < 0:
            # One that needs a second look, and then none of them is there.
            assert many.nbytes == before
            for value in values:
                many.add(value)
        else:
            assert many.nbytes == before + added
    many.add_all([1, 2])
    many.drop_last(2)
    one, other = many.take(), single.take()
    assert (one.sizes, bytes(one.data)) == (other.sizes, bytes(other.data))


@pytest.mark.parametrize(
    "value",
    [
        threading.Lock(),
        bytes(1 << 17),
        numpy.ones(1 << 14),
        [].append,
        type("Local", (), {"__module__": "__main__"})(),
    ],
    ids=["no-pickle", "large", "large-buffer", "method", "main"],
)
def test_what_needs_a_second_look_keeps_its_neighbours_out(value):
    packer = Packer()
    assert packer.add_all([1, value, 2]) == -1
    assert len(packer) == 0
    assert packer.add_all([1, 2]) > 0


class Large:
    """Counts how often it was pickled."""

    pickled = 0

    def __reduce__(self):
        Large.pickled += 1
        return bytes, (bytes(1 << 17),)


def test_no_more_large_values_are_pickled_at_once_than_one():
    Large.pickled = 0
    assert Packer().add_all([1, 2, *[Large()] * 100]) == -1
    assert Large.pickled == 1


@given(st.lists(VALUES))
def test_any_values_survive_in_a_pack(values):
    packer = Packer()
    for value in values:
        assert packer.add(value) is None
    assert len(packer) == len(values)
    assert packer.nbytes == sum(packer.sizes)
    pack = packer.take()
    assert list(loads_pack(pack)) == values
    assert list(map(loads_inline, pack)) == values
    assert len(packer) == 0


@pytest.mark.parametrize("mask", [False, numpy.ma.nomask, [True, False] * 5000])
def test_masked_arrays_stay_out_of_the_stream(mask):
    value = numpy.ma.MaskedArray(numpy.arange(10_000), mask, fill_value=7)
    value.harden_mask()
    frames = dumps([value])
    assert len(frames[0]) < 1000
    (back,) = loads(frames)
    assert numpy.shares_memory(back.data, value.data)
    assert (back.mask == value.mask).all()
    assert back.sum() == value.sum()
    assert (back.fill_value, back.hardmask) == (7, True)
    assert numpy.ma.allequal(loads_inline(dumps_inline(value)), value)


def test_masked_arrays_of_objects_and_of_no_fill_value_come_back():
    value = numpy.ma.MaskedArray(numpy.array(["a", None]), [True, False])
    assert loads(dumps(value)).tolist() == [None, None]
    back = loads(dumps(numpy.ma.MaskedArray([1, 2], [0, 1])))
    # It is a default of its type, and goes with the type.
    assert (back + 0.5).fill_value == numpy.ma.default_fill_value(0.5)


def test_large_arrays_of_the_standard_library_stay_out_of_the_stream():
    value = array.array("d", [0.5] * 10_000)
    frames = dumps({"a": value})
    assert len(frames[0]) < 1000
    assert loads(frames) == {"a": value}
    small = array.array("d", [1.0])
    assert loads(dumps(small)) == small
    assert len(dumps(small)) == 1
    with pytest.raises(ValueError, match="have 8 bytes here, and had 4"):
        array_of("d", 4, b"")


def test_large_buffers_stay_out_of_the_stream():
    array = numpy.arange(10_000)
    frames = dumps({"a": array, "small": numpy.arange(3)})
    assert len(frames) == 2
    assert len(frames[0]) < 1000
    back = loads(frames)
    assert numpy.shares_memory(back["a"], array)
    assert list(back["small"]) == [0, 1, 2]


@pytest.mark.parametrize("type_", [bytes, bytearray])
def test_large_bytes_are_not_copied_into_the_stream(type_):
    value = type_(1 << 20)
    frames = dumps(value)
    assert len(frames[0]) < 100
    back = loads(frames)
    assert back == value
    assert type(back) is type_


@pytest.mark.parametrize(
    "kind",
    [
        {"names": ["b", "a"], "formats": ["<f8", "<i4"], "offsets": [4, 0]},
        {"names": ["a", "b"], "formats": ["<i4", "<i4"], "offsets": [0, 2]},
        {"names": ["a", "b"], "formats": ["<i4", "<f8"], "offsets": [4, 16]},
        [(("title", "a"), "<i4"), ("b", "<f8", (2, 3))],
    ],
    ids=["other order", "overlap", "gaps", "title and shape"],
)
def test_records_are_the_same_however_their_fields_lie(kind):
    zeros = numpy.zeros(3, numpy.dtype(kind))
    zeros["a"] = [1, 2, 3]
    back = loads(dumps(zeros))
    assert back.dtype == zeros.dtype
    assert back.tobytes() == zeros.tobytes()


def test_arrays_that_are_not_contiguous_survive():
    array = numpy.arange(100_000).reshape(100, 1000)[:, ::3]
    assert (loads(dumps(array)) == array).all()


def test_what_lives_in_main_goes_by_value(monkeypatch):
    class Point:
        pass

    Point.__module__ = "__main__"
    Point.__qualname__ = "Point"
    monkeypatch.setattr(sys.modules["__main__"], "Point", Point, raising=False)
    packer = Packer()
    assert packer.add(Point) is None
    for data in (dumps_inline(Point), dumps(Point)[0], packer.take().data):
        assert b"cloudpickle" in data


def test_what_can_be_imported_never_goes_by_value():
    for function in (pickle.dumps, functools.partial(divmod, 1), threading.Thread.join):
        data = dumps_function(function)
        assert b"cloudpickle" not in data
        assert len(data) < 200
    assert loads_function(dumps_function(divmod)) is divmod


def test_an_unknown_codec_is_refused():
    for data in (b"\x01abc", b""):
        with pytest.raises(TaskUnreadable, match="codec"):
            loads([data])


# Packs.


def test_elements_of_a_pack_share_nothing():
    shared = ["a"]
    packer = Packer()
    packer.add(shared)
    packer.add(shared)
    one, two = loads_pack(packer.take())
    assert one == two
    assert one is not two


@pytest.mark.parametrize(
    "value",
    [
        numpy.zeros(1000),
        b"x" * 1001,
        bytearray(1001),
        "x" * 1001,
        ["x" * 100_000, 1],
        list(range(1000)),
        [numpy.zeros(60), numpy.zeros(60), numpy.zeros(60)],
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_too_large_comes_back_as_frames(value):
    packer = Packer(1000)
    packer.add("before")
    frames = packer.add(value)
    packer.add("after")
    assert numpy.array_equal(loads(frames), value)
    assert list(loads_pack(packer.take())) == ["before", "after"]


def test_small_arrays_stay_in_the_pack():
    packer = Packer()
    for _ in range(10):
        assert packer.add(numpy.zeros(1000)) is None
    packer.limit_bytes = 100
    assert packer.add(numpy.zeros(1000)) is not None
    assert all(array.sum() == 0 for array in loads_pack(packer.take()))


class Counted:
    """Counts how often it is pickled."""

    count = 0

    def __reduce__(self):
        type(self).count += 1
        return (Counted, ())


def test_what_is_too_large_is_not_pickled_twice_in_full(monkeypatch):
    monkeypatch.setattr(Counted, "count", 0)
    packer = Packer()
    # It has learnt that arrays come.
    assert packer.add(numpy.arange(10)) is None
    frames = packer.add([numpy.zeros(LIMIT_BYTES), Counted()])
    assert frames is not None
    assert Counted.count == 1
    assert packer.add(numpy.arange(10)) is None
    assert [len(value) for value in loads_pack(packer.take())] == [10, 10]


def test_a_lambda_is_packed_by_value():
    packer = Packer()
    assert packer.add(lambda: 3) is None
    (function,) = loads_pack(packer.take())
    assert function() == 3
    big = numpy.zeros(100_000)
    frames = packer.add(lambda: big)
    assert loads(frames)().sum() == 0
    packer.limit_bytes = 10
    assert loads(packer.add(lambda: 3))() == 3


def test_a_failure_leaves_the_pack_as_it_was():
    packer = Packer()
    packer.add(1)
    with pytest.raises(NotPicklable):
        packer.add([numpy.zeros(100_000), threading.Lock()])
    packer.add(2)
    assert list(loads_pack(packer.take())) == [1, 2]


def test_reading_goes_on_after_a_bad_element():
    pack = Pack.of([dumps_inline(1), b"\x80\x05garbage", dumps_inline(3)])
    values = loads_pack(pack)
    assert next(values) == 1
    with pytest.raises(pickle.UnpicklingError):
        next(values)
    assert next(values) == 3


def test_calls():
    call = loads_inline(dumps_inline(Call(([3, 1],), {"reverse": True})))
    assert call.apply(sorted) == [3, 1]


# Registered serializers.


class Celsius:
    def __init__(self, degrees):
        self.degrees = degrees
        self.lock = threading.Lock()


@pytest.fixture
def celsius():
    registry.register(
        Celsius,
        lambda value: str(value.degrees).encode(),
        lambda data: Celsius(float(data)),
        name="celsius",
    )
    yield
    registry.unregister(Celsius)


def test_a_registered_serializer_is_used_everywhere(celsius):
    packer = Packer()
    value = [Celsius(20.5)]
    assert packer.add(value) is None
    assert packer.add((value, lambda: None)) is None
    assert packer.add([Celsius(1), numpy.zeros(100_000)]) is not None
    first, (second, _) = loads_pack(packer.take())
    for back in (first, second, loads(dumps(value)), loads_inline(dumps_inline(value))):
        assert back[0].degrees == 20.5


def test_a_pickler_that_fails_may_still_find_a_registered_value(celsius):
    packer = Packer()
    with pytest.raises(NotPicklable, match=r"value\[1\]"):
        packer.add([Celsius(1), threading.Lock()])


def test_a_serializer_unknown_to_the_reader_is_named(celsius, monkeypatch):
    data = dumps_inline(Celsius(1))
    monkeypatch.setattr(registry, "_loaders", {})
    with pytest.raises(TaskUnreadable, match="celsius"):
        loads_inline(data)


# Who is to blame.


class Connection:
    def __init__(self):
        self.conn = threading.Lock()


class Slotted:
    __slots__ = ("inner", "unset")

    def __init__(self):
        self.inner = threading.Lock()


class Secretive:
    def __getattr__(self, name):
        raise RuntimeError(name)

    def __repr__(self):
        raise RuntimeError

    def __reduce__(self):
        raise TypeError("I stay here")


def cyclic():
    cycle = {"ok": 1, "lock": threading.Lock()}
    cycle["self"] = [cycle]
    return cycle


def closure():
    lock = threading.Lock()
    return lambda: lock


LOCK = threading.Lock()


def by_value_with_global():
    function = types.FunctionType(
        (lambda: LOCK).__code__, {"LOCK": LOCK}, "uses_global"
    )
    function.__module__ = "__main__"
    return function


@pytest.mark.parametrize(
    ("value", "name", "path"),
    [
        ((1, Connection()), "args", "args[1].conn: _thread.lock"),
        (Call((), {"db": Connection()}), "", "kwargs['db'].conn: _thread.lock"),
        (Call((1, Connection()), {}), "", "args[1].conn: _thread.lock"),
        (Slotted(), "result", "result.inner: _thread.lock"),
        (cyclic(), "result", "result['lock']: _thread.lock"),
        (closure(), "f", "f closure variable 'lock': _thread.lock"),
        (by_value_with_global(), "f", "f global 'LOCK': _thread.lock"),
        (functools.partial(print, threading.Lock()), "f", "f.args[0]: _thread.lock"),
        (Exception(threading.Lock()), "e", "e.args[0]: _thread.lock"),
        ([(letter for letter in "")], "r", "r[0]: generator"),
        ({"a": Secretive()}, "r", "r['a']: "),
    ],
)
def test_the_culprit_is_found(value, name, path):
    assert find_culprit(value, name).startswith(path)


def test_the_message_says_what_to_do():
    with pytest.raises(
        NotPicklable,
        match=r"cannot pickle args\[0\]\.conn \(_thread\.lock\): .*inside the task",
    ):
        dumps((Connection(),), "args")
    with pytest.raises(NotPicklable, match="I stay here"):
        dumps_inline([Secretive()])


def test_what_is_nested_too_deeply_says_so():
    value = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(NotPicklable, match="nested too deeply"):
        dumps_inline(value)
    while value:
        value = value[0]


def test_without_cloudpickle_the_message_is_still_about_the_value(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(NotPicklable, match=r"value\[1\] \(_thread.lock\)"):
        dumps([1, threading.Lock()])


# Functions.


def test_functions_of_registered_modules_go_by_value(monkeypatch):
    import cloudpickle

    module = types.ModuleType("notebook_module")
    exec("def f(): return 7", module.__dict__)
    monkeypatch.setitem(sys.modules, "notebook_module", module)
    cloudpickle.register_pickle_by_value(module)
    try:
        data = dumps_function(module.f)
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    monkeypatch.delitem(sys.modules, "notebook_module")
    assert loads_function(data)() == 7


class Odd:
    def __call__(self):
        pass

    @classmethod
    def make(cls):
        pass

    def method(self):
        pass


class Hostile:
    def __getattr__(self, name):
        raise RuntimeError(name)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (divmod, "divmod"),
        (lambda: 0, "lambda"),
        (functools.partial(divmod, 1), "partial(divmod)"),
        (Odd(), "Odd"),
        (Odd().method, "Odd.method"),
        (Odd.make, "Odd.make"),
        (int, "int"),
        (numpy.sin, "sin"),
    ],
)
def test_labels(function, expected):
    assert label(function) == expected


def test_a_hostile_callable_has_a_label_too():
    assert label(Hostile()) == "callable"


def test_a_long_label_is_cut():
    def f():
        pass

    f.__name__ = "x" * 1000
    assert len(label(f)) == 80


# Values in segments.


def test_a_value_read_from_a_segment_is_read_only_and_outlives_it():
    segment = Segment.of(dumps([numpy.arange(10_000), "text"]))
    array, text = read_value(segment.place, segment.size)
    segment.close()
    assert not array.flags.writeable
    assert array[-1] == 9999
    assert text == "text"


@pytest.mark.parametrize(
    "values",
    [
        [
            dt.datetime(2000, 1, 1, tzinfo=dt.UTC),
            dt.datetime(2001, 1, 1, tzinfo=dt.UTC),
        ],
        [dt.timedelta(1), None],
        ["text", "text"],
        [1, "text"],
        [1, 2],
    ],
    ids=["times", "spans", "texts", "mixed", "numbers"],
)
@pytest.mark.parametrize("rows", [None, ["x", "x"], ["x", numpy.nan]])
def test_columns_of_objects_stay_columns_of_objects(values, rows):
    pandas = pytest.importorskip("pandas")
    column = pandas.Series(values, dtype=object, index=rows)
    frame = pandas.DataFrame({"a": column.to_numpy(), "b": 1.5}, index=rows)
    frame["a"] = column
    back = loads(dumps(frame))
    assert list(back.dtypes) == [object, float]
    assert [type(v) for v in back.a] == [type(v) for v in frame.a]
    pandas.testing.assert_frame_equal(back, frame)


@pytest.mark.parametrize("rows", [None, ["x", "y"], ["x", numpy.nan]])
@pytest.mark.parametrize("columns", [["a", "b"], []])
def test_names_of_columns_and_rows_are_written_as_text(rows, columns):
    """pandas 3 keeps them in Arrow, which another environment need not have."""
    pandas = pytest.importorskip("pandas")
    index = None if rows is None else pandas.Index(rows, name="row")
    data = {name: [1.0, 2.0] for name in columns}
    frame = pandas.DataFrame(
        data, index=index, columns=pandas.Index(columns, dtype="str")
    )
    frames = dumps(frame)
    assert b"pyarrow" not in frames[0]
    assert b"String" not in frames[0]
    back = loads(frames)
    pandas.testing.assert_frame_equal(back, frame)
    assert (back.columns.dtype, back.index.dtype) == (
        frame.columns.dtype,
        frame.index.dtype,
    )


def test_mapped_values_are_read_only_until_asked():
    numpy, pandas = map(pytest.importorskip, ("numpy", "pandas"))
    frame = pandas.DataFrame({"a": numpy.arange(10_000), "b": 1.5})
    segment = Segment.of(
        dumps([frame, numpy.arange(10_000), numpy.arange(3), lambda: 7])
    )
    value = read_value(segment.place, segment.size)
    segment.close()
    with pytest.raises(ValueError, match="read-only"):
        value[1][0] = 5
    copy = writable(value)
    copy[1][0] = copy[2][0] = 5
    copy[0].loc[0, "a"] = 5
    assert copy[3]() == 7
    assert value[1][0] == value[0]["a"][0] == 0
    assert writable(copy) is copy


def laid_out(frames):
    """Return a large value as bytes, as it lies in a segment."""
    return b"".join(map(bytes, layout_parts(frames, 0x5EED)))


def test_a_large_value_can_come_as_small_ones_do():
    value = {"a": numpy.arange(10_000), "b": b"x" * 100_000, "c": [1, 2]}
    payload = laid_out(dumps(value))
    for read in (loads_inline, lambda p: next(loads_pack(Pack.single(p)))):
        found = read(payload)
        assert found["c"] == [1, 2]
        assert found["b"] == value["b"]
        numpy.testing.assert_array_equal(found["a"], value["a"])
        assert found["a"].flags.aligned
        assert found["a"].flags.writeable, "it is nobody else's"


def test_a_large_value_in_the_form_of_a_small_one_is_refused_as_that_is():
    payload = laid_out(dumps(numpy.arange(10_000)))
    for refuse in (
        refuse_pickle,
        loads_without_pickle,
        lambda p: next(loads_pack(Pack.single(p), plain=True)),
        lambda p: loads_payload(p, plain=True),
    ):
        with pytest.raises(TaskUnreadable, match="pickle"):
            refuse(payload)
    for odd in (laid_out([]), laid_out([payload])):
        with pytest.raises(TaskUnreadable, match="laid out"):
            loads_inline(odd)
        with pytest.raises(TaskUnreadable, match="laid out"):
            refuse_pickle(odd)
