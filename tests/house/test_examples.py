"""Every example runs, at a small size, and says ``ok`` last."""

from __future__ import annotations

import ast
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


def run(script, *arguments, scale, directory):
    scripts = sysconfig.get_path("scripts")
    environment = {
        **os.environ,
        "COVEY_EXAMPLE_SCALE": scale,
        "MPLBACKEND": "agg",
        "MPLCONFIGDIR": str(directory),
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


@pytest.mark.system
def test_the_demo_draws_its_picture(tmp_path):
    pytest.importorskip("matplotlib")
    script = FOLDER / "demo.py"
    answer = run(script, "--scale", "0.1", scale="1", directory=tmp_path)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "every pixel is right" in answer.stdout
    assert (tmp_path / "mandelbrot.png").stat().st_size > 1000


def test_the_demo_refuses_a_scale_that_means_nothing(tmp_path):
    answer = run(FOLDER / "demo.py", "--scale", "-1", scale="1", directory=tmp_path)
    assert answer.returncode == 2
    assert "scale" in answer.stderr
