"""``covey doctor`` on a healthy cluster, and on broken ones: it says what, and the fix."""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from covey.worker.interpreters import candidates

doctor = importlib.import_module("covey.cli.doctor")  # The package has the command.

pytestmark = pytest.mark.system

COVEY = (sys.executable, "-m", "covey")


def start(*arguments, **keywords):
    return subprocess.Popen(
        [*COVEY, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        **keywords,
    )


@pytest.fixture
def place(tmp_path):
    """A scheduler, and a way to give it workers."""
    file = tmp_path / "cluster.json"
    processes = [start("scheduler", "--port", "0", "--connection-file", str(file))]
    processes[0].stdout.readline()

    def worker(*arguments, **keywords):
        where = ["--connection-file", str(file), "--nworkers", "1", "--name", "w"]
        processes.append(start("worker", *where, *arguments, **keywords))
        with doctor_client(file) as client:
            client.wait_for_workers(1, timeout=30)
            # Its runner is there when something has run.
            client.submit(len, "x").result(30)
        return processes[-1]

    worker.file = file
    yield worker
    for process in reversed(processes):
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.communicate(timeout=30)


def doctor_client(file):
    from covey import Client

    return Client(str(file), set_as_default=False)


def ask(file, size=1_000_000):
    """Return exit code and findings by subject."""
    command = [str(file), "-o", "json", "--size", str(size), "--timeout", "3"]
    done = CliRunner().invoke(doctor.doctor, command)
    found = {f["subject"]: f for f in json.loads(done.stdout)}
    for finding in found.values():
        assert finding["level"] == "ok" or finding["fix"], finding
    return done.exit_code, found


def test_a_healthy_cluster_and_a_port_behind_a_firewall(place, monkeypatch):
    place()
    code, found = ask(place.file)
    levels = {subject: finding["level"] for subject, finding in found.items()}
    assert code == 0
    assert set(levels.values()) == {"ok"}, found
    assert {"w answers", "w clock", "w versions", "w data port"} <= levels.keys()
    with doctor_client(place.file) as client:
        (seen,) = client.session.engine.workers.values()
        closed = ("tcp://127.0.0.1:9", "unix:/nowhere")
        moved = type(seen)(seen.worker, seen.name, closed, seen.host, seen.slots)
        monkeypatch.setitem(client.session.engine.workers, seen.worker, moved)
        finding = doctor._data_port(client, "w")
    assert finding.level == "warn"
    assert "firewall" in finding.fix
    assert os.sep in finding.text


def test_nobody_answers(place):
    text = json.loads(place.file.read_text())
    gone = place.file.with_name("gone.json")
    gone.write_text(json.dumps(text))
    gone.chmod(0o600)
    # A port at which nobody listens, as after the scheduler has ended.
    for key, value in text.items():
        if isinstance(value, str) and "://" in value:
            head, _, _ = value.partition("/sha256")
            text[key] = value.replace(head, head.rpartition(":")[0] + ":9")
    gone.write_text(json.dumps(text))
    code, found = ask(gone)
    assert code == 1
    assert found["scheduler"]["level"] == "fail"
    assert "covey scheduler" in found["scheduler"]["fix"]


def test_a_cluster_without_workers(place):
    code, found = ask(place.file)
    assert code == 1
    assert found["workers"]["level"] == "fail"
    assert found["workers"]["fix"].startswith(
        "Start one: covey worker tcp://127.0.0.1:"
    )


def test_a_worker_that_hangs(place, monkeypatch):
    process = place()
    process.send_signal(signal.SIGSTOP)
    code, found = ask(place.file)
    assert code == 1
    assert found["scheduler"]["level"] == "ok"
    assert found["w answers"]["level"] == "fail"
    assert "not run a task" in found["w answers"]["text"]


def test_a_worker_with_few_open_files_and_another_python(place):
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))

    other = other_python()
    place(*(["--python", other] if other else []), preexec_fn=few)
    code, found = ask(place.file)
    assert code == 0
    assert found["w open files"]["level"] == "warn"
    assert "ulimit -n" in found["w open files"]["fix"]
    if other is None:
        pytest.skip("there is no other Python here; its line was not looked at")
    assert found["w versions"]["level"] == "warn"
    assert "travel by source" in found["w versions"]["fix"]


def other_python():
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for minor in ("3.13", "3.12", "3.11"):
        for program in candidates(minor) if minor != ours else ():
            done = subprocess.run([program, "-c", ""], capture_output=True, check=False)
            if done.returncode == 0:
                return program
    return None


# What a test cannot break for real.


HERE = {
    "covey": "1",
    "python": "3.12.1",
    "executable": "/usr/bin/python3.12",
    "packages": dict.fromkeys(
        ("cloudpickle", "numpy", "pandas", "pyarrow", "dask"), "2"
    ),
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"covey": "2"}, "install the same"),
        ({"python": "3.11.0"}, "by source"),
        ({"packages": {**HERE["packages"], "numpy": "1.26"}}, "numpy 2"),
        ({"packages": {**HERE["packages"], "pandas": None}}, "pip install pandas==2"),
        ({"packages": {**HERE["packages"], "cloudpickle": None}}, "no cloudpickle"),
        ({"packages": {**HERE["packages"], "cloudpickle": "3.1"}}, "by source"),
        ({"python": "3.12.9"}, None),
    ],
)
def test_versions_that_matter(change, told):
    (finding,) = doctor._table(HERE, {"w": {**HERE, **change}})
    assert (finding.level == "ok") == (told is None)
    assert told is None or told in finding.fix


@pytest.mark.parametrize(
    ("time", "level"), [(100.0, "ok"), (90.0, "warn"), (9e9, "warn")]
)
def test_clocks(time, level):
    finding = doctor._clock("w clock", {"time": time, "between": (99.0, 101.0)})
    assert finding.level == level


def test_shared_memory_that_does_not_work():
    finding = doctor._shared_memory("w", {"shared_memory": "OSError: none"})
    assert finding.level == "fail"
    assert "memfd" in finding.fix
