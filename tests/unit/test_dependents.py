"""Dependents of a span read as the dictionary would that stood there for every span."""

from __future__ import annotations

import sys
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from covey.scheduler.core import dependents

NAMES = "abc"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "strike"]),
            st.sampled_from(NAMES),
            st.integers(0, 3),
        )
    )
)
def test_they_are_those_of_a_dictionary(steps):
    source, model = SimpleNamespace(dependents=None), {}
    for what, name, groups in steps:
        if what == "add":
            dependents.add(source, name, groups)
            model[name] = groups
        else:
            dependents.strike(source, name)
            model.pop(name, None)
        found = source.dependents
        assert bool(found) == bool(model)
        assert list(found or ()) == list(model)
        assert list(found.items() if found else ()) == list(model.items())
        assert dependents.count(source) == len(model)
        for name in NAMES:
            assert dependents.has(source, name) == (name in model)
            assert (found.get(name) if found else None) == model.get(name)


def test_one_takes_less_room_than_a_dictionary():
    source = SimpleNamespace(dependents=None)
    dependents.add(source, "a", 1)
    assert 3 * sys.getsizeof(source.dependents) < sys.getsizeof({"a": 1})
