"""What a socket file, a port and TLS cost: ``python -m benchmarks.transports``.

One cluster after the other, in turns, so that neighbours in time have the same
weather: a local one (a socket file), a scheduler and a worker started from a shell on
the loopback interface (TCP), and the same with TLS, over an address of this machine
that is not loopback.  Told are medians, and the ratio of CPU time to TCP within each round:
wall time says little on a machine that has other things to do.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from covey import Client

COMMAND = [sys.executable, "-m", "covey"]


def inc(number: int) -> int:
    """Do as little as a task can."""
    return number + 1


@contextlib.contextmanager
def unix() -> Iterator[Client]:
    """Yield a client of a local cluster."""
    with Client(n_workers=2, set_as_default=False) as client:
        yield client


@contextlib.contextmanager
def by_hand(host: str) -> Iterator[Client]:
    """Yield a client of a cluster that was started from a shell."""
    with tempfile.TemporaryDirectory(prefix="cb-") as folder:
        path = Path(folder) / "c.json"
        place = ["--connection-file", str(path)]
        scheduler = subprocess.Popen(
            [
                *COMMAND,
                "scheduler",
                "--no-dashboard",
                "--host",
                host,
                "--port",
                "0",
                *place,
            ],
            stdout=subprocess.PIPE,
        )
        assert scheduler.stdout is not None
        scheduler.stdout.readline()
        worker = subprocess.Popen([*COMMAND, "worker", "--nworkers", "2", *place])
        try:
            with Client(path, set_as_default=False) as client:
                client.wait_for_workers(1, timeout=60)
                yield client
        finally:
            for process in (worker, scheduler):
                process.terminate()
                process.communicate(timeout=60)


KINDS = {
    "unix": unix,
    "tcp": lambda: by_hand("127.0.0.1"),
    "tls": lambda: by_hand("0.0.0.0"),
}


def cpu_seconds() -> float:
    """Return what this process and all that it has started have worked."""
    me = psutil.Process()
    times = [p.cpu_times() for p in [me, *me.children(recursive=True)]]
    return sum(one.user + one.system for one in times)


def measure(client: Client, n: int) -> dict[str, float]:
    """Return tasks a second of a map, the work of each, and the seconds of one."""
    client.gather(client.map(inc, range(-200, -100)))
    worked, start = cpu_seconds(), time.perf_counter()
    values = client.gather(client.map(inc, range(n)))
    mapped = n / (time.perf_counter() - start)
    worked = (cpu_seconds() - worked) / n
    assert values == list(range(1, n + 1))
    singles = []
    for number in range(200):
        start = time.perf_counter()
        client.submit(inc, number).result()
        singles.append(time.perf_counter() - start)
    return {
        "tasks/s": mapped,
        "cpu, s": worked,
        "submit, s": statistics.median(singles),
    }


def main() -> None:
    """Take turns, and say how it went."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--n", type=int, default=50_000)
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(arguments.rounds):
        for kind, start in KINDS.items():
            with start() as client:
                found[kind].append(measure(client, arguments.n))
    print(f"{'':6}{'tasks/s':>10}{'CPU a task':>14}{'of tcp':>8}{'submit':>12}")
    for kind, rounds in found.items():
        middle = {
            name: statistics.median(one[name] for one in rounds) for name in rounds[0]
        }
        ratio = statistics.median(
            one["cpu, s"] / other["cpu, s"]
            for one, other in zip(rounds, found["tcp"], strict=True)
        )
        print(
            f"{kind:6}{middle['tasks/s']:10,.0f}{middle['cpu, s'] * 1e6:11.1f} µs"
            f"{ratio:8.2f}{middle['submit, s'] * 1e6:9,.0f} µs"
        )


if __name__ == "__main__":
    main()
