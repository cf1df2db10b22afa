"""Large values: how fast they go in and out, between machines, and past the limit.

The rate of a copy in memory, and of a bare socket, are measured in the same run: on a
busy machine only the ratios mean something.
"""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import hosts
from benchmarks.contenders import Contender
from benchmarks.harness import Figure, Room, Timed

room = Room(__doc__, contenders=("covey", "dask", "ray"), turn_seconds=1800.0)

ROUNDS = 5

#: An exchange that takes longer has failed: workers that are out of memory may wait for
#: each other without end.
EXCHANGE_SECONDS = 600.0

for _size in ("100 MB", "400 MB"):
    room.ask(f"scatter {_size}, the first", must=1.5e9, ahead={"dask": 8, "ray": 4})
    room.ask(f"scatter {_size}, into warm memory", must=5e9, ahead={"dask": 8})
    room.ask(f"the same, of a copy of {_size}", aim=0.9)
    room.ask(f"get {_size}", must=2e-3, aim=0.3e-3)
    room.ask(f"use {_size} in a task", must=2e-3, aim=0.3e-3)
    room.ask(f"worker to worker, {_size}", must=1.2e9)
    room.ask(f"worker to worker over TLS, {_size}")
    room.ask(f"the same, of a bare socket, {_size}", aim=0.8)
for _size in ("2048 MB", "4096 MB"):
    room.ask(
        f"all-to-all of {_size}, four workers of 1/4 of that", ahead={"dask": 1 / 0.7}
    )
OUT_OF_MEMORY = "errors of 1,001 tasks, one of which allocates past the limit"
room.ask(OUT_OF_MEMORY, must=1, aim=1)
room.ask("workers that such a task ended", must=0, aim=0)
room.ask("bytes left when all futures are dropped", must=0, aim=0)
room.ask("descriptors and files left then", must=0, aim=0)


def ten_kilobytes(number: int) -> bytes:
    """Return a small value."""
    return number.to_bytes(8, "little") * 1280


def first(array: Any) -> float:
    """Use an array, as little as one can."""
    return float(array[0])


def ones(count: int) -> Any:
    """Return an array of that many numbers."""
    return np.ones(count)


def put(cluster: Contender, array: Any) -> Any:
    """Place an array in the contender's store."""
    if hasattr(cluster, "ray"):
        return cluster.ray.put(array)
    return cluster.client.scatter(array)  # type: ignore[attr-defined]


def forget(handles: list[Any]) -> None:
    """Let go of values, and give the contender a moment to notice."""
    handles.clear()
    gc.collect()
    time.sleep(0.3)


def rate(array: Any, seconds: float) -> Figure:
    """Return bytes a second."""
    return Figure(array.nbytes / seconds, "B/s")


@room.job("scatter of {n:,} bytes", short=100_000_000, full=400_000_000)
def scatter(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Put an array, cold and warm; get it, and use it in a task."""
    del timed
    array = np.random.default_rng(1).random(n // 8)
    name = f"{n // 1_000_000} MB"
    copy = _copy_rate(array)
    figures = {f"copy of {name} in memory": copy}
    rates, gets, uses = [], [], []
    cluster.result(cluster.submit(first, np.ones(3)))
    for _ in range(ROUNDS):
        started = time.perf_counter()
        held = [put(cluster, array)]
        rates.append(time.perf_counter() - started)
        started = time.perf_counter()
        value = cluster.result(held[0])
        gets.append(time.perf_counter() - started)
        assert value[-1] == array[-1]
        started = time.perf_counter()
        assert cluster.result(cluster.submit(first, held[0])) == array[0]
        uses.append(time.perf_counter() - started)
        del value
        forget(held)
    figures[f"scatter {name}, the first"] = rate(array, rates[0])
    warm = figures[f"scatter {name}, into warm memory"] = rate(array, min(rates[1:]))
    figures[f"the same, of a copy of {name}"] = Figure(warm.value / copy.value, "x")
    figures[f"get {name}"] = Figure(sorted(gets)[ROUNDS // 2], "s")
    figures[f"use {name} in a task"] = Figure(sorted(uses)[ROUNDS // 2], "s")
    return figures


def _copy_rate(array: Any) -> Figure:
    target = array.copy()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        target[:] = array
        times.append(time.perf_counter() - started)
    return rate(array, min(times))


@room.job(
    "{n:,} values of 10 KB gathered",
    short=2_000,
    full=10_000,
    must=0.5 / 10_000,
    aim=0.15 / 10_000,
)
def small_values(cluster: Contender, n: int, timed: Timed) -> None:
    """Gather many small values, that are there already; per value."""
    handles = list(cluster.map(ten_kilobytes, range(n)))
    cluster.result(handles[-1])
    wait_for(cluster, handles)
    with timed(n):
        values = cluster.gather(handles)
    assert values[-1] == ten_kilobytes(n - 1)


def wait_for(
    cluster: Contender, handles: list[Any], seconds: float | None = None
) -> None:
    """Wait until all are done, and fetch nothing.

    Raises:
        TimeoutError: that has taken longer than *seconds*.
    """
    if hasattr(cluster, "ray"):
        cluster.ray.wait(handles, num_returns=len(handles), fetch_local=False)
    elif cluster.package == "covey":
        from covey import wait

        wait(handles, timeout=seconds)
    else:
        from distributed import wait as dask_wait

        dask_wait(handles, timeout=seconds)


@room.job(
    "all-to-all of {n} MB, four workers of 1/4 of that",
    short=2048,
    full=4096,
    started=False,
)
def all_to_all(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Cut blocks into pieces, and join the pieces the other way round."""
    if cluster.package not in {"covey", "distributed"}:
        return {}
    limit = f"{n // 4}MiB"
    with four_workers(cluster, limit) as client:
        parts = 16
        count = n * 131_072 // parts
        try:
            with timed():
                blocks = [client.submit(block, i, count) for i in range(parts)]
                pieces = [
                    [client.submit(piece, b, k, parts) for k in range(parts)]
                    for b in blocks
                ]
                del blocks
                joined = [
                    client.submit(join, *column) for column in zip(*pieces, strict=True)
                ]
                del pieces
                wait_for(cluster, joined, EXCHANGE_SECONDS)
                sums = client.gather(joined)
        except Exception as error:
            if cluster.package == "covey":
                raise
            # A peer that gives up, or takes too long, has other figures.
            print(f"all-to-all of {n} MB: {error!r:.300}", file=sys.stderr)
            return {}
        assert sums == [sum(range(parts)) * float(count // parts)] * parts
    return {}


@room.job("{n:,} small tasks and one too large", short=1000, full=1000, started=False)
def too_large(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Let one task allocate past the limit, beside many that do not."""
    del timed
    if cluster.package != "covey":
        return {}
    from covey import Client, errors

    with Client(n_workers=2, memory_limit="400MiB") as client:
        before = _agent(client)
        small = client.map(ten_kilobytes, range(n // 2))
        large = client.submit(ones, 100_000_000)
        small += client.map(ten_kilobytes, range(n // 2, n))
        values = client.gather([*small, large], errors="return")
        wrong = [v for v in values if isinstance(v, BaseException)]
        assert values[:n] == [ten_kilobytes(i) for i in range(n)]
        assert len(wrong) == 1
        assert isinstance(values[n], errors.TaskOutOfMemory)
        assert large.key in str(values[n])
        ended = int(_agent(client).pid != before.pid)
    return {
        OUT_OF_MEMORY: Figure(len(wrong), "n"),
        "workers that such a task ended": Figure(ended, "n"),
    }


@room.job("{n} large values dropped", short=40, full=200, started=False)
def dropped(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Make values that do not all fit, use them, drop them, and see what stays."""
    del timed
    if cluster.package != "covey":
        return {}
    from covey import Client

    with Client(n_workers=2, memory_limit="400MiB") as client:
        agent = _agent(client)
        client.gather(client.map(first, [np.ones(9)] * 4))
        before = _store_files(agent)
        values = client.map(ones, [2_500_000] * n)
        assert client.gather(client.map(first, values)) == [1.0] * n
        scattered = client.scatter(np.ones(1_000_000))
        assert scattered.result()[0] == 1.0
        del values, scattered
        gc.collect()
        deadline = time.monotonic() + 30
        while (left := _left(client, agent, before)) != (0, 0):
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
    return {
        "bytes left when all futures are dropped": Figure(left[0], "B"),
        "descriptors and files left then": Figure(left[1], "n"),
    }


def _agent(client: Any) -> psutil.Process:
    return psutil.Process(client.scheduler_info()["workers"][0]["facts"]["pid"])


def _store_files(process: psutil.Process) -> int:
    """Count the segments and spill files that a process has open."""
    links = Path(f"/proc/{process.pid}/fd").iterdir()
    names = [str(link.readlink()) for link in links if link.is_symlink()]
    return sum("memfd:" in name or "(deleted)" in name for name in names)


def _left(client: Any, agent: psutil.Process, before: int) -> tuple[int, int]:
    (memory,) = client.memory().values()
    accounts = ("shared", "in_flight", "warm", "spilled", "small")
    return sum(memory[name] for name in accounts), _store_files(agent) - before


def block(number: int, count: int) -> Any:
    """Make a block."""
    return np.full(count, float(number))


def piece(array: Any, number: int, parts: int) -> Any:
    """Cut one piece out of a block."""
    count = len(array) // parts
    return array[number * count : (number + 1) * count].copy()


def join(*pieces: Any) -> float:
    """Join pieces of all blocks."""
    return sum(float(part.sum()) for part in pieces)


@contextlib.contextmanager
def four_workers(cluster: Contender, limit: str) -> Iterator[Any]:
    """Start four workers with a memory limit each."""
    if cluster.package == "covey":
        from covey import Client
        from covey.units import parse_bytes

        total = 4 * parse_bytes(limit)
        with Client(n_workers=4, machines=4, memory_limit=total) as client:
            yield client
        return
    from distributed import Client as DaskClient

    with DaskClient(
        n_workers=4, threads_per_worker=1, memory_limit=limit, dashboard_address=None
    ) as client:
        yield client


# Between machines.


@room.job("move {n:,} bytes between machines", short=100_000_000, full=400_000_000)
def move(cluster: Contender, n: int, timed: Timed) -> dict[str, Figure]:
    """Move a value from one worker's store to another's, and bytes by bare sockets.

    Each end is in a network namespace of its own, where that can be had.
    """
    del timed
    if cluster.package != "covey":
        return {}
    name = f"{n // 1_000_000} MB"
    figures = {}
    with two_hosts() as (one, other, address):
        bare, _ = ends(one, ["listen", address, n], other, ["send", address, "", n])
        figures[f"a bare socket, {name}"] = Figure(n / bare, "B/s")
        for how, title in (("clear", ""), ("tls", " over TLS")):
            served = ["serve", address, n, how]
            seconds, cpu = ends(one, served, other, ["fetch", "", n])
            title = f"worker to worker{title}, {name}"
            figures[title] = Figure(n / seconds, "B/s")
            figures[f"CPU time a GB, both ends: {title}"] = Figure(1e9 * cpu / n, "s")
            if how == "clear":
                ratio = Figure(bare / seconds, "x")
                figures[f"the same, of a bare socket, {name}"] = ratio
    return figures


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[list[str], list[str], str]]:
    """Yield what to put before commands on two hosts, and the first one's address."""
    try:
        with hosts.hosts():
            yield hosts.on("b"), hosts.on("c"), hosts.HOSTS["b"]
    except hosts.Impossible as error:
        print(f"over the loopback device: {error}", file=sys.stderr)
        yield [], [], "127.0.0.1"


def ends(
    one: list[str], near: list[Any], other: list[str], far: list[Any]
) -> tuple[float, float]:
    """Run both ends of a move; return the seconds of one, and the CPU time it took.

    What the first one prints goes to the second one, where something is left empty.
    """
    # Where peers have an interpreter of their own, covey is not installed in that.
    from benchmarks import data_ends

    command = [sys.executable, "-m", "benchmarks.data_ends"]
    server = subprocess.Popen(
        [*one, *command, *map(str, near)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None and server.stdin is not None
    with server:
        there = server.stdout.readline().strip()
        words = [str(word) or there for word in far]
        asker = subprocess.Popen(
            [*other, *command, *words], stdout=subprocess.PIPE, text=True
        )
        assert asker.stdout is not None
        with asker:
            before = _cpu_seconds(server)
            seconds, cpu = map(float, asker.stdout.readline().split())
            cpu += (_cpu_seconds(server) - before) / data_ends.ROUNDS
        server.stdin.close()
    return seconds, cpu


def _cpu_seconds(process: subprocess.Popen[str]) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    room.main()
