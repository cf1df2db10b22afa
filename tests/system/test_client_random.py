"""Random programs of a client: each future has what plain calls of Python give."""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import covey


class Broken(ValueError):
    """What some of the calls raise."""


def told(*args, **kwargs):
    """Return a number that tells what a function was called with."""
    return zlib.crc32(repr((args, sorted(kwargs.items()))).encode())


def small(*args, **kwargs):
    return told(*args, **kwargs)


def large(*args, **kwargs):
    return np.full(20_000, told(*args, **kwargs))


def several(*args, **kwargs):
    return [told(*args, **kwargs), {"a": (told(1), None)}]


def brittle(*args, **kwargs):
    number = told(*args, **kwargs)
    if number % 3 == 0:
        raise Broken(number)
    return number


FUNCTIONS = [small, large, several, brittle, lambda *args, **kw: told("λ", *args, **kw)]


class Errors(NamedTuple):
    """What stands for a value that cannot be had: the numbers its error may tell."""

    numbers: frozenset[int]


def parts_of(value):
    """Yield what stands in a structure."""
    if isinstance(value, dict):
        value = value.values()
    if type(value) not in (list, tuple, type({}.values())):
        yield value
        return
    for item in value:
        yield from parts_of(item)


def called(function, args, kwargs):
    """Call as a task does, which fails as what it takes does."""
    failed = [part for part in parts_of([args, kwargs]) if isinstance(part, Errors)]
    if failed:
        return Errors(frozenset().union(*[part.numbers for part in failed]))
    try:
        return function(*args, **kwargs)
    except Broken as error:
        return Errors(frozenset(error.args))


class Both(NamedTuple):
    """Something for covey, and the same for plain Python."""

    ours: Any
    plain: Any


CONSTANTS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([None, 1 << 40, 2.5, "text", "t" * 5000, b"", (1, 2), [], {}]),
    st.just(np.arange(30_000)),
)


@st.composite
def values(draw, known, depth=2):
    """Draw an argument: a constant, what is there, or a structure of both."""
    kinds = ["constant", *(["known"] * 3 if known else []), *(["of"] if depth else [])]
    kind = draw(st.sampled_from(kinds))
    if kind == "constant":
        constant = draw(CONSTANTS)
        return Both(constant, constant)
    if kind == "known":
        return draw(st.sampled_from(known))
    parts = draw(st.lists(values(known, depth - 1), max_size=3))
    ours, plain = [part.ours for part in parts], [part.plain for part in parts]
    make = draw(
        st.sampled_from([list, tuple, lambda x: dict(zip("abc", x, strict=False))])
    )
    return Both(make(ours), make(plain))


@st.composite
def columns(draw, known, maps):
    """Draw one argument of a map."""
    kinds = [
        "range",
        "numbers",
        "mixed",
        *(["map", "slice", "reversed"] if maps else []),
    ]
    kind = draw(st.sampled_from(kinds))
    if kind == "range":
        start, step = draw(st.integers(-5, 1 << 31)), draw(st.sampled_from([1, 7, -1]))
        both = range(start, start + step * draw(st.integers(1, 150)), step)
        return Both(both, list(both))
    if kind == "numbers":
        both = [*range(draw(st.integers(1, 150)))]
        if draw(st.booleans()):
            both[-1] = draw(CONSTANTS)
        return Both(both, both)
    if kind == "mixed":
        parts = draw(st.lists(values(known, 1), min_size=1, max_size=5))
        parts *= draw(st.sampled_from([1, 1, 20]))
        return Both([part.ours for part in parts], [part.plain for part in parts])
    mapped = draw(st.sampled_from(maps))
    if kind == "map":
        return mapped
    step = slice(None, None, -1)
    if kind == "slice":
        step = slice(draw(st.integers(0, 3)), None, draw(st.integers(1, 3)))
    return Both(mapped.ours[step], mapped.plain[step])


def same(ours, plain):
    np.testing.assert_equal(ours, plain)


def check(future, plain):
    """See to it that a future has a value, or an error."""
    if not isinstance(plain, Errors):
        same(future.result(timeout=60), plain)
        return
    error = future.exception(timeout=60)
    assert isinstance(error, Broken)
    assert error.args[0] in plain.numbers


@pytest.fixture(scope="module")
def alone():
    """A cluster whose futures nobody counts: hypothesis keeps what it has drawn."""
    with covey.Client(n_workers=2, set_as_default=False) as client:
        yield client


@settings(
    deadline=None,
    max_examples=60,
    derandomize=True,
    suppress_health_check=[*HealthCheck],
)
@given(data=st.data())
def test_a_program_gives_what_python_gives(alone, data):
    client = alone
    known: list[Both] = []
    maps: list[Both] = []
    for _ in range(data.draw(st.integers(1, 12), label="steps")):
        step = data.draw(st.sampled_from(["submit", "map", "scatter", "drop", "ask"]))
        function = data.draw(st.sampled_from(FUNCTIONS))
        if step == "submit":
            args = data.draw(st.lists(values(known), max_size=3))
            named = data.draw(st.lists(values(known), max_size=2))
            ours = {name: part.ours for name, part in zip("xy", named, strict=False)}
            plain = {name: part.plain for name, part in zip("xy", named, strict=False)}
            future = client.submit(
                function,
                *[part.ours for part in args],
                **ours,
                pure=data.draw(st.booleans()),
            )
            known.append(
                Both(future, called(function, [part.plain for part in args], plain))
            )
        elif step == "map":
            drawn = data.draw(st.lists(columns(known, maps), min_size=1, max_size=3))
            named = data.draw(st.lists(values(known, 1), max_size=1))
            ours = {name: part.ours for name, part in zip("x", named, strict=False)}
            plain = {name: part.plain for name, part in zip("x", named, strict=False)}
            futures = client.map(function, *[column.ours for column in drawn], **ours)
            rows = zip(*[column.plain for column in drawn], strict=False)
            expected = [called(function, row, plain) for row in rows]
            assert len(futures) == len(expected)
            if expected:
                maps.append(Both(futures, expected))
                at = data.draw(st.integers(0, len(expected) - 1))
                known.append(Both(futures[at], expected[at]))
        elif step == "scatter":
            plain_values = data.draw(st.lists(CONSTANTS, min_size=1, max_size=5))
            futures = client.scatter(plain_values)
            known += map(Both, futures, plain_values)
            maps.append(Both(futures, plain_values))
        elif step == "drop":
            for them in (known, maps):
                if them:
                    them.pop(data.draw(st.integers(0, len(them) - 1)))
        elif known:
            one = data.draw(st.sampled_from(known))
            check(one.ours, one.plain)
    for one in known:
        check(one.ours, one.plain)
    for futures, expected in maps:
        gathered = client.gather(futures, errors="skip")
        same(gathered, [one for one in expected if not isinstance(one, Errors)])
