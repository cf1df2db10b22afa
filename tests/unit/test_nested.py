"""Futures in containers, and what is no container of futures."""

from __future__ import annotations

import pytest

from covey.client.core.ranges import Range
from covey.client.future import Future, Futures
from covey.client.nested import container, futures_in
from covey.errors import UsageError


class Session:
    def let_go(self, handles):
        pass

    def drop_in_order(self, made, items):
        pass


class Persisted:
    """Stands for a dask collection that rests on futures, or on nothing yet."""

    def __init__(self, graph):
        self._graph = graph

    def __dask_graph__(self):
        return self._graph


def made(n=3):
    return Futures(Session(), Range(100, n, "work", None))


def test_futures_are_found_wherever_they_are():
    a, b, c = made()
    nested = {"x": [a, 5], "y": (b, {"z": c})}
    assert list(futures_in(nested)) == [a, b, c]
    assert list(futures_in({"x": a, "y": b}.values())) == [a, b]
    assert list(futures_in(iter([a, b]))) == [a, b]
    assert list(futures_in(a)) == [a]


def test_those_of_a_persisted_collection_count():
    a, b, _ = made()
    assert list(futures_in([Persisted({"p": a, "q": b})])) == [a, b]
    with pytest.raises(UsageError, match=r"client\.compute"):
        list(futures_in(Persisted({"p": 1})))


def test_an_iterator_can_be_looked_through_twice():
    a, b, _ = made()
    kept = container(future for future in (a, b))
    assert list(kept) == list(kept) == [a, b]


@pytest.mark.parametrize("wrong", [5, None, "a key", b"bytes", object()])
def test_what_holds_no_futures_is_refused(wrong):
    with pytest.raises(UsageError, match="futures are wanted"):
        futures_in(wrong)


def test_a_future_is_a_future():
    assert isinstance(made()[0], Future)
