"""Protections switched off one at a time: a few seeds notice each."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from covey.sim.campaign import play
from covey.sim.mutants import MUTANTS, RARE, hunt
from covey.sim.plan import Plan

#: Those that plain seeds notice soon, with the first of some seeds.
SOON = {
    "sent-twice": 6,
    "never-again": 7,
    "older-lives": 440,
    "no-drops": 0,
    "no-stops": 0,
    "stopped-tasks": 0,
    "never-kill": 2,
    "clock-of-the-flight": 250,
    "no-marks": 10,
    "late-news": 6,
    "lost-inputs": 720,
    "stale-runs": 930,
    "copies-untold": 4,
    "copies-turn-up": 480,
    "blame-all": 7,
    "blame-first": 7,
    "retry-of-lost-data": 20,
    "no-checksum": 40,
    "no-grace": 3,
    "copies-on-leavers": 715,
    "counts-on-rot": 120,
    "as-estimated": 860,
    "engaged-slots": 200,
}

#: Those that a plan notices which was kept when the bug was found.
KEPT = ["copies-on-leavers", "mixed-versions"]


@pytest.mark.parametrize("name", SOON)
def test_a_few_seeds_notice_what_is_missing(name):
    assert hunt(name, SOON[name], 40).problem


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_plan_notices_what_is_missing(name):
    mutant = next(m for m in (*MUTANTS, *RARE) if m.name == name)
    path = Path(__file__).parent / "regressions" / f"{name}.json"
    plan = msgspec.json.decode(path.read_bytes(), type=Plan)
    assert not play(plan)[1].problem
    with mutant.alive():
        assert play(plan)[1].problem


def test_protections_are_back_afterwards():
    mutants = (*MUTANTS, *RARE)
    before = [repr(_there(mutant)) for mutant in mutants]
    for mutant in mutants:
        with mutant.alive():
            pass
    assert [repr(_there(mutant)) for mutant in mutants] == before


def _there(mutant):
    if isinstance(mutant.place, dict):
        return mutant.place[mutant.attribute]
    return getattr(mutant.place, mutant.attribute)
