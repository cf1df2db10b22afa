"""What to do about memory: a pure judgement of numbers.

::

    0        60 %       70 %           85 %         95 %   100 %   of the limit
    │─────────│──────────│──────────────│────────────│──────│
     as it is   ◄─ values go to disk     begin nothing      a task is stopped
                   until 60 % again      new                that has grown

A task is stopped for what cannot be helped otherwise: when the memory of runners,
and what else must stay, passes 95 %, or everything together 105 %, because it grows
faster than a disk can take values.
"""

from __future__ import annotations

from typing import Final

import msgspec

_CALM: Final = 0.60
_SPILL: Final = 0.70
_PAUSE: Final = 0.85
_STOP: Final = 0.95
_STOP_ALL: Final = 1.05

#: An idle runner is started anew when it keeps so much more than it began with.
_RECYCLE: Final = 0.10

#: And when it has lived so long.  Its successor will import what it has imported, a
#: second or two, and keep as much for that; only where nothing else helps comes that sooner.
_WORTH_SECONDS: Final = 30.0


class RunnerMemory(msgspec.Struct, frozen=True, gc=False):
    """One runner's private memory.

    Attributes:
        runner: its number.
        nbytes: what it has now.
        baseline_bytes: what it had when it was ready, before its first task.
        idle: whether no task executes there, or waits.
        age_seconds: how long it has been ready.
    """

    runner: int
    nbytes: int
    baseline_bytes: int
    idle: bool
    age_seconds: float

    @property
    def growth(self) -> int:
        """What its tasks have added."""
        return max(0, self.nbytes - self.baseline_bytes)


class Judgement(msgspec.Struct, frozen=True):
    """What to do.

    Attributes:
        release: so many bytes are to be spilled or given back.
        pause: begin nothing new.
        stop: the runner whose task is to be stopped, or -1.
        recycle: idle runners that are to be started anew.
    """

    release: int = 0
    pause: bool = False
    stop: int = -1
    recycle: tuple[int, ...] = ()


def judge(
    limit: int,
    total: int,
    movable: int,
    runners: list[RunnerMemory],
    *,
    paused: bool = False,
    awaited: bool = False,
) -> Judgement:
    """Judge the memory of a worker.

    Args:
        limit: what it may use.
        total: what it uses.
        movable: the part of that which can go to disk or be given back.
        runners: the memory of each.
        paused: whether nothing new is begun at present.
        awaited: whether somebody waits for room.
    """
    release = total - int(_CALM * limit) if total > _SPILL * limit else 0
    pause = total > (_SPILL if paused else _PAUSE) * limit
    recycle: tuple[int, ...] = ()
    if release:
        urgent = awaited or total - movable > _PAUSE * limit
        recycle = tuple(
            r.runner
            for r in runners
            if r.idle
            and r.growth > _RECYCLE * limit
            and (urgent or r.age_seconds > _WORTH_SECONDS)
        )
    stop = -1
    if total - movable > _STOP * limit or total > _STOP_ALL * limit:
        stop = _largest(limit, runners)
    return Judgement(release, pause, stop, recycle)


def _largest(limit: int, runners: list[RunnerMemory]) -> int:
    """Return the busy runner that has grown most, if that is a fair share and more."""
    busy = [runner for runner in runners if not runner.idle]
    if not busy:
        return -1
    worst = max(busy, key=lambda runner: runner.growth)
    fair = limit / (2 * len(runners))
    return worst.runner if worst.growth > fair else -1
