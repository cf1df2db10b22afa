"""What it costs that nothing is lost, while nothing fails.

``python -m benchmarks.cost`` runs the first row of ``throughput``, and a graph, on a cluster
all of which is in this process, and speaks TCP.  It stops the processor time that goes into
each protective mechanism, and compares it with that of the whole.  To look at the clock twice
in each call counts as part of it, so that what is shown is more than what it costs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, Final

from covey import Client, LocalCluster
from covey.client.core.ledger import Ledger
from covey.scheduler.core import outcomes
from covey.scheduler.core.attendance import Attendance
from covey.store import digests
from covey.wire.session import Pulse, Session
from covey.worker.core import vouching

#: Class or module, and the functions of it that are there for failures only.
PROTECTION: Final[dict[str, list[tuple[Any, str]]]] = {
    "sessions: count, keep, acknowledge": [
        (Session, "push"),
        (Session, "take"),
        (Session, "on_ack"),
        (Session, "ack"),
    ],
    "the client's ledger of submissions": [(Ledger, "note"), (Ledger, "hear")],
    "numbers of attempts": [(outcomes, "current")],
    "digests of values": [
        (digests, "of_small"),
        (digests, "of_pack"),
        (digests, "of_segment"),
        (vouching, "at_once"),
        (vouching, "vouch"),
    ],
    "heartbeats": [(Attendance, "beat"), (Pulse, "beat")],
}

#: At most this much of the first row may go into it.
MUST: Final = 0.05

#: The others are shown beside it.
HELD_TO: Final = {"map and gather"}


class Stopwatch:
    """Processor time and calls of one mechanism."""

    def __init__(self) -> None:
        self.calls = 0
        self.nanoseconds = 0

    def stopped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return *function*, with its time stopped."""
        clock = time.thread_time_ns

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = clock()
            try:
                return function(*args, **kwargs)
            finally:
                self.nanoseconds += clock() - start
                self.calls += 1

        return timed


def inc(number: int) -> int:
    """Do as little as a task can."""
    return number + 1


def add(left: int, right: int) -> int:
    """Join two branches of a tree."""
    return left + right


def map_and_gather(client: Client, n: int) -> None:
    """Do the first row of ``throughput``."""
    assert client.gather(client.map(inc, range(n))) == list(range(1, n + 1))


def tree(client: Client, n: int) -> None:
    """Sum so many leaves, by twos."""
    level: list[Any] = [client.submit(inc, i) for i in range(n // 2)]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [client.submit(add, one, other) for one, other in pairs]
    assert level[0].result() == sum(range(1, n // 2 + 1))


JOBS: Final = {
    "map and gather": (map_and_gather, 200_000, 50_000),
    "tree": (tree, 16_384, 4_096),
}


def main() -> None:
    """Print a table for each job."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="fewer tasks")
    short = parser.parse_args().short
    watches = {name: Stopwatch() for name in PROTECTION}
    for name, places in PROTECTION.items():
        for place, function in places:
            setattr(place, function, watches[name].stopped(getattr(place, function)))
    for title, (job, full, few) in JOBS.items():
        n = few if short else full
        with (
            LocalCluster(2, processes=False, host="127.0.0.1") as cluster,
            cluster.get_client() as client,
        ):
            job(client, few)
            for watch in watches.values():
                watch.calls = watch.nanoseconds = 0
            start = time.process_time()
            job(client, n)
            seconds = time.process_time() - start
        _show(title, n, seconds, watches)


def _show(title: str, n: int, seconds: float, watches: dict[str, Stopwatch]) -> None:
    print(f"{title}, {n:,} tasks: {seconds / n * 1e6:.2f} µs of processor time each")
    share = 0.0
    for name, watch in watches.items():
        part = watch.nanoseconds / 1e9 / seconds
        share += part
        calls = watch.calls / n * 1000
        print(f"  {name:36} {calls:8.1f} calls in 1,000 tasks {part:7.2%}")
    verdict = ""
    if title in HELD_TO:
        verdict = f"  {'ok' if share <= MUST else 'TOO MUCH'} (at most {MUST:.0%})"
    print(f"  {'all of it':36} {share:37.2%}{verdict}")


if __name__ == "__main__":
    main()
