"""The scheduler alone: what one task costs it, whatever the workers do.

The RSDS paper's "zero worker" answers every run at once, so that what is left is the
scheduler's own work.  Here the real core is stepped in this process, without sockets, and
with the garbage collector as a scheduler's process has it: messages are made by the
driver, outside of the clock.

Independent tasks come as the ranges of a ``map``, one message after the other, so that
few workers are busy at a time; all in one step, told to take 20 ms each, so that all of
them are; and each in a message of its own.  The shapes come as graphs.

CPU time is that of whole lives, of independent tasks the least of three or five.  Memory is what
the scheduler keeps for a task that waits, with the 4 bytes of its payload and all that
it keeps of the message.

``python -m benchmarks.scheduler --full`` runs a million tasks on 10 to 1,000 workers.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import circumstances, keep_rows, parse_alone
from benchmarks.shapes import SHAPES, Shape
from benchmarks.tables import met, shown
from covey.ids import ClientId, first_task_id
from covey.scheduler.collector import Collector
from covey.scheduler.core.machine import Joined, Said, SchedulerCore, Tick
from covey.wire import client_link, worker_link
from covey.wire.introductions import ClientIntroduction, WorkerIntroduction

#: A ``map`` arrives in chunks of so many tasks.
CHUNK = 2048

#: So many workers of 16 slots.
SIZES = (10, 100, 1_000)

#: What the project asks of itself: seconds of CPU time a task, and bytes of memory of a
#: node of a graph and of an element of a range; must and aim.
CPU = (8e-6, 3e-6)
NODE_BYTES = (700.0, 250.0)
ELEMENT_BYTES = (40.0, 8.0)

#: By how many percent a task may cost more with 1,000 workers than with 10.
GROWTH = (25.0, 5.0)

#: How often a scheduler sees to its garbage collector.
SPARE_SECONDS = 1.0

_THRESHOLDS = gc.get_threshold()


def collect_as_usual() -> None:
    """Let Python's garbage collector be as it was, whatever a scheduler did to it."""
    gc.unfreeze()
    gc.set_threshold(*_THRESHOLDS)


class ZeroWorkers:
    """A scheduler's core, and workers that are infinitely fast.

    Args:
        workers: how many.
        slots: of each.
        each: how long they say that a task took, in seconds.

    Attributes:
        seconds: CPU time spent inside the core.
        longest: the longest single step.
        done: tasks that have ended.
    """

    def __init__(self, workers: int, slots: int, each: float = 1e-5) -> None:
        collect_as_usual()
        self.collector, self.spared = Collector(ours=True), time.monotonic()
        self.core = SchedulerCore()
        self.each = each
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
        gc.collect()
        gc.freeze()

    def _step(self, event: Any) -> dict[int, list[Any]]:
        started, now = time.thread_time(), time.monotonic()
        orders = self.core.step(event, now)
        if now > self.spared + SPARE_SECONDS:
            self.collector.spare(len(self.core.state.spans))
            self.spared = now
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
                seconds = self.each * order.n
                yield worker_link.Ran(
                    order.run, order.base, order.n, seconds, order.sizes, order.data
                )
            elif kind is worker_link.Return:
                yield worker_link.ReturnDone()


def submissions(base: int, n: int, chunk: int = CHUNK) -> list[Any]:
    """Return the messages of a ``map`` over *n* elements, so many in each."""
    return [
        client_link.Submit(
            base + at,
            count := min(chunk, n - at),
            1,
            b"\4\0\0\0" * count,
            b"data" * count,
        )
        for at in range(0, n, chunk)
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


@dataclass(frozen=True)
class Job:
    """One row of the table.

    Attributes:
        name: its head.
        tasks: how many there are.
        turns: makes the messages, by the turns in which the client says them.
        inputs: how many results they take, all together.
        each: how long workers say that a task took, in seconds.
        times: how often it is measured.
        cpu, growth, nbytes: goals, must and aim, if there are any.
    """

    name: str
    tasks: int
    turns: Callable[[], list[list[Any]]]
    inputs: int = 0
    each: float = 1e-5
    times: int = 1
    cpu: tuple[float, float] | None = None
    growth: tuple[float, float] | None = None
    nbytes: tuple[float, float] | None = None


def whole_life(cluster: ZeroWorkers, job: Job) -> tuple[float, float]:
    """Submit, run, report and release tasks: CPU seconds a task, longest step."""
    n, turns = job.tasks, job.turns()
    gc.collect()
    before, cluster.longest, done = cluster.seconds, 0.0, cluster.done
    for messages in turns:
        cluster.say(messages)
    extents = tuple(
        (cluster.base + at, min(CHUNK, n - at)) for at in range(0, n, CHUNK)
    )
    cluster.say([client_link.Release(extents)])
    assert cluster.done - done == n, (cluster.done, n)
    assert not cluster.core.state.spans
    return (cluster.seconds - before) / n, cluster.longest


def bytes_of_task(job: Job) -> float:
    """Return the memory of one task that waits, in a scheduler without workers."""
    cluster = ZeroWorkers(0, 1)
    gc.collect()
    # From before the messages are made: what the core keeps of them is part of it.
    tracemalloc.start()
    for messages in job.turns():
        cluster.say(messages)
    del messages
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    collect_as_usual()
    return held / job.tasks


def independent(full: bool) -> Iterator[Job]:
    """Yield the rows of tasks that take nothing."""
    base = first_task_id(ClientId(3))
    n, few = (1_000_000, 100_000) if full else (100_000, 20_000)
    growth = GROWTH if full else None
    yield Job(
        f"{n:,} independent, {CHUNK:,} in a message",
        n,
        lambda: [[message] for message in submissions(base, n)],
        times=3,
        cpu=CPU,
        growth=growth,
        nbytes=ELEMENT_BYTES,
    )
    yield Job(
        f"{n:,} independent of 20 ms, all in play at once",
        n,
        lambda: [submissions(base, n)],
        each=0.02,
        times=5,
        cpu=CPU,
        growth=growth,
        nbytes=ELEMENT_BYTES,
    )
    yield Job(
        f"{few:,} independent, each in a message of its own",
        few,
        lambda: [[message] for message in submissions(base, few, 1)],
        times=3,
        cpu=CPU,
        growth=growth,
    )


def jobs(full: bool) -> Iterator[Job]:
    """Yield the rows of the table."""
    yield from independent(full)
    base = first_task_id(ClientId(3))
    for name, make in SHAPES.items():
        if full or name in {"merge-25K", "tree-15", "groupby-1440-1S-8H"}:
            shape = make()
            yield Job(
                name,
                len(shape.needs),
                lambda shape=shape: [[graph(base, shape)]],  # type: ignore[misc]
                inputs=shape.edges,
                nbytes=NODE_BYTES,
            )


def measure(job: Job) -> dict[str, Any]:
    """Return one row of the table."""
    row: dict[str, Any] = {"job": job.name, "tasks": job.tasks, "edges": job.inputs}
    row["longest_step"] = 0.0
    used: dict[int, list[float]] = {workers: [] for workers in SIZES}
    for _ in range(job.times):
        for workers in SIZES:
            cluster = ZeroWorkers(workers, 16, job.each)
            seconds, longest = whole_life(cluster, job)
            used[workers].append(seconds)
            row["longest_step"] = max(longest, row["longest_step"])
    row |= {f"cpu_{workers}": min(seconds) for workers, seconds in used.items()}
    row["growth"] = 100 * (row["cpu_1000"] / row["cpu_10"] - 1)
    row["bytes"] = bytes_of_task(job)
    most = max(row[f"cpu_{workers}"] for workers in SIZES)
    row["goals"] = [
        {"of": of, "unit": unit, "must": goal[0], "aim": goal[1]}
        | {"met": met(value, unit, *goal)}
        for of, unit, value, goal in (
            ("CPU", "s", most, job.cpu),
            ("growth", "%", row["growth"], job.growth),
            ("memory", "B", row["bytes"], job.nbytes),
        )
        if goal is not None
    ]
    return row


HEADS = (
    "job | tasks | inputs | must | aim | CPU a task, 10 workers | 100 | 1,000 | grows by"
    " | memory a task | longest step | met"
)


def line(row: dict[str, Any]) -> str:
    """Return one row as Markdown."""
    goals = row["goals"]
    cells = [row["job"], f"{row['tasks']:,}", f"{row['edges']:,}"]
    cells += [_goals(goals, word) for word in ("must", "aim")]
    cells += [shown(row[f"cpu_{workers}"], "s") for workers in SIZES]
    cells += [f"{row['growth']:+.0f} %", shown(row["bytes"], "B")]
    cells.append(shown(row["longest_step"], "s"))
    cells.append(", ".join(f"{goal['of']} {goal['met']}" for goal in goals))
    return "| " + " | ".join(cells) + " |"


def _goals(goals: list[dict[str, Any]], word: str) -> str:
    return ", ".join(
        f"{goal[word]:+.0f} %"
        if goal["unit"] == "%"
        else shown(goal[word], goal["unit"])
        for goal in goals
    )


def main() -> None:
    """Measure and print."""
    arguments = parse_alone(__doc__)
    print(f"{circumstances()}\n\n| {HEADS} |\n|---|" + "--:|" * 11, flush=True)
    rows = []
    for job in jobs(arguments.full):
        rows.append(measure(job))
        print(line(rows[-1]), flush=True)
    keep_rows(arguments.json, "benchmarks.scheduler", rows)


if __name__ == "__main__":
    main()
