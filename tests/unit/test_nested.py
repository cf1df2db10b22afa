"""Futures in containers, and what is no container of futures."""

from __future__ import annotations

import collections
import concurrent.futures

import pytest

from covey.client.core.ranges import Range
from covey.client.future import Future, Futures
from covey.client.nested import container, futures_in, only_futures
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


def test_of_a_dict_keyed_by_futures_the_keys_are_meant():
    a, b, c = made()
    assert only_futures({a: 1, b: "x"}) == [a, b]
    assert only_futures({a: b}) == [a]
    assert only_futures({"x": a, "y": [b, {c: 3}]}) == [a, b, c]
    assert only_futures([{a: 1}.keys(), collections.deque([b])]) == [a, b]
    assert only_futures([Persisted({"p": a}), iter([b, (c,)])]) == [a, b, c]
    assert only_futures([]) == only_futures({}) == []
    assert only_futures(a) == [a]


def test_values_take_the_places_of_futures_that_are_no_keys():
    a, b, _ = made()
    assert list(futures_in({a: 1, "y": [b, 2]})) == [b]


@pytest.mark.parametrize("wrong", [5, None, "a key", b"bytes", object()])
def test_what_is_no_future_is_refused_among_futures_too(wrong):
    a, b, _ = made()
    for nested in (
        [wrong, a],
        (a, {"x": [wrong]}),
        {"x": a, "y": wrong},
        iter([wrong]),
    ):
        with pytest.raises(UsageError, match="among these is .*, of type"):
            only_futures(nested)
    with pytest.raises(UsageError, match="this is .*, of type"):
        only_futures(wrong)
    assert only_futures({a: wrong, b: wrong}) == [a, b]


def test_a_future_of_the_standard_library_is_said_to_be_one():
    with pytest.raises(UsageError, match=r"there is concurrent\.futures"):
        only_futures([concurrent.futures.Future()])


def test_a_future_is_a_future():
    assert isinstance(made()[0], Future)
