"""Watches the memory of a worker, and keeps it below its limit.

Looks at the processes a few times a second, more often when it gets tight or a
runner grows, less often while no task runs, and does what ``core.pressure`` judges:
has values spilled, lets nothing new begin, stops the task that has grown past the
limit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from covey import clock
from covey.units import format_bytes
from covey.wire.base import Failure
from covey.worker.cgroup import Container
from covey.worker.core import orders
from covey.worker.core.in_hand import inputs_in_hand
from covey.worker.core.pressure import Judgement, RunnerMemory, judge
from covey.worker.core.state import Runner, WorkerState
from covey.worker.heap import Heap
from covey.worker.kept import Kept
from covey.worker.memory import (
    Accounts,
    MemoryPlan,
    machine_is_short,
    private_bytes,
)
from covey.worker.processes import RunnerProcess
from covey.worker.results import Results
from covey.worker.storage import Storage

#: How often memory is looked at, how often when it gets tight, and how often while no
#: task runs and no large value comes or goes.
_CALM_SECONDS: Final = 0.25
_TIGHT_SECONDS: Final = 0.03
_REST_SECONDS: Final = 1.0

#: It gets tight above this part of the limit, or when a runner grows by this one.
_TIGHT: Final = 0.5
_LEAP: Final = 0.02

#: Who waits for room is told that there is none when so long nothing makes any.
_STUCK_SECONDS: Final = 2.0
_STILL_MAPPED: Final = "what is there cannot go to disk, because processes still map it"

#: A runner that others ended is taken for a victim of the kernel's memory management
#: if that has ended anybody within so many seconds: large processes die slowly.
_OOM_SECONDS: Final = 10.0

#: How often its victims are counted.
_COUNT_SECONDS: Final = 2.0

#: So much of the container's limit is left to the kernel: one part of so many.
_MARGIN: Final = 16


class _Waiter:
    """Somebody who waits for room."""

    __slots__ = ("answer", "brings", "nbytes", "since")

    def __init__(
        self, nbytes: int, answer: asyncio.Future[str], *, brings: bool
    ) -> None:
        self.nbytes = nbytes
        #: Whether it is a client, which has no more room than what it keeps leaves.
        self.brings = brings
        self.answer = answer
        #: Since when nothing happens that could make room.
        self.since = clock.monotonic()


class Pressure:
    """The memory of one worker.

    Args:
        worker: the name of the worker.
        plan: how much it may use.
        state: what the core knows.
        storage: its values.
        results: what runners are bringing.
        processes: its runners, by number.
        step: takes events to the core.
        forget: has runners forget inputs that they need not keep mapped.
        label: tells what the function of a number is called.
    """

    def __init__(
        self,
        worker: str,
        plan: MemoryPlan,
        state: WorkerState,
        storage: Storage,
        results: Results,
        processes: Sequence[RunnerProcess | None],
        step: Callable[[orders.AnyEvent], None],
        forget: Callable[[], None],
        label: Callable[[int], str] = lambda _: "",
    ) -> None:
        self._worker = worker
        self._plan = plan
        self._state = state
        self._storage = storage
        self._results = results
        self._processes = processes
        self._step = step
        self._forget = forget
        self._label = label
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        #: Whether the next look is put off, since nothing runs: see ``wake``.
        self.rests = False
        self._agent_bytes = 0
        #: How many bytes of small values there were when that was looked at.
        self._small_then = 0
        self._limit_bytes = plan.limit_bytes
        self._container = Container()
        #: Private bytes of each process: when it was ready, at present, at most.
        self._baseline: dict[int, int] = {}
        #: When that was.
        self._ready: dict[int, float] = {}
        self._now: dict[int, int] = {}
        self._peak: dict[int, int] = {}
        #: How many processes the kernel had ended for memory, and when.
        self._oom_kills: deque[tuple[float, int | None]] = deque()
        self.paused = False
        self._held = False
        self._waiting: deque[_Waiter] = deque()
        self._judge_is_due = False
        self._heap, self._kept = Heap(), Kept()
        storage.on_change = self._storage_changed
        storage.on_trim = self._heap.trimmed
        storage.in_hand = lambda: inputs_in_hand(state)
        storage.is_short = self._files_must_go
        storage.rescue.has_room, storage.rescue.tell = self._fits, plan.tell
        self._look()

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self._waiting:
            waiter.answer.cancel()

    @property
    def limit_bytes(self) -> int:
        """What may be used at present: in a container, others have their share."""
        return self._limit_bytes

    def accounts(self) -> Accounts:
        """Return what memory is used for, as it was seen last."""
        runners = sum(self._now.values())
        storage = self._storage
        small = storage.shelf.small_bytes
        # What has come since the last look is in the heap as well.
        come = max(0, small - self._small_then)
        return Accounts(
            limit=self._limit_bytes,
            heap=runners + self._agent_bytes + come,
            runners=runners,
            small=small,
            shared=storage.shared_bytes,
            kept=self._kept.nbytes(storage.pool.lingering_bytes),
            in_flight=storage.lent_bytes,
            warm=storage.pool.free_bytes,
            spilled=storage.spilled_bytes,
        )

    # Looking.

    def _look(self) -> None:
        if self._closed:
            return
        delay = _CALM_SECONDS
        try:
            delay = self._look_now()
        finally:
            # Whatever went wrong once: nobody else keeps the worker below its limit.
            self.rests = delay == _REST_SECONDS
            self._timer = self._loop.call_later(delay, self._look)

    def is_ready(self, process: RunnerProcess) -> None:
        """See how large a runner is before its first task, which may grow at once."""
        self._baseline[process.pid] = private_bytes(process.pid)
        self._ready[process.pid] = clock.monotonic()

    def wake(self) -> None:
        """A task begins, or a large value comes or goes: look as often as usual again."""
        if self.rests and self._timer is not None and not self._closed:
            self.rests = False
            self._timer.cancel()
            self._timer = self._loop.call_later(_CALM_SECONDS, self._look)

    def _look_now(self) -> float:
        """Look, and do what there is to do; return when to look again."""
        before = self._now
        self._small_then = self._storage.shelf.small_bytes
        self._agent_bytes = int(private_bytes("self") * self._plan.agent_share)
        self._now = {
            p.pid: private_bytes(p.pid) for p in self._processes if p and p.pid
        }
        for table in (self._baseline, self._ready, self._peak):
            for pid in table.keys() - self._now.keys():
                del table[pid]
        for pid, nbytes in self._now.items():
            self._peak[pid] = max(nbytes, self._peak.get(pid, 0))
        self._count_oom_kills()
        self._storage.sweep()
        self._results.revoke()
        self._look_at_kept()
        self._limit_bytes = self._limit_among_others()
        self._look_at_heap()
        self._judge()
        limit = self._limit_bytes
        leap = any(
            n - before.get(pid, n) > _LEAP * limit for pid, n in self._now.items()
        )
        if leap or self.accounts().total > _TIGHT * limit:
            return _TIGHT_SECONDS
        return _REST_SECONDS if self._may_rest() else _CALM_SECONDS

    def _look_at_kept(self) -> None:
        """See what only clients still map: theirs, as long as there is memory for all.

        In a container they have their share of its limit.
        """
        pool, limit = self._storage.pool, self._plan.limit_bytes
        mine = [p.pid for p in self._processes if p is not None and p.pid]
        nbytes = pool.lingering_bytes
        if not mine or (nbytes and machine_is_short()):
            nbytes = 0
        now = clock.monotonic()
        self._kept.look(pool.lingering(), nbytes, limit, mine, now)

    def _look_at_heap(self) -> None:
        """Have given back what small values have left behind, where that is wanted."""
        small, limit = self._storage.shelf.small_bytes, self._limit_bytes
        self._heap.look(self._agent_bytes, small, limit)
        if not self._heap.is_loose:
            return
        wanted = self.accounts().total > _TIGHT * limit or self._may_rest()
        if wanted and self._heap.may_trim(clock.monotonic()):
            self._storage.start(self._storage.trim())

    def _may_rest(self) -> bool:
        """Whether nothing runs, and it is known how large all runners are without."""
        known = self._baseline
        return (
            not self._waiting
            and all(p is None or not p.pid or p.pid in known for p in self._processes)
            and all(map(_is_idle, self._state.runners))
        )

    def _files_must_go(self) -> bool:
        """Whether the files of values must leave memory when they are written.

        In a container they count until the disk has them.  Elsewhere the kernel lets go
        of them when somebody needs their memory.
        """
        return self._container.limit_bytes() is not None or machine_is_short()

    def _limit_among_others(self) -> int:
        """Return our limit, less what others use of that of the container."""
        room = self._container.room_bytes()
        limit = self._plan.limit_bytes
        if room is None:
            return limit
        # The kernel ends processes when nothing is left: it must not come to that.
        share = int(self._plan.agent_share * (room - limit // _MARGIN))
        return max(1, min(limit, self.accounts().total + share))

    def _storage_changed(self) -> None:
        """Perhaps there is one value too many, or room again."""
        if self.rests:
            self.wake()
        if not self._judge_is_due:
            self._judge_is_due = True
            self._loop.call_soon(self._judge)

    def _judge(self) -> None:
        self._judge_is_due = False
        if self._closed:
            return
        now = clock.monotonic()
        runners = [
            RunnerMemory(
                process.number,
                self._now.get(process.pid, 0),
                self._baseline.get(process.pid, 1 << 62),
                _is_idle(self._state.runners[process.number]),
                now - self._ready.get(process.pid, now),
            )
            for process in self._processes
            if process is not None and process.pid
        ]
        accounts = self.accounts()
        verdict = judge(
            accounts.limit,
            accounts.total,
            self._storage.movable_bytes,
            runners,
            paused=self.paused,
            awaited=bool(self._waiting),
        )
        self._carry_out(verdict, accounts)

    # Acting.

    def _carry_out(self, verdict: Judgement, accounts: Accounts) -> None:
        if verdict.release > 0:
            self._release(verdict.release)
        hold = verdict.pause and self._storage.ledger.leaving_bytes > 0
        if (verdict.pause, hold) != (self.paused, self._held):
            self.paused, self._held = verdict.pause, hold
            self._step(orders.MemoryShort(verdict.pause, hold))
        for runner in verdict.recycle:
            self._step(orders.RunnerGrown(runner))
        if verdict.stop >= 0:
            self._stop(verdict.stop, accounts)
        self._let_in()

    def _release(self, nbytes: int) -> None:
        self._results.revoke(unused_seconds=0.0)
        self._forget()
        self._storage.release(nbytes)

    # Letting in.

    async def room_for(self, nbytes: int, *, brings: bool = False) -> str:
        """Wait until a value of *nbytes* bytes fits; or return why it will not.

        Where a client *brings* it, what clients keep mapped counts as well.
        """
        if not self._waiting and self._fits(nbytes, brings=brings):
            return ""
        waiter = _Waiter(nbytes, self._loop.create_future(), brings=brings)
        self._waiting.append(waiter)
        self._storage_changed()
        return await waiter.answer

    def _fits(self, nbytes: int, *, brings: bool = False) -> bool:
        return self._used(brings=brings) + nbytes <= self._limit_bytes

    def _used(self, *, brings: bool) -> int:
        accounts = self.accounts()
        return accounts.total + (accounts.kept if brings else 0)

    def _let_in(self) -> None:
        """Let in those who wait, the first first, as far as there is room."""
        now = clock.monotonic()
        while self._waiting:
            waiter = self._waiting[0]
            problem = ""
            brings = waiter.brings
            if not self._fits(waiter.nbytes, brings=brings):
                problem = self.refusal(waiter.nbytes, brings=brings)
                if not problem:
                    self._release_for(waiter)
                    if self._may_change():
                        waiter.since = now
                    if now - waiter.since < _STUCK_SECONDS:
                        return
                    problem = self._no_room(waiter.nbytes, _STILL_MAPPED)
            self._waiting.popleft()
            if waiter.answer.done():
                continue  # Nobody waits for it any more.
            waiter.answer.set_result(problem)
            if not problem:
                # The next one is looked at when this one has taken what it was let
                # in for, and the accounts know of it.
                self._storage_changed()
                return

    def _release_for(self, waiter: _Waiter) -> None:
        """Have what is missing, and a little more, made free."""
        limit = self._limit_bytes
        used = self._used(brings=waiter.brings)
        self._release(used + waiter.nbytes - limit + limit // 16)

    def _may_change(self) -> bool:
        """Whether memory may become free without anybody letting go of futures."""
        storage = self._storage
        busy = any(not _is_idle(runner) for runner in self._state.runners)
        leaving = storage.lent_bytes > 0 or storage.ledger.leaving_bytes > 0
        return busy or leaving or self._heap.is_loose

    def refusal(self, nbytes: int, *, brings: bool = False) -> str:
        """Return why there is no room for so many bytes; empty if there may be."""
        if self._fits(nbytes, brings=brings):
            return ""
        if nbytes > self._limit_bytes:
            return self._no_room(nbytes, "that is more than all of it")
        if self._storage.disk_problem and not self._heap.is_loose:
            problem = f"nothing can go to disk ({self._storage.disk_problem})"
            return self._no_room(nbytes, problem)
        return ""

    def _no_room(self, nbytes: int, why: str) -> str:
        accounts = self.accounts()
        values = accounts.values
        held = f"of which {format_bytes(values)} hold values of tasks"
        if accounts.kept:
            why = (
                f"clients keep {format_bytes(accounts.kept)} mapped beside that; {why}"
            )
        some = values or accounts.kept
        advice = "Let go of futures and views, or start" if some else "Start"
        return (
            f"there is no room for {format_bytes(nbytes)}: the worker uses "
            f"{format_bytes(accounts.total)} of its {format_bytes(accounts.limit)}, "
            f"{held if values else 'none of it for values of tasks'}, and {why}. "
            f"{advice} the worker with a larger --memory-limit"
        )

    def full(self, nbytes: int) -> Failure | None:
        """Return the failure of a task whose result of *nbytes* bytes has no room.

        Only where nothing can be made free any more: as long as there is a disk to
        take values, a result is kept.
        """
        problem = self.refusal(nbytes) if self._storage.disk_problem else ""
        if not problem:
            return None
        details: dict[str, str | int | float | None] = {
            "worker": self._worker,
            "peak_bytes": nbytes,
            "limit_bytes": self._limit_bytes,
        }
        text = (
            f"the task returned on {self._worker}, but its result cannot be kept: "
            f"{problem}"
        )
        return Failure("memory", "TaskOutOfMemory", text, details=details)

    def _stop(self, runner: int, accounts: Accounts) -> None:
        process = self._processes[runner]
        if process is not None and process.verdict is None:
            peak = self._peak.get(process.pid, 0)
            process.verdict = self._out_of_memory(peak, accounts, process)
            self._plan.tell(
                f"stops {self._running(process)}: its process (pid {process.pid}) had "
                f"grown to {format_bytes(peak)}, and the worker's limit is "
                f"{format_bytes(self._plan.limit_bytes)}"
            )
            process.kill("its task used too much memory")

    def _running(self, process: RunnerProcess) -> str:
        """Say what a runner has in hand, as far as that is known here."""
        runs, tasks = self._state.runs, []
        for number, task in process.executing():
            run = runs.get(number)
            label = self._label(run.fn) if run is not None else ""
            tasks.append(f"{label or 'a task'} (task {task:x})")
        return " and ".join(tasks) or "a task"

    def _count_oom_kills(self) -> None:
        now = clock.monotonic()
        counts = self._oom_kills
        if counts and now < counts[-1][0] + _COUNT_SECONDS:
            return
        while counts and counts[0][0] < now - _OOM_SECONDS:
            counts.popleft()
        counts.append((now, self._container.oom_kills()))

    def explain_end(self, process: RunnerProcess) -> None:
        """Find out how much a runner has used, and whether the kernel has ended it."""
        before = self._oom_kills[0][1] if self._oom_kills else None
        after = self._container.oom_kills()
        if before is None or after is None or not process.was_killed_by_others:
            return
        process.out_of_memory = after > before
        if process.out_of_memory:
            # What was seen now and then is less than what it had in the end.
            peak = max(process.peak_bytes, self._peak.get(process.pid, 0))
            process.verdict = self._out_of_memory(peak, self.accounts(), process)
            self._plan.tell(
                f"the system ended {self._running(process)} for its memory: its process "
                f"(pid {process.pid}) had grown to {format_bytes(peak)}"
            )

    def _out_of_memory(
        self, peak: int, accounts: Accounts, process: RunnerProcess
    ) -> Failure:
        """Return the failure of a task that has used too much memory."""
        limit = self._plan.limit_bytes
        told = self._now.get(process.pid, 0) + accounts.small
        others = max(0, accounts.heap - told)
        text = (
            f"the task was stopped because its process (pid {process.pid} on "
            f"{self._worker}) had grown to {format_bytes(peak)}, and the worker's limit "
            f"is {format_bytes(limit)}, of which "
            f"{format_bytes(accounts.values)} hold values of tasks and "
            f"{format_bytes(others)} are what its other processes take"
        )
        if self._storage.disk_problem:
            text += f". Values could not go to disk: {self._storage.disk_problem}"
        text += (
            ". Give it smaller pieces, or start the worker with a larger --memory-limit "
            "or fewer runners"
        )
        return Failure(
            "memory",
            "TaskOutOfMemory",
            text,
            details={
                "worker": self._worker,
                "peak_bytes": peak,
                "limit_bytes": limit,
            },
        )


def _is_idle(runner: Runner) -> bool:
    return runner.idle and not runner.parked
