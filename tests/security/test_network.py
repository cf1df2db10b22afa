"""A cluster on a network: encrypted, pinned, joined with one line, given to no argv."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest

from covey import Client, LocalCluster, errors
from covey.client.current import get_client
from covey.net.addresses import is_loopback, own_host
from covey.net.connection_file import read_connection_file
from covey.net.join_string import parse_join_string

pytestmark = pytest.mark.system

COMMAND = [sys.executable, "-m", "covey"]


def inc(x):
    return x + 1


def from_within(x):
    """Be a client inside of a task."""
    return get_client().submit(inc, x).result(20)


def start(*arguments, said="", **environment):
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    process.stdin.write(said)
    process.stdin.close()
    process.stdin = None
    return process


def end(process, number=signal.SIGTERM):
    if process.poll() is None:
        process.send_signal(number)
    return process.communicate(timeout=30)


@pytest.fixture
def scheduler(tmp_path):
    pytest.importorskip("cryptography")
    process = start(
        "scheduler",
        *("--host", "0.0.0.0", "--port", "0", "--print-join-string"),
        *("--connection-file", str(tmp_path / "c.json")),
    )
    process.path = tmp_path / "c.json"
    assert "tls://0.0.0.0" in process.stdout.readline()
    process.join_string = process.stdout.readline().strip()
    yield process
    end(process)


def test_one_line_joins_workers_and_clients(scheduler):
    joined = parse_join_string(scheduler.join_string)
    assert joined.address.fingerprint
    # A worker on each kind of input, the second with no more than a worker needs.
    for_worker = subprocess.run(
        [*COMMAND, "token", "show", "--worker"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    workers = [
        start(
            "worker", "--nworkers", "1", "--name", "a", "-", said=scheduler.join_string
        ),
        start("worker", "--nworkers", "1", "--name", "b", COVEY_ADDRESS=for_worker),
    ]
    try:
        with Client(scheduler.join_string) as client:
            client.wait_for_workers(2, timeout=30)
            assert client.gather(client.map(inc, range(50))) == list(range(1, 51))
            # A large value crosses from worker to worker, and to the client.
            made = client.submit(np.ones, 200_000, workers="a")
            twice = client.submit(np.add, made, made, workers="b")
            assert twice.result(20).sum() == 400_000
            assert client.submit(from_within, 1, workers="a").result(20) == 2
            with pytest.raises(
                errors.UsageError, match="joined with a worker's secret"
            ):
                client.submit(from_within, 1, workers="b").result(20)
            facts = [worker["facts"] for worker in client.scheduler_info()["workers"]]
            check_no_secret_shows(scheduler, joined, facts)
    finally:
        for worker in workers:
            end(worker)
    assert [worker.returncode for worker in workers] == [0, 0]


def check_no_secret_shows(scheduler, joined, facts):
    """No command line and no environment of a runner holds a secret."""
    digits = [joined.keys.client.reveal(), joined.keys.worker.reveal()]
    runners = [pid for fact in facts for pid in fact["runners"]]
    agents = [fact["pid"] for fact in facts]
    for pid in [scheduler.pid, *agents, *runners]:
        line = " ".join(psutil.Process(pid).cmdline())
        assert not any(word in line for word in digits)
    for pid in runners:
        environment = " ".join(psutil.Process(pid).environ().values())
        assert not any(word in environment for word in digits)


def test_whoever_was_told_of_another_certificate_stays_out(scheduler):
    joined = parse_join_string(scheduler.join_string)
    other = joined.address.fingerprint[::-1]
    wrong = scheduler.join_string.replace(joined.address.fingerprint, other)
    with pytest.raises(errors.AuthRefused, match="another certificate"):
        Client(wrong)
    worker = start("worker", "-", said=wrong)
    _, err = end(worker, signal.SIGCONT)
    assert worker.returncode == 3
    assert "another certificate" in err


def test_whoever_has_a_wrong_token_stays_out(scheduler):
    joined = parse_join_string(scheduler.join_string)
    digits = joined.keys.client.reveal()
    with pytest.raises(errors.AuthRefused, match="does not know the secret"):
        Client(scheduler.join_string.replace(digits, digits[::-1]))


def test_a_workers_token_makes_no_client(scheduler):
    worker = parse_join_string(scheduler.join_string).join_string(worker=True)
    with pytest.raises(errors.AuthRefused, match="does not make a client"):
        Client(worker)


def test_a_join_string_is_refused_as_an_argument(scheduler):
    for command in (["worker"], ["status"], ["stop"], ["token", "show"]):
        done = subprocess.run(
            [*COMMAND, *command, scheduler.join_string],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == 2
        assert "can\nread a command line" in done.stderr
        assert parse_join_string(scheduler.join_string).keys.client.reveal() not in (
            done.stdout + done.stderr
        )


def test_insecure_is_loud_and_still_asks_for_the_secret(tmp_path):
    path = tmp_path / "c.json"
    process = start(
        "scheduler",
        *("--host", "0.0.0.0", "--port", "0", "--insecure"),
        *("--connection-file", str(path)),
    )
    try:
        assert "tcp://0.0.0.0" in process.stdout.readline()
        found = read_connection_file(path)
        place = f"{own_host()}:{found.address.port}"
        wrong = f"covey://client:{'ab' * 32}@{place}/plain"
        with pytest.raises(errors.AuthRefused):
            Client(wrong)
        worker = start("worker", place, "--nworkers", "1")
        with Client(place) as client:
            client.wait_for_workers(1, timeout=30)
            assert client.submit(inc, 1).result(20) == 2
            counters = client.scheduler_info()["counters"]
            assert counters["strangers_turned_away"] >= 1
        _, err = end(worker)
        assert "WARNING: nothing is encrypted" in err
    finally:
        _, err = end(process)
    assert "WARNING: nothing is encrypted" in err


def test_a_local_cluster_on_a_network_is_encrypted():
    pytest.importorskip("cryptography")
    with LocalCluster(1, host="0.0.0.0") as cluster:
        assert cluster.scheduler_address.startswith("tls://")
        with Client(f"127.0.0.1:{cluster.port}") as client:
            assert client.submit(inc, 1).result(20) == 2


def test_a_default_cluster_opens_no_port():
    with Client(n_workers=1) as client:
        pid = client.scheduler_info()["workers"][0]["facts"]["pid"]
        family = [psutil.Process(), *psutil.Process(pid).children(recursive=True)]
        family.append(psutil.Process(pid))
        ports = [c for process in family for c in process.net_connections("inet")]
        assert not [c for c in ports if c.status == psutil.CONN_LISTEN]


def test_a_scheduler_by_hand_listens_on_this_machine_only(tmp_path):
    path = tmp_path / "c.json"
    process = start("scheduler", "--port", "0", "--connection-file", str(path))
    try:
        process.stdout.readline()
        opened = psutil.Process(process.pid).net_connections("inet")
        hosts = {c.laddr.ip for c in opened if c.status == psutil.CONN_LISTEN}
        assert hosts
        assert all(is_loopback(host) for host in hosts)
        for folder in (path, *path.parent.glob("covey/clusters/*")):
            assert folder.stat().st_mode & 0o077 == 0
        assert {"address", "role", "token"} <= set(json.loads(path.read_text()))
    finally:
        end(process)
