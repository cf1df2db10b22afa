"""All of it, in an order by chance."""

from __future__ import annotations

import random
import signal
import time
from typing import Any

from benchmarks.failures.matrix import row
from benchmarks.failures.work import tasks_of
from benchmarks.site import Score, Site, family_of, send_signal


@row("R32", "for a while, all of it: kills, stops, cut links, in an order by chance")
def _nemesis(site: Site, score: Score) -> None:
    chance = random.Random(32)
    seconds = 1800.0 if site.full else 40.0
    client = site.with_workers(3)
    futures: list[Any] = []
    expected: list[int] = []
    until_then = time.monotonic() + seconds
    while time.monotonic() < until_then:
        more, values = tasks_of(site, client, 200, first=len(futures))
        futures += more
        expected += values
        time.sleep(chance.uniform(1.0, 4.0))
        _strike(site, chance)
        if site.full and len(futures) > 20_000:
            score.take(futures, expected, 60)
            futures, expected = [], []
    score.take(futures, expected, 90)
    score.recount(site)


def _strike(site: Site, chance: random.Random) -> None:
    """Do one bad thing, and let the site recover its strength."""
    what = chance.choice(["worker", "worker", "scheduler", "pause"])
    victim = site.workers[0]
    if what == "scheduler":
        site.restart_scheduler()
    elif what == "pause":
        for pid in family_of(victim.pid):
            send_signal(pid, signal.SIGSTOP)
        time.sleep(chance.uniform(0.5, 3.0))
        for pid in family_of(victim.pid):
            send_signal(pid, signal.SIGCONT)
    else:
        site.workers.pop(0)
        for pid in family_of(victim.pid):
            send_signal(pid, signal.SIGKILL)
        victim.wait()
        site.start_worker()
