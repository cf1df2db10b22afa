"""A task that writes into what it was given: what to do is said where it fails.

NumPy says only that an array is read-only.  Whether it is one that was mapped from the
memory of a large value is seen by what the array lies in, so nothing is said of an array
that the user has made read-only.
"""

from __future__ import annotations

import sys
import traceback
import types
from collections.abc import Iterator
from typing import Any, Final

from covey.store.segments import SharedMap

#: What is said then.
ADVICE: Final = (
    "this array is part of a large value, which tasks share without a copy: take one "
    "before you write, x = x.copy() or x = covey.writable(x); of what xarray has made, "
    "x.copy(deep=True)"
)

#: So far we look into what a function had at hand: items, attributes, and theirs.
_DEPTH_MAX: Final = 3
_LOOKS_MAX: Final = 1000
_CLOSED: Final = (types.ModuleType, types.FunctionType, type)


def advise(error: BaseException) -> None:
    """Add a note to *error* if a task has tried to write into a mapped value.

    The innermost function that had any read-only array at hand tells: all of these must
    be mapped, for we do not know which of them was written to.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return
    try:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        for frame in reversed(frames):
            found = [
                _is_shared(array)
                for array in _arrays(frame.f_locals, numpy.ndarray)
                if not array.flags.writeable
            ]
            if found:
                if all(found):
                    error.add_note(ADVICE)
                return
    except Exception:
        return  # What users make may be odd to look into; the error counts more.


def _arrays(given: Any, kind: type) -> Iterator[Any]:
    """Yield the arrays in a value, and in what it consists of.

    Raises:
        LookupError: there is more than we look into.
    """
    level, seen = [given], 0
    for _ in range(_DEPTH_MAX + 1):
        below: list[Any] = []
        for value in level:
            seen += 1
            if seen > _LOOKS_MAX:
                raise LookupError
            if isinstance(value, kind):
                yield value
            elif isinstance(value, dict):
                below += value.values()
            elif isinstance(value, list | tuple):
                below += value
            elif type(value).__module__.startswith("pandas."):
                manager = getattr(value, "_mgr", None)
                below += [block.values for block in getattr(manager, "blocks", ())]
            elif not isinstance(value, _CLOSED) and hasattr(value, "__dict__"):
                below += vars(value).values()
        level = below


def _is_shared(array: Any) -> bool:
    while array is not None:
        if type(array) is SharedMap:
            return True
        if isinstance(array, memoryview):
            array = array.obj
        else:
            array = getattr(array, "base", None)
    return False
