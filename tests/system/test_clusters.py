"""Clusters coming, going and failing; each test checked for what it leaves."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest

import covey
from covey import AsyncClient, Client, LocalCluster, errors
from covey.client import fetching
from covey.cluster import roles
from covey.net.addresses import Address
from covey.net.connection_file import (
    file_for,
    fresh_directory,
    read_connection_file,
    turn,
    write_connection_file,
)
from covey.net.join_string import Connection
from covey.secret import Secret
from covey.wire.handshake import PROTOCOL_VERSION
from covey.wire.keys import Keys

pytestmark = pytest.mark.system

COMMAND = [sys.executable, "-m", "covey"]


INTERRUPTED = """
import time
from covey import Client
client = Client(n_workers=1)
future = client.submit(time.sleep, 60)
print('go', flush=True)
future.result()
"""


def inc(x):
    return x + 1


def start(*arguments):
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process, number=signal.SIGTERM):
    if process.poll() is None:
        process.send_signal(number)
    out, err = process.communicate(timeout=30)
    return out, err


def refused(*arguments):
    """Run a command that is wrong usage; return what it wrote."""
    process = start(*arguments)
    try:
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 2
    return out, err


def run_script(text, **keywords):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **keywords,
    )


def test_everything_goes_with_the_client():
    client = Client(n_workers=1)
    assert client.submit(inc, 1).result(20) == 2
    client.close()
    client.close()
    with pytest.raises(errors.Closed):
        client.submit(inc, 1)


def test_three_machines_in_one():
    with Client(n_workers=3, machines=3) as client:
        client.wait_for_workers(3, timeout=20)
        made = client.submit(np.ones, 1_000_000, workers="local-1")
        used = client.submit(np.sum, made, workers="local-2")
        assert used.result(20) == 1_000_000
        small = client.map(inc, range(100), workers="local-3")
        assert client.gather(client.map(inc, small, workers="local-1"))[-1] == 101
        assert client.scheduler_info()["counters"]["bytes_moved"] > 0


def test_threads_of_one_runner():
    with Client(n_workers=1, threads_per_worker=3) as client:
        pids = client.gather([client.submit(os.getpid) for _ in range(30)])
        assert len(set(pids)) == 1
        assert client.ncores() == {"local": 3}


def test_without_processes():
    with Client(processes=False) as client:
        assert client.submit(os.getpid).result(20) == os.getpid()
        assert client.gather(client.map(inc, range(100))) == list(range(1, 101))


def test_the_async_client():
    import asyncio

    async def main():
        async with AsyncClient(n_workers=1) as client:
            assert await client.submit(inc, 1) == 2
            assert await client.gather(client.map(inc, range(10))) == list(range(1, 11))
            scattered = await client.scatter([1, 2])
            return await client.gather(client.map(inc, scattered))

    assert asyncio.run(main()) == [2, 3]


def test_a_script_needs_no_main_guard_and_ends_silently():
    done = run_script(
        """
        from covey import Client
        class Point:
            def __init__(self, x): self.x = x
        def double(p): return Point(p.x * 2)
        client = Client(n_workers=1)
        point = client.submit(double, Point(4)).result()
        assert type(point) is Point and point.x == 8
        import time
        pending = client.submit(time.sleep, 60)
        print("ok")
        """
    )
    assert (done.stdout, done.stderr, done.returncode) == ("ok\n", "", 0)


def test_a_fork_cannot_use_the_clients_of_its_parent():
    done = run_script(
        """
        import os, sys
        from covey import Client, errors
        client = Client(n_workers=1)
        if os.fork() == 0:
            try: client.submit(abs, 1)
            except errors.UsageError as error: print("child:", error); sys.stdout.flush()
            os._exit(0)
        os.wait()
        assert client.submit(abs, -1).result() == 1
        client.close()
        """
    )
    assert "after a fork" in done.stdout
    assert (done.stderr, done.returncode) == ("", 0)


def test_ctrl_c_brings_the_prompt_back():
    script = subprocess.Popen(
        [
            sys.executable,
            "-c",
            INTERRUPTED,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert script.stdout.readline() == "go\n"
    os.killpg(script.pid, signal.SIGINT)
    _, err = script.communicate(timeout=20)
    assert err.count("Traceback") == 1
    assert "KeyboardInterrupt" in err


def test_nobody_at_the_address(tmp_path):
    with pytest.raises(errors.NoScheduler, match=r"no scheduler answers at .*:1 "):
        Client("127.0.0.1:1", timeout=0.2)
    path = tmp_path / "c.json"
    write_connection_file(
        path, Connection(Address("127.0.0.1", 1, ""), Keys.of_client(Secret.fresh()))
    )
    with pytest.raises(errors.NoScheduler, match=r"127\.0\.0\.1:1.*tried.*Check"):
        Client(path, timeout=0.2)


def test_without_its_packages_there_is_no_dashboard_and_one_warning(monkeypatch):
    monkeypatch.setattr("covey.dashboard.launch.find_spec", lambda _: None)
    with Client(n_workers=1) as client:
        with pytest.warns(UserWarning, match=r"pip install 'covey\[dashboard\]'"):
            assert client.dashboard_link is None
        assert client.dashboard_link is None


def test_a_port_in_use_is_replaced():
    with LocalCluster(1, host="127.0.0.1") as one:
        with pytest.warns(UserWarning, match="in use"):
            two = LocalCluster(1, host="127.0.0.1", port=one.port)
        assert two.port != one.port
        two.close()


def test_a_port_that_was_named_is_not_replaced():
    with LocalCluster(1, host="127.0.0.1") as cluster:
        for command in (["scheduler"], ["start", "-n", "1"]):
            _, err = refused(*command, "--port", str(cluster.port))
            assert err.startswith(f"covey: port {cluster.port} is in use")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("scheduler", "--port", "99999"), "99999 is not in the range"),
        (("start", "--port", "99999"), "99999 is not in the range"),
        (("worker", "127.0.0.1:1", "--nworkers", "0"), "0 is not in the range"),
        (
            ("worker", "127.0.0.1:1", "--nworkers", "2", "--memory-limit", "10"),
            "a memory limit of 10 B is too little for 2 runners",
        ),
        (
            ("scheduler", "--insecure", "--host", "nohost.invalid"),
            "the interface nohost.invalid is not known here",
        ),
        (
            ("scheduler", "--insecure", "--host", "203.0.113.9"),
            "this machine has no such address",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_words(arguments, says):
    _, err = refused(*arguments)
    assert says in err
    assert "Traceback" not in err


def test_a_worker_may_come_before_its_scheduler():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    worker = start("worker", f"127.0.0.1:{port}", "--nworkers", "1")
    scheduler = None
    try:
        assert "looks for a scheduler there" in worker.stdout.readline()
        scheduler = start("scheduler", "--port", str(port), "--no-dashboard")
        assert "joined the scheduler" in worker.stdout.readline()
    finally:
        end(worker)
        if scheduler is not None:
            end(scheduler)


def test_the_file_of_a_scheduler_is_there_before_anybody_can_connect(
    monkeypatch, tmp_path
):
    seen = []
    listen = socket.socket.listen

    def look(self, *rest):
        if self.family == socket.AF_INET:
            port = self.getsockname()[1]
            seen.append((port, read_connection_file(file_for(port)).address.port))
            seen.append((port, read_connection_file(tmp_path / "c").address.port))
        listen(self, *rest)

    monkeypatch.setattr(socket.socket, "listen", look)
    told = []

    def announce(connection, path, moved):
        told.append((connection, path, moved))
        signal.raise_signal(signal.SIGTERM)

    address = Address("127.0.0.1", 0, "")
    serving = roles.serve_scheduler(address, False, tmp_path / "c", announce)
    assert asyncio.run(serving) == ""
    ((connection, _, moved),) = told
    port = connection.address.port
    assert not moved and seen == [(port, port)] * 2
    assert not file_for(port).exists() and not (tmp_path / "c").exists()


def test_of_two_who_open_the_same_port_one_waits_for_its_turn():
    program = "from covey.net.connection_file import turn\nwith turn(): print('mine')"
    with turn():
        other = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
        )
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(1)
    assert other.communicate(timeout=30)[0] == "mine\n"


def test_who_cannot_listen_leaves_no_file_behind(monkeypatch):
    listen, ports = socket.socket.listen, []

    def taken(self, *rest):
        ports.append(self.getsockname()[1])
        if len(ports) == 1:
            assert file_for(ports[0]).exists()
            raise OSError(errno.EADDRINUSE, "taken")
        listen(self, *rest)

    with socket.create_server(("127.0.0.1", 0)) as server:
        wanted = server.getsockname()[1]
    monkeypatch.setattr(socket.socket, "listen", taken)
    told = []

    def announce(connection, path, moved):
        told.append((connection.address.port, moved, file_for(wanted).exists()))
        signal.raise_signal(signal.SIGTERM)

    address = Address("127.0.0.1", wanted, "")
    assert asyncio.run(roles.serve_scheduler(address, False, None, announce)) == ""
    assert told == [(ports[1], True, False)]


def test_a_worker_says_that_it_looks_for_a_connection_file(tmp_path):
    worker = start("worker", "--connection-file", str(tmp_path / "cluster.json"))
    try:
        said = worker.stdout.readline()
        assert f"looks for the connection file {tmp_path}/cluster.json for up" in said
    finally:
        worker.kill()
        worker.communicate()


def test_the_status_of_a_cluster_without_workers_says_how_to_start_one():
    scheduler = start("scheduler", "--port", "0", "--no-dashboard")
    try:
        place = scheduler.stdout.readline().split()[3].removeprefix("tcp://")
        done = subprocess.run(
            [*COMMAND, "status", place], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        said = (
            f"no workers: nothing runs until one is started, by `covey worker {place}`"
        )
        assert said in done.stdout
        assert "slots" not in done.stdout
    finally:
        end(scheduler)


def test_a_worker_that_looks_for_its_scheduler_ends_when_it_is_told_to(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = Address("127.0.0.1", server.getsockname()[1], "")
    there = Connection(address, Keys.of_client(Secret.fresh()))
    monkeypatch.setenv("COVEY_ADDRESS", there.join_string())
    worker = start("worker", "--nworkers", "1")
    try:
        assert "looks for the scheduler" in worker.stdout.readline()
        worker.send_signal(signal.SIGINT)
        _, err = worker.communicate(timeout=10)
        assert (worker.returncode, err) == (0, "")
    finally:
        end(worker)


def test_covey_start_tells_when_its_cluster_was_killed_and_when_it_ends():
    cluster = start("start", "-n", "1", "--port", "0")
    try:
        said = [cluster.stdout.readline() for _ in range(3)]
        assert "one worker of 1 runner" in said[2]
        (child,) = psutil.Process(cluster.pid).children()
        child.kill()
        line = cluster.stdout.readline()
        assert f"process {child.pid} was killed (signal 9)" in line
        assert "started anew" in line
        cluster.send_signal(signal.SIGINT)
        out, err = cluster.communicate(timeout=30)
        assert (cluster.returncode, err) == (0, "")
        assert "ends the cluster" in out
    finally:
        end(cluster)


def test_covey_stop_ends_covey_start():
    cluster = start("start", "-n", "1", "--port", "0")
    try:
        address = cluster.stdout.readline().split()[-1]
        port = address.rpartition(":")[2]
        assert "dashboard" in cluster.stdout.readline()
        assert "one worker of 1 runner" in cluster.stdout.readline()
        with (
            Client(f"127.0.0.1:{port}") as client,
            pytest.warns(UserWarning, match="covey dashboard"),
        ):
            assert client.dashboard_link is None
        subprocess.run([*COMMAND, "stop", f"127.0.0.1:{port}"], check=True, timeout=30)
        out, err = cluster.communicate(timeout=30)
        assert (cluster.returncode, err) == (0, "")
        assert "was told to end" in out
        assert not file_for(int(port)).exists()
    finally:
        end(cluster)


def test_nonsense_is_refused_at_the_door():
    with pytest.raises(errors.UsageError, match="n_workers"):
        LocalCluster(0)
    with pytest.raises(errors.UsageError, match="machines"):
        LocalCluster(1, machines=2)


def test_a_cluster_by_hand(tmp_path):
    path = tmp_path / "cluster.json"
    scheduler = start("scheduler", "--port", "0", "--connection-file", str(path))
    line = scheduler.stdout.readline()
    assert line.startswith("covey scheduler at tcp://127.0.0.1:")
    names = ["a", "b", "c", "d"]
    workers = {
        name: start(
            "worker", "--connection-file", str(path), "--nworkers", "1", "--name", name
        )
        for name in names[:3]
    }
    try:
        with Client(path) as client, Client(path, set_as_default=False) as other:
            client.wait_for_workers(3, timeout=30)
            kept = client.map(inc, range(100))
            assert client.gather(kept) == list(range(1, 101))
            futures = client.map(lambda x: sum(range(x % 7 * 1000)), range(3000))
            theirs = other.map(inc, range(500))
            workers["d"] = start(
                "worker",
                "--connection-file",
                str(path),
                "--nworkers",
                "1",
                "--name",
                "d",
            )
            # Ctrl-C in its terminal; SIGTERM is the same to it.
            _, err = end(workers["a"], signal.SIGINT)
            assert (workers["a"].returncode, err) == (0, "")
            said = []
            for line in scheduler.stdout:
                said.append(line)
                if "worker a " in line and "joined" not in line:
                    break
            assert said[-1] == "worker a left\n"
            assert {f"worker {name} joined\n" for name in "abc"} < {*said}
            workers["b"].kill()
            expected = [sum(range(x % 7 * 1000)) for x in range(3000)]
            assert client.gather(futures) == expected
            assert other.gather(theirs) == list(range(1, 501))
            assert client.gather(client.map(inc, kept)) == list(range(2, 102))
        known = read_connection_file(path)
        with pytest.raises(errors.AuthRefused):
            Client(str(known.address), secret=Secret(b"y" * 32))
        old = run_script(
            f"""
            from covey.wire import handshake
            handshake.PROTOCOL_VERSION = 99
            from covey import Client, errors
            try: Client({str(path)!r})
            except errors.VersionRefused as error: print(error)
            """
        )
        assert "protocol 99" in old.stdout
        assert f"protocol {PROTOCOL_VERSION}" in old.stdout
    finally:
        end(scheduler)
        for worker in workers.values():
            end(worker, signal.SIGKILL)
    assert scheduler.returncode == 0
    # Whoever was killed could not tidy up; the next one does it for them.
    Path(fresh_directory("worker")).rmdir()


def test_who_waits_where_there_is_no_worker_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "NO_WORKER_SECONDS", 0.05)
    path = tmp_path / "cluster.json"
    scheduler = start("scheduler", "--port", "0", "--connection-file", str(path))
    try:
        scheduler.stdout.readline()
        with Client(path) as client:
            future = client.submit(inc, 1)
            with (
                pytest.warns(UserWarning, match="there is no worker"),
                pytest.raises(TimeoutError, match="as soon as one joins"),
            ):
                future.result(0.1)
            # Where warnings are errors, this ends the waiting.
            for bring in (client.scatter, lambda large: client.submit(len, large)):
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    with pytest.raises(UserWarning, match="there is no worker"):
                        bring(bytes(3_000_000))
    finally:
        end(scheduler)


def test_open_networks_are_refused_with_the_ways_out(tmp_path, monkeypatch):
    (tmp_path / "cryptography.py").write_text("raise ImportError('not installed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    scheduler = start("scheduler", "--host", "0.0.0.0", "--port", "0")
    _, err = scheduler.communicate(timeout=20)
    assert scheduler.returncode == 2
    for way_out in ("covey[tls]", "ssh -R", "--insecure"):
        assert way_out in err
    with pytest.raises(errors.StartFailed, match="ssh -R"):
        LocalCluster(1, host="0.0.0.0")


def test_covey_run_and_status(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom covey import Client\n"
        "print(Client().submit(abs, -3).result(), sys.argv[1])\nsys.exit(5)\n"
    )
    done = subprocess.run(
        [*COMMAND, "run", "-n", "1", str(script), "word"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (5, "3 word\n", "")
    with LocalCluster(1, host="127.0.0.1") as cluster:
        for command in (["status"], ["doctor", f"127.0.0.1:{cluster.port}"]):
            done = subprocess.run(
                [*COMMAND, *command], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            assert "local" in done.stdout or "ok" in done.stdout


def test_the_pool_of_2015():
    from covey.dask import get

    with LocalCluster(2, host="127.0.0.1") as cluster:
        pool = covey.Pool(f"{cluster.host}:{cluster.port}")
        arrays = pool.map(np.random.random, [1000] * 20)
        sums = pool.map(np.sum, arrays)
        total = pool.apply(np.sum, args=(sums,)).get()
        assert total == pytest.approx(sum(s.get() for s in sums))
        assert not np.array_equal(arrays[0].get(), arrays[1].get())
        dsk = {("sum", i): (np.sum, x) for i, x in enumerate(arrays)}
        dsk["total"] = (sum, [("sum", i) for i in range(20)])
        assert get(cluster.host, cluster.port, dsk, "total") == pytest.approx(total)
        covey.delete((cluster.host, cluster.port), arrays)
        with pytest.raises(errors.Closed):
            arrays[0].get()
        pool.client.close()
