"""Serializers that a client chooses, and that no pickle is read if it wants none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from covey import errors

pytestmark = pytest.mark.system


def total(values, *, plus=0):
    return {"total": sum(values) + plus}


def pair(x):
    return x, [x]


def a_set():
    return {1}


def boom(x):
    raise KeyError(x)


class Odd(Exception):
    pass


def odd():
    raise Odd("seven")


@pytest.mark.parametrize("serializer", ["msgpack", "json", "arrow"])
def test_one_call_may_choose(client, serializer):
    future = client.submit(total, [1, 2], plus=3, serializer=serializer)
    assert future.result(30) == {"total": 6}
    later = client.submit(lambda t: t["total"] + 1, future, serializer=serializer)
    assert later.result(30) == 7
    many = client.map(pair, range(5000), serializer=serializer)
    assert client.gather(many)[-1] == (4999, [4999])
    chained = client.map(lambda p: p[0] + 1, many, serializer=serializer)
    assert client.gather(chained)[:2] == [1, 2]


def test_what_is_not_plain_is_refused_on_both_sides(client):
    with pytest.raises(errors.NotPicklable, match=r"args\[0\]\[1\] \(set\)"):
        client.submit(total, [1, {2}], serializer="json")
    with pytest.raises(errors.NotPicklable, match=r"result \(set\) is not plain data"):
        client.submit(a_set, serializer="json").result(30)
    with pytest.raises(errors.UsageError, match="'arrow', not 'yaml'"):
        client.submit(a_set, serializer="yaml")


def test_errors_come_as_plain_data(client):
    with pytest.raises(KeyError, match="9") as told:
        client.submit(boom, 9, serializer="json").result(30)
    # By value or by reference: only the latter knows the text of the line.
    assert "in boom" in told.value.__notes__[0]
    with pytest.raises(errors.TaskUnreadable, match="Odd: seven"):
        client.submit(odd, serializer="json").result(30)


def test_scattered_values_may_choose_too(client):
    array = np.arange(500_000.0)
    small, large = client.scatter([np.ones(3), array], serializer="arrow")
    assert client.submit(sum, small).result(30) == 3
    assert (large.result(30) == array).all()
    plain = client.scatter({"a": [(1, 2)]}, serializer="json")
    assert plain["a"].result(30) == [[1, 2]]
    before = client.scheduler_info()["tasks"]
    with pytest.raises(errors.NotPicklable, match=r"\(set\)"):
        client.scatter([1, {2}], serializer="msgpack")
    with pytest.raises(errors.UsageError, match="'arrow', not 'yaml'"):
        client.scatter([1], serializer="yaml")
    assert client.scheduler_info()["tasks"] == before


def test_large_arrays_in_arrow(client):
    array = np.ones(500_000)
    future = client.submit(np.multiply, array, 2.0, serializer="arrow")
    assert future.result(30).sum() == 1_000_000
    with pytest.raises(errors.NotPicklable, match="numpy.ndarray"):
        client.submit(np.sum, array, serializer="msgpack")


WATCH = """
import os, pickle, sys

def note(what):
    with open(os.environ["WATCHED"], "a") as file:
        file.write(f"{os.getpid()} {sys.argv[:3]} {what}\\n")

def hook(event, args):
    if event == "pickle.find_class":
        note(args)

sys.addaudithook(hook)
for name in ("loads", "load"):
    def wrapped(*args, _real=getattr(pickle, name), _name=name, **kwargs):
        note(_name)
        return _real(*args, **kwargs)
    setattr(pickle, name, wrapped)
"""

WORK = """
def add(x, y=0):
    return x + y

def fail(x):
    raise ValueError(x)

def large(n):
    return [float(i) for i in range(n)]
"""

PROGRAM = """
import math
import covey, work
from covey import Client, errors

with Client(n_workers=1, serializer=SERIALIZER, functions="import") as client:
    one = client.submit(work.add, 1, y=2)
    assert client.submit(work.add, one, 1).result(30) == 4
    assert client.gather(client.map(work.add, range(3000), y=1))[-1] == 3000
    assert client.submit(math.sqrt, 4).result(30) == 2
    big = client.submit(work.large, 50_000)
    assert client.submit(len, big).result(30) == 50_000
    assert len(big.result(30)) == 50_000
    assert client.submit(sum, [1.0] * 50_000).result(30) == 50_000
    assert client.gather(client.scatter([1, "two"])) == [1, "two"]
    try:
        client.submit(work.fail, "no").result(30)
    except ValueError as error:
        assert error.args == ("no",)
    for refused in (lambda: 1, work.add.__code__.co_code.hex):
        try:
            client.submit(refused)
        except errors.NotPicklable as error:
            assert 'functions="import"' in str(error), error
        else:
            raise SystemExit("was not refused")
    try:
        client.submit(work.add, 1, serializer="pickle").result(30)
    except errors.TaskUnreadable as error:
        assert "written by pickle" in str(error)
    else:
        raise SystemExit("read a pickle")
    try:
        client.get({"x": 1}, "x")
    except errors.UsageError as error:
        assert "needs pickle" in str(error)
print("done")
"""


def run(tmp_path, program):
    watch = tmp_path / "watch"
    watch.mkdir(exist_ok=True)
    (watch / "sitecustomize.py").write_text(WATCH)
    (tmp_path / "work.py").write_text(WORK)
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(program))
    watched = tmp_path / "watched"
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(watch), "WATCHED": str(watched)},
    )
    assert done.returncode == 0, done.stderr
    return watched.read_text() if watched.exists() else ""


@pytest.mark.parametrize(
    "serializer", ["msgpack", pytest.param("json", marks=pytest.mark.matrix)]
)
def test_no_pickle_is_read_anywhere(tmp_path, serializer):
    program = PROGRAM.replace("SERIALIZER", json.dumps(serializer))
    # The one call that asks for it is read by its runner, and told by the watch:
    # the client does not look into its answer.
    head, tail = program.split("    try:\n        client.submit(work.add, 1, serial", 1)
    _, rest = tail.split('raise SystemExit("read a pickle")\n', 1)
    assert run(tmp_path, head + rest) == ""


def test_a_client_that_reads_no_pickle_refuses_one(tmp_path):
    watched = run(tmp_path, PROGRAM.replace("SERIALIZER", '"json"'))
    assert watched
    assert all("covey/runner" in line for line in watched.splitlines())


PLUGIN = """
import fractions
from covey.serde import register

def register_all():
    register(
        fractions.Fraction,
        lambda f: str(f).encode(),
        lambda data: fractions.Fraction(data.decode()),
        name="frac",
    )
"""


def test_serializers_by_entry_point(tmp_path):
    watch = tmp_path / "watch"  # It is on every process's path.
    (watch / "fracs-1.dist-info").mkdir(parents=True)
    (watch / "fracs.py").write_text(PLUGIN)
    info = watch / "fracs-1.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fracs\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[covey.serializers]\nfracs = fracs:register_all\n"
    )
    program = """
    from fractions import Fraction
    from covey import Client
    with Client(n_workers=1, serializer="json") as client:
        half = client.submit(Fraction.__add__, Fraction(1, 4), Fraction(1, 4))
        assert half.result(30) == Fraction(1, 2)
    """
    run(tmp_path, program)
