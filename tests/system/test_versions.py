"""Client and runners of different Pythons: right, or refused with a reason.

``make matrix`` tries all pairs of the Pythons on this machine; ``make test`` the
Python of the tests against one other.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

from covey import Client
from covey.errors import TaskUnreadable, VersionSkew
from covey.worker.interpreters import candidates

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "matrix" / "program.py"
MINORS = ("3.11", "3.12", "3.13")
OURS = f"{sys.version_info[0]}.{sys.version_info[1]}"


def runner_python(minor):
    """Return a program of that version that can start at all."""
    if minor == OURS:
        return sys.executable
    for program in candidates(minor):
        done = subprocess.run([program, "-c", ""], capture_output=True, check=False)
        if done.returncode == 0:
            return program
    return None


def client_python(minor):
    """Return the Python of an environment that has covey, if `make matrix` made it."""
    if minor == OURS:
        return sys.executable
    program = ROOT / f".venv-{minor}" / "bin" / "python"
    return str(program) if program.exists() else None


COVEY = (sys.executable, "-m", "covey")


def start_scheduler(file):
    """Start a scheduler; return when its connection file is there."""
    command = [*COVEY, "scheduler", "--port", "0", "--connection-file", str(file)]
    scheduler = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert b"covey scheduler at" in scheduler.stdout.readline()
    return scheduler


def end(*processes):
    for process in processes:
        process.terminate()
        process.communicate(timeout=30)


def cell(client, runner, tmp_path):
    """Return what the program says with these two Pythons."""
    file = tmp_path / "cluster.json"
    scheduler = start_scheduler(file)
    where = ["--connection-file", str(file)]
    worker = subprocess.Popen(
        [*COVEY, "worker", *where, "--nworkers", "1", "--python", runner]
    )
    try:
        done = subprocess.run(
            [client, str(PROGRAM), str(file)],
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
            env={**os.environ, "PYTHONWARNINGS": "error::DeprecationWarning:__main__"},
        )
    finally:
        end(worker, scheduler)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(outcomes, runner):
    assert outcomes.pop("runner") == [int(part) for part in runner.split(".")]
    numpy = outcomes.pop("numpy")
    assert numpy == "right" or (
        numpy.startswith("refused: ModuleNotFoundError") and "numpy" in numpy
    ), numpy
    assert set(outcomes.values()) == {"right"}, outcomes


def test_runners_of_another_python(tmp_path):
    minor = next((m for m in reversed(MINORS) if m != OURS and runner_python(m)), None)
    if minor is None:
        pytest.skip(f"no Python but {OURS} of {', '.join(MINORS)} is on this machine")
    check(cell(sys.executable, runner_python(minor), tmp_path), minor)


EARLY = """
import sys
from covey import Client

offset = 40

def plus(x):
    return x + offset, sys.version_info[1]

with Client(sys.argv[1]) as client:
    future = client.submit(plus, 2)
    other = client.submit(eval("lambda x: x * 2"), 4)
    print("submitted", flush=True)
    print(*future.result(90), flush=True)
    try:
        other.result(60)
    except Exception as error:
        print(type(error).__name__)
"""


def test_what_is_sent_before_any_worker_is_there_suits_any_python(tmp_path):
    minor = next((m for m in reversed(MINORS) if m != OURS and runner_python(m)), None)
    if minor is None:
        pytest.skip(f"no Python but {OURS} of {', '.join(MINORS)} is on this machine")
    file = tmp_path / "cluster.json"
    program = tmp_path / "early.py"
    program.write_text(EARLY)
    processes = [start_scheduler(file)]
    try:
        client = subprocess.Popen(
            [sys.executable, str(program), str(file)], stdout=subprocess.PIPE, text=True
        )
        processes.append(client)
        assert client.stdout.readline() == "submitted\n"
        where = ["--connection-file", str(file), "--nworkers", "1"]
        python = ["--python", runner_python(minor)]
        processes.append(subprocess.Popen([*COVEY, "worker", *where, *python]))
        assert client.stdout.readline() == f"42 {minor.split('.')[1]}\n"
        # What has no text is refused by name, as ever.
        assert client.stdout.readline() == "VersionSkew\n"
    finally:
        end(*reversed(processes))


LATE = """
import os, sys, time
from covey import Client, as_completed

class Point:
    def __init__(self, x):
        self.x = x

def hold(path):
    while not os.path.exists(path):
        time.sleep(0.02)

def plus(point, other=0):
    return point.x + other, sys.version_info[1]

def first(pair, times):
    return times(pair[0])

with Client(sys.argv[1]) as client:
    client.wait_for_workers(1, timeout=60)
    holding = client.submit(hold, sys.argv[2])
    one = client.submit(plus, Point(1), other=2)
    many = client.map(plus, [Point(i) for i in range(20)])
    after = client.submit(first, one, lambda x: 10 * x)
    del one
    print("submitted", client.submitter.writing.by_source, flush=True)
    early = next(as_completed(many))
    print("the first came from", early.result()[1], flush=True)
    open(sys.argv[2], "w").close()
    print(after.result(90), *(x for x, _ in client.gather(many)), flush=True)
"""


def test_what_went_by_value_before_another_python_joined_is_sent_again(tmp_path):
    """The slot of our Python is taken, so the worker that joins is given it."""
    minor = next((m for m in reversed(MINORS) if m != OURS and runner_python(m)), None)
    if minor is None:
        pytest.skip(f"no Python but {OURS} of {', '.join(MINORS)} is on this machine")
    file = tmp_path / "cluster.json"
    program = tmp_path / "late.py"
    program.write_text(LATE)
    where = ["--connection-file", str(file), "--nworkers", "1"]
    python = ["--python", runner_python(minor)]
    processes = [start_scheduler(file)]
    try:
        processes.append(subprocess.Popen([*COVEY, "worker", *where]))
        client = subprocess.Popen(
            [sys.executable, str(program), str(file), str(tmp_path / "go")],
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(client)
        assert client.stdout.readline() == "submitted False\n"
        processes.append(subprocess.Popen([*COVEY, "worker", *where, *python]))
        there = minor.split(".")[1]
        assert client.stdout.readline() == f"the first came from {there}\n"
        numbers = " ".join(map(str, range(20)))
        assert client.stdout.readline() == f"30 {numbers}\n"
    finally:
        (tmp_path / "go").touch()
        end(*reversed(processes))


@pytest.fixture
def another_cloudpickle(tmp_path):
    """A scheduler, and a worker whose cloudpickle says that it is version 99."""
    folder = tmp_path / "packages" / "cloudpickle"
    shutil.copytree(Path(cloudpickle.__file__).parent, folder)
    text = (folder / "__init__.py").read_text()
    told = f"__version__ = '99.0.1'\n{text.replace('__version__ =', '_was =')}"
    (folder / "__init__.py").write_text(told)
    file = tmp_path / "cluster.json"
    scheduler = start_scheduler(file)
    worker = subprocess.Popen(
        [*COVEY, "worker", "--connection-file", str(file), "--nworkers", "1"],
        env={**os.environ, "PYTHONPATH": str(folder.parent)},
    )
    yield str(file)
    end(worker, scheduler)


def test_another_cloudpickle_gets_text_and_refuses_the_rest(another_cloudpickle):
    versions = ["cloudpickle 99.0.1", f"cloudpickle {cloudpickle.__version__}"]
    offset = 40
    with Client(another_cloudpickle) as client:
        client.wait_for_workers(1, timeout=60)
        assert client.submit(lambda x: x + offset, 2).result(60) == 42
        there = client.submit(getattr, cloudpickle, "__version__")
        assert there.result(60) == "99.0.1"
        made = client.submit(eval, "lambda: 1")
        with pytest.raises(TaskUnreadable) as caught:
            made.result(60)
        assert all(version in str(caught.value) for version in versions)
    with Client(another_cloudpickle, functions="value") as client:
        error = client.submit(lambda x: x + 1, 2).exception(60)
    assert isinstance(error, VersionSkew)
    assert all(version in str(error) for version in versions)


@pytest.mark.matrix
@pytest.mark.parametrize("runner", MINORS)
@pytest.mark.parametrize("client", MINORS)
def test_matrix(client, runner, tmp_path):
    ours, theirs = client_python(client), runner_python(runner)
    # Where covey's own environment of that Python was made, it has NumPy too.
    theirs = client_python(runner) or theirs
    for minor, found in ((client, ours), (runner, theirs)):
        if found is None:
            pytest.skip(f"there is no Python {minor} here; `make matrix` looks for it")
    check(cell(ours, theirs, tmp_path), runner)


@pytest.mark.matrix
@pytest.mark.parametrize("client", MINORS)
def test_the_example(client):
    python = client_python(client)
    if python is None:
        pytest.skip(f"there is no Python {client} here; `make matrix` looks for it")
    program = ROOT / "examples" / "any_python.py"
    done = subprocess.run(
        [python, str(program)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.endswith("of 2560 points") or last.startswith("skipped: ")


def test_a_python_that_is_too_old_is_refused(tmp_path):
    old = tmp_path / "python3.8"
    old.write_text("#!/bin/sh\necho 'SyntaxError: invalid syntax' >&2; exit 1\n")
    old.chmod(0o755)
    file = tmp_path / "cluster.json"
    scheduler = start_scheduler(file)
    try:
        done = subprocess.run(
            [*COVEY, "worker", "--connection-file", str(file), "--python", str(old)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        end(scheduler)
    assert done.returncode == 2
    assert "runner cannot start" in done.stderr
    assert "need Python 3.11 or later" in done.stderr
