"""Functions, on their way to a runner.

What the runner can import goes by reference, a few bytes; everything else goes
by value, with cloudpickle: lambdas, closures, whatever lives in ``__main__`` or
a notebook, and modules that the user registered for it.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any, Final

from covey.errors import NotPicklable
from covey.serde import methods
from covey.serde.culprit import cannot_pickle
from covey.serde.keywords import WithKeywords
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
    head, data = split_head(data)
    if "reloads" in head:
        from covey.serde import reloads

        reloads.let_go(*head["reloads"])
    if "modules" in head:
        from covey.serde import bundles

        found = []
        for name, digest, size in head["modules"]:
            found.append((name, digest, bytes(data[:size])))
            data = data[size:]
        bundles.install(found)
    if "import" in head:
        return _imported(head["import"])
    function: Callable[..., Any] = loads_inline(data)
    return function


# With a head: for functions that are to be imported, and for results that are
# not to be pickled.  A pickle never starts with this byte.

HEAD_CODEC: Final = 0x02


def with_head(payload: bytes, head: dict[str, Any]) -> bytes:
    """Put *head* before the bytes of a function."""
    import json

    text = json.dumps(head, sort_keys=True).encode()
    return bytes((HEAD_CODEC,)) + len(text).to_bytes(4, "little") + text + payload


def split_head(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the head of a function, which may be empty, and the rest."""
    if not data or data[0] != HEAD_CODEC:
        return {}, data
    import json

    end = 5 + int.from_bytes(data[1:5], "little")
    head: dict[str, Any] = json.loads(bytes(data[5:end]))
    return head, data[end:]


def dumps_name(function: Callable[..., Any], serializer: str) -> bytes:
    """Return *function* as the name by which it is imported, without any pickle.

    Raises:
        NotPicklable: it has no such name; says why.
    """
    owner = getattr(function, "__self__", None)
    module = getattr(function, "__module__", None)
    if module is None and owner is not None:
        module = methods.place_of(function)
    name = getattr(function, "__qualname__", None) or label(function)
    if owner is not None and not isinstance(owner, type | types.ModuleType):
        name = function.__name__
    found: Any = sys.modules.get(module) if isinstance(module, str) else None
    for part in name.split("."):
        found = getattr(found, part, None)
    if (found is not function and found != function) or module == "__main__":
        where = (
            "__main__, which no other process can import"
            if module == "__main__"
            else module
        )
        raise NotPicklable(
            f"{label(function)} cannot travel by name, which is all that "
            f'functions="import" allows: it is not what importing {name!r} from {where} '
            f"gives. Put it at the top of a module that both sides can import"
        )
    return with_head(b"", {"import": f"{module}:{name}", "serializer": serializer})


def _imported(name: str) -> Callable[..., Any]:
    from importlib import import_module

    module, _, path = name.partition(":")
    found: Any = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    function: Callable[..., Any] = found
    return function


def label(function: Any) -> str:
    """Return a short name for people: ``inc``, ``lambda``, ``partial(inc)``.

    It is a text that can be sent, whatever the callable says of itself.
    """
    try:
        text = str(_label(function, 0))
    except Exception:
        # A callable may have any attributes, and they may do anything.
        text = "callable"
    text = encodable(text)
    return text if len(text) <= _LABEL_LENGTH else text[: _LABEL_LENGTH - 3] + "..."


def encodable(text: str) -> str:
    """Return *text* with its halves of characters, if any, written out as escapes."""
    return text.encode(errors="backslashreplace").decode()


def _label(function: Any, depth: int) -> str:
    class_ = type(function)
    if (class_.__name__ == "partial" or class_ is WithKeywords) and depth < 3:
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
