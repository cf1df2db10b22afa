"""Plain data: what it takes, what it refuses and where, and that it comes back."""

from __future__ import annotations

import datetime as dt
import enum
import fractions

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.errors import NotPicklable, TaskUnreadable, UsageError
from covey.serde import plain, refs, registry, tables
from covey.serde.call import Call
from covey.serde.formats import format_named
from covey.serde.packing import Packer, loads_pack
from covey.serde.values import dumps, loads, refuse_pickle

FAMILIES = ("msgpack", "json", "arrow")

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text().filter(lambda k: not k.startswith("$covey")), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("family", FAMILIES)
@given(value=values)
def test_plain_data_comes_back(family, value):
    assert loads(format_named(family).dumps(value)) == value


@pytest.mark.parametrize("family", FAMILIES)
def test_arguments_come_back_as_arguments(family):
    packer = format_named(family).packer()
    packer.add((1, [2, (3,)]))
    packer.add(Call((1,), {"k": "v"}))
    packer.add("plain")
    first, second, third = loads_pack(packer.take(), plain=True)
    assert first == (1, [2, [3]])
    assert (second.args, second.kwargs) == ((1,), {"k": "v"})
    assert third == "plain"


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([1, {"a": {2}}], r"value\[1\]\['a'\] \(set\)"),
        ({"when": dt.date(2026, 1, 1)}, r"value\['when'\] \(datetime.date\)"),
        ([Colour.RED], r"value\[0\] \(.*Colour\)"),
        ({(1, 2): 3}, r"value key \(1, 2\) \(tuple\)"),
        ([len], r"value\[0\] \(builtin_function_or_method\)"),
    ],
)
def test_the_rest_is_refused_by_path(family, value, path):
    with pytest.raises(NotPicklable, match=path + " is not plain data"):
        format_named(family).dumps(value)


def test_what_one_family_cannot_hold():
    with pytest.raises(NotPicklable, match=r"value\[0\] \(bytes\)"):
        format_named("json").dumps([b"raw"])
    with pytest.raises(NotPicklable, match="more than 64 bits"):
        format_named("msgpack").dumps([1 << 64])
    assert loads(format_named("json").dumps([1 << 64])) == [1 << 64]
    with pytest.raises(NotPicklable, match="it is reserved"):
        format_named("json").dumps({"$covey1": ""})
    with pytest.raises(NotPicklable, match="numpy.ndarray"):
        format_named("msgpack").dumps(np.ones(3))
    with pytest.raises(UsageError, match="'pickle', 'msgpack', 'json', 'arrow'"):
        format_named("yaml")


def test_a_list_that_contains_itself_is_refused():
    knot = []
    knot.append(knot)
    with pytest.raises(NotPicklable, match="nested too deeply"):
        format_named("json").dumps(knot)


class Stand(refs.Reference):
    def __init__(self, task):
        self.task = task

    def refer(self):
        refs.note(self.task)
        return self.task


@pytest.mark.parametrize("family", FAMILIES)
def test_futures_become_inputs(family):
    packer = format_named(family).packer()
    with refs.capture() as found:
        packer.add((Stand(7), {"deep": [Stand(8)]}))
    assert found.task_ids == [7, 8]
    with refs.inputs_as({7: "seven", 8: "eight"}):
        assert next(loads_pack(packer.take())) == ("seven", {"deep": ["eight"]})


@pytest.mark.parametrize("family", FAMILIES)
def test_types_may_bring_their_own_serializer(family):
    registry.register(
        fractions.Fraction,
        lambda f: str(f).encode(),
        lambda data: fractions.Fraction(data.decode()),
    )
    try:
        half = fractions.Fraction(1, 2)
        frames = format_named(family).dumps({"half": half})
        assert loads(frames) == {"half": half}
    finally:
        registry.unregister(fractions.Fraction)


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.binary(max_size=200))
def test_garbage_is_refused_and_runs_nothing(family, data):
    codec = {"msgpack": 0x10, "json": 0x11, "arrow": 0x12}[family]
    try:
        loads([bytes((codec, 0)) + data])
    except (TaskUnreadable, refs.MissingInput):
        pass


def test_pickles_are_told_by_their_first_byte():
    refuse_pickle(format_named("json").dumps(1)[0])
    with pytest.raises(TaskUnreadable, match="written by pickle"):
        refuse_pickle(format_named("pickle").dumps(1)[0])


# Arrays and tables.

ARRAYS = [
    np.arange(12.0).reshape(3, 4),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.arange(20)[::3],
    np.array(["a", "bc"]),
    np.array(["2026-01-01", "NaT"], dtype="datetime64[ms]"),
    np.zeros(0, dtype="f4"),
    np.zeros((0, 3)),
    np.array(5.0).reshape(()),
    np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", ">f8")]),
    np.array([([1, 2],)], dtype=[("a", "i4", (2,))]),
    np.array([True, False]),
    np.ones(100_000),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_arrays_come_back(array):
    back = loads(format_named("arrow").dumps({"a": array}))["a"]
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert np.array_equal(back, array, equal_nan=array.dtype.kind in "fM")
    assert back.flags.f_contiguous == array.flags.f_contiguous or array.ndim < 2


def test_large_arrays_are_not_copied():
    array = np.ones(100_000)
    frames = format_named("arrow").dumps(array)
    assert np.shares_memory(np.frombuffer(frames[1]), array)
    assert np.shares_memory(loads(frames), array)


def test_objects_in_an_array_are_refused():
    with pytest.raises(NotPicklable, match=r"value\[0\] \(numpy.ndarray\)"):
        format_named("arrow").dumps([np.array([object()])])


TABLES = [
    pa.table({"a": [1, None, 3], "b": ["x", "y", None]}),
    pa.table({"a": pa.array([1, 2, 3])}).slice(1),
    pa.table({"d": pa.array(["u", "v", "u"]).dictionary_encode()}),
    pa.table({"l": [[1, 2], None, [3]], "s": [{"x": 1}, None, {"x": 2}]}),
    pa.table({"t": pa.array([0, 1], pa.timestamp("us", tz="UTC"))}),
    pa.table({"a": pa.chunked_array([[1], [2, 3]])}),
    pa.table({}),
]


@pytest.mark.parametrize("table", TABLES, ids=lambda t: str(t.schema.names))
def test_tables_come_back(table):
    back = loads(format_named("arrow").dumps([table]))[0]
    assert back.schema.equals(table.schema, check_metadata=True)
    assert back.equals(table)


def test_arrow_arrays_come_back_without_a_copy():
    array = pa.array(range(10_000))
    frames = format_named("arrow").dumps(array)
    back = loads(frames)
    assert back.equals(array)
    assert back.buffers()[1].address == array.buffers()[1].address
    batch = pa.record_batch({"a": array})
    assert loads(format_named("arrow").dumps(batch)).equals(batch)


FRAMES = [
    pd.DataFrame({"a": [1, 2], "b": [0.5, None], "c": ["x", "y"]}),
    pd.DataFrame({"a": [1, 2]}, index=pd.Index(["r", "s"], name="row")),
    pd.DataFrame({"k": pd.Categorical(["a", "b", "a"])}),
    pd.DataFrame({"t": pd.date_range("2026-01-01", periods=2, tz="UTC")}),
    pd.DataFrame({("a", 1): [1], ("b", 2): [2]}),
    pd.DataFrame(),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda f: str(list(f.columns)))
def test_frames_come_back(frame):
    back = loads(format_named("arrow").dumps([frame]))[0]
    pd.testing.assert_frame_equal(back, frame)


def test_a_series_comes_back():
    series = pd.Series([1.0, 2.0], name="s", index=[3, 4])
    back = loads(format_named("arrow").dumps(series))
    pd.testing.assert_series_equal(back, series)


def test_a_frame_that_arrow_would_change_is_refused():
    frame = pd.DataFrame({"mixed": [1, "x", object()]})
    with pytest.raises(NotPicklable, match="DataFrame"):
        format_named("arrow").dumps(frame)


def test_a_missing_library_is_named(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(plain, "import_module", missing)
    with pytest.raises(UsageError, match="needs the package 'msgspec'"):
        format_named("msgpack")


# The same forms inside of pickles.


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_pickled_arrays_name_nothing_inside_of_numpy(array):
    packer = Packer(limit_bytes=10_000_000)
    packer.add(({"a": array},))
    packer.add((array, 1))
    pack = packer.take()
    assert b"numpy._core" not in pack.data
    for back in (next(loads_pack(pack))[0]["a"], loads(dumps({"a": array}))["a"]):
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        assert np.array_equal(back, array, equal_nan=array.dtype.kind in "fM")
        assert not back.size or back.flags.writeable


def test_pickled_arrays_are_not_copied():
    array = np.ones(100_000)
    frames = dumps([array])
    assert np.shares_memory(np.frombuffer(frames[1]), array)
    assert np.shares_memory(loads(frames)[0], array)


def test_objects_in_arrays_are_pickled_as_ever():
    array = np.array([{1}, "x"], dtype=object)
    assert loads(dumps(array)).tolist() == [{1}, "x"]
    masked = np.ma.masked_array([1, 2], mask=[0, 1])
    assert type(loads(dumps(masked))) is type(masked)
    assert type(loads(dumps(np.float64(1)))) is np.float64


@pytest.mark.parametrize("table", TABLES, ids=lambda t: str(t.schema.names))
def test_pickled_tables_come_back(table):
    back = loads(dumps((table, 1)))[0]
    assert back.schema.equals(table.schema, check_metadata=True)
    assert back.equals(table)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda f: str(list(f.columns)))
def test_pickled_frames_come_back(frame):
    frame.attrs["unit"] = "m"
    back = loads(dumps([frame]))[0]
    pd.testing.assert_frame_equal(back, frame)
    assert back.attrs == frame.attrs


def test_pickled_frames_of_numbers_name_nothing_inside_of_pandas():
    frame = pd.DataFrame(np.ones((10_000, 3)), columns=[1, 2, 3])
    frames = dumps(frame)
    assert b"internals" not in frames[0]
    assert len(frames) == 4
    back = loads(frames)
    assert np.shares_memory(back[1].to_numpy(), frame[1].to_numpy())


def test_small_columns_of_one_type_are_one_array():
    frame = pd.DataFrame(np.ones((1000, 3)), columns=["a", "b", "c"])
    frame.insert(1, "text", pd.Series(["x"] * 1000, dtype=object))
    frame["d"] = 1.5
    frames = dumps(frame)
    assert len(frames) == 2
    assert memoryview(frames[1]).nbytes == 4 * 8000
    pd.testing.assert_frame_equal(loads(frames), frame)


def test_a_frame_keeps_the_order_of_bytes_of_its_columns():
    columns = {name: np.arange(5, dtype=">i4") for name in "abc"}
    frame = pd.DataFrame({**columns, "d": np.arange(5.0)})
    again = loads(dumps(frame))
    assert [kind.str for kind in again.dtypes] == [">i4", ">i4", ">i4", "<f8"]
    pd.testing.assert_frame_equal(again, frame)


def test_a_frame_keeps_its_flags_and_labels_that_are_missing():
    frame = pd.DataFrame({"a": [1, 2]}).set_flags(allows_duplicate_labels=False)
    assert not loads(dumps(frame)).flags.allows_duplicate_labels
    missing = pd.DataFrame({"a": [1, 2]}, index=pd.Index([np.nan, np.nan], dtype="str"))
    assert loads(dumps(missing)).index.dtype == missing.index.dtype


def test_only_names_of_columns_are_remembered_and_short_ones():
    known = tables._known_index_of
    known.cache_clear()
    texts = [f"row {n}" for n in range(5)]
    frames = [
        pd.DataFrame({"a": range(5)}, index=texts),
        pd.DataFrame({"a" * 5000: range(5)}),
    ]
    for frame in frames:
        pd.testing.assert_frame_equal(loads(dumps(frame)), frame)
    assert known.cache_info().currsize == 1


def mixed_frames():
    """Yield frames of several types, small and large, and of none."""
    for rows in (0, 1, 5000):
        numbers = np.arange(rows)
        yield pd.DataFrame(
            {
                "a": numbers,
                "time": numbers.astype("M8[ms]"),
                "object": pd.Series([{n} for n in numbers], dtype=object),
                "b": numbers,
                "span": numbers.astype("m8[s]"),
                "small": numbers.astype("i2"),
                "c": numbers[::-1],
            }
        )
        yield pd.DataFrame({"a": numbers, "b": numbers}).iloc[::2]
        yield pd.DataFrame(index=numbers)


@pytest.mark.parametrize("internals", [True, False])
@pytest.mark.parametrize("frame", list(mixed_frames()), ids=lambda f: str(f.shape))
def test_frames_come_back_in_every_version_of_pandas(frame, internals, monkeypatch):
    if not internals:
        # So it is before pandas 3.
        monkeypatch.delattr(pd.api, "internals", raising=False)
    back = loads(dumps(frame))
    pd.testing.assert_frame_equal(back, frame)
    for name in frame.columns:
        assert type(back[name].array) is type(frame[name].array)
    both = pd.concat([back, back], ignore_index=True)
    assert both.shape == (2 * frame.shape[0], frame.shape[1])


def test_frames_of_columns_that_are_not_those_of_numpy_are_pickled_as_ever():
    frame = pd.DataFrame({"a": [1, 2], "b": pd.Series([1, None], dtype="Int64")})
    pd.testing.assert_frame_equal(loads(dumps(frame)), frame)
    frame["b"] = pd.Series(pd.date_range("2000", periods=2, tz="UTC"))
    pd.testing.assert_frame_equal(loads(dumps(frame)), frame)


def test_what_happens_to_a_frame_does_not_happen_to_the_next():
    frame = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    frames = dumps(frame)
    first = loads(frames)
    first.columns.name = "changed"
    first.loc[0, "a"] = 7
    pd.testing.assert_frame_equal(loads(frames), frame)
