"""Every example runs, at a small size, and says ``ok`` last.

Meanwhile all its processes are watched: nothing goes beyond this machine, and neither
scheduler nor worker unpickles anything.
"""

from __future__ import annotations

import ast
import ipaddress
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
SEEDS = sorted(FOLDER.glob("0*.py"))
SMALL = {
    "000_mandelbrot_pixels": "0.1",
    "001_pool_and_graphs": "0.02",
    "002_monte_carlo_pi": "0.02",
    "003_bag_of_sleeps": "0.1",
    "004_mandelbrot_arrays": "0.03",
}


AUDIT = Path(__file__).parents[1] / "security" / "audit"


def audit(path):
    """Check what the processes of an example did; return the roles that they had."""
    told = [line.split("\t") for line in path.read_text().splitlines()]
    for role, event, detail in told:
        if event.startswith("socket."):
            assert detail == "localhost" or ipaddress.ip_address(detail).is_loopback
        else:
            assert event == "started", f"the {role} process: {event} {detail}"
    return {role for role, _, _ in told}


def run(script, *arguments, scale, directory):
    scripts = sysconfig.get_path("scripts")
    environment = {
        **os.environ,
        "COVEY_EXAMPLE_SCALE": scale,
        "MPLBACKEND": "agg",
        "MPLCONFIGDIR": str(directory),
        "COVEY_AUDIT_LOG": str(directory / "audit.log"),
        "PYTHONPATH": f"{AUDIT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONFAULTHANDLER": "1",
    }
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_there_is_one_example_for_each_seed():
    assert [path.stem for path in SEEDS] == list(SMALL)


@pytest.mark.parametrize("script", SEEDS, ids=lambda path: path.stem)
def test_examples_need_no_main_guard(script):
    # Programs of users have none either: a runner must never import them again.
    names = {
        node.id
        for node in ast.walk(ast.parse(script.read_text("utf-8")))
        if isinstance(node, ast.Name)
    }
    assert "__name__" not in names


@pytest.mark.system
@pytest.mark.parametrize("script", SEEDS, ids=lambda path: path.stem)
def test_examples_run(script, tmp_path):
    pytest.importorskip("dask")
    pytest.importorskip("matplotlib")
    answer = run(script, scale=SMALL[script.stem], directory=tmp_path)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout.splitlines()[-1] == "ok"
    assert answer.stderr == ""
    assert audit(tmp_path / "audit.log") == {"client", "control", "runner"}


@pytest.mark.system
def test_the_demo_draws_its_picture(tmp_path):
    pytest.importorskip("matplotlib")
    script = FOLDER / "demo.py"
    answer = run(script, "--scale", "0.1", scale="1", directory=tmp_path)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "every pixel is right" in answer.stdout
    assert audit(tmp_path / "audit.log") == {"client", "control", "runner"}
    assert (tmp_path / "mandelbrot.png").stat().st_size > 1000


@pytest.mark.system
def test_runners_of_other_pythons_are_watched_as_well(tmp_path):
    answer = run(FOLDER / "any_python.py", scale="1", directory=tmp_path)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    if answer.stdout.startswith("skipped"):
        pytest.skip(answer.stdout)
    assert " computed " in answer.stdout
    assert audit(tmp_path / "audit.log") == {"client", "control", "runner"}


def test_the_demo_refuses_a_scale_that_means_nothing(tmp_path):
    answer = run(FOLDER / "demo.py", "--scale", "-1", scale="1", directory=tmp_path)
    assert answer.returncode == 2
    assert "scale" in answer.stderr
