"""Workers that die, stop and leave, and what only they had."""

from __future__ import annotations

import signal
import time
from typing import Any

from benchmarks.failures.matrix import row
from benchmarks.failures.work import tasks_of, work, work_value
from benchmarks.site import Score, Site, family_of, send_signal


@row("R3", "a worker kill -9 every second, during a DAG")
def _workers_die(site: Site, score: Score) -> None:
    n, kills = (10_000, 20) if site.full else (600, 3)
    client = site.with_workers(3)
    futures: list[Any] = []
    values: list[int] = []
    for x in range(n):
        before = [x // 2, x // 3] if x > 5 else []
        inputs = [futures[i] for i in before]
        futures.append(client.submit(work, x, site.ran, 0.01, *inputs))
        values.append(work_value(x, *(values[i] for i in before)))
    for _ in range(kills):
        time.sleep(1.0)
        victim = site.workers.pop(0)
        for pid in family_of(victim.pid):
            send_signal(pid, signal.SIGKILL)
        victim.wait()
        site.start_worker()
    score.take(futures, values, 150)
    score.recount(site)


@row("R5", "a worker stopped (SIGSTOP) and continued later")
def _worker_stops(site: Site, score: Score) -> None:
    client = site.with_workers(2)
    futures, expected = tasks_of(site, client, 400, 0.02)
    time.sleep(1.0)
    family = family_of(site.workers[0].pid)
    for pid in family:
        send_signal(pid, signal.SIGSTOP)
    score.take(futures, expected, 60)
    for pid in family:
        send_signal(pid, signal.SIGCONT)
    time.sleep(2.0)
    again, expected = tasks_of(site, client, 200, first=1000)
    score.take(again, expected, 60)
    score.recount(site)


@row("R27", "the only copy of scattered data is lost: its client brings it again")
def _scattered(site: Site, score: Score) -> None:
    client = site.with_workers(2)
    large = client.scatter(bytes(10_000_000), workers=["w1"])
    for pid in family_of(site.workers[0].pid):
        send_signal(pid, signal.SIGKILL)
    time.sleep(3.0)
    score.take([client.submit(len, large)], [10_000_000], 30)


@row(
    "R31", "workers are replaced one after the other under load: nothing is recomputed"
)
def _rolling(site: Site, score: Score) -> None:
    client = site.with_workers(2)
    futures, expected = tasks_of(site, client, 600)
    for old in list(site.workers):
        time.sleep(0.5)
        site.start_worker()
        old.send_signal(signal.SIGTERM)
        old.wait(90)
    score.take(futures, expected, 90)
    score.recount(site)
    if score.counts["recomputed"]:
        score.counts["wrong"] += 1
