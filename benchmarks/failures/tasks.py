"""Tasks that do harm to the process that they run in, and results that do."""

from __future__ import annotations

import os
import threading
import time

from benchmarks.failures.matrix import row
from benchmarks.failures.work import crash, grow, hold_the_gil, large, tasks_of
from benchmarks.site import Score, Site, small_disk, until


@row("R4", "one task that segfaults among many, on threads: exactly one error")
def _poison(site: Site, score: Score) -> None:
    n = 10_000 if site.full else 1000
    client = site.with_workers(1, threads=8)
    futures, expected = tasks_of(site, client, n, 0.001)
    poison = client.submit(crash)
    died = "RunnerDied" if site.contender == "covey" else "KilledWorker"
    score.take([*futures, poison], [*expected, died], 150)
    score.recount(site)


@row("R6", "a task holds the GIL: its worker is not taken for dead")
def _gil(site: Site, score: Score) -> None:
    seconds = 120.0 if site.full else 15.0
    client = site.with_workers(1)
    holder = client.submit(hold_the_gil, seconds)
    futures, expected = tasks_of(site, client, 50)
    score.take([holder, *futures], [1, *expected], seconds + 60)
    score.recount(site)


@row("R7", "a task with a timeout that cannot be interrupted")
def _timeouts(site: Site, score: Score) -> None:
    client = site.with_workers(1)
    if site.contender == "covey":
        ends, stuck = "TaskTimedOut", client.submit(hold_the_gil, 600.0, timeout=2)
        futures, expected = tasks_of(site, client, 50)
    else:
        # Where a task has no time limit, its user looks at the clock, and cancels it.
        ends, stuck = "Cancelled", client.submit(hold_the_gil, 600.0)
        futures, expected = tasks_of(site, client, 50)
        time.sleep(2.0)
        stuck.cancel()
        score.note = "cancelled after 2 s: a task has no timeout there"
    score.take([stuck, *futures], [ends, *expected], 60)


@row("R24", "results and exceptions that cannot be pickled")
def _unpicklable(site: Site, score: Score) -> None:
    client = site.with_workers(1)
    bad = [client.submit(threading.Lock), client.submit(_raise_unpicklable)]
    futures, expected = tasks_of(site, client, 50)
    score.take([*bad, *futures], ["pickle", "lock", *expected])


class _WithLock(Exception):
    def __init__(self) -> None:
        super().__init__("it carries a lock")
        self.lock = threading.Lock()


def _raise_unpicklable() -> None:
    raise _WithLock


@row("R25", "user code that exits, and closes every descriptor")
def _hostile(site: Site, score: Score) -> None:
    client = site.with_workers(1)
    ends = [client.submit(os._exit, 3), client.submit(os.closerange, 3, 256)]
    for future in ends:
        until(future.done, 60)
    futures, expected = tasks_of(site, client, 50)
    score.take(futures, expected)


def _died_of_memory(site: Site) -> str:
    """Return the name of the error of a task that takes too much memory."""
    return "TaskOutOfMemory" if site.contender == "covey" else "KilledWorker"


@row("R15", "a task grows over the memory limit: only that one fails")
def _out_of_memory(site: Site, score: Score) -> None:
    site.start_worker(memory="500MiB")
    client = site.client()
    hog = client.submit(grow, 4 << 30)
    futures, expected = tasks_of(site, client, 200)
    score.take([hog, *futures], [_died_of_memory(site), *expected], 60)
    score.recount(site)


@row("R16", "the disk of the spill folder is full")
def _disk_full(site: Site, score: Score) -> None:
    with small_disk(site) as folder:
        os.environ["COVEY_WORKER__SPILL_DIRECTORY"] = str(folder)
        os.environ["DASK_TEMPORARY_DIRECTORY"] = str(folder)
        site.start_worker(memory="400MiB")
        client = site.client()
        futures = list(client.map(large, range(40)))
        sizes = list(client.map(len, futures))
        score.take_either(sizes, [1 << 24] * 40, _died_of_memory(site))
        more, expected = tasks_of(site, client, 50)
        score.take(more, expected)
        site.close()
