"""Processes are killed at random moments: no byte, descriptor or file may be left."""

from __future__ import annotations

import gc
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from covey import Client, LocalCluster, wait

pytestmark = pytest.mark.system

MIB = 1 << 20


def has_ended(pid):
    """Whether a process runs no more; who has adopted it may be slow to bury it."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(")")[2].split()[0] in "ZX"


def memory(client):
    return next(iter(client.memory().values()))


def facts(client):
    return client.scheduler_info()["workers"][0]["facts"]


def kept_files(pid):
    """Return the memory and the spill files of covey that a process has open or mapped."""
    names = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            names.append(str(link.readlink()))
        except FileNotFoundError:
            continue
    names += Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [
        name
        for name in names
        if ("memfd:covey" in name or "/var/tmp/" in name) and "deleted" in name
    ]


def store_files(pid):
    """Return those of them that hold values: not the marks of runners."""
    return [name for name in kept_files(pid) if "covey-marks" not in name]


def is_accounted_for(client):
    """Whether every page that the kernel keeps for the worker is in its accounts."""
    pages = {}
    folder = Path(f"/proc/{facts(client)['pid']}/fd")
    for link in folder.iterdir():
        try:
            if "memfd:covey " in str(link.readlink()):
                found = link.stat()
                pages[found.st_ino] = found.st_blocks * 512
        except FileNotFoundError:
            continue
    seen = memory(client)
    return sum(pages.values()) <= seen["shared"] + seen["warm"] + seen["in_flight"]


def large(number):
    return np.full(MIB, float(number))  # 8 MiB


def last(array):
    return float(array[-1])


def holds_nothing(client):
    seen = memory(client)
    return not (seen["shared"] or seen["in_flight"] or seen["spilled"] or seen["small"])


@pytest.mark.slow
def test_runners_killed_at_any_moment_leave_nothing(until):
    dice = random.Random(7)
    with Client(n_workers=2, memory_limit="600MiB") as client:
        assert until(lambda: len(facts(client)["runners"]) == 2)
        agent = facts(client)["pid"]
        before = len(kept_files(agent))
        for _ in range(2):
            given = client.scatter(np.full(MIB, 5.0))
            made = client.map(large, range(12), retries=20)
            used = client.map(last, made, retries=20)
            time.sleep(dice.random() * 0.15)
            for pid in facts(client)["runners"]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue  # What it tells is a little old.
            assert client.gather(used) == list(map(float, range(12)))
            assert client.submit(last, given, retries=20).result(60) == 5.0
            assert until(lambda: is_accounted_for(client))
        del given, made, used
        gc.collect()
        assert until(lambda: holds_nothing(client))
        assert until(lambda: is_accounted_for(client))
        # Marks of the runners there are now; warm memory is kept for some seconds.
        assert until(lambda: len(kept_files(agent)) <= before)


@pytest.mark.slow
def test_a_client_killed_while_it_writes_leaves_nothing(until):
    script = textwrap.dedent(
        """
        import sys, os, signal, threading, time
        import numpy as np
        from covey import Client
        client = Client(sys.stdin.readline().strip())
        array = np.ones(40_000_000)  # 320 MB
        future = client.scatter(np.ones(1_000_000))
        delay = float(sys.argv[1])
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
        print("now", flush=True)
        while True:
            client.scatter(array)
        """
    )
    with LocalCluster(1, host="127.0.0.1") as cluster, Client(cluster) as client:
        for delay in (0.01, 0.1, 0.3):
            writer = subprocess.Popen(
                [sys.executable, "-c", script, str(delay)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            writer.communicate(f"{cluster.host}:{cluster.port}\n", timeout=60)
            assert writer.returncode == -signal.SIGKILL
        # What it had finished is kept for a while, in case that it comes back.
        assert until(lambda: not memory(client)["in_flight"])
        assert until(lambda: is_accounted_for(client))
        assert client.submit(last, np.ones(MIB)).result(60) == 1.0


def test_a_worker_that_is_killed_takes_everything_with_it(until):
    gc.collect()
    before = len(store_files("self"))
    with LocalCluster(n_workers=2, memory_limit="400MiB") as cluster:
        client = Client(cluster)
        futures = client.map(large, range(60))  # 480 MiB: some of it on disk
        wait(futures, timeout=60)
        kept = futures[0].result()
        pids = facts(client)["runners"]
        agent = facts(client)["pid"]
        assert store_files(agent)
        os.kill(agent, signal.SIGKILL)
        assert until(lambda: all(map(has_ended, pids)))
        # What this process maps stays as it is for as long as it wants.
        assert kept.sum() == 0.0
        assert len(kept) == MIB
        client.close()
    del client, futures, kept
    gc.collect()
    assert until(lambda: len(store_files("self")) <= before)


@pytest.mark.slow
def test_what_was_scattered_outlives_its_worker(tmp_path, until):
    before = len(store_files("self"))
    array = np.random.default_rng(1).random(MIB)
    total = float(array.sum())
    path = str(tmp_path / "cluster.json")
    covey = [sys.executable, "-m", "covey"]
    worker = [*covey, "worker", "--connection-file", path, "--nworkers", "1"]
    scheduler = subprocess.Popen(
        [*covey, "scheduler", "--port", "0", "--connection-file", path],
        stdout=subprocess.PIPE,
    )
    assert scheduler.stdout.readline()
    processes = [scheduler, subprocess.Popen(worker, stdout=subprocess.DEVNULL)]
    try:
        with Client(path) as client:
            client.wait_for_workers(1, timeout=30)
            scattered = client.scatter([array, array + 1, array + 2])
            dropped = client.scatter(array + 3)
            del dropped
            for _ in range(2):
                # The second time from where it was brought to.
                processes.append(subprocess.Popen(worker, stdout=subprocess.DEVNULL))
                client.wait_for_workers(2, timeout=30)
                processes[-2].kill()
                sums = client.map(np.sum, scattered)
                expected = [total, total + MIB, total + 2 * MIB]
                assert np.allclose(client.gather(sums), expected)
                assert np.array_equal(scattered[0].result(30), array)
            assert client.scheduler_info()["counters"]["tasks_recomputed"] >= 6
            del scattered, sums
            gc.collect()
            assert until(lambda: not any(m["shared"] for m in client.memory().values()))
        gc.collect()
        assert until(lambda: len(store_files("self")) <= before)
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in reversed(processes):
            process.communicate(timeout=30)
        # Its socket file is all that a killed worker leaves.
        for folder in Path(tempfile.gettempdir(), "covey").glob("worker-*"):
            shutil.rmtree(folder)


@pytest.mark.slow
def test_in_the_end_every_descriptor_and_file_is_given_back(until):
    with Client(n_workers=2, memory_limit="400MiB") as client:
        assert until(lambda: len(facts(client)["runners"]) == 2)
        agent = facts(client)["pid"]
        before = len(store_files(agent))
        assert before == 0
        futures = client.map(large, range(60))
        assert client.gather(client.map(last, futures)) == list(map(float, range(60)))
        assert store_files(agent)
        del futures
        gc.collect()
        # Warm memory is kept for some seconds.
        assert until(lambda: not store_files(agent))
        for pid in facts(client)["runners"]:
            assert not store_files(pid)
        assert len(store_files("self")) <= before
