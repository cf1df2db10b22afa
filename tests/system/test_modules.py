"""Code that only the client has: it goes along, and changes are noticed."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
import zipfile

import pytest

from covey import Client, errors
from covey.client.modules import OwnModules
from covey.client.writing import Writing
from covey.wire.client_link import DefineFunction

pytestmark = pytest.mark.system

HELPERS = """
import nearby

class Thing:
    def __init__(self, x):
        self.x = x

    def double(self):
        return Thing(self.x * nearby.FACTOR)

def double(x):
    return x * nearby.FACTOR

def fail():
    raise ValueError("told")
"""

PROGRAM = """
import os, sys, time
import helpers, pack.inner
from covey import Client

def uses(x):
    return helpers.double(x)

def value(thing):
    return thing.x

with Client(sys.argv[1]) as client:
    def run(function, *args):
        return client.submit(function, *args).result(30)

    assert run(helpers.double, 2) == 6
    assert run(uses, 3) == 9
    assert run(pack.inner.where) == "data of pack"
    assert run(helpers.Thing(2).double).x == 6
    assert run(value, helpers.Thing(5)) == 5
    things = [helpers.Thing(x) for x in range(100)]
    assert client.gather(client.map(value, things)) == list(range(100))
    try:
        run(helpers.fail)
    except ValueError as error:
        assert 'raise ValueError("told")' in error.__notes__[0], error.__notes__

    # An edit is noticed, by functions that were sent before as well.
    with open("nearby.py", "w") as file:
        file.write("FACTOR = 100 + 1\\n")
    deadline = time.monotonic() + 20
    while run(helpers.double, 1) != 101:
        assert time.monotonic() < deadline
    assert run(uses, 1) == 101
print("done")
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A scheduler and a worker that know nothing of the project."""
    empty = tmp_path / "empty"
    empty.mkdir()
    file = tmp_path / "cluster.json"
    covey = [sys.executable, "-m", "covey"]
    where = ["--connection-file", str(file)]
    scheduler = subprocess.Popen(
        [*covey, "scheduler", "--port", "0", *where], stdout=subprocess.PIPE, cwd=empty
    )
    scheduler.stdout.readline()
    worker = subprocess.Popen([*covey, "worker", *where, "--nworkers", "1"], cwd=empty)
    yield str(file)
    for process in (worker, scheduler):
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    (folder / "pack").mkdir(parents=True)
    (folder / "helpers.py").write_text(HELPERS)
    (folder / "nearby.py").write_text("FACTOR = 3\n")
    (folder / "pack" / "__init__.py").write_text("")
    (folder / "pack" / "data.txt").write_text("data of pack")
    (folder / "pack" / "inner.py").write_text(
        "import pkgutil\n"
        "def where():\n    return pkgutil.get_data('pack', 'data.txt').decode()\n"
    )
    (folder / "program.py").write_text(textwrap.dedent(PROGRAM))
    return folder


def test_own_modules_go_along(cluster, project):
    done = subprocess.run(
        [sys.executable, "program.py", cluster],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr


def call(module, name, *args):
    import importlib

    return getattr(importlib.import_module(module), name)(*args)


def test_what_is_uploaded_goes_along_and_what_is_not_is_named(cluster, project):
    with Client(cluster, set_as_default=False) as client:
        with pytest.raises(ModuleNotFoundError, match="helpers") as told:
            client.submit(call, "helpers", "double", 2).result(30)
        notes = "".join(told.value.__notes__)
        assert "There is no module 'helpers' on worker" in notes
        assert "client.upload_package" in notes
        client.upload_file(project / "nearby.py")
        client.upload_file(project / "helpers.py")
        client.upload_package(project / "pack")
        assert client.submit(call, "helpers", "double", 2).result(30) == 6
        assert client.submit(call, "pack.inner", "where").result(30) == "data of pack"
        with pytest.raises(errors.UsageError, match="neither a package"):
            client.upload_file(project / "absent.py")


def test_a_zip_file_and_a_large_package(client, project):
    big = project / "bigger"
    big.mkdir()
    (big / "__init__.py").write_text("def f():\n    return len(TEXT)\n")
    with (big / "__init__.py").open("ab") as file:
        file.write(b"TEXT = " + repr(os.urandom(1 << 20)).encode())
    archive = project / "zipped.zip"
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("zipped_one.py", "def f():\n    return 'one'\n")
        writer.writestr("zipped_two/__init__.py", "from zipped_one import f\n")
    with Client(client.cluster, set_as_default=False) as other:
        other.upload_file(archive)
        assert other.submit(call, "zipped_two", "f").result(30) == "one"
        other.upload_package(big)
        assert other.submit(call, "bigger", "f").result(30) == 1 << 20
        assert other.gather(other.map(call, ["bigger"] * 3, "fff")) == [1 << 20] * 3


def power(x, exponent):
    return x**exponent


def test_arguments_that_name_no_module_do_not_have_a_function_looked_up_again(
    client, tmp_path, monkeypatch
):
    asked, function = [], Writing.function

    def spy(self, what, *rest, **more):
        asked.append(what)
        return function(self, what, *rest, **more)

    monkeypatch.setattr(Writing, "function", spy)
    # As in a client of a cluster that it did not start.
    monkeypatch.setattr(client.submitter.writing, "modules", OwnModules(auto=True))
    assert client.submit(abs, -1).result(30) == 1
    assert client.gather(client.map(abs, [-1, 2])) == [1, 2]
    assert asked == [abs, abs]
    # What they do name goes along, though the function says nothing of it.
    (tmp_path / "named_by_arguments.py").write_text(
        "class Thing:\n    def __str__(self):\n        return 'a thing'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    thing = importlib.import_module("named_by_arguments").Thing()
    assert client.submit(str, thing).result(30) == "a thing"
    assert client.gather(client.map(str, [thing])) == ["a thing"]


def test_other_keywords_do_not_send_the_modules_again(client, project, monkeypatch):
    (project / "large.py").write_bytes(b"TEXT = " + repr(os.urandom(50_000)).encode())
    with Client(client.cluster, set_as_default=False) as other:
        other.upload_file(project / "large.py")
        assert other.gather(other.map(power, range(9), exponent=1)) == list(range(9))
        sent = []
        numbers = other.submitter._numbers
        post = numbers._post
        monkeypatch.setattr(
            numbers, "_post", lambda message: (sent.append(message), post(message))
        )
        for exponent in range(5):
            found = other.gather(other.map(power, range(9), exponent=exponent))
            assert found == [x**exponent for x in range(9)]
        assert not [m for m in sent if isinstance(m, DefineFunction)]
        # With many calls it is shorter to send both once.
        assert other.gather(other.map(power, range(9999), exponent=2))[:3] == [0, 1, 4]
        assert len([m for m in sent if isinstance(m, DefineFunction)]) == 1


RELOADING = """
import importlib, sys
import changed, uses
from covey import Client

def through(x):
    return changed.f(x)

def value(thing):
    return thing.f()

if __name__ == "__main__":
    with Client(n_workers=1, processes=sys.argv[1] == "processes") as client:
        def all_of_them():
            calls = [(changed.f, 1), (uses.g, 1), (through, 1), (value, changed.Thing())]
            here = [function(x) for function, x in calls]
            there = [client.submit(function, x).result(30) for function, x in calls]
            assert there == here, (there, here)
            assert client.gather(client.map(changed.f, range(9))) == [
                changed.f(x) for x in range(9)
            ]
            return here

        assert all_of_them() == [1, 1, 1, 0]
        for by in (10, 100):
            with open("changed.py") as file:
                text = file.read()
            with open("changed.py", "w") as file:
                file.write(text.replace("BY = ", "BY = 10 * "))
            importlib.reload(changed)
            importlib.reload(uses)
            assert all_of_them() == [1 + by, 1 + by, 1 + by, by], by
    # A cluster that is new has what is there now.
    with Client(n_workers=1, processes=sys.argv[1] == "processes") as client:
        assert client.submit(changed.f, 1).result(30) == 101
    print("done")
"""


@pytest.mark.parametrize("runners", ["processes", "threads"])
def test_a_local_cluster_follows_what_is_reloaded(tmp_path, runners):
    (tmp_path / "changed.py").write_text(
        "BY = 1\n"
        "def f(x): return x + (BY if BY > 1 else 0)\n"
        "class Thing:\n"
        "    def f(self): return f(0)\n"
    )
    (tmp_path / "uses.py").write_text("from changed import f\ndef g(x): return f(x)\n")
    (tmp_path / "program.py").write_text(RELOADING)
    done = subprocess.run(
        [sys.executable, "program.py", runners],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
