"""The scheduler alone: what one task costs it, whatever the workers do.

The RSDS paper's "zero worker" answers every run at once, so that what is left is the
scheduler's own work.  Here the real core is stepped in this process, without sockets:
messages are made by the driver, outside of the clock.  Independent tasks come as the
ranges of a ``map``; the shapes come as graphs.

``python -m benchmarks.scheduler --full`` runs a million tasks on 10 and 1,000 workers.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections import deque
from collections.abc import Iterator
from typing import Any

from benchmarks.harness import circumstances, keep_rows, parse_alone
from benchmarks.shapes import SHAPES, Shape
from benchmarks.tables import shown
from covey.ids import ClientId, first_task_id
from covey.scheduler.core.machine import Joined, Said, SchedulerCore, Tick
from covey.wire import client_link, worker_link
from covey.wire.introductions import ClientIntroduction, WorkerIntroduction

#: A ``map`` arrives in chunks of so many tasks.
CHUNK = 2048


class ZeroWorkers:
    """A scheduler's core, and workers that are infinitely fast.

    Attributes:
        seconds: CPU time spent inside the core.
        longest: the longest single step.
        done: tasks that have ended.
    """

    def __init__(self, workers: int, slots: int) -> None:
        self.core = SchedulerCore()
        self.seconds = self.longest = 0.0
        self.done = 0
        self.number = ClientId(3)
        self.base = first_task_id(self.number)
        self.workers: set[int] = set()
        self.client = self.core.next_peer()
        self._step(
            Joined(self.client, ClientIntroduction(self.number, "a", "0", "3", "h"))
        )
        for index in range(workers):
            peer = self.core.next_peer()
            self.workers.add(peer)
            hello = WorkerIntroduction(f"w{index}", slots, {}, (), "h", 0, "0", "3", 1)
            self._step(Joined(peer, hello))
        self.say([client_link.DefineFunction(1, b"digest", "f", b"bytes")])

    def _step(self, event: Any) -> dict[int, list[Any]]:
        started = time.thread_time()
        orders = self.core.step(event, time.monotonic())
        used = time.thread_time() - started
        self.seconds += used
        self.longest = max(self.longest, used)
        return orders

    def say(self, messages: list[Any]) -> None:
        """Let the client say something, and the workers do what follows."""
        todo: deque[Any] = deque([Said(self.client, messages)])
        while todo or self.core.state.leftovers:
            if not todo:
                todo.append(Tick())
            for peer, orders in self._step(todo.popleft()).items():
                if peer in self.workers:
                    answers = list(self._answers(orders))
                    if answers:
                        todo.append(Said(peer, answers))

    def _answers(self, orders: list[Any]) -> Iterator[Any]:
        for order in orders:
            kind = type(order)
            if kind is worker_link.Run:
                self.done += order.n
                seconds = 1e-5 * order.n
                yield worker_link.Ran(
                    order.run, order.base, order.n, seconds, order.sizes, order.data
                )
            elif kind is worker_link.Return:
                yield worker_link.ReturnDone()


def submissions(base: int, n: int) -> list[Any]:
    """Return the messages of a ``map`` over *n* elements."""
    return [
        client_link.Submit(
            base + at,
            count := min(CHUNK, n - at),
            1,
            b"\4\0\0\0" * count,
            b"data" * count,
        )
        for at in range(0, n, CHUNK)
    ]


def graph(base: int, shape: Shape) -> Any:
    """Return the message of a graph; what nothing takes is wanted."""
    n = len(shape.needs)
    taken = {need for needs in shape.needs for need in needs}
    return client_link.SubmitGraph(
        base,
        (1,) * n,
        b"\4\0\0\0" * n,
        b"data" * n,
        tuple(tuple(base + need for need in needs) for needs in shape.needs),
        tuple(range(n)),
        tuple((base + task, 1) for task in range(n) if task not in taken),
    )


def whole_life(
    cluster: ZeroWorkers, messages: list[Any], n: int
) -> tuple[float, float]:
    """Submit, run, report and release *n* tasks: CPU seconds a task, longest step."""
    gc.collect()
    before, cluster.longest, done = cluster.seconds, 0.0, cluster.done
    for message in messages:
        cluster.say([message])
    extents = tuple(
        (cluster.base + at, min(CHUNK, n - at)) for at in range(0, n, CHUNK)
    )
    cluster.say([client_link.Release(extents)])
    assert cluster.done - done == n, (cluster.done, n)
    assert not cluster.core.state.spans
    return (cluster.seconds - before) / n, cluster.longest


def bytes_of_task(messages: list[Any], n: int) -> float:
    """Return the memory of one task that waits, in a scheduler without workers."""
    cluster = ZeroWorkers(0, 1)
    gc.collect()
    tracemalloc.start()
    cluster.say(messages)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / n


def measure(full: bool) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    rows: list[dict[str, Any]] = []
    n = 1_000_000 if full else 100_000
    sizes = (10, 100, 1_000)
    jobs: list[tuple[str, Any, int]] = [(f"{n:,} independent", None, n)]
    for name, make in SHAPES.items():
        if full or name in {"merge-25K", "tree-15", "groupby-1440-1S-8H"}:
            shape = make()
            jobs.append((name, shape, len(shape.needs)))
    base = first_task_id(ClientId(3))
    for name, shape, tasks in jobs:
        row: dict[str, Any] = {"job": name, "tasks": tasks}
        row["edges"] = shape.edges if shape else 0
        for workers in sizes:
            # Messages are made anew: the core keeps parts of them.
            cluster = ZeroWorkers(workers, 16)
            messages = [graph(base, shape)] if shape else submissions(base, tasks)
            row[f"cpu_{workers}"], longest = whole_life(cluster, messages, tasks)
            row["longest_step"] = max(longest, row.get("longest_step", 0.0))
        messages = [graph(base, shape)] if shape else submissions(base, tasks)
        row["bytes"] = bytes_of_task(messages, tasks) - 8.0
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    heads = "job | tasks | inputs | CPU a task, 10 workers | 100 | 1,000 | grows by"
    heads += " | memory a task | longest step"
    lines = [f"| {heads} |", "|---|" + "--:|" * 8]
    for row in rows:
        grows = 100 * (row["cpu_1000"] / row["cpu_10"] - 1)
        cells = [row["job"], f"{row['tasks']:,}", f"{row['edges']:,}"]
        cells += [shown(row[f"cpu_{workers}"], "s") for workers in (10, 100, 1_000)]
        cells += [f"{grows:+.0f} %", f"{row['bytes']:,.0f} B"]
        cells.append(shown(row["longest_step"], "s"))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    arguments = parse_alone(__doc__)
    rows = measure(arguments.full)
    print(f"{circumstances()}\n\n{table(rows)}")
    keep_rows(arguments.json, "benchmarks.scheduler", rows)


if __name__ == "__main__":
    main()
