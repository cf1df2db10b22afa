"""Networks that are cut in two, in one way or both, or are slow in one place."""

from __future__ import annotations

import os
import time
from typing import Any

from benchmarks import hosts
from benchmarks.failures.matrix import row
from benchmarks.failures.work import combine, make, spend, tasks_of
from benchmarks.site import Score, Site, until

#: How much worse others may be off when one link is slow.
_WORSE = 1 / 0.9


def _between(site: Site) -> Any:
    """Have a worker on each of two hosts; return a client."""
    site.move_to(hosts.HERE)
    for host in hosts.HOSTS:
        site.start_worker(before=hosts.on(host))
    client = site.client()
    client.wait_for_workers(len(hosts.HOSTS), timeout=60)
    return client


@row("R9", "a worker cut off for longer than it is waited for, both ways and one way")
def _long_partitions(site: Site, score: Score) -> None:
    seconds = 30.0 if site.full else 20.0
    cuts = [
        (hosts.unplug, hosts.plug_in),
        (hosts.silence, hosts.unsilence),
    ]
    with hosts.hosts():
        client = _between(site)
        for turn, (cut, heal) in enumerate(cuts):
            tasks = 1200 if site.full else 800
            futures, expected = tasks_of(site, client, tasks, 0.05, 10_000 * turn)
            time.sleep(1.0)
            cut("b")
            time.sleep(seconds)
            heal("b")
            score.take(futures, expected, 90)
            until(lambda: len(client.scheduler_info()["workers"]) == 2, 60)
            score.counts["lost"] += len(client.scheduler_info()["workers"]) != 2
        again, expected = tasks_of(site, client, 200, first=90_000)
        score.take(again, expected, 60)
        score.recount(site)
        site.close()


@row("R10", "two workers that cannot reach each other, though the scheduler can")
def _separated(site: Site, score: Score) -> None:
    with hosts.hosts():
        client = _between(site)
        hosts.separate()
        made = list(client.map(make, range(16)))
        level: list[Any] = made
        while len(level) > 1:
            pairs = zip(level[::2], level[1::2], strict=True)
            level = [client.submit(combine, one, other) for one, other in pairs]
        score.take(level, [sum(range(16))], 180)
        futures, expected = tasks_of(site, client, 200)
        score.take(futures, expected, 60)
        site.close()


@row("R13", "a link of 1 Mbit/s to one worker: the others go on as before")
def _slow_link(site: Site, score: Score) -> None:
    n = 400 if site.full else 200
    with hosts.hosts():
        client = _between(site)
        slow, fast = "w1", "w2"
        before = _seconds_of(client, n, fast, 0)
        hosts.slow_down("b", "1mbit")
        # Half a minute of traffic: 4 MB that nothing makes smaller go to the slow one.
        bulk = client.submit(os.urandom, 4_000_000, workers=[fast], pure=False)
        moved = client.submit(len, bulk, workers=[slow], pure=False)
        time.sleep(1.0)
        after = _seconds_of(client, n, fast, n)
        score.counts["wrong"] += moved.done()
        score.counts["wrong"] += after > before * _WORSE
        score.take([moved], [4_000_000], 120)
        score.seconds = after
        score.note = f"{n} tasks took {before:.1f} s before, {after:.1f} s then"
        site.close()


def _seconds_of(client: Any, n: int, worker: str, first: int) -> float:
    """Return how long *n* sleeping tasks take on *worker*."""
    start = time.monotonic()
    tasks = range(first, first + n)
    client.gather(client.map(spend, tasks, seconds=0.02, workers=[worker], pure=False))
    return time.monotonic() - start
