"""Methods that a module offers as functions, such as ``numpy.random.random``.

To pickle, these are methods of an object, and pickle sends the object along:
every process would get the same state of the random generator, and draw the same
numbers.  What users mean is the function that the module offers, so it goes by
the name of the module.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final


def may_hold_methods(stream: bytes) -> bool:
    """Say whether a pickle may contain a builtin method with its object."""
    return stream.find(b"getattr") >= 0


def offered(module: str, name: str) -> Any:
    """Return what *module* offers under *name*; unpickling calls this."""
    return getattr(import_module(module), name)


def place_of(method: Any) -> str | None:
    """Return the module that offers *method* as its function, if one does."""
    owner, name = method.__self__, method.__name__
    if owner is None or isinstance(owner, types.ModuleType | type):
        return None
    place: str = type(owner).__module__
    while place:
        module: Any = sys.modules.get(place)
        if getattr(module, name, None) is method:
            return place
        place = place.rpartition(".")[0]
    return None


def _reduce(method: Any) -> str | tuple[Any, ...]:
    place = place_of(method)
    if place is not None:
        return (offered, (place, method.__name__))
    reduced: str | tuple[Any, ...] = method.__reduce__()
    return reduced


#: For a pickler's ``dispatch_table``.
REDUCERS: Final[dict[Any, Callable[[Any], Any]]] = {
    types.BuiltinFunctionType: _reduce,
    types.MethodType: _reduce,
}
