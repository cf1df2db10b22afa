"""Testing the tests: covey with one of its protections switched off.

Each mutant takes one protective mechanism out of the cores, here in the simulator
and nowhere else.  A campaign must then find something wrong, and soon: if it does
not, it would not have noticed the bug either.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final, NamedTuple

import msgspec

from covey.client.core.ranges import Range
from covey.net.arrivals import Arrival
from covey.scheduler.core import (
    balance,
    clients,
    dropping,
    outcomes,
    transitions,
    versions,
    workers,
)
from covey.scheduler.core.attendance import Attendance
from covey.scheduler.core.spans import isolate
from covey.scheduler.core.state import SchedulerState, Span, State, Worker
from covey.sim.campaign import play
from covey.sim.plan import draw
from covey.wire.base import Extent
from covey.wire.client_link import Retry
from covey.wire.edge import Edge, Introduce
from covey.wire.introductions import Gone, Welcome
from covey.wire.line import Line
from covey.wire.session import Session
from covey.wire.worker_link import Holds
from covey.worker.core import dispatch, engaged, fetching, looking, machine, overdue
from covey.worker.core.state import Flight, Run, Slot, WorkerState

#: A mutant must be found within so many seeds.
SEEDS_MAX: Final = 1000


class Mutant(NamedTuple):
    """A protection, and how to do without it.

    Attributes:
        name: for the command line.
        what: the protection that is switched off.
        place: a module, class or table of handlers.
        attribute: what in it is replaced.
        make: gets what is there and returns what takes its place.
    """

    name: str
    what: str
    place: Any
    attribute: Any
    make: Callable[[Any], Any]

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """Do without the protection for a while."""
        if isinstance(self.place, dict):
            before = self.place[self.attribute]
            self.place[self.attribute] = self.make(before)
            try:
                yield
            finally:
                self.place[self.attribute] = before
            return
        before = getattr(self.place, self.attribute)
        setattr(self.place, self.attribute, self.make(before))
        try:
            yield
        finally:
            setattr(self.place, self.attribute, before)


# Of the scheduler.


def _any_run(_: Any) -> Any:
    def current(
        state: SchedulerState, worker: Worker, run: int, base: int, n: int
    ) -> list[Span]:
        del worker, run
        parts = isolate(state, base, n)
        return [part for part in parts if part.unfinished]

    return current


def _nothing(_: Any) -> Any:
    def nothing(*args: Any, **keywords: Any) -> None:
        del args, keywords

    return nothing


def _inputs_stay(real: Any) -> Any:
    """Dependents that were ready stay ready when an input is lost."""

    def lose(state: SchedulerState, span: Span, worker: Worker) -> None:
        ready = [d for d in span.dependents or () if d.state is State.READY]
        real(state, span, worker)
        for dependent in ready:
            if dependent.state is State.WAITING:
                transitions.move(state, dependent, State.READY)

    return lose


def _all_copies_count(real: Any) -> Any:
    """A copy on another worker that leaves counts like any other."""

    def move_data(state: SchedulerState, worker: Worker) -> bool:
        shared = {span: None for span in worker.holds if len(span.replicas) > 1}
        kept = worker.holds
        worker.holds = {span: None for span in kept if span not in shared}
        try:
            return bool(real(state, worker))
        finally:
            worker.holds = kept

    return move_data


def _lost_stays_lost(real: Any) -> Any:
    """Who retries what cannot be made again is told nothing."""

    def retry(state: SchedulerState, client: Any, message: Retry) -> None:
        for base, n in message.extents:
            if any(part.pack is None for part in isolate(state, base, n)):
                return
        real(state, client, message)

    return retry


def _copies_only_of_what_is_there(real: Any) -> Any:
    """A copy of a value that was lost meanwhile is not noticed."""

    def holds(state: SchedulerState, worker: Worker, message: Holds) -> None:
        parts = isolate(state, message.base, message.n)
        if parts and all(part.state is State.DONE for part in parts):
            real(state, worker, message)

    return holds


def _what_was_made_stays(_: Any) -> Any:
    """What was made of an earlier value is taken for as good as before."""

    def descendants(span: Span) -> dict[Span, None]:
        del span
        return {}

    return descendants


def _as_estimated(_: Any) -> Any:
    """A worker is thought to be busy for as long as its tasks usually take."""

    def waits(state: SchedulerState, worker: Worker) -> float:
        del state
        return worker.backlog_seconds(balance.UNKNOWN_SECONDS) / worker.slots

    return waits


# Of the worker.


def _nothing_stopped(_: Any) -> Any:
    def live(run: Run, base: int, n: int) -> list[Extent]:
        del run
        return [(base, n)]

    return live


def _all_are_guilty(real: Any) -> Any:
    """Whatever lay in the hands of a process that died is to blame."""

    def take_down(
        state: WorkerState,
        event: Any,
        flight: Any,
        executing: Any,
        *,
        certain: bool,
        killed: bool,
    ) -> None:
        del executing, certain
        tasks = range(flight.at, flight.base + flight.n)
        all_of_it = {(flight.run.run, task) for task in tasks}
        real(state, event, flight, all_of_it, certain=True, killed=killed)

    return take_down


def _first_suspicion(real: Any) -> Any:
    """One of several that executed when a process died is blamed at once."""

    def take_down(
        state: WorkerState,
        event: Any,
        flight: Any,
        executing: Any,
        *,
        certain: bool,
        killed: bool,
    ) -> None:
        del certain
        real(state, event, flight, executing, certain=True, killed=killed)

    return take_down


def _never_kill(real: Any) -> Any:
    def check(state: WorkerState, slot: Slot, flight: Flight) -> None:
        if not flight.kill_at:
            real(state, slot, flight)

    return check


def _the_clock_of_the_flight(_: Any) -> Any:
    """The time of a flight's tasks begins with the first of them."""

    def reach(state: WorkerState, slot: Slot, flight: Flight, index: int) -> bool:
        del slot
        is_new = index > flight.reached
        flight.reached = max(index, flight.reached)
        flight.begun = min(flight.begun, state.now)
        return is_new

    return reach


def _only_the_first(real: Any) -> Any:
    """Of copies that came together one is told."""

    def holds(
        base: int, n: int, nbytes: int, source: int, seconds: float, digests: bytes
    ) -> Holds:
        return Holds(base, 1, nbytes // n, source, seconds, digests[: versions.BYTES])

    del real
    return holds


def _nothing_named(_: Any) -> Any:
    def named(slot: Slot, executing: Any) -> None:
        del slot, executing

    return named


# Of the client.


def _news_always_counts(_: Any) -> Any:
    def unended(wish: Range, lo: int, n: int) -> list[tuple[int, int]]:
        del wish
        return [(lo, n)]

    return unended


# Of sessions, and of lives of the scheduler.


def _whichever_life(real: Any) -> Any:
    """An edge takes whatever scheduler it finds, and says it has seen no other."""

    def heard(self: Edge, message: Any, now: float) -> Any:
        if isinstance(message, Gone):
            return [Introduce(message.epoch)]
        if isinstance(message, Welcome):
            self.epoch = 0
        return real(self, message, now)

    return heard


def _all_again(real: Any) -> Any:
    """What has come already is sent again as well."""

    def resume(session: Session, received: int) -> list[bytes]:
        kept = session.kept()
        real(session, received)
        return kept

    return resume


def _nothing_again(real: Any) -> Any:
    """What was under way when a connection broke is not sent again."""

    def resume(session: Session, received: int) -> list[bytes]:
        real(session, received)
        return []

    return resume


# Of values on their way, and of who is away.


def _whatever_comes(_: Any) -> Any:
    def end(self: Arrival) -> None:
        segment = self._segment
        if segment is not None:
            self._arrived(segment)

    return end


def _not_waited_for(_: Any) -> Any:
    def grace(self: Attendance, line: Line, error: Exception | None) -> int:
        del self, line, error
        return 0

    return grace


MUTANTS: Final = (
    Mutant(
        "sent-twice",
        "a session sends again only what has not come",
        Session,
        "resume",
        _all_again,
    ),
    Mutant(
        "never-again",
        "a session sends again what has not come",
        Session,
        "resume",
        _nothing_again,
    ),
    Mutant(
        "older-lives",
        "an edge never goes back to an older life of its scheduler, and tells it so",
        Edge,
        "heard",
        _whichever_life,
    ),
    Mutant(
        "stale-runs",
        "news of a run that is over is dropped",
        outcomes,
        "current",
        _any_run,
    ),
    Mutant(
        "no-drops",
        "workers are told what nobody needs any more",
        dropping,
        "tell_all",
        _nothing,
    ),
    Mutant(
        "no-stops",
        "workers are told to stop what nobody needs any more",
        transitions,
        "stop",
        _nothing,
    ),
    Mutant(
        "lost-inputs",
        "a task that was ready waits again when an input is lost",
        transitions,
        "lose_replica",
        _inputs_stay,
    ),
    Mutant(
        "copies-on-leavers",
        "a copy on a worker that leaves does not count",
        workers,
        "_move_data",
        _all_copies_count,
    ),
    Mutant(
        "retry-of-lost-data",
        "who retries what is lost beyond repair is told that it has failed again",
        clients.handlers.table,
        Retry,
        _lost_stays_lost,
    ),
    Mutant(
        "copies-turn-up",
        "a copy of a value that was lost meanwhile is taken for the value",
        workers.handlers.table,
        Holds,
        _copies_only_of_what_is_there,
    ),
    Mutant(
        "as-estimated",
        "what lies behind a task that takes long goes to who idles",
        balance,
        "waits",
        _as_estimated,
    ),
    Mutant(
        "engaged-slots",
        "slots that run what nobody wants any more are told of",
        engaged,
        "look",
        _nothing,
    ),
    Mutant(
        "stopped-tasks",
        "a worker says nothing of tasks that it was told to stop",
        Run,
        "live",
        _nothing_stopped,
    ),
    Mutant(
        "blame-all",
        "only what executed when a process died is blamed",
        machine,
        "_take_down",
        _all_are_guilty,
    ),
    Mutant(
        "blame-first",
        "one of several suspects is tried alone before it is blamed",
        machine,
        "_take_down",
        _first_suspicion,
    ),
    Mutant(
        "never-kill",
        "a task that does not stop when asked is killed with its process",
        overdue,
        "check",
        _never_kill,
    ),
    Mutant(
        "clock-of-the-flight",
        "the time of a task begins when it does, and not with those before it",
        overdue,
        "reach",
        _the_clock_of_the_flight,
    ),
    Mutant(
        "no-marks",
        "nobody is stopped for a time that is another one's, who keeps back all news",
        looking,
        "_named",
        _nothing_named,
    ),
    Mutant(
        "late-news",
        "what has ended at the client stays as it ended",
        Range,
        "_unended",
        _news_always_counts,
    ),
    Mutant(
        "copies-untold",
        "a worker tells of the copies that it has fetched",
        fetching,
        "Holds",
        _only_the_first,
    ),
    Mutant(
        "no-checksum",
        "a large value that does not come as it was sent is not taken in",
        Arrival,
        "_end",
        _whatever_comes,
    ),
    Mutant(
        "counts-on-rot",
        "a worker gives runs back whose inputs turned out to be no good",
        dispatch,
        "give_back_lacking",
        _nothing,
    ),
    Mutant(
        "no-grace",
        "who is away is waited for",
        Attendance,
        "_grace",
        _not_waited_for,
    ),
)

#: What plain seeds seldom notice: a plan that was kept does.
RARE: Final = (
    Mutant(
        "mixed-versions",
        "what was made of a value that came out otherwise is made again",
        versions,
        "_descendants",
        _what_was_made_stays,
    ),
)


class Found(msgspec.Struct, frozen=True):
    """What a campaign noticed of a mutant: seed and problem, or nothing."""

    name: str
    seed: int = -1
    problem: str = ""


def hunt(name: str, first: int = 0, count: int = SEEDS_MAX) -> Found:
    """Run seeds with a mutant until something goes wrong."""
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    with mutant.alive():
        for seed in range(first, first + count):
            problem = play(draw(seed))[1].problem
            if problem.startswith("TypeError"):
                # It no longer fits what it takes the place of, which shows nothing.
                raise TypeError(f"the mutant {name} is out of date: {problem}")
            if problem:
                return Found(name, seed, problem)
    return Found(name)


def hunt_all(processes: int | None = None) -> Iterator[Found]:
    """Hunt every mutant, several at a time."""
    names = [mutant.name for mutant in MUTANTS]
    with ProcessPoolExecutor(processes or os.cpu_count()) as pool:
        yield from pool.map(hunt, names)
