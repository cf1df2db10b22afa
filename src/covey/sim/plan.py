"""What a seed stands for: a cluster, wishes, faults; all of it drawn beforehand.

The configuration itself is drawn, too ("swarm"): which kinds of fault exist in
this run at all, how often they come, which tasks there are.  Runs with few kinds
of fault, but many of them, find what a mix of everything hides.

Wishes and faults each bring a seed of their own, so that a plan with some of
them taken out is still the same plan otherwise: that is what makes it shrink.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

import msgspec

#: Faults of the simulator: what each does is told in ``faults``.
FAULTS: Final = (
    "crash",
    "runner-crash",
    "pause",
    "partition",
    "one-way",
    "clog",
    "cut",
    "slow",
    "swizzle",
    "join",
    "retire",
    "client-gone",
    "scheduler-crash",
    "zombie",
    "clock",
    "slow-node",
    "disk-full",
    "outage",
    "rot",
    "garble",
    "power",
    "journal-full",
)

#: What users wish for: see ``users``.
WISHES: Final = (
    "map",
    "chain",
    "reduce",
    "graph",
    "named",
    "scatter",
    "place",
    "want",
    "release",
    "cancel",
    "retry",
    "look",
    "detach",
)

#: How tasks may behave; plain ones are always there.
KINDS: Final = (
    "large",
    "blocking",
    "raises",
    "flaky",
    "crashes",
    "crashes-once",
    "hangs",
    "drifts",
    "long",
)


class Wish(msgspec.Struct, frozen=True):
    """Something that a user does."""

    at: float
    client: int
    kind: str
    seed: int


class Fault(msgspec.Struct, frozen=True):
    """Something that goes wrong, and for how long."""

    at: float
    kind: str
    seconds: float
    seed: int


class Plan(msgspec.Struct, frozen=True):
    """All that a seed stands for.

    Attributes:
        seed: what it was drawn from; also decides latencies and the like.
        clients: how many there are.
        workers: how many there are at first, each with ``runners`` processes of
            ``threads`` slots.
        latency: of the network, in seconds; ``jitter`` comes on top.
        task_seconds: about how long tasks run.
        kinds: how tasks may behave, beside plain ones.
        odd: how many of the tasks behave otherwise than plainly.
        tasks: about how many tasks one wish has, at most.
        checks: so many spans of the scheduler are checked after a step of it; where
            there are more, all are, after several steps.
        corked: whether clients and workers send what they say in one turn together.
        journal: whether the scheduler keeps one.
        wishes: what users do, in order of time.
        faults: what goes wrong, in order of time.
    """

    seed: int
    clients: int
    workers: int
    runners: int
    threads: int
    latency: float
    jitter: float
    task_seconds: float
    kinds: tuple[str, ...]
    odd: float
    tasks: int
    checks: int
    corked: bool
    journal: bool
    wishes: tuple[Wish, ...]
    faults: tuple[Fault, ...]

    def only(
        self, wishes: Sequence[int] | None = None, faults: Sequence[int] | None = None
    ) -> Plan:
        """Return the plan with some of its wishes and faults, by their places."""
        chosen = self
        if wishes is not None:
            some = tuple(self.wishes[i] for i in wishes)
            chosen = msgspec.structs.replace(chosen, wishes=some)
        if faults is not None:
            few = tuple(self.faults[i] for i in faults)
            chosen = msgspec.structs.replace(chosen, faults=few)
        return chosen


def _some(seed: int, all_of: Sequence[str], share: float) -> tuple[str, ...]:
    """Return about that share of them; a new one among them changes few plans."""
    return tuple(one for one in all_of if Random(f"{seed} {one}").random() < share)


def draw(seed: int) -> Plan:
    """Draw the plan of a seed."""
    rng = Random(seed)
    span = rng.choice((0.5, 2.0, 8.0))
    clients = rng.choice((1, 1, 2, 3))
    # Wishes that make something come more often than those that take it away.
    makers, others = WISHES[:7], WISHES[7:]
    kinds_of_wish = [*_some(seed, makers, 0.7), "map"] * 3 + list(
        _some(seed, others, 0.6)
    )
    kinds_of_fault = _some(seed, FAULTS, rng.choice((0.05, 0.1, 0.3, 0.6)))
    # Now and then all of them are of one kind.
    kinds_of_fault = kinds_of_fault or (rng.choice(FAULTS),)
    if "retire" in kinds_of_fault:
        # What leaving may lose is what only those have that leave.
        kinds_of_wish += ["place"] * 6
    wishes = sorted(
        (
            Wish(
                rng.random() * span,
                rng.randrange(clients),
                rng.choice(kinds_of_wish),
                rng.getrandbits(32),
            )
            for _ in range(rng.randrange(3, 25))
        ),
        key=lambda wish: wish.at,
    )
    faults = sorted(
        (
            Fault(
                rng.random() * span,
                rng.choice(kinds_of_fault),
                rng.choice((0.01, 0.1, 1.0, 5.0, 40.0)) * rng.random(),
                rng.getrandbits(32),
            )
            for _ in range(rng.randrange(12))
        ),
        key=lambda fault: fault.at,
    )
    latency = rng.choice((1e-4, 1e-3, 0.02))
    task_seconds = rng.choice((1e-4, 0.003, 0.05, 0.5))
    tasks = rng.choice((4, 12, 40))
    if any(fault.kind == "outage" for fault in faults):
        # There is something to do for longer than that, and news of it is late.
        task_seconds, tasks = rng.choice((0.5, 2.0)), 40
        latency = 0.2
    plan = Plan(
        seed=seed,
        clients=clients,
        workers=rng.randrange(1, 6),
        runners=rng.randrange(1, 4),
        threads=rng.choice((1, 1, 2, 3)),
        latency=latency,
        jitter=rng.choice((1e-5, 1e-3, 0.05)),
        task_seconds=task_seconds,
        kinds=_some(seed, KINDS, rng.choice((0.0, 0.3, 0.7))),
        odd=rng.choice((0.02, 0.1, 0.3)),
        tasks=tasks,
        checks=rng.choice((16, 4, 1)),
        corked=rng.random() < 0.7,
        journal=rng.random() < 0.3,
        wishes=tuple(wishes),
        faults=tuple(faults),
    )
    kinds = {fault.kind for fault in faults}
    if "rot" in kinds and "outage" not in kinds and rng.random() < 0.5:
        return _queued(plan)
    return plan


def _queued(plan: Plan) -> Plan:
    """Let large values lie on few workers, and much wait there that takes them."""
    return msgspec.structs.replace(
        plan,
        workers=min(2, plan.workers),
        runners=1,
        threads=1,
        task_seconds=0.05,
        kinds=("large",),
        odd=0.6,
        tasks=40,
    )
