"""A sample of the fuzzing that ``make fuzz`` does in full."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from fuzz import TARGETS, fuzz

COUNT = 3_000


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_bytes_end_in_protocol_errors_only(name):
    found = asyncio.run(fuzz(name, COUNT, seed=20261125))
    assert sum(found.ends.values()) == COUNT
    # Both ways were walked: what was refused, and what still made sense.
    assert found.ends["RemoteProtocolError"] > COUNT // 20
    assert found.ends["taken"] > COUNT // 100
    assert found.grown_bytes < 64 << 20
