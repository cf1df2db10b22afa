"""Clients that die, or are cut off."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.failures.matrix import row
from benchmarks.failures.work import tasks_of
from benchmarks.proxy import SilentProxy
from benchmarks.site import Score, Site, until


@row("R11", "a client cut off its scheduler for 20 s", peers=False)
def _client_partition(site: Site, score: Score) -> None:
    from covey import Client

    site.with_workers(1).close()
    proxy = SilentProxy(site.port)
    client = Client(site.through(proxy.port))
    futures, expected = tasks_of(site, client, 1000)
    time.sleep(1.0)
    proxy.silence()
    time.sleep(20.0)
    proxy.heal()
    score.take(futures, expected, 60)
    score.recount(site)


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
