"""The page about the simulator tells what each kind of fault means."""

from __future__ import annotations

from pathlib import Path

import pytest

from covey.sim.plan import FAULTS

PAGE = Path(__file__).parents[2] / "docs" / "simulator.md"


@pytest.mark.parametrize("name", FAULTS)
def test_every_kind_of_fault_is_told_of(name):
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert any(f"`{name}`" in row for row in rows)
