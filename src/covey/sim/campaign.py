"""Many seeds, on all cores; and what to say of one that failed."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

import msgspec

from covey.sim.plan import Plan, draw
from covey.sim.reading import in_words
from covey.sim.world import World

#: So many seeds are run by one process before it hands in what it found.
_PORTION: Final = 10


class Outcome(msgspec.Struct, frozen=True):
    """What came of one run.

    Attributes:
        seed: which it was.
        digest: the hash of all that happened; equal whenever the run is.
        happenings: how many things happened.
        tasks: how many tasks were run.
        problem: what went wrong, in one line, without the ids; empty if nothing did.
        text: the same in full, with where it was noticed.
    """

    seed: int
    digest: str
    happenings: int
    tasks: int
    problem: str = ""
    text: str = ""


def play(plan: Plan) -> tuple[World, Outcome]:
    """Carry one plan out, and tell what came of it."""
    world = World(plan)
    problem = text = ""
    try:
        world.run()
    except Exception as error:
        # Whatever the cores raise is a finding, and so is what the oracle says.
        problem, text = _problem(error), "".join(traceback.format_exception(error))
    trace = world.trace
    outcome = Outcome(
        plan.seed, trace.digest(), trace.count, world.oracle.runs, problem, text
    )
    return world, outcome


def _problem(error: Exception) -> str:
    """Tell an error in one line that is the same for the same cause."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = str(error).partition("\n")[0]
    # Names of tasks and numbers differ from run to run.
    text = re.sub(r"\b[0-9a-f]*\d[0-9a-f]*\b", "#", text)[:160]
    return f"{type(error).__name__} in {frame.name}: {text}"


def run_seeds(seeds: Iterable[int]) -> list[Outcome]:
    """Run some seeds, one after the other."""
    return [play(draw(seed))[1] for seed in seeds]


def campaign(
    first: int, count: int, *, processes: int | None = None
) -> Iterator[Outcome]:
    """Run *count* seeds from *first* on, on all cores; yield what came of each."""
    portions = [
        range(at, min(at + _PORTION, first + count))
        for at in range(first, first + count, _PORTION)
    ]
    workers = processes or os.cpu_count() or 1
    if workers == 1 or len(portions) == 1:
        for portion in portions:
            yield from run_seeds(portion)
        return
    with ProcessPoolExecutor(workers) as pool:
        try:
            for outcomes in pool.map(run_seeds, portions):
                yield from outcomes
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def report(plan: Plan, *, lines: int = 50, command: str = "") -> str:
    """Run a plan that fails and tell all about it."""
    world, outcome = play(plan)
    facts = {
        name: value
        for name, value in msgspec.to_builtins(plan).items()
        if name not in {"wishes", "faults"}
    }
    parts = [
        f"seed {plan.seed}: {outcome.problem or 'nothing goes wrong'}",
        f"replay with: {command}" if command else "",
        f"plan: {facts}",
        "wishes: " + "; ".join(f"{w.at:.3f} s {w.kind}" for w in plan.wishes),
        "faults: "
        + "; ".join(f"{f.at:.3f} s {f.kind} {f.seconds:.2f} s" for f in plan.faults),
        f"the last of {outcome.happenings} happenings:",
        *in_words(list(world.trace.last)[-lines:]),
        outcome.text.rstrip(),
    ]
    return "\n".join(part for part in parts if part)


Judge = Callable[[Plan], bool]


def same_problem(problem: str) -> Judge:
    """Return a judge that says whether a plan leads to that problem."""

    def judge(plan: Plan) -> bool:
        return play(plan)[1].problem == problem

    return judge


def digests(outcomes: Iterable[Outcome]) -> dict[int, str]:
    """Return the trace hash of each seed."""
    return {outcome.seed: outcome.digest for outcome in outcomes}


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """Count what a campaign found."""
    problems: dict[str, list[int]] = {}
    for outcome in outcomes:
        if outcome.problem:
            problems.setdefault(outcome.problem, []).append(outcome.seed)
    return {
        "seeds": len(outcomes),
        "happenings": sum(outcome.happenings for outcome in outcomes),
        "tasks": sum(outcome.tasks for outcome in outcomes),
        "problems": problems,
    }
