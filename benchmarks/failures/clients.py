"""Clients that die, or are cut off."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from benchmarks.failures.matrix import row
from benchmarks.failures.work import tasks_of
from benchmarks.proxy import SilentProxy
from benchmarks.site import Score, Site, until

#: A client that is stopped while its tasks run, and tells whether all came right.
STOPPED = """
import sys
from benchmarks.failures.work import work, work_value
from covey import Client
client = Client(sys.argv[1])
tasks = range(10_000, 10_000 + int(sys.argv[3]))
futures = client.map(work, tasks, folder=sys.argv[2])
assert futures[0].result() == work_value(10_000)
print("begun", flush=True)
print(sum(v == work_value(x) for x, v in zip(tasks, client.gather(futures))))
client.close()
"""


@row("R11", "a client cut off its scheduler, and one that is stopped", peers=False)
def _client_partition(site: Site, score: Score) -> None:
    from covey import Client

    seconds = 60.0 if site.full else 20.0
    n = int(25 * seconds)
    site.with_workers(1).close()
    proxy = SilentProxy(site.port)
    client = Client(site.through(proxy.port))
    command = [sys.executable, "-c", STOPPED, site.file, site.ran, str(n)]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    other.stdout.readline()
    futures, expected = tasks_of(site, client, n)
    time.sleep(1.0)
    proxy.silence()
    other.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    other.send_signal(signal.SIGCONT)
    proxy.heal()
    score.take(futures, expected, 60)
    told, _ = other.communicate(timeout=60)
    score.counts["right"] += int(told)
    score.counts["lost"] += n - int(told)
    score.recount(site)
    score.counts["wrong"] += bool(score.counts["recomputed"])


@row("R12", "a client kill -9: what it wanted is forgotten", peers=False)
def _client_dies(site: Site, score: Score) -> None:
    client = site.with_workers(1)
    script = (
        "import os, sys; from covey import Client; c = Client(sys.argv[1]);"
        "c.gather(c.map(str, range(500))); f = c.map(str, range(500));"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, site.file], check=False, timeout=60)
    start = time.monotonic()
    until(lambda: not any(client.scheduler_info()["tasks"].values()), 100)
    futures, expected = tasks_of(site, client, 50)
    score.take(futures, expected)
    score.seconds = time.monotonic() - start
