"""``python -m covey.sim``: run seeds, and replay one.

::

    python -m covey.sim                          2,000 seeds on all cores
    python -m covey.sim --seeds 100000 --first 7
    python -m covey.sim --seed 42                one seed, told in full
    python -m covey.sim --seed 42 --faults 0,3 --wishes 1,2
    python -m covey.sim --seed 42 --save it.json keep the (shrunken) plan
    python -m covey.sim --plan it.json           replay a plan that was kept
    python -m covey.sim --mutants                switch protections off, one by one
    python -m covey.sim --digests --seeds 100    a trace hash a line
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from covey.sim.campaign import (
    Outcome,
    campaign,
    play,
    report,
    run_seeds,
    same_problem,
    summary,
)
from covey.sim.mutants import SEEDS_MAX, hunt_all
from covey.sim.plan import Plan, draw
from covey.sim.shrink import shrink


def _places(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m covey.sim", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seeds", type=int, default=2000, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="replay this one, and tell all")
    parser.add_argument("--wishes", type=_places, help="only these wishes of it")
    parser.add_argument("--faults", type=_places, help="only these faults of it")
    parser.add_argument("--save", type=Path, help="write its plan to this file")
    parser.add_argument("--plan", type=Path, help="replay the plan in this file")
    parser.add_argument("--lines", type=int, default=50, help="of the trace")
    parser.add_argument("--processes", type=int, help="default: one a core")
    parser.add_argument(
        "--digests", action="store_true", help="print each seed's trace hash"
    )
    parser.add_argument(
        "--mutants", action="store_true", help="hunt what happens without protections"
    )
    parser.add_argument(
        "--no-shrink", action="store_true", help="report failures as they are"
    )
    return parser.parse_args(argv)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _command(plan: Plan, wishes: list[int] | None, faults: list[int] | None) -> str:
    command = f"python -m covey.sim --seed {plan.seed}"
    if wishes is not None:
        command += f" --wishes {','.join(map(str, wishes)) or ','}"
    if faults is not None:
        command += f" --faults {','.join(map(str, faults)) or ','}"
    return command


def _replay(options: argparse.Namespace) -> int:
    if options.plan is not None:
        plan = msgspec.json.decode(options.plan.read_bytes(), type=Plan)
        command = f"python -m covey.sim --plan {options.plan}"
    else:
        plan = draw(options.seed).only(options.wishes, options.faults)
        command = _command(plan, options.wishes, options.faults)
    _, outcome = play(plan)
    if outcome.problem and options.wishes is None and not options.no_shrink:
        wishes, faults = shrink(plan, same_problem(outcome.problem))
        plan = plan.only(wishes, faults)
        if options.plan is None:
            command = _command(plan, wishes, faults)
    if options.save is not None:
        text = msgspec.json.format(msgspec.json.encode(plan), indent=1)
        options.save.write_bytes(text + b"\n")
    _say(report(plan, lines=options.lines, command=command))
    return 1 if outcome.problem else 0


def _run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    outcomes: list[Outcome] = []
    for outcome in campaign(options.first, options.seeds, processes=options.processes):
        outcomes.append(outcome)
        if outcome.problem:
            _say(f"seed {outcome.seed}: {outcome.problem}")
    found = summary(outcomes)
    seconds = time.monotonic() - began
    _say(
        f"{found['seeds']:,} seeds, {found['tasks']:,} tasks, "
        f"{found['happenings']:,} happenings in {seconds:.0f} s: "
        f"{sum(map(len, found['problems'].values()))} went wrong"
    )
    for problem, seeds in found["problems"].items():
        plan = draw(seeds[0])
        command = _command(plan, None, None)
        if not options.no_shrink:
            wishes, faults = shrink(plan, same_problem(problem))
            plan = plan.only(wishes, faults)
            command = _command(plan, wishes, faults)
        _say(f"\n{len(seeds)} of them like this:")
        _say(report(plan, lines=options.lines, command=command))
    return 1 if found["problems"] else 0


def _hunt(options: argparse.Namespace) -> int:
    """Say which seed notices each protection that is missing."""
    unnoticed = 0
    for found in hunt_all(options.processes):
        if found.problem:
            _say(f"{found.name}: seed {found.seed}: {found.problem}")
        else:
            unnoticed += 1
            _say(f"{found.name}: not noticed within {SEEDS_MAX:,} seeds")
    return 1 if unnoticed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the simulator from the command line; return an exit status."""
    options = _arguments(argv)
    if options.seed is not None or options.plan is not None:
        return _replay(options)
    if options.mutants:
        return _hunt(options)
    if options.digests:
        seeds = range(options.first, options.first + options.seeds)
        for outcome in run_seeds(seeds):
            _say(f"{outcome.seed} {outcome.digest}")
        return 0
    return _run(options)


if __name__ == "__main__":
    sys.exit(main())
