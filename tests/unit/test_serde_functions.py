"""Functions that are methods of an object somewhere behind a module."""

from __future__ import annotations

import random

import pytest

from covey.serde.functions import dumps_function, loads_function
from covey.serde.packing import Packer, loads_pack


@pytest.mark.parametrize("function", [random.random, random.randint])
def test_a_method_that_a_module_offers_goes_by_name(function):
    """Its object must not come along: every runner would draw the same numbers."""
    data = dumps_function(function)
    assert len(data) < 120
    assert loads_function(data) is function


def test_a_method_of_an_object_takes_its_object_along():
    generator = random.Random(7)
    twin = loads_function(dumps_function(generator.random))
    assert twin() == random.Random(7).random()


def test_a_method_inside_arguments_goes_by_name_as_well():
    packer = Packer()
    assert packer.add((random.random, 3)) is None
    pack = packer.take()
    assert len(pack.data) < 120
    assert next(loads_pack(pack)) == (random.random, 3)
