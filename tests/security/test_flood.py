"""A sample of ``make flood``: strangers cost little, and keep nobody out."""

from __future__ import annotations

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from flood import BURST, flood


@pytest.mark.system
def test_strangers_cost_little_and_keep_nobody_out():
    pytest.importorskip("cryptography")
    found = flood(BURST, tls=True)
    assert found.turned_away >= BURST
    assert found.protocol_errors == 0
    assert found.grown_bytes < 20 << 20
    # That a client came in each time is what `flood` waits for.
    assert len(found.seconds) == 1
