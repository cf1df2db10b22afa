"""The real cores with a thousand workers that take virtual time: makespans, and our own.

``python -m benchmarks.makespans`` places graphs whose durations are known on 1,000 and
10,000 virtual workers of 16 slots (``covey.sim.trial``): the scheduler and every worker
are the real cores, and the machines are played.  It tells the makespan beside that of a
list schedule by b-level, which knows all durations and moves data for nothing, the CPU
time that all cores and their world took here for a task, and the scheduler's longest
step.  The shapes of the RSDS paper run on 168 slots, as its larger cluster had.

``--full`` runs a million tasks; the short form a twentieth of them.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from benchmarks.harness import circumstances, keep_rows, parse_alone
from benchmarks.shapes import SHAPES, Shape
from benchmarks.tables import met, shown
from covey.scheduler.core.machine import SchedulerCore
from covey.sim.trial import Graph, Machines, Result, independent, layered, try_out

#: The slots of the RSDS paper's larger cluster: seven nodes of 24.
PAPER = Machines(workers=7, slots=24)

#: How long a million independent tasks on 1,000 workers may take here, in seconds: must
#: and aim.
WALL = (90.0, 20.0)


def graph_of(shape: Shape) -> Graph:
    """Return one of the frozen shapes as a graph to try."""
    return Graph(
        [shape.seconds[kind] for kind in shape.kinds],
        shape.needs,
        [shape.nbytes[kind] for kind in shape.kinds],
        [1 + kind for kind in shape.kinds],
    )


@contextmanager
def steps_timed() -> Iterator[list[float]]:
    """Measure the scheduler's steps: their sum, and the longest, in seconds.

    By the clock on the wall, which costs nothing to read: a million steps are short.
    """
    found = [0.0, 0.0]
    step = SchedulerCore.step

    def timed(core: SchedulerCore, event: Any, now: float) -> Any:
        started = time.perf_counter()
        orders = step(core, event, now)
        used = time.perf_counter() - started
        found[0] += used
        found[1] = max(found[1], used)
        return orders

    with patch.object(SchedulerCore, "step", timed):
        yield found


def measure(
    name: str,
    graph: Graph,
    machines: Machines,
    goal: tuple[float | None, float | None] = (None, None),
) -> dict[str, Any]:
    """Return one row of the table; *goal* is must and aim of its wall time."""
    gc.collect()
    with steps_timed() as steps:
        wall, used = time.perf_counter(), time.process_time()
        result: Result = try_out(graph, machines)
        wall, used = time.perf_counter() - wall, time.process_time() - used
    return {
        "job": name,
        "workers": machines.workers,
        "slots": machines.slots,
        "tasks": result.tasks,
        "makespan": result.makespan_seconds,
        "list": result.list_seconds,
        "efficiency": result.efficiency,
        "moved_bytes": result.moved_bytes,
        "wall": wall,
        "must": goal[0],
        "aim": goal[1],
        "cpu_per_task": used / result.tasks,
        # As large a part of the CPU time as of the time on the wall.
        "scheduler_per_task": steps[0] / wall * used / result.tasks,
        "longest_step": steps[1],
    }


def rows(full: bool) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table."""
    n = 1_000_000 if full else 50_000
    for workers in (1_000, 10_000) if full else (1_000,):
        machines = Machines(workers=workers, slots=16)
        for word, seconds in (("20 ms", 0.02), ("1 s", 1.0)):
            # Mostly less than that, at times much more.
            graph = independent(
                n,
                duration=lambda rng, s=seconds: (
                    s * min(20, rng.lognormvariate(-0.5, 1))
                ),
            )
            asked = full and workers == 1_000
            yield measure(
                f"independent tasks of about {word}",
                graph,
                machines,
                WALL if asked else (None, None),
            )
        width = n // 20
        graph = layered(layers=20, width=width)
        yield measure("20 layers, each task takes 3, about 1 s", graph, machines)
    for name, make in SHAPES.items():
        if full or name in {"tree-15", "groupby-1440-1S-8H"}:
            yield measure(name, graph_of(make()), PAPER)


def line(row: dict[str, Any]) -> str:
    """Return one row as Markdown."""
    cells = [row["job"], f"{row['workers']:,} x {row['slots']}", f"{row['tasks']:,}"]
    cells += [shown(row["makespan"], "s"), shown(row["list"], "s")]
    cells += [f"{100 * row['efficiency']:.0f} %", f"{row['moved_bytes'] / 1e6:,.0f} MB"]
    cells += [shown(row[k], "s") for k in ("must", "aim", "wall")]
    cells += [shown(row[k], "s") for k in ("cpu_per_task", "scheduler_per_task")]
    cells.append(shown(row["longest_step"], "s"))
    cells.append(met(row["wall"], "s", row["must"], row["aim"]))
    return "| " + " | ".join(cells) + " |"


HEADS = (
    "job | workers | tasks | makespan | list schedule | as good | moved | must | aim"
    " | wall time here | CPU a task, all | the scheduler's | its longest step | met"
)


def main() -> None:
    """Measure and print."""
    arguments = parse_alone(__doc__)
    print(f"{circumstances()}\n\n| {HEADS} |\n|---|" + "--:|" * 13, flush=True)
    found = []
    for row in rows(arguments.full):
        print(line(row), flush=True)
        found.append(row)
    keep_rows(arguments.json, "benchmarks.makespans", found)


if __name__ == "__main__":
    main()
