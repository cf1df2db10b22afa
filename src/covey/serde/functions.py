"""Functions, on their way to a runner.

What the runner can import goes by reference, a few bytes; everything else goes
by value, with cloudpickle: lambdas, closures, whatever lives in ``__main__`` or
a notebook, and modules that the user registered for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from covey.serde.culprit import cannot_pickle
from covey.serde.values import dumps_inline, loads_inline, pickle_by_value

_LABEL_LENGTH: Final = 80


def dumps_function(function: Callable[..., Any]) -> bytes:
    """Return *function* as bytes: by reference if it can be imported.

    Raises:
        NotPicklable: the function, or something it takes along, cannot travel.
    """
    name = label(function)
    if _some_modules_go_by_value():
        try:
            return pickle_by_value(function, None)
        except Exception as error:
            raise cannot_pickle(function, name, error) from error
    return dumps_inline(function, name)


def goes_by_name(function: Callable[..., Any]) -> bool:
    """Say whether *function* travels as the name by which it can be imported."""
    module = getattr(function, "__module__", None)
    if module == "__main__" or _some_modules_go_by_value():
        return False
    found: Any = sys.modules.get(module) if isinstance(module, str) else None
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is function


def _some_modules_go_by_value() -> bool:
    """Say whether the user called ``cloudpickle.register_pickle_by_value``.

    The C pickler knows nothing of that, so cloudpickle has to decide then.
    """
    cloudpickle = sys.modules.get("cloudpickle")
    if cloudpickle is None:
        return False
    return bool(cloudpickle.list_registry_pickle_by_value())


def loads_function(data: bytes) -> Callable[..., Any]:
    """Return the function that ``dumps_function`` wrote.

    Raises:
        ModuleNotFoundError: its module is missing here; whoever knows where
            "here" is adds that to the error.
        Exception: whatever the import of its module raises.
    """
    function: Callable[..., Any] = loads_inline(data)
    return function


def label(function: Any) -> str:
    """Return a short name for people: ``inc``, ``lambda``, ``partial(inc)``."""
    try:
        text = _label(function, 0)
    except Exception:
        # A callable may have any attributes, and they may do anything.
        text = "callable"
    return text if len(text) <= _LABEL_LENGTH else text[: _LABEL_LENGTH - 3] + "..."


def _label(function: Any, depth: int) -> str:
    class_ = type(function)
    if class_.__name__ == "partial" and depth < 3:
        return f"partial({_label(function.func, depth + 1)})"
    name = getattr(function, "__name__", None)
    if not isinstance(name, str) or not name:
        name = class_.__name__
    if name == "<lambda>":
        return "lambda"
    owner = getattr(function, "__self__", None)
    if owner is not None and class_.__name__ == "method":
        holder = owner if isinstance(owner, type) else type(owner)
        return f"{holder.__name__}.{name}"
    return name
