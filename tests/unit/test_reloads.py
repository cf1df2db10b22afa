"""Modules that are imported anew: they are counted, and others let go of theirs."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace

import pytest

from covey.client import reloads as client_reloads
from covey.client.functions import FunctionCache
from covey.client.reloads import Reloads
from covey.client.writing import Writing
from covey.serde import reloads
from covey.serde.formats import PICKLE
from covey.serde.functions import loads_function, split_head

NAMES = ("changed_by_its_user", "uses_what_is_changed")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where two modules of a user lie; the second takes from the first."""
    (tmp_path / f"{NAMES[0]}.py").write_text("def f(): return 1\n")
    (tmp_path / f"{NAMES[1]}.py").write_text(f"from {NAMES[0]} import f\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in NAMES:
        importlib.import_module(name)
    yield tmp_path
    for name in NAMES:
        sys.modules.pop(name, None)


def writing_by(functions):
    readers = SimpleNamespace(foreign_cloudpickle=False, foreign_python=False)
    engine = SimpleNamespace(workers={1: None}, readers=readers)
    return Writing(engine, functions, reloads=Reloads())


@pytest.fixture
def writing(folder):
    return writing_by("auto")


def reload(name):
    importlib.reload(sys.modules[name])


def edit(folder):
    (folder / f"{NAMES[0]}.py").write_text("def f(): return 2\n")
    reload(NAMES[0])


def typed(source, **given):
    namespace = {"__name__": "__main__", **given}
    exec(source, namespace)
    return namespace["f"]


def test_modules_that_are_imported_anew_are_counted(folder):
    mine = Reloads()
    mine.look()
    mine.look()
    assert mine.count == 0
    reload(NAMES[0])
    mine.look()
    mine.look()
    assert mine.count == 1
    del sys.modules[NAMES[1]]
    mine.look()
    importlib.import_module(NAMES[1])
    mine.look()
    assert mine.count == 2
    assert mine.head[:2] == [reloads.name_here(), 2]
    assert set(NAMES) <= set(mine.head[2])
    reload("json")  # None of the user's own.
    mine.look()
    assert mine.count == 2


def test_what_has_compiled_parts_is_left_alone_until_it_is_imported_anew(folder):
    mine = Reloads()
    sys.modules[NAMES[1]].__spec__.origin = "/somewhere/part.so"
    mine.look()
    reload(NAMES[0])
    mine.look()
    assert NAMES[0] in mine.head[2]
    assert NAMES[1] not in mine.head[2]
    reload(NAMES[1])
    mine.look()
    assert NAMES[1] in mine.head[2]


def test_functions_say_so_after_a_reload_and_have_another_digest(folder, writing):
    module = sys.modules[NAMES[0]]
    lambda_ = typed("f = lambda: module.f()", module=module)
    before = [writing.function(f, PICKLE) for f in (module.f, lambda_)]
    assert [split_head(known.payload)[0] for known in before] == [{}, {}]
    edit(folder)
    # At once: the clock has not moved half a second.
    after = [writing.function(f, PICKLE) for f in (lambda_, module.f)]
    for known in after:
        whose, count, names = split_head(known.payload)[0]["reloads"]
        assert (whose, count) == (reloads.name_here(), 1)
        assert set(NAMES) <= set(names)
    assert not {known.digest for known in before} & {known.digest for known in after}
    assert writing.function(lambda_, PICKLE) is after[0]
    assert loads_function(after[0].payload)() == 2


def test_names_alone_say_so_too(folder):
    writing, module = writing_by("import"), sys.modules[NAMES[0]]
    assert "reloads" not in split_head(writing.function(module.f, PICKLE).payload)[0]
    edit(folder)
    head, _ = split_head(writing.function(module.f, PICKLE).payload)
    assert head["import"] == f"{NAMES[0]}:f"
    assert head["reloads"][1] == 1


def test_functions_that_name_no_module_say_so_after_a_while(
    folder, writing, monkeypatch
):
    now = [100.0]
    monkeypatch.setattr(client_reloads.clock, "monotonic", lambda: now[0])
    f = typed("def f(x): return x.f()")
    writing.function(f, PICKLE)
    reload(NAMES[0])
    now[0] += 2 * client_reloads.LOOK_SECONDS
    assert "reloads" in split_head(writing.function(f, PICKLE).payload)[0]


def test_a_function_from_before_a_reload_goes_by_value_after_it(folder):
    f = sys.modules[NAMES[0]].f
    cache = FunctionCache()
    named = cache.pickled(f)
    assert cache.pickled(f) is named
    edit(folder)
    assert cache.pickled(f).payload != named.payload
    assert loads_function(cache.pickled(f).payload)() == 1


def test_who_knows_of_fewer_reloads_lets_go_of_the_modules_once(folder):
    first = [sys.modules[name] for name in NAMES]
    reloads.let_go("another process", 1, NAMES)
    assert not set(NAMES) & set(sys.modules)
    second = [importlib.import_module(name) for name in NAMES]
    assert not [m for m in second if m in first]
    reloads.let_go("another process", 1, NAMES)
    assert [sys.modules.get(name) for name in NAMES] == second
    reloads.let_go("another process", 2, NAMES)
    assert not set(NAMES) & set(sys.modules)


def test_the_process_that_imported_them_anew_keeps_them(folder):
    module = sys.modules[NAMES[0]]
    reloads.let_go(reloads.name_here(), 99, NAMES)
    assert sys.modules[NAMES[0]] is module
