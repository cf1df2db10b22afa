"""Scheduler and client are gone: what was detached or published goes on."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from covey import AsyncClient, Client, LocalCluster, errors
from covey.net.connection_file import read_connection_file

pytestmark = pytest.mark.system


def covey(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "covey", *arguments], stdout=subprocess.PIPE, text=True
    )


def end(process):
    if process.poll() is None:
        process.terminate()
    process.communicate(timeout=30)


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


JOB = """
import os, sys, time
from covey import AsyncClient, Client, LocalCluster, errors
from covey.net.connection_file import read_connection_file

def noted(x, folder, seconds=0.02):
    with open(f"{folder}/{x}", "a") as file:
        file.write("x")
    time.sleep(seconds)
    return x * x

client = Client(sys.argv[1])
folder = sys.argv[2]
squares = client.map(noted, range(60), folder=folder)
client.publish_dataset("squares", {"sum": client.submit(sum, squares), "all": squares})
client.detach(client.submit(noted, 1000, folder, 0.5))
lost = client.submit(noted, 2000, folder, 60)
client.list_datasets()
while len(os.listdir(folder)) < 10:
    time.sleep(0.01)
os.kill(os.getpid(), 9)
"""


def test_scheduler_and_client_are_killed_and_the_job_is_done(tmp_path):
    path, journal, folder = (tmp_path / n for n in ("c.json", "journal", "ran"))
    folder.mkdir()
    serve = ["scheduler", "--port", "0", "--connection-file", str(path)]
    serve += ["--no-dashboard", "--journal", str(journal)]
    scheduler = covey(*serve)
    assert scheduler.stdout.readline().startswith("covey scheduler")
    serve[2] = str(read_connection_file(path).address.port)
    worker = covey("worker", "--connection-file", str(path), "--nworkers", "2")
    try:
        job = [sys.executable, "-c", JOB, str(path), str(folder)]
        done = subprocess.run(job, timeout=60, check=False)
        assert done.returncode == -signal.SIGKILL
        scheduler.kill()
        scheduler.communicate(timeout=10)
        assert journal.stat().st_mode & 0o077 == 0
        scheduler = covey(*serve)
        assert scheduler.stdout.readline().startswith("covey scheduler")
        with Client(path) as client:
            assert client.list_datasets() == ("squares",)
            found = client.get_dataset("squares")
            assert found["sum"].result(60) == sum(x * x for x in range(60))
            assert client.gather(found["all"]) == [x * x for x in range(60)]
            wait_until((folder / "1000").exists)
            with pytest.raises(KeyError, match="there is: 'squares'"):
                client.get_dataset("cubes")
            # All of it ran once: what was held or ran was taken over.
            names = sorted(int(made.name) for made in folder.iterdir())
            assert [x for x in names if x != 2000] == [*range(60), 1000]
            again = [x for x in range(60) if (folder / str(x)).read_text() != "x"]
            assert again == []
            client.unpublish_dataset("squares")
            assert client.list_datasets() == ()
            del found
            wait_until(lambda: not sum(client.scheduler_info()["tasks"].values()), 90)
        # Nothing is left to go on with.
        end(scheduler)
        assert Path(journal).stat().st_size > 0
        scheduler = covey(*serve)
        scheduler.stdout.readline()
        with Client(path) as client:
            assert client.list_datasets() == ()
    finally:
        for process in (worker, scheduler):
            end(process)


def test_a_name_that_is_taken_and_a_client_of_today(tmp_path):
    with Client(n_workers=1, processes=False) as client:
        future = client.submit(pow, 2, 5)
        client.publish_dataset("it", [future])
        with pytest.raises(Exception, match="'it' is taken"):
            client.publish_dataset("it", "something else")
        (same,) = client.get_dataset("it")
        assert same.result(20) == 32
        del future, same
        # Nobody here holds it any more; the name does.
        (same,) = client.get_dataset("it")
        assert same.result(20) == 32


async def _publish_and_take_up(cluster):
    async with AsyncClient(cluster) as client, AsyncClient(cluster) as other:
        future = client.submit(pow, 2, 6)
        await client.publish_dataset("of an async client", {"a": future})
        with pytest.raises(errors.UsageError, match="is taken"):
            await client.publish_dataset("of an async client", 1)
        assert await other.list_datasets() == ("of an async client",)
        kept = await other.get_dataset("of an async client")
        assert await kept["a"] == 64
        await other.unpublish_dataset("of an async client")
        assert await other.list_datasets() == ()
        with pytest.raises(KeyError, match="nothing is kept under"):
            await client.get_dataset("of an async client")


def test_an_async_client_publishes_and_takes_up():
    with LocalCluster(1, processes=False) as cluster:
        asyncio.run(_publish_and_take_up(cluster))
