"""Arrays and tables in a form that other versions of their libraries read.

Pickles of NumPy, pandas and pyarrow objects name functions and classes inside of these
libraries, which move from version to version.  Here they become a head of plain data
and raw buffers, without a copy:

* a NumPy array is its data type, as an ``.npy`` file writes it, its shape and its bytes;
* an Arrow array is its type, its length and its buffers, as Arrow's own format
  for memory has them; a table is its schema and the arrays of its columns;
* a pandas frame or series is an Arrow table with pandas' own metadata.

What cannot be written in this way faithfully returns ``None``: objects in a NumPy array,
records whose fields overlap, a pandas frame that comes back from Arrow as something else.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Collection, Sequence
from pickle import PickleBuffer
from typing import Any, Final

from covey.payload import Buffer

Parts = tuple[list[Any], list[Any]]

#: Whose arrays and tables may be written here.
PACKAGES: Final = ("numpy", "pyarrow", "pandas")

_EMPTY: Final = b""


def parts_of(value: Any) -> Parts | None:
    """Return the head and the buffers of an array or table; ``None`` if it is none."""
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    if package == "numpy" and kind.__name__ == "ndarray":
        return array_parts(value)
    if package == "pyarrow":
        return _arrow_parts(value)
    if package == "pandas" and kind.__name__ in ("DataFrame", "Series"):
        return _pandas_parts(value)
    return None


def value_of(head: Sequence[Any], buffers: Sequence[Buffer]) -> Any:
    """Return what ``parts_of`` took apart."""
    kind, *rest = head
    return _MAKERS[kind](rest, list(buffers))


# NumPy.


def array_parts(array: Any) -> Parts | None:
    """Return the parts of a NumPy array, or ``None`` if its type has no text for them."""
    numpy = sys.modules["numpy"]
    kind = array.dtype
    if kind.hasobject or kind.metadata or kind.char == "T":
        return None
    text = kind_text(kind)
    if text is None:
        return None
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    flat = array.T if order == "F" else numpy.ascontiguousarray(array)
    raw = flat.reshape(-1).view("u1") if flat.size and kind.itemsize else _EMPTY
    return ["numpy", text, list(array.shape), order], [raw]


def kind_text(kind: Any) -> Any:
    """Return a data type as an ``.npy`` file writes it: text, or a list of fields.

    ``None`` if it cannot: fields that overlap, or lie in another order than they are named.
    """
    import numpy.lib.format as form

    if kind.names is None and kind.subdtype is None:
        return kind.str
    try:
        described: Any = form.dtype_to_descr(kind)
    except ValueError:
        return None
    return _listed(described)


def _listed(fields: Any) -> Any:
    if isinstance(fields, list | tuple):
        return [_listed(part) for part in fields]
    return fields


def _described(text: Any) -> Any:
    if isinstance(text, str):
        return text
    # Fields are tuples: name (or title and name), type, and perhaps a shape.
    fields = []
    for name, kind, *shape in text:
        title = tuple(name) if isinstance(name, list) else name
        fields.append((title, _described(kind), *(tuple(part) for part in shape)))
    return fields


def make_array(head: Sequence[Any], buffers: Sequence[Buffer]) -> Any:
    """Return a NumPy array over a buffer, without a copy."""
    import numpy as np
    import numpy.lib.format as form

    text, shape, order = head
    kind = form.descr_to_dtype(_described(text))
    if not memoryview(buffers[0]):
        return np.empty(shape, kind, order=order)
    flat = np.frombuffer(buffers[0], dtype=kind)
    return flat.reshape(shape, order=order)


# Arrow.


def _arrow_parts(value: Any) -> Parts | None:
    import pyarrow as pa

    buffers: list[Any] = []
    if isinstance(value, pa.Table | pa.RecordBatch):
        columns = [_column(column, buffers) for column in value.columns]
        if None in columns:
            return None
        kind = "table" if isinstance(value, pa.Table) else "batch"
        schema = value.schema.serialize().to_pybytes()
        return ["arrow", kind, schema, columns, value.num_rows], buffers
    if isinstance(value, pa.Array | pa.ChunkedArray):
        column = _column(value, buffers)
        if column is None:
            return None
        schema = pa.schema([pa.field("", value.type)]).serialize().to_pybytes()
        kind = "chunks" if isinstance(value, pa.ChunkedArray) else "array"
        return ["arrow", kind, schema, [column], len(value)], buffers
    return None


def _column(column: Any, buffers: list[Any]) -> list[Any] | None:
    chunks = []
    for chunk in getattr(column, "chunks", [column]):
        described = _array(chunk, buffers)
        if described is None:
            return None
        chunks.append(described)
    return chunks


def _array(array: Any, buffers: list[Any]) -> list[Any] | None:
    """Describe one array: length, nulls, offset, which buffers, dictionary, children."""
    import pyarrow as pa

    kind = array.type
    if isinstance(kind, pa.DictionaryType):
        inside = [_array(array.indices, buffers), _array(array.dictionary, buffers)]
        return None if None in inside else ["dictionary", inside]
    if kind.num_fields or isinstance(kind, pa.BaseExtensionType):
        return _by_stream(array, buffers)
    own = []
    for buffer in array.buffers():
        if buffer is None:
            own.append(-1)
        else:
            own.append(len(buffers))
            buffers.append(buffer)
    return ["plain", len(array), array.null_count, array.offset, own]


def _by_stream(array: Any, buffers: list[Any]) -> list[Any]:
    """Write an array of nested or extended type as an Arrow stream: with a copy."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    batch = pa.record_batch([array], names=[""])
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    buffers.append(sink.getvalue())
    return ["stream", len(buffers) - 1]


def _make_arrow(head: Sequence[Any], buffers: Sequence[Buffer]) -> Any:
    import pyarrow as pa

    kind, schema_bytes, columns, rows = head
    schema = pa.ipc.read_schema(pa.py_buffer(schema_bytes))
    made = [
        [_make(chunk, field.type, buffers) for chunk in column]
        for field, column in zip(schema, columns, strict=True)
    ]
    if kind == "table":
        arrays = [
            pa.chunked_array(chunks, type=field.type)
            for field, chunks in zip(schema, made, strict=True)
        ]
        if not arrays:
            return pa.table({"": pa.nulls(rows)}).drop_columns([""])
        return pa.Table.from_arrays(arrays, schema=schema)
    if kind == "batch":
        return pa.RecordBatch.from_arrays([c[0] for c in made], schema=schema)
    if kind == "chunks":
        return pa.chunked_array(made[0], type=schema.field(0).type)
    return made[0][0]


def _make(described: Sequence[Any], kind: Any, buffers: Sequence[Buffer]) -> Any:
    import pyarrow as pa

    form, *rest = described
    if form == "dictionary":
        indices, dictionary = rest[0]
        return pa.DictionaryArray.from_arrays(
            _make(indices, kind.index_type, buffers),
            _make(dictionary, kind.value_type, buffers),
            ordered=kind.ordered,
        )
    if form == "stream":
        with pa.ipc.open_stream(pa.py_buffer(buffers[rest[0]])) as reader:
            return reader.read_next_batch().column(0)
    length, nulls, offset, own = rest
    parts = [None if n < 0 else pa.py_buffer(buffers[n]) for n in own]
    return pa.Array.from_buffers(kind, length, parts, nulls, offset)


# pandas.


def _pandas_parts(value: Any) -> Parts | None:
    """Return a frame or series as an Arrow table, if it comes back as it was."""
    try:
        import pyarrow as pa
    except ModuleNotFoundError:
        return None
    frame = value.to_frame("") if type(value).__name__ == "Series" else value
    if frame.attrs or not frame.columns.is_unique:
        return None
    try:
        table = pa.Table.from_pandas(frame)
        empty = table.slice(0, 0).to_pandas()
    except (pa.ArrowException, TypeError, ValueError):
        return None
    if list(empty.dtypes) != list(frame.dtypes) or not _same_axes(empty, frame):
        return None
    parts = _arrow_parts(table)
    if parts is None:
        return None
    extra = [type(value).__name__, _series_name(value), _range(frame.columns)]
    return ["pandas", *extra, *parts[0][1:]], parts[1]


def _range(index: Any) -> list[int] | None:
    """Return the numbers of a range index: Arrow writes one of columns as any other."""
    if type(index).__name__ != "RangeIndex" or index.name is not None:
        return None
    return [index.start, index.stop, index.step]


def _series_name(value: Any) -> Any:
    return value.name if type(value).__name__ == "Series" else None


def _same_axes(one: Any, other: Any) -> bool:
    return (
        (one.columns.equals(other.columns) or not len(other.columns))
        and (one.columns.dtype == other.columns.dtype or not len(other.columns))
        and one.columns.names == other.columns.names
        and (
            type(one.columns) is type(other.columns)
            or _range(other.columns) is not None
        )
        and type(one.index) is type(other.index)
        and one.index.names == other.index.names
        and getattr(one.index, "freq", None) == getattr(other.index, "freq", None)
    )


def _make_pandas(head: Sequence[Any], buffers: Sequence[Buffer]) -> Any:
    kind, name, columns, *arrow = head
    frame = _make_arrow(arrow, buffers).to_pandas()
    if columns is not None:
        import pandas as pd

        frame.columns = pd.RangeIndex(*columns)
    if kind == "Series":
        series = frame.iloc[:, 0]
        series.name = name
        return series
    return frame


_MAKERS: Final = {"numpy": make_array, "arrow": _make_arrow, "pandas": _make_pandas}


# For picklers: the same forms, as what a reducer returns.


def reducers(present: Collection[str]) -> dict[type, Any]:
    """Return reducers for those libraries that are *present*."""
    found: dict[type, Any] = {}
    homes: dict[str, dict[str, Any]] = {
        "numpy": {"ndarray": _reduce_array},
        "numpy.ma": {"MaskedArray": _reduce_masked},
        "pyarrow": {"Table": _reduce_table, "RecordBatch": _reduce_table},
        "pandas": {"DataFrame": _reduce_frame},
    }
    for package in present:
        for name, reduce in homes.get(package, {}).items():
            # While it is being imported, it may not have the name yet.
            class_ = getattr(sys.modules[package], name, None)
            if class_ is not None:
                found[class_] = reduce
    return found


def _reduce_array(array: Any) -> Any:
    kind = array.dtype
    if kind.kind in _NUMBER_KINDS and array.flags.c_contiguous and array.size:
        return (_numbers_of, (kind.str, array.shape, PickleBuffer(array)))
    parts = array_parts(array)
    if parts is None:
        return array.__reduce_ex__(5)
    (_, *head), (raw,) = parts
    return (_array_of, (tuple(head), PickleBuffer(raw)))


#: Kinds of NumPy arrays that give away their own memory.
_NUMBER_KINDS: Final = frozenset("biufc")


def _numbers_of(kind: str, shape: tuple[int, ...], raw: Buffer) -> Any:
    # The usual case, in as few calls as can be.
    import numpy as np

    flat = np.frombuffer(raw, kind)
    return flat if len(shape) == 1 else flat.reshape(shape)


def _reduce_masked(array: Any) -> Any:
    # NumPy copies data and mask into the pickle, by way of bytes.
    ma = sys.modules["numpy.ma"]
    data, mask = ma.getdata(array), ma.getmask(array)
    if type(data) is not sys.modules["numpy"].ndarray or data.dtype.hasobject:
        return array.__reduce__()
    fill_value = array._fill_value  # noqa: SLF001  # None where nobody has set it
    taken = None if mask is ma.nomask else mask
    return (_masked_of, (data, taken, fill_value, array.hardmask))


def _masked_of(data: Any, mask: Any, fill_value: Any, hard: bool) -> Any:
    from numpy import ma

    if mask is None:
        mask = ma.nomask
    return ma.MaskedArray(data, mask, fill_value=fill_value, hard_mask=hard)


def _array_of(head: Sequence[Any], raw: Buffer) -> Any:
    return make_array(head, [raw])


def _reduce_table(table: Any) -> Any:
    parts = _arrow_parts(table)
    if parts is None:
        return table.__reduce_ex__(5)
    head, buffers = parts
    return (value_of, (head, [PickleBuffer(buffer) for buffer in buffers]))


#: Kinds of NumPy columns that a frame gives away as they are.
_COLUMN_KINDS: Final = frozenset("biufcmMO")


#: Columns of one type that are smaller than this are copied into one array.
_TOGETHER_BYTES: Final = 1 << 14


def _reduce_frame(frame: Any) -> Any:
    """Take a frame apart into its columns, if all of them are NumPy's."""
    arrays = _columns_of(frame)
    if arrays is None or not frame.flags.allows_duplicate_labels:
        return frame.__reduce_ex__(5)
    columns, index = _labels(frame.columns), _labels(frame.index)
    if type(columns) is _Labels:
        columns.are_names = True
    return (_frame_of, (columns, index, _blocks_of(arrays), frame.attrs))


def _columns_of(frame: Any) -> list[Any] | None:
    """Return the columns as arrays; ``None`` if there are others than NumPy's."""
    import numpy as np

    # Not by way of a series for each, which takes longer than all of the rest; a pandas
    # in which this has another name writes frames as it likes.
    columns = getattr(frame, "_iter_column_arrays", None)
    if columns is None:
        return None
    arrays = list(columns())
    for array in arrays:
        kind = array.dtype
        if not isinstance(kind, np.dtype) or kind.kind not in _COLUMN_KINDS:
            return None
    return [np.asarray(array) for array in arrays]


def _blocks_of(arrays: list[Any]) -> list[tuple[list[int], Any]]:
    """Lay columns of one type one below the other; large ones stay where they are.

    A frame is a few arrays more quickly than many, and so are those made of it.

    Returns:
        Arrays of two dimensions, each with the numbers of its columns.
    """
    import numpy as np

    places: dict[Any, list[int]] = {}
    for n, array in enumerate(arrays):
        places.setdefault(array.dtype, []).append(n)
    blocks: list[tuple[list[int], Any]] = []
    for same in places.values():
        first = arrays[same[0]]
        # What is joined comes out in this machine's order of bytes.
        if len(same) == 1 or first.nbytes > _TOGETHER_BYTES or not first.dtype.isnative:
            blocks += [([n], arrays[n].reshape(1, -1)) for n in same]
        else:
            together = np.concatenate([arrays[n] for n in same])
            blocks.append((same, together.reshape(len(same), -1)))
    return blocks


#: So many names of columns or rows are written one by one.
_LABELS_MAX: Final = 1000


class _Labels:
    """An index of text, which pandas keeps in ways of its version.

    Attributes:
        are_names: whether they are names of columns, which are the same in many frames.
    """

    __slots__ = ("are_names", "name", "texts")

    def __init__(self, texts: list[Any], name: Any) -> None:
        self.texts = texts
        self.name = name
        self.are_names = False

    def __reduce__(self) -> tuple[object, ...]:
        few = sum(len(t) for t in self.texts if type(t) is str) <= _NAMES_CHARS
        make = _names_of if self.are_names and few else _labels_of
        return (make, (self.texts, self.name))


def _labels(index: Any) -> Any:
    """Return what stands for an index in a pickle: any reader has text and lists."""
    if type(index).__name__ != "Index" or len(index) > _LABELS_MAX:
        return index
    if str(index.dtype) != "str" or getattr(index.dtype, "storage", "") == "python":
        return index
    texts = index.tolist()
    if texts and not any(type(text) is str for text in texts):
        # All are missing: a reader could not tell that they were to be text.
        return index
    return _Labels(texts, index.name)


def _labels_of(texts: list[Any], name: Any) -> Any:
    index = _index_of(texts)
    index.name = name
    return index


def _names_of(names: list[Any], name: Any) -> Any:
    # Each frame has one of its own, whose name can be changed.
    index = _known_index_of(tuple(names)).view()
    index.name = name
    return index


def _index_of(texts: Any) -> Any:
    import pandas as pd

    # Whatever this version takes for text: empty, it could not tell.
    return pd.Index(texts, dtype=None if texts else "str")


#: What is remembered for the next frame with the same columns, if it is no longer.
_NAMES_CHARS: Final = 4096

_known_index_of = functools.lru_cache(maxsize=64)(_index_of)


def _frame_of(columns: Any, index: Any, blocks: list[Any], attrs: Any) -> Any:
    import pandas as pd

    # What pandas (from 3 on) offers to those who have arrays as it keeps them itself.
    internals = getattr(pd.api, "internals", None)
    if internals is not None:
        of_blocks = internals.create_dataframe_from_blocks
        frame = of_blocks([(block, places) for places, block in blocks], index, columns)
    else:
        frame = _frame_of_columns(index, blocks)
        frame.columns = columns
    frame.attrs.update(attrs)
    return frame


def _frame_of_columns(index: Any, blocks: list[Any]) -> Any:
    import pandas as pd

    arrays = {
        n: array
        for places, block in blocks
        for n, array in zip(places, block, strict=True)
    }
    # A column of objects stays one: left to itself, pandas looks what they are, and makes
    # times and texts of them.
    parts = {
        n: pd.Series(array, index=index, dtype=object, copy=False)
        if array.dtype == object
        else array
        for n, array in sorted(arrays.items())
    }
    return pd.DataFrame(parts, index=index, copy=False)
