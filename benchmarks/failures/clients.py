"""Clients that die, or are cut off."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from benchmarks.failures.matrix import row
from benchmarks.failures.work import tasks_of
from benchmarks.proxy import SilentProxy
from benchmarks.site import Score, Site, tasks_known, until

#: A client that is stopped while its tasks run, and tells whether all came right.
STOPPED = """
import sys
from benchmarks.failures.work import work, work_value
from benchmarks.site import connect
client = connect(*sys.argv[1:3])
tasks = range(10_000, 10_000 + int(sys.argv[4]))
futures = client.map(work, tasks, folder=sys.argv[3])
assert futures[0].result() == work_value(10_000)
print("begun", flush=True)
print(sum(v == work_value(x) for x, v in zip(tasks, client.gather(futures))))
client.close()
"""


#: A client that dies with results in its hands, and others on their way.
KILLED = """
import os, sys
from benchmarks.site import connect
client = connect(*sys.argv[1:3])
client.gather(client.map(str, range(500)))
futures = client.map(str, range(500, 1000))
os.kill(os.getpid(), 9)
"""


@row("R11", "a client cut off its scheduler, and one that is stopped")
def _client_partition(site: Site, score: Score) -> None:
    seconds = 60.0 if site.full else 20.0
    n = int(25 * seconds)
    site.with_workers(1).close()
    proxy = SilentProxy(site.port)
    client = site.client(through=proxy.port)
    command = [sys.executable, "-c", STOPPED, *site.place, site.ran, str(n)]
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
    # It has ended without a word if its results could not be gathered.
    right = int(told or 0)
    score.counts["right"] += right
    score.counts["lost"] += n - right
    score.recount(site)
    score.counts["wrong"] += bool(score.counts["recomputed"])


@row("R12", "a client kill -9: what it wanted is forgotten")
def _client_dies(site: Site, score: Score) -> None:
    client = site.with_workers(1)
    command = [sys.executable, "-c", KILLED, *site.place]
    subprocess.run(command, check=False, timeout=60)
    start = time.monotonic()
    until(lambda: not tasks_known(client), 100)
    score.counts["wrong"] += tasks_known(client)
    futures, expected = tasks_of(site, client, 50)
    score.take(futures, expected)
    score.seconds = time.monotonic() - start
