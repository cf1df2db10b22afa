"""Which pickles name something, and how much of them is looked at for that."""

from __future__ import annotations

import collections
import datetime as dt
import fractions
import itertools
import os
import pickle
import random
import sys

import pytest

from covey.serde import naming, packing, registry
from covey.serde.naming import names_something
from covey.serde.packing import Packer
from covey.serde.values import dumps, loads

LONG = [
    bytes(1 << 16),
    "x" * 70_000,
    "ü" * 70_000,
    bytearray(1 << 17),
    os.urandom(10**6),
]

NAMED = [
    fractions.Fraction,
    fractions.Fraction(1, 3),
    os.path.join,
    print,
    [].append,
    random.random,
    dt.date(2026, 1, 1),
    collections.OrderedDict(a=1),
    complex(1, 2),
    range(5),
    slice(1, 2),
    ValueError("no"),
    int,
    Ellipsis,
]

PLAIN = [1, 300, 0.5, "text", b"bytes", None, True, (), [], {}, set(), frozenset()]


def written(value):
    return pickle.dumps(value, registry.PROTOCOL)


@pytest.mark.parametrize("value", NAMED, ids=lambda value: type(value).__name__)
def test_whatever_is_not_built_in_is_named(value):
    assert names_something(written(value))
    assert names_something(written({"k": [(value,)]}))


@pytest.mark.parametrize(
    "long", LONG, ids=lambda long: f"{type(long).__name__}{len(long)}"
)
def test_a_name_is_found_on_all_sides_of_long_values(long):
    value = fractions.Fraction(1, 3)
    some = [value, long, bytes(1 << 16), "s" * 70_000, None, 5, [long], {"k": long}]
    for parts in itertools.permutations(some, 4):
        assert names_something(written(parts)) is (value in parts)


def test_a_name_whose_texts_were_written_before_is_found():
    value = fractions.Fraction(1, 3)
    names = [fractions.Fraction.__module__, fractions.Fraction.__qualname__]
    assert names_something(written([*names, value]))


def test_a_name_is_found_in_any_of_several_pickles_in_a_row():
    some = [written(value) for value in (*LONG, *PLAIN)]
    together = b"".join(some)
    assert not names_something(together)
    for at in range(len(some) + 1):
        with_one = [*some[:at], written(print), *some[at:]]
        assert names_something(b"".join(with_one))


@pytest.mark.parametrize(
    "value", [*LONG, PLAIN], ids=lambda value: type(value).__name__
)
def test_plain_values_name_nothing(value):
    assert not names_something(written(value))
    assert not names_something(written([value, {"k": (value, 1)}]))


class Looks:
    """Counts the bytes that are looked at, whatever for."""

    def __init__(self, monkeypatch):
        self.nbytes = 0
        real, table, main = naming._named, packing._needs_table, packing.mentions_main

        def named(part):
            self.nbytes += len(part)
            return real(part)

        def needs_table(stream):
            self.nbytes += 6 * len(stream)
            return table(stream)

        def mentions_main(stream):
            self.nbytes += len(stream)
            return main(stream)

        monkeypatch.setattr(naming, "_named", named)
        monkeypatch.setattr(packing, "_needs_table", needs_table)
        monkeypatch.setattr(packing, "mentions_main", mentions_main)


@pytest.mark.parametrize(
    "long", LONG, ids=lambda long: f"{type(long).__name__}{len(long)}"
)
def test_long_values_are_not_looked_through(monkeypatch, long):
    looks, packer = Looks(monkeypatch), Packer()
    frames = packer.add((long, 1))
    assert frames is not None
    assert loads(frames) == (long, 1)
    dumps({"k": long})
    assert looks.nbytes < 200


def test_plain_values_are_looked_through_once_at_most(monkeypatch):
    looks, packer = Looks(monkeypatch), Packer()
    values = [(b"\x93." * 500, "text" * 100, [*range(100)]) for _ in range(40)]
    for value in values:
        assert packer.add(value) is None
    added = looks.nbytes
    assert added <= packer.nbytes
    assert packer.add_all(values) > 0
    assert looks.nbytes - added <= packer.nbytes // 2


def test_numbers_that_look_like_names_name_nothing():
    """Two bytes are met by chance; what stands before a name is not, or hardly ever."""
    chance = int.from_bytes(b"\x01\x93\x94\x01", "little")
    assert b"\x93\x94" in written([chance])
    assert not names_something(written([chance] * 100))


def test_a_name_is_found_wherever_a_frame_ends():
    """Between a name's texts and what takes them a new frame may begin."""
    for length in range(65_400, 65_560):
        value = [b"x" * 60_000, b"y" * (length - 60_000), fractions.Fraction]
        assert names_something(written(value)), length
        many = [*range(1 << 16, (1 << 16) + length // 5), "x" * (length % 5)]
        assert names_something(written([many, fractions.Fraction])), length


def test_a_name_is_found_whose_texts_have_long_numbers():
    """Of many texts, the later ones are called by four bytes."""
    texts = [f"text {i}" for i in range(300)]
    value = [texts, "fractions", "Fraction", fractions.Fraction]
    value[1], value[2] = sys.intern("fractions"), sys.intern("Fraction")
    assert names_something(written(value))
