"""Links break, processes stop, schedulers die: nothing that is held is lost."""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from covey import Client, LocalCluster, config, errors, fire_and_forget, wait
from covey.net.addresses import Address
from covey.net.connection_file import fresh_directory, read_connection_file
from covey.worker.agent import WorkerAgent
from covey.worker.core import orders

sys.path.insert(0, str(Path(__file__).parent))

from proxy import CuttingProxy

sys.path.pop(0)

pytestmark = pytest.mark.system


def covey(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "covey", *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )


def scheduler_at(path, port="0"):
    """Return a scheduler that is there, and told of in a file at *path*."""
    scheduler = covey("scheduler", "--port", port, "--connection-file", str(path))
    assert scheduler.stdout.readline().startswith("covey scheduler")
    return scheduler


def end(process, number=signal.SIGTERM):
    if process.poll() is None:
        process.send_signal(number)
    process.communicate(timeout=30)


def noted(x, folder, seconds=0.01):
    """Leave a line for every execution, so that a second one is seen."""
    fd = os.open(f"{folder}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, f"{x}\n".encode())
    os.close(fd)
    time.sleep(seconds)
    if x % 101 == 7:
        raise ValueError(x)
    return x + 1 if x % 10 else bytes(5000)


def expected(x):
    return x + 1 if x % 10 else bytes(5000)


def executions(folder):
    lines = [line for path in folder.iterdir() for line in path.read_text().split()]
    return collections.Counter(map(int, lines))


def check(results):
    for x, result in enumerate(results):
        if x % 101 == 7:
            assert isinstance(result, ValueError), (x, result)
        else:
            assert result == expected(x), (x, result)


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_scheduler_is_killed_in_the_middle_of_a_map(tmp_path):
    path, folder = tmp_path / "cluster.json", tmp_path / "ran"
    folder.mkdir()
    scheduler = scheduler_at(path)
    port = str(read_connection_file(path).address.port)
    workers = [
        covey("worker", "--connection-file", str(path), "--nworkers", "1")
        for _ in range(2)
    ]
    n = 300
    try:
        with Client(path) as client:
            client.wait_for_workers(2, timeout=30)
            futures = list(client.map(noted, range(n), folder=str(folder)))
            total = client.submit(len, futures[1:4])
            dropped = client.submit(noted, 1000, str(folder))
            on_dropped = client.submit(str, dropped)
            del dropped
            fire_and_forget(client.submit(noted, 3001, str(folder)))
            wait_until(lambda: sum(f.done() for f in futures) > 20)
            scheduler.kill()
            scheduler.communicate(timeout=10)
            assert futures[-1].status == "pending"
            wait_until(lambda: client.status == "reconnecting")
            assert "nothing is lost" in futures[-1].explain()
            late = client.submit(noted, 2001, str(folder))
            scheduler = covey(
                "scheduler", "--port", port, "--connection-file", str(path)
            )
            assert late.result(30) == 2002
            check(client.gather(futures, errors="return"))
            assert total.result(30) == 3
            assert on_dropped.result(30) == str(bytes(5000))
            ran = executions(folder)
            assert set(ran) == {*range(n), 1000, 2001, 3001}
            assert [x for x, times in ran.items() if times > 1] == []
            assert client.scheduler_info()["epoch"] == 2
            # What nobody wants any more goes, as ever.
            futures.clear()
            del total, on_dropped, late
            wait_until(lambda: not any(client.scheduler_info()["tasks"].values()))
    finally:
        for process in (*workers, scheduler):
            end(process)
    assert [process.returncode for process in (*workers, scheduler)] == [0, 0, 0]


def test_what_was_scattered_twice_outlives_a_worker_and_is_twice_there_again(tmp_path):
    path = tmp_path / "cluster.json"
    scheduler = scheduler_at(path)
    join = ("--connection-file", str(path), "--nworkers", "1", "--name")
    workers = {f"w{i}": covey("worker", *join, f"w{i}") for i in range(3)}
    try:
        with Client(path) as client:
            client.wait_for_workers(3, timeout=30)
            large = client.scatter(bytes(5_000_000), replicas=2)
            holders = client.who_has(large)[large.key]
            assert len(holders) == 2
            end(workers[holders[0]], signal.SIGKILL)
            assert len(large.result(30)) == 5_000_000
            assert client.submit(len, large).result(30) == 5_000_000
            left = set(workers) - {holders[0]}
            wait_until(lambda: set(client.who_has(large)[large.key]) == left)
            for name in left:
                assert client.submit(len, large, workers=name).result(30) == 5_000_000
    finally:
        for process in (*workers.values(), scheduler):
            end(process)
    # Whoever was killed could not tidy up; the next one does it for them.
    Path(fresh_directory("worker")).rmdir()


def length_when(path, value):
    """Return how long *value* is, when there is something at *path*."""
    while not path.exists():
        time.sleep(0.005)
    return len(value)


@pytest.mark.parametrize("nbytes", [70_000, 100_000])
def test_large_arguments_of_a_map_outlive_the_worker_that_had_them(tmp_path, nbytes):
    """They lie in memory of the client, who brings them to another one."""
    path, gate = tmp_path / "cluster.json", tmp_path / "gate"
    scheduler = scheduler_at(path)
    join = ("--connection-file", str(path), "--nworkers", "1", "--name")
    workers = [covey("worker", *join, f"w{i}") for i in range(2)]
    try:
        with Client(path) as client:
            client.wait_for_workers(2, timeout=30)
            values = [os.urandom(nbytes) for _ in range(60)]
            futures = client.map(length_when, [gate] * 60, values)
            wait_until(lambda: client.memory()["w0"]["shared"] > 0)
            end(workers[0], signal.SIGKILL)
            gate.touch()
            assert client.gather(futures) == [nbytes] * 60
    finally:
        for process in (*workers, scheduler):
            end(process)
    Path(fresh_directory("worker")).rmdir()


def doubled(x):
    return 2 * x


def large(x):
    return bytes(50_000 + x)


def test_what_was_made_of_a_dropped_result_is_made_again_in_another_life(tmp_path):
    path = tmp_path / "cluster.json"
    scheduler = scheduler_at(path)
    port = str(read_connection_file(path).address.port)
    join = ("worker", "--connection-file", str(path), "--nworkers", "1")
    worker = covey(*join)
    try:
        with Client(path) as client:
            client.wait_for_workers(1, timeout=30)
            held = []
            for number in range(8):
                source = client.submit(doubled, number)
                assert source.result(30) == 2 * number
                held.append(client.submit(large, source))
                wait(held[-1:], timeout=30)
                del source
                # Each tells of what was dropped before it.
                for other in range(8):
                    assert client.submit(doubled, other).result(30) == 2 * other
            for process in (scheduler, worker):
                end(process, signal.SIGKILL)
            scheduler = scheduler_at(path, port)
            worker = covey(*join)
            lengths = [len(future.result(60)) for future in held]
            assert lengths == [50_000 + 2 * number for number in range(8)]
    finally:
        for process in (worker, scheduler):
            end(process)


def test_a_task_that_was_shared_is_ones_own_in_another_life(tmp_path):
    path = tmp_path / "cluster.json"
    scheduler = scheduler_at(path)
    port = str(read_connection_file(path).address.port)
    join = ("worker", "--connection-file", str(path), "--nworkers", "1")
    worker = covey(*join)
    try:
        with Client(path) as client:
            with Client(path) as first:
                # The worker keeps it under the id that the first client gave it.
                theirs = first.submit(bytes, 50_000, key="shared")
                wait([theirs], timeout=30)
                shared = client.submit(bytes, 50_000, key="shared")
                wait([shared], timeout=30)
            for process in (scheduler, worker):
                end(process, signal.SIGKILL)
            scheduler = scheduler_at(path, port)
            worker = covey(*join)
            assert shared.result(30) == bytes(50_000)
    finally:
        for process in (worker, scheduler):
            end(process)


def test_a_killed_cluster_comes_back():
    with Client(n_workers=1) as client:
        kept = client.submit(str, 1)
        assert kept.result(20) == "1"
        pid = client.scheduler_info()["workers"][0]["facts"]["pid"]
        future = client.submit(time.sleep, 0.3)
        os.kill(pid, signal.SIGKILL)
        large = client.submit(bytes, 100_000)
        assert future.result(30) is None
        assert large.result(30) == bytes(100_000)
        assert client.submit(len, kept).result(30) == 1
        assert client.status == "running"


def test_a_long_wait_for_the_scheduler_is_told(monkeypatch):
    monkeypatch.setattr("covey.client.engine.TELL_AWAY_SECONDS", 0.05)
    with Client(n_workers=1) as client:
        pid = client.scheduler_info()["workers"][0]["facts"]["pid"]
        os.kill(pid, signal.SIGKILL)
        with pytest.warns(UserWarning, match="connection to the scheduler was lost"):
            client.submit(abs, -1).result(30)


def test_a_cluster_that_is_killed_again_and_again_is_an_error_and_no_hang(monkeypatch):
    monkeypatch.setattr("covey.cluster.keeper.DEATHS_MAX", 0)
    with Client(n_workers=1) as client:
        pid = client.scheduler_info()["workers"][0]["facts"]["pid"]
        future = client.submit(signal.pause)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(errors.Disconnected, match="killed 1 times"):
            future.result(20)


def test_connections_are_cut_at_any_byte(tmp_path):
    path, folder = tmp_path / "cluster.json", tmp_path / "ran"
    folder.mkdir()
    scheduler = scheduler_at(path)
    known = read_connection_file(path)
    port = known.address.port
    n = 3000
    with CuttingProxy(port, 1, 12) as ours, CuttingProxy(port, 2, 12) as theirs:
        through = [
            known._replace(address=Address("127.0.0.1", proxy.port, ""))
            for proxy in (ours, theirs)
        ]
        worker = subprocess.Popen(
            [sys.executable, "-m", "covey", "worker", "--nworkers", "2"],
            env={**os.environ, "COVEY_ADDRESS": through[1].join_string()},
        )
        try:
            with Client(through[0]) as client:
                futures = client.map(noted, range(n), folder=str(folder), seconds=0)
                check(client.gather(futures, errors="return"))
                singles = [client.submit(abs, -i) for i in range(500)]
                assert client.gather(singles) == list(range(500))
            ran = executions(folder)
            assert sum(ran.values()) == len(ran) == n
            assert ours.cut > 1, ours.cut
            assert theirs.cut > 1, theirs.cut
        finally:
            end(worker, signal.SIGTERM)
            end(scheduler)


def test_workers_retire_under_load_and_nothing_is_done_twice(tmp_path):
    with LocalCluster(3, machines=3, processes=False) as cluster:
        with cluster.get_client() as client:
            futures = client.map(noted, range(300), folder=str(tmp_path))
            futures[0].result(20)
            large = client.submit(bytes, 200_000, workers="local-1", priority=1)
            wait([large])
            assert client.retire_workers("local-1", timeout=30) == ["local-1"]
            assert client.retire_workers(["local-2"], timeout=30) == ["local-2"]
            assert list(client.ncores()) == ["local-3"]
            check(client.gather(futures, errors="return"))
            assert large.result(20) == bytes(200_000)
            with pytest.raises(errors.UsageError, match="there are: local-3"):
                client.retire_workers(["local-3", "nobody"])
        ran = executions(tmp_path)
        assert sum(ran.values()) == len(ran) == 300


def test_a_client_that_was_stopped_goes_on(tmp_path, monkeypatch):
    # Beats of a twentieth of a second: silence is noticed after 0.3 s.
    for room in ("scheduler.server", "net.uplink"):
        monkeypatch.setattr(f"covey.{room}.BEAT_SECONDS", 0.05)
    script = """
        import sys, time
        from covey import Client
        with Client(sys.argv[1]) as client:
            futures = client.map(lambda x: (time.sleep(0.005), x)[1], range(300))
            assert futures[0].result(20) == 0
            print("begun", flush=True)
            assert client.gather(futures) == list(range(300))
            info = client.scheduler_info()
            print("all there", info["counters"]["tasks_done"], flush=True)
    """
    with LocalCluster(1, processes=False, host="127.0.0.1") as cluster:
        watching = cluster.get_client()
        client = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), cluster.scheduler_address],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert client.stdout.readline() == "begun\n"
        client.send_signal(signal.SIGSTOP)
        # Its connection is cut, it is waited for, and its tasks go on.
        wait_until(lambda: watching.scheduler_info()["counters"]["tasks_done"] == 300)
        time.sleep(0.5)
        client.send_signal(signal.SIGCONT)
        out, _ = client.communicate(timeout=30)
        assert out == "all there 300\n"
        wait_until(lambda: not any(watching.scheduler_info()["tasks"].values()))
        watching.close()


def test_a_client_that_vanishes_is_forgotten_after_its_grace(monkeypatch):
    monkeypatch.setattr("covey.scheduler.server.BEAT_SECONDS", 0.05)
    script = """
        import os, sys
        from covey import Client
        client = Client(sys.argv[1])
        futures = client.map(str, range(100))
        client.gather(futures)
        os.kill(os.getpid(), 9)
    """
    with (
        config.override({"scheduler.client_grace_seconds": 0.5}),
        LocalCluster(1, processes=False, host="127.0.0.1") as cluster,
        cluster.get_client() as watching,
    ):
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), cluster.scheduler_address],
            check=False,
            timeout=30,
        )
        info = watching.scheduler_info()
        assert info["tasks"]["done"] == 100
        assert len(info["clients"]) == 2
        wait_until(lambda: not any(watching.scheduler_info()["tasks"].values()))
        assert len(watching.scheduler_info()["clients"]) == 1


def same(drawn, written):
    return drawn.hex() == written


def test_a_value_that_is_another_when_it_is_made_again_is_mixed_with_nothing(
    monkeypatch,
):
    agents = []
    attach = WorkerAgent.attach

    def attached(self, upstream, where):
        agents.append(self)
        attach(self, upstream, where)

    monkeypatch.setattr(WorkerAgent, "attach", attached)
    with Client(n_workers=1, processes=False) as client:
        drawn = client.submit(os.urandom, 16)
        written = client.submit(bytes.hex, drawn)
        before = written.result(20)
        (agent,) = agents
        task = int(drawn.key.rpartition("-")[2], 16)
        agent._loop.call_soon_threadsafe(agent._step, orders.Garbled(task))
        wait_until(lambda: client.scheduler_info()["tasks"]["done"] == 1)
        with pytest.warns(UserWarning, match=r"urandom-.* was computed again"):
            assert client.submit(same, drawn, written).result(20)
        assert "it gave another value than before (1 time)" in client.explain(drawn.key)
        assert client.scheduler_info()["counters"]["results_changed"] == 1
        # What was read stays as it was.
        assert written.result() == before
