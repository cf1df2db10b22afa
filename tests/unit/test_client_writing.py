"""Functions with something before their bytes: as many are kept as is of use."""

from __future__ import annotations

import functools
from types import SimpleNamespace

from covey.client import writing
from covey.client.writing import Writing
from covey.serde.formats import format_named


def add(x, y):
    return x + y


def test_functions_with_much_before_them_are_not_kept_without_end(monkeypatch):
    monkeypatch.setattr(writing, "_HEADED_BYTES_MAX", 2000)
    readers = SimpleNamespace(foreign_cloudpickle=False, foreign_python=False)
    mine = Writing(SimpleNamespace(workers={1: None}, readers=readers))
    form = format_named("json")
    again = []
    for y in range(100):
        again.append(mine.function(functools.partial(add, 0), form))
        mine.function(functools.partial(add, y=y), form)
    kept = list(mine._headed.values())
    assert sum(len(pickled.payload) for pickled in kept) <= 2000
    assert mine._headed_bytes == sum(len(pickled.payload) for pickled in kept)
    assert len(kept) >= writing._HEADED_LEAST
    # What is used again and again is among them, and was written once.
    assert all(pickled is again[0] for pickled in again)
    assert again[0] in kept
