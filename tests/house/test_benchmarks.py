"""What benchmarks name of covey's insides is still there."""

from __future__ import annotations

import pathlib
import runpy

import pytest

ROOT = pathlib.Path(__file__).parents[2]

PROTECTION = runpy.run_path(str(ROOT / "benchmarks/cost.py"))["PROTECTION"]


@pytest.mark.parametrize("name", PROTECTION)
def test_each_mechanism_whose_cost_is_measured_is_there(name):
    for place, function in PROTECTION[name]:
        assert callable(getattr(place, function)), (place, function)
