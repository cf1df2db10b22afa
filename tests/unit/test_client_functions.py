"""The bytes of functions are kept, as long as nothing can have changed in them."""

from __future__ import annotations

import sys
import types

import pytest

from covey.client import functions
from covey.client.functions import FunctionCache
from covey.serde.functions import loads_function


@pytest.fixture
def written(monkeypatch):
    """What was written anew, by name."""
    names = []
    dumps = functions.dumps_function

    def counted(function):
        names.append(function.__name__)
        return dumps(function)

    monkeypatch.setattr(functions, "dumps_function", counted)
    return names


def typed(source, **given):
    """Return the namespace of code as somebody types it, which goes by value."""
    namespace = {"__name__": "__main__", **given}
    exec(source, namespace)
    return namespace


@pytest.mark.parametrize(
    "source",
    [
        "def f(x): return float(x[0]) + len(x) + sum(i for i in range(3))",
        "def f(x): return x.mean().item()",
        "def f(x):\n    import json\n    return json.dumps(x)",
    ],
)
def test_builtins_attributes_and_imports_do_not_change(written, source):
    f = typed(source)["f"]
    cache = FunctionCache()
    assert cache.pickled(f) is cache.pickled(f)
    assert written == ["f"]


def test_a_global_that_takes_the_name_of_a_builtin_is_sent_along():
    namespace = typed("def f(x): return len(x)")
    cache = FunctionCache()
    assert loads_function(cache.pickled(namespace["f"]).payload)("abc") == 3
    namespace["len"] = typed("def len(x): return -1")["len"]
    assert loads_function(cache.pickled(namespace["f"]).payload)("abc") == -1
    del namespace["len"]
    assert loads_function(cache.pickled(namespace["f"]).payload)("abc") == 3


def test_defaults_by_name_are_written_anew_where_they_change(written):
    f = typed("def f(x, *, by=2, more): return x * by + more")["f"]
    cache = FunctionCache()
    assert cache.pickled(f) is cache.pickled(f)
    assert written == ["f"]
    f.__kwdefaults__["by"] = 3
    assert loads_function(cache.pickled(f).payload)(1, more=0) == 3
    f.__kwdefaults__["more"] = 4
    assert loads_function(cache.pickled(f).payload)(1) == 7
    f.__kwdefaults__ = None
    with pytest.raises(TypeError, match="required keyword-only"):
        loads_function(cache.pickled(f).payload)(1)
    assert written == ["f"] * 4


def test_what_a_function_refers_to_that_can_change_inside_is_written_anew(written):
    namespace = typed("seen = []\ndef f(x): return len(seen)")
    cache = FunctionCache()
    cache.pickled(namespace["f"])
    namespace["seen"].append(1)
    again = cache.pickled(namespace["f"])
    assert loads_function(again.payload)(0) == 1
    assert written == ["f", "f"]


def test_a_submodule_imported_after_the_first_call_goes_along(monkeypatch):
    package = types.ModuleType("package_of_a_test")
    package.__path__ = []
    package.__package__ = "package_of_a_test"
    part = types.ModuleType("package_of_a_test.part")
    monkeypatch.setitem(sys.modules, "package_of_a_test", package)
    f = typed("def f(): return tool.part.name", tool=package)["f"]
    cache = FunctionCache()
    first = cache.pickled(f)
    assert cache.pickled(f) is first
    monkeypatch.setitem(sys.modules, "package_of_a_test.part", part)
    assert b"package_of_a_test.part" not in first.payload
    assert b"package_of_a_test.part" in cache.pickled(f).payload
