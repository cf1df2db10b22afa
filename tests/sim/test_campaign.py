"""A small campaign, the bugs that earlier ones found, and what makes both replay."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from covey.sim import __main__ as command
from covey.sim.campaign import campaign, digests, play, report, run_seeds
from covey.sim.oracle import Oracle, Wrong
from covey.sim.plan import FAULTS, KINDS, WISHES, Plan, draw
from covey.sim.shrink import minimal, shrink
from covey.sim.tasks import Recipe, encode
from covey.wire.base import DEFAULT_OPTIONS, Failure

HERE = Path(__file__).parent
REGRESSIONS = sorted((HERE / "regressions").glob("*.json"))


def read(path: Path) -> Plan:
    return msgspec.json.decode(path.read_bytes(), type=Plan)


def test_a_small_campaign():
    outcomes = run_seeds(range(64))
    assert not {o.seed: o.problem for o in outcomes if o.problem}
    assert sum(outcome.tasks for outcome in outcomes) > 3000


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_bugs_that_were_found_stay_away(path):
    _, outcome = play(read(path))
    assert not outcome.text


def test_plans_hold_every_fault_and_every_wish():
    plans = [draw(seed) for seed in range(300)]
    assert {f.kind for plan in plans for f in plan.faults} == set(FAULTS)
    assert {w.kind for plan in plans for w in plan.wishes} == set(WISHES)
    assert {kind for plan in plans for kind in plan.kinds} == set(KINDS)


def listed_by(python, hash_seed, count):
    """Return the trace hash of each seed, as another process comes to them."""
    listed = subprocess.run(
        [str(python), "-m", "covey.sim", "--digests", "--seeds", str(count)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
        text=True,
        timeout=100,
    ).stdout
    lines = [line.split() for line in listed.splitlines()]
    return {int(seed): digest for seed, digest in lines}


def test_a_run_is_the_same_whatever_the_hash_seed():
    """Sets of texts have another order in each process; nothing may depend on it."""
    here = digests(run_seeds(range(12)))
    for hash_seed in ("1", "2"):
        assert listed_by(sys.executable, hash_seed, 12) == here


@pytest.mark.matrix
@pytest.mark.parametrize("minor", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_run_is_the_same_on_every_python(minor, hash_seed):
    """A seed that fails anywhere can be replayed everywhere."""
    python = Path(f"{sys.prefix}-{minor}") / "bin" / "python"
    if minor == f"{sys.version_info[0]}.{sys.version_info[1]}":
        python = Path(sys.executable)
    if not python.exists():
        pytest.skip(f"`make matrix` found no Python {minor} here")
    assert listed_by(python, hash_seed, 40) == first_forty()


@functools.cache
def first_forty():
    return digests(run_seeds(range(40)))


def test_a_campaign_takes_any_number_of_processes():
    one = list(campaign(0, 12, processes=1))
    two = list(campaign(0, 12, processes=2))
    assert one == two


# Judging.


def known(oracle, kind="plain", retries=0):
    recipe = Recipe(oracle.new_number(), kind)
    options = msgspec.structs.replace(DEFAULT_OPTIONS, retries=retries)
    task = 100 + recipe.number
    oracle.know(task, recipe, encode(recipe), options)
    return task


def test_the_oracle_refuses_another_value():
    oracle = Oracle()
    task, other = known(oracle), known(oracle)
    oracle.check_value(task, oracle.value(task))
    with pytest.raises(Wrong):
        oracle.check_value(task, oracle.value(other))


@pytest.mark.parametrize(
    ("kind", "retries", "failure", "excused"),
    [
        ("plain", 0, "raised", False),
        ("plain", 0, "died", False),
        ("plain", 0, "lost", False),
        ("raises", 3, "raised", True),
        ("raises", 0, "died", False),
        ("flaky", 0, "raised", True),
        ("flaky", 1, "raised", False),
        ("crashes-once", 0, "died", True),
        ("crashes-once", 1, "died", False),
    ],
)
def test_the_oracle_wants_a_reason_for_each_failure(kind, retries, failure, excused):
    oracle = Oracle()
    task = known(oracle, kind, retries)
    why = Failure(failure, "Error", "it failed")
    if excused:
        oracle.check_failure(task, why)
    else:
        with pytest.raises(Wrong):
            oracle.check_failure(task, why)


# Shrinking.


@pytest.mark.parametrize("needed", [set(), {0}, {3, 17}, {1, 2, 3, 4, 5}])
def test_shrinking_keeps_what_is_needed_and_no_more(needed):
    assert minimal(list(range(20)), lambda some: needed <= set(some)) == sorted(needed)


def test_a_plan_shrinks_to_the_fault_that_matters():
    plan = next(plan for plan in map(draw, range(100)) if len(plan.faults) > 4)
    culprit = plan.faults[2]
    wishes, faults = shrink(plan, lambda some: culprit in some.faults)
    assert (wishes, faults) == ([], [2])


# Telling.


def test_a_report_tells_all(capsys, tmp_path):
    path = tmp_path / "plan.json"
    assert command.main(["--seed", "0", "--save", str(path), "--lines", "1000"]) == 0
    told = capsys.readouterr().out
    assert "replay with: python -m covey.sim --seed 0" in told
    assert "Submit" in told and "client1 > scheduler" in told
    assert read(path) == draw(0)
    assert command.main(["--plan", str(path)]) == 0


def test_a_failure_is_shrunk_and_reported(monkeypatch, capsys):
    """With an oracle that takes every value for wrong, every seed fails."""
    real = Oracle.check_value
    monkeypatch.setattr(Oracle, "check_value", lambda o, t, v: real(o, t, b"not " + v))
    assert command.main(["--seeds", "3", "--processes", "1"]) == 1
    told = capsys.readouterr().out
    assert "came to a wrong value" in told
    assert "replay with: python -m covey.sim --seed" in told
    assert "--faults ," in told  # No fault is needed for that.


def test_a_report_of_a_good_plan_says_so():
    assert "nothing goes wrong" in report(draw(3))
