"""Arrays of the standard library, whose memory pickle would copy into its stream."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from pickle import PickleBuffer
from typing import Any, Final

from covey.payload import Buffer

#: What is smaller is as well copied, in the form that machines of all kinds read.
_WORTH_BYTES: Final = 1 << 16

#: Text has characters of another size elsewhere.
_NUMBERS: Final = frozenset("bBhHiIlLqQfd")


def _reduce(value: array[Any]) -> Any:
    if value.typecode in _NUMBERS and len(value) * value.itemsize >= _WORTH_BYTES:
        return (array_of, (value.typecode, value.itemsize, PickleBuffer(value)))
    return value.__reduce_ex__(5)


def array_of(typecode: str, itemsize: int, raw: Buffer) -> array[Any]:
    """Return an array of what another process had; unpickling calls this.

    Raises:
        ValueError: numbers of that type have another size here.
    """
    made: array[Any] = array(typecode)
    if made.itemsize != itemsize:
        raise ValueError(
            f"numbers of type {typecode!r} have {made.itemsize} bytes here, and had "
            f"{itemsize} where this array was written; use a type of fixed size"
        )
    made.frombytes(raw)
    return made


#: For a pickler's ``dispatch_table``.
REDUCERS: Final[dict[Any, Callable[[Any], Any]]] = {array: _reduce}
