"""Three hosts on one machine: network namespaces, a bridge, and host names of their own."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

BRIDGE = "coveybr0"
LOCK = Path(tempfile.gettempdir(), "covey-test-hosts.lock")
HOSTS = {name: f"10.231.7.{number}" for number, name in enumerate("abc", start=1)}

#: The address of this machine, which is the head of the cluster where hosts are apart.
HEAD = "10.231.7.254"


def ip(*words):
    return subprocess.run(
        ["ip", *words], check=True, capture_output=True, text=True
    ).stdout


def up():
    ip("link", "add", BRIDGE, "type", "bridge")
    ip("addr", "add", f"{HEAD}/24", "dev", BRIDGE)
    ip("link", "set", BRIDGE, "up")
    for name, address in HOSTS.items():
        space = f"covey-{name}"
        ip("netns", "add", space)
        ip("link", "add", f"cov{name}0", "type", "veth", "peer", "name", f"cov{name}1")
        ip("link", "set", f"cov{name}0", "master", BRIDGE, "up")
        ip("link", "set", f"cov{name}1", "netns", space)
        ip("-n", space, "addr", "add", f"{address}/24", "dev", f"cov{name}1")
        ip("-n", space, "link", "set", f"cov{name}1", "up")
        ip("-n", space, "link", "set", "lo", "up")


def down():
    words = [["link", "del", BRIDGE]]
    for name in HOSTS:
        # Of itself a card would go some time after its namespace.
        words += [["link", "del", f"cov{name}0"], ["netns", "del", f"covey-{name}"]]
    for each in words:
        subprocess.run(["ip", *each], capture_output=True, check=False)


@pytest.fixture
def hosts():
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"):
        pytest.skip("making network namespaces takes root, iproute2 and unshare")
    # Their names are the machine's: who makes them waits for who has them now.
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            down()
            up()
        except subprocess.CalledProcessError as error:
            down()
            pytest.skip(f"network namespaces are not permitted here: {error.stderr}")
        yield HOSTS
        down()


def on(host, *command):
    """Start a command on a host, under that host's name; here if it has none."""
    script = f'hostname {host}; exec "$@"' if host else 'exec "$@"'
    space = ["ip", "netns", "exec", f"covey-{host}"] if host else []
    return subprocess.Popen(
        [*space, "unshare", "-u", "sh", "-c", script, "sh", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


CLIENT = """
import sys
import numpy as np
from covey import Client

with Client(sys.argv[1]) as client:
    client.wait_for_workers(2, timeout=30)
    made = client.submit(np.arange, 2_000_000, workers="on-b")
    used = client.submit(np.sum, made, workers="on-c")
    assert used.result(30) == 1999999000000
    assert np.array_equal(made.result(30), np.arange(2_000_000))
    there = client.scatter(np.ones(1_000_000))
    assert client.submit(np.sum, there).result(30) == 1_000_000
    hosts = {w["name"]: w["host"] for w in client.scheduler_info()["workers"]}
    assert hosts == {"on-b": "b", "on-c": "c"}, hosts
    assert client.scheduler_info()["counters"]["bytes_moved"] >= 8_000_000
    assert client.gather(client.map(abs, range(1000))) == list(range(1000))
print("right")
"""


def run_on(
    hosts, tmp_path, script, *words, head="", options=("--insecure",), killed=""
):
    """Run a client on one host, the scheduler on it and workers on the two others.

    With *head*, the scheduler is at that address of this machine instead.
    """
    covey = [sys.executable, "-m", "covey"]
    path = str(tmp_path / "cluster.json")
    place = head or hosts["a"]
    scheduler = on(
        "" if head else "a", *covey, "scheduler", "--host", place, "--port", "8786",
        "--connection-file", path, *options,
    )  # fmt: skip
    processes = [scheduler]
    try:
        assert place in scheduler.stdout.readline()
        processes += [
            on(name, *covey, "worker", "--connection-file", path, "--nworkers", "1",
               "--name", f"on-{name}")
            for name in "bc"
        ]  # fmt: skip
        words = [*words, str(scheduler.pid)]
        client = on("a", sys.executable, "-c", script, path, *words)
        out, err = client.communicate(timeout=60)
        assert err == ""
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in reversed(processes):
            process.communicate(timeout=30)
    names = ["", *"bc"]
    for name, process in zip(names, processes, strict=True):
        assert process.returncode == (
            -signal.SIGKILL if name and name in killed else 0
        ), name
    return out


def test_three_hosts(hosts, tmp_path):
    assert run_on(hosts, tmp_path, CLIENT) == "right\n"


TOLD = """
import os, sys
import numpy as np
from covey import Client

def move(client, source, target):
    # 16 MB of one number and 8 MB of noise; returns how many bytes need not be sent.
    made = client.submit(np.ones, 2_000_000, workers=source)
    noise = client.submit(os.urandom, 8_000_000, workers=source)
    assert client.submit(np.sum, made, workers=target).result(60) == 2_000_000
    assert client.submit(len, noise, workers=target).result(60) == 8_000_000
    while client.memory()[source]["sent"] < 24_000_000:
        pass
    return client.memory()[source]["saved"]

with Client(sys.argv[1]) as client:
    client.wait_for_workers(2, timeout=30)
    print(move(client, "on-c", "on-b"))
"""


def test_values_are_compressed_where_the_wire_is_slow(hosts, tmp_path):
    pytest.importorskip("lz4")
    # What leaves one of the hosts does so at 100 Mbit/s.
    ip("netns", "exec", "covey-c", "tc", "qdisc", "add", "dev", "covc1", "root",
       "tbf", "rate", "100mbit", "burst", "64kb", "latency", "50ms")  # fmt: skip
    saved = int(run_on(hosts, tmp_path, TOLD))
    # Most of what is regular, but for what the kernel takes at once, and no noise.
    assert 8_000_000 < saved < 16_000_000


APART = """
import os, signal, sys, threading
import numpy as np
from covey import Client

MEBIBYTES = 1 << 20

def noise(n):
    # On a busy machine what is regular is compressed, and the bytes are counted here.
    return np.random.default_rng(n).integers(-(1 << 63), 1 << 62, n)

def passed_on(client):
    return client.scheduler_info()["counters"]["bytes_passed_on"]

def moved(client):
    return client.scheduler_info()["counters"]["bytes_moved"]

def holders(client, future):
    (names,) = client.who_has([future]).values()
    return sorted(names)

def peak(pid):
    lines = open(f"/proc/{pid}/status").read().splitlines()
    return next(int(l.split()[1]) * 1024 for l in lines if l.startswith("VmHWM"))

with Client(sys.argv[1]) as client:
    client.wait_for_workers(2, timeout=30)
    before = peak(sys.argv[2])
    # Small ones, a large one, one that goes in, and one from worker to worker.
    small = client.map(bytes, [5000] * 1000)
    assert client.gather(small) == [bytes(5000)] * 1000
    x = noise(8_000_000)
    made = client.submit(noise, 8_000_000, workers="on-b")
    assert np.array_equal(made.result(60), x)
    assert passed_on(client) > 64_000_000
    there = client.scatter(x[:2_000_000], workers="on-b")
    assert client.submit(np.sum, there).result(60) == x[:2_000_000].sum()
    assert client.submit(np.sum, there, workers="on-c").result(60) != 0
    assert passed_on(client) > 100_000_000
    while "by way of the scheduler" not in str(client.memory()["on-c"]["links"]):
        pass
    # The scheduler has held none of it.
    assert peak(sys.argv[2]) - before < 30 * MEBIBYTES, (peak(sys.argv[2]), before)
    del made, there
    # Copies: from here to one worker, and from there to the other.
    before, n = passed_on(client), x.nbytes // 2
    twice = client.scatter(x[:4_000_000], replicas=2)
    everywhere = client.scatter(x[4_000_000:], broadcast=True)
    small = client.scatter(list(range(1000)), broadcast=True)
    for future in (twice, everywhere, small[7]):
        assert holders(client, future) == ["on-b", "on-c"], holders(client, future)
    assert 4 * n < passed_on(client) - before < 4.1 * n, passed_on(client) - before
    before = moved(client)
    for name in ("on-b", "on-c"):
        for future in (twice, everywhere):
            assert client.submit(np.sum, future, workers=name).result(60) != 0
    assert moved(client) == before, "they were there"
    # A worker dies while it is passed on what it says.
    pid = client.submit(os.getppid, workers="on-b").result(30)
    again = client.submit(
        noise, 8_000_000, workers="on-b", allow_other_workers=True
    )
    again.exception(60)
    mark = passed_on(client) + 10_000_000
    found = []
    getting = threading.Thread(target=lambda: found.append(again.result(60)))
    getting.start()
    while passed_on(client) < mark and getting.is_alive():
        pass
    os.kill(pid, signal.SIGKILL)
    getting.join()
    assert np.array_equal(found[0], x)
    # With its copies; the other ones serve.
    assert np.array_equal(twice.result(60), x[:4_000_000])
    assert np.array_equal(everywhere.result(60), x[4_000_000:])
    assert client.gather(small) == list(range(1000))
print("right")
"""


def test_hosts_that_reach_nobody_but_the_scheduler(hosts, tmp_path):
    pytest.importorskip("cryptography")
    for name in hosts:
        ip("link", "set", f"cov{name}0", "type", "bridge_slave", "isolated", "on")
    out = run_on(hosts, tmp_path, APART, head=HEAD, options=(), killed="b")
    assert out == "right\n"
    # What was killed has left its directory, with nothing in it but a socket.
    (left,) = Path(os.environ["XDG_RUNTIME_DIR"], "covey").glob("worker-*")
    shutil.rmtree(left)
