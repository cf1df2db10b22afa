"""Links that fall silent, break, lie, or are slow; strangers who knock."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from typing import Any

from benchmarks.failures.matrix import row
from benchmarks.failures.work import tasks_of
from benchmarks.proxy import SilentProxy
from benchmarks.site import Score, Site, until


@row("R8", "a worker cut off its scheduler for 8 s")
def _short_partition(site: Site, score: Score) -> None:
    client = site.with_workers(1)
    proxy = SilentProxy(site.port)
    site.start_worker(through=proxy.port)
    client.wait_for_workers(2, timeout=60)
    futures, expected = tasks_of(site, client, 2000)
    time.sleep(2.0)
    proxy.silence()
    time.sleep(8.0)
    proxy.heal()
    score.take(futures, expected, 60)
    score.counts["lost"] += len(client.ncores()) != 2
    again, expected = tasks_of(site, client, 200, first=10_000)
    score.take(again, expected, 60)
    score.recount(site)
    score.counts["wrong"] += bool(score.counts["recomputed"])


@row("R20", "frames that claim to be huge")
def _huge_frames(site: Site, score: Score) -> None:
    import psutil

    client = site.with_workers(1)
    futures, expected = tasks_of(site, client, 300)
    before = psutil.Process(site.scheduler.pid).memory_info().rss
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", site.port)) as stranger:
            stranger.sendall(b"\xff" * 16)
    score.take(futures, expected)
    score.recount(site)
    grown = psutil.Process(site.scheduler.pid).memory_info().rss - before
    if grown > 64 << 20:
        score.counts["wrong"] += 1


@row("R21", "connections are cut again and again, in the middle of frames")
def _cut_links(site: Site, score: Score) -> None:
    site.start_worker()
    worker_side = SilentProxy(site.port)
    site.start_worker(through=worker_side.port)
    client_side = SilentProxy(site.port)
    client = site.client(through=client_side.port)
    client.wait_for_workers(2, timeout=60)
    futures, expected = tasks_of(site, client, 1500)
    for turn in range(20):
        time.sleep(0.3)
        (worker_side, client_side)[turn % 2].cut()
    score.take(futures, expected, 60)
    score.recount(site)
    if score.counts["recomputed"]:
        score.counts["wrong"] += 1


@row("R23", "100 peers of another version knock")
def _strangers(site: Site, score: Score) -> None:
    client = site.with_workers(1)
    futures, expected = tasks_of(site, client, 300)
    for number in range(100):
        if site.contender == "dask":
            _knock_at_dask(f"tcp://127.0.0.1:{site.port}", number)
            continue
        with socket.create_connection(("127.0.0.1", site.port)) as stranger:
            stranger.sendall(b"\x00covey\r\n" + b"\x63" * 120)
    score.take(futures, expected)
    score.recount(site)


def _knock_at_dask(address: str, number: int) -> None:
    """Introduce oneself to a scheduler of dask as one of Python 2.7."""
    from distributed.comm import connect

    async def knock() -> None:
        old = {"python": (2, 7, number), "pickle-protocol": 2, "compression": None}
        comm = await connect(address, handshake_overrides=old)
        comm.abort()

    asyncio.run(knock())


@row("R26", "ports in use, names that do not resolve, SIGTERM under load")
def _ports_and_names(site: Site, score: Score) -> None:
    client = site.with_workers(2)
    futures, expected = tasks_of(site, client, 400)
    until(futures[20].done)
    site.workers[0].terminate()
    for command, told in (
        (site.command("scheduler", "--port", str(site.port)), "in use"),
        (site.command("worker", "tcp://no-such-host.invalid:8786"), "no-such-host"),
    ):
        said = _last_words(command, 60.0)
        if said is None or told not in said or "Traceback" in said:
            score.counts["wrong"] += 1
            score.note += f"{said[-60:]!r} " if said else "it tried on and on "
    score.take(futures, expected, 60)
    score.recount(site)
    score.counts["wrong"] += bool(score.counts["recomputed"])


def _last_words(command: list[str], seconds: float) -> str | None:
    """Return what a command told when it failed; None if it did not fail."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stderr.strip() if done.returncode else None


@row("R19", "bits flip on the way, again and again")
def _flipped_bits(site: Site, score: Score) -> None:
    # Beyond this machine, where bits flip, covey encrypts everything of its own accord.
    site.move_to("0.0.0.0")
    worker_side, client_side = SilentProxy(site.port), SilentProxy(site.port)
    site.start_worker()
    site.start_worker(through=worker_side.port)
    client = site.client(through=client_side.port)
    client.wait_for_workers(2, timeout=60)
    # What is longer never arrives: the function and its package are 62 KB.
    for side in (worker_side, client_side):
        side.flip_after(90_000)
    futures: list[Any] = []
    expected: list[int] = []
    for first in range(0, 4000, 100):
        more, values = tasks_of(site, client, 100, first=first)
        futures += more
        expected += values
        time.sleep(0.3)
    score.take(futures, expected, 90)
    for side in (worker_side, client_side):
        side.flip_after(0)
    flips = worker_side.flips + client_side.flips
    # Had none been flipped, nothing would have been tried.
    score.counts["wrong"] += flips < 4
    score.note = f"{flips} bits were flipped"
    score.recount(site)
    score.counts["wrong"] += bool(score.counts["recomputed"])
