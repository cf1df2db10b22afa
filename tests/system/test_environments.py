"""The Python and the packages that a client asks its runners to have."""

from __future__ import annotations

import asyncio
import fcntl
import os
import platform
import subprocess
import sys
import zipfile

import pytest

from covey import Client, errors
from covey.client.environments import environment_text
from covey.worker import builds, environments
from covey.worker.interpreters import candidates

pytestmark = pytest.mark.system

OURS = f"{sys.version_info[0]}.{sys.version_info[1]}"


def functions():
    """Return functions that nobody can import: this module needs pytest."""

    def version():
        return list(sys.version_info[:2])

    def twice(x):
        return 2 * x

    def wanted_value():
        import covetous

        return covetous.VALUE, covetous.__file__

    def parent():
        import covey

        return covey.get_client().submit(version).result(60)

    return version, twice, wanted_value, parent


version, twice, wanted_value, parent = functions()


@pytest.fixture
def other():
    """A minor version that this machine has beside ours."""
    for minor in ("3.13", "3.12", "3.11"):
        if minor != OURS and program_of(minor):
            return minor
    pytest.skip(f"this machine has no Python but {OURS}")


def program_of(minor):
    """Return the Python of that version which starts, if there is one."""
    for found in candidates(minor):
        show = [found, "-c", "import sys; print(sys.executable)"]
        done = subprocess.run(show, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    return ""


def test_runners_of_the_python_that_is_asked_for(other):
    with Client(n_workers=1) as usual:
        assert usual.submit(version).result(30) == list(sys.version_info[:2])
        with Client(usual.cluster, python=other, set_as_default=False) as client:
            asked = [int(part) for part in other.split(".")]
            assert client.submit(version).result(60) == asked
            assert client.gather(client.map(twice, range(50))) == list(range(0, 100, 2))
            assert client.submit(lambda x: x + 1, 1).result(30) == 2
            # One runner serves both, in turns.
            assert usual.submit(version).result(60) == list(sys.version_info[:2])
            assert client.submit(version).result(60) == asked


def test_subtasks_run_in_the_environment_of_their_parent():
    with Client(n_workers=1, python=OURS) as client:
        # The one runner has to serve both: it cannot move while the parent waits.
        assert client.submit(parent).result(60) == list(sys.version_info[:2])


def test_a_task_may_wait_for_tasks_of_another_python(other):
    def parent(python):
        import covey

        here = covey.get_client()
        where = here.connection
        with covey.Client(where, python=python, set_as_default=False) as client:
            # All runners that there are wait in here.
            ages = client.gather([client.submit(platform.python_version)] * 3)
        return ages, list(sys.version_info[:2])

    with Client(n_workers=1) as client:
        ages, own = client.submit(parent, other).result(60)
        assert all(age.startswith(f"{other}.") for age in ages)
        assert own == list(sys.version_info[:2])
        assert client.submit(version).result(30) == own


def submitted(client, n):
    """Submit some tasks; return when the scheduler has said what it has to say."""
    futures = [client.submit(platform.python_version) for _ in range(n)]
    client.scheduler_info()
    return futures


def test_a_python_that_is_nowhere_is_told_at_once_and_the_rest_goes_on():
    with Client(n_workers=1) as usual:
        client = Client(usual.cluster, python="3.99", set_as_default=False)
        with client:
            with pytest.warns(UserWarning, match="asks for Python 3.99"):
                futures = submitted(client, 3)
            told = futures[0].explain()
            assert "asks for Python 3.99" in str(told)
            assert OURS in str(told).partition("offer")[2]
            assert not any(future.done() for future in futures)
        assert usual.submit(twice, 4).result(60) == 8


def test_a_version_that_is_not_exactly_there_fails_what_asks_for_it():
    told = pytest.raises(errors.EnvironmentFailed, match=f"no Python {OURS}.999")
    with Client(n_workers=1, python=f"{OURS}.999") as client, told:
        client.submit(abs, -1).result(60)


def test_a_task_goes_to_a_worker_that_has_its_python(tmp_path, other):
    """Though other workers are idle, and know of no other Python than their own."""
    file = tmp_path / "cluster.json"
    where = ["--connection-file", str(file)]
    command = [sys.executable, "-m", "covey"]
    scheduler = subprocess.Popen(
        [*command, "scheduler", "--port", "0", "--no-dashboard", *where],
        stdout=subprocess.PIPE,
    )
    scheduler.stdout.readline()
    bare = {**os.environ, "PATH": "/nowhere", "PYENV_ROOT": str(tmp_path)}
    bare["UV_PYTHON_INSTALL_DIR"] = str(tmp_path)
    program = program_of(other)
    workers = [
        subprocess.Popen(
            [*command, "worker", *where, "--nworkers", "2", "--name", "poor"], env=bare
        )
    ]
    try:
        with Client(str(file), python=other) as client:
            client.wait_for_workers(1, timeout=30)
            with pytest.warns(UserWarning, match=f"asks for Python {other}"):
                futures = submitted(client, 3)
            python = ["--python", sys.executable, "--python", program]
            names = ["--nworkers", "1", "--name", "rich"]
            workers.append(
                subprocess.Popen(
                    [*command, "worker", *where, *names, *python], env=bare
                )
            )
            assert all(age.startswith(other) for age in client.gather(futures))
            (places,) = {tuple(found) for found in client.who_has(futures).values()}
            assert places == ("rich",)
    finally:
        for process in (*workers, scheduler):
            process.terminate()
            process.communicate(timeout=30)


WHEEL = {
    "covetous/__init__.py": "VALUE = 42\n",
    "covetous-1.0.dist-info/METADATA": (
        "Metadata-Version: 2.1\nName: covetous\nVersion: 1.0\n"
    ),
    "covetous-1.0.dist-info/WHEEL": (
        "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    ),
    "covetous-1.0.dist-info/RECORD": "",
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    return tmp_path / "cache" / "covey" / "environments"


@pytest.fixture
def wheel(tmp_path):
    """A package to install: ``covetous``."""
    wheel = tmp_path / "covetous-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in WHEEL.items():
            archive.writestr(name, text)
    return wheel


@pytest.mark.matrix  # Making an environment takes many seconds.
def test_packages_that_are_asked_for(wheel, cache):
    with Client(n_workers=2) as usual:
        for _ in range(2):
            with Client(usual.cluster, environment=[str(wheel)]) as client:
                futures = [client.submit(wanted_value) for _ in range(4)]
                values = client.gather(futures)
                assert {value for value, _ in values} == {42}
                assert all(file.startswith(str(cache)) for _, file in values)
        with pytest.raises(ModuleNotFoundError, match="covetous"):
            usual.submit(wanted_value).result(60)
    # One environment, though two runners and two clients wanted it; and private.
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1
    assert cache.stat().st_mode & 0o077 == 0


@pytest.mark.matrix
def test_what_one_worker_cannot_build_another_one_can(tmp_path, wheel, cache):
    file = tmp_path / "cluster.json"
    where = ["--connection-file", str(file)]
    command = [sys.executable, "-m", "covey"]
    scheduler = subprocess.Popen(
        [*command, "scheduler", "--port", "0", "--no-dashboard", *where],
        stdout=subprocess.PIPE,
    )
    scheduler.stdout.readline()
    worker = [*command, "worker", *where, "--nworkers", "1", "--name"]
    nowhere = {**os.environ, "XDG_CACHE_HOME": str(file)}
    workers = [subprocess.Popen([*worker, "poor"], env=nowhere)]
    try:
        with Client(str(file), environment=[str(wheel)]) as client:
            client.wait_for_workers(1, timeout=60)
            with pytest.raises(errors.EnvironmentFailed, match="poor: "):
                client.submit(wanted_value).result(60)
            workers.append(subprocess.Popen([*worker, "rich"]))
            client.wait_for_workers(2, timeout=60)
            futures = [client.submit(wanted_value) for _ in range(4)]
            assert {value for value, _ in client.gather(futures)} == {42}
            places = {*map(tuple, client.who_has(futures).values())}
            assert places == {("rich",)}
    finally:
        for process in (*workers, scheduler):
            process.terminate()
            process.communicate(timeout=30)


@pytest.mark.matrix
def test_what_cannot_be_installed_is_told_in_the_installers_words(cache):
    with Client(n_workers=1, environment=["no-such-package-as-this==9"]) as client:
        with pytest.raises(errors.EnvironmentFailed, match="no-such-package") as told:
            client.submit(twice, 1).result(100)
        assert "says:" in str(told.value)
        # It is not tried over and over.
        with pytest.raises(errors.EnvironmentFailed, match="no-such-package"):
            client.submit(twice, 2).result(30)
    assert list(cache.iterdir())


def test_threads_have_no_other_python():
    with Client(processes=False, python=f"{OURS}.999") as client:
        future = client.submit(twice, 1)
        with pytest.raises(errors.EnvironmentFailed, match="threads of its own"):
            future.result(30)


def test_a_cache_that_cannot_be_written_is_told_to_those_who_ask(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with Client(n_workers=1) as usual:
        client = Client(usual.cluster, environment=["x"], set_as_default=False)
        with client, pytest.raises(errors.EnvironmentFailed, match="not be built"):
            client.submit(twice, 1).result(60)
        assert usual.submit(twice, 4).result(60) == 8


def test_a_build_sees_no_secret_of_the_cluster(monkeypatch):
    monkeypatch.setenv("COVEY_ADDRESS", "covey://secret@host:1")
    monkeypatch.setenv("COVEY_TEST", "passed on")
    show = "import os; print(os.environ.get('COVEY_TEST'), os.environ.get({!r})); 1/0"
    command = [sys.executable, "-c", show.format("COVEY_ADDRESS")]
    with pytest.raises(errors.UsageError, match="passed on None"):
        asyncio.run(builds.run(command))


def program(path, text):
    """Write a shell script that can be started."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def installer(tmp_path, monkeypatch):
    """An installer that never ends, and has a child; a pipe tells when both are gone."""
    told = tmp_path / "told"
    os.mkfifo(told)
    program(tmp_path / "uv", f"exec 3> {told}; sleep 1000 & echo begun >&3; wait")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return told


def test_a_build_ends_with_whoever_waits_for_it(tmp_path, installer, cache):
    async def story():
        found = environments.Environments(tmp_path)
        waiting = asyncio.create_task(found.prepare('{"requirements": "x"}'))
        pipe = await asyncio.to_thread(installer.open)
        assert await asyncio.to_thread(pipe.readline) == "begun\n"
        await found.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return pipe

    with asyncio.run(story()) as pipe:
        assert pipe.read() == ""
    # Nothing is held, and nothing passes for complete.
    (lock,) = cache.glob("*.lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_cluster_ends_while_an_environment_is_built(installer, cache):
    with Client(n_workers=1, environment=["x"]) as client:
        future = client.submit(twice, 1)
        pipe = installer.open()
        assert pipe.readline() == "begun\n"
        assert not future.done()
    with pipe:
        assert pipe.read() == ""


def test_two_who_want_the_same_build_it_once(tmp_path, monkeypatch, cache):
    """Also if they are of different processes: here, of different workers."""
    log = tmp_path / "log"
    program(
        tmp_path / "uv",
        f'echo $1 >> {log}; [ $1 = venv ] && mkdir -p "$4/bin" && '
        f'ln -s {sys.executable} "$4/bin/python"; sleep 0.3',
    )
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    async def story():
        wanted = '{"requirements": "x"}'
        places = [tmp_path / "a", tmp_path / "b"]
        for place in places:
            place.mkdir()
        both = [environments.Environments(place).prepare(wanted) for place in places]
        return await asyncio.gather(*both)

    one, other = asyncio.run(story())
    assert log.read_text().split() == ["venv", "pip"]
    assert one.version == other.version


@pytest.mark.parametrize(
    ("names", "rest", "match"),
    [
        ('["3.19.0", "SELF", []]', "echo no runner here >&2; exit 3", "no runner here"),
        ('["3.19.0", "/no/such/python", []]', "exit 3", "cannot be started"),
        ("a python of no kind", "exit 3", "cannot start in .*python3.19"),
    ],
)
def test_runners_that_do_not_start_fail_the_tasks_that_ask(
    tmp_path, monkeypatch, names, rest, match
):
    python = tmp_path / "python3.19"
    said = names.replace("SELF", str(python))
    program(python, f"[ \"$1\" = -c ] && echo '{said}' && exit; {rest}")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with Client(n_workers=1) as usual:
        client = Client(usual.cluster, python="3.19", set_as_default=False)
        with client, pytest.raises(errors.EnvironmentFailed, match=match):
            client.submit(abs, -1).result(60)
        assert usual.submit(abs, -4).result(60) == 4


@pytest.mark.parametrize(
    ("python", "environment", "match"),
    [
        ("latest", None, 'such as "3.12"'),
        ("3.8", None, "3.11 or later"),
        (None, "/no/such/file", "cannot be read"),
        (None, ["x" * (1 << 21)], "more than 1 MiB"),
    ],
)
def test_what_makes_no_sense_is_refused(python, environment, match):
    with pytest.raises(errors.UsageError, match=match):
        environment_text(python, environment)


def test_the_same_wish_is_the_same_text(tmp_path):
    listed = tmp_path / "requirements.txt"
    listed.write_text("a\nb\n")
    assert environment_text(None, None) == ""
    assert environment_text("same", ["b", "a "]) == environment_text(OURS, listed)
    for wish in ("[]", '{"python": "/tmp/evil"}', '{"requirements": 3}', "no json"):
        with pytest.raises(errors.UsageError, match="in no known way"):
            environments._parse(wish)
