"""``LocalCluster(processes=False)``: everything in threads of the user's process.

The same scheduler, worker and runner code, over the same sockets; only the
processes are missing.  A breakpoint in a task stops in the user's debugger,
and a Python without a GIL runs the slots at once.  What a process would give is
not there: a task that crashes takes everything along, and one that will not
stop cannot be killed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import threading
from collections.abc import Callable
from typing import Any

from covey.cluster.joined import EmbeddedCluster
from covey.errors import CoveyError, StartFailed
from covey.net.loop import close_event_loop, new_event_loop
from covey.payload import Buffer
from covey.runner import control, serving
from covey.runner.process import RunnerProcess as RunnerState
from covey.wire.base import Failure
from covey.worker.interpreters import Interpreter
from covey.worker.processes import RunnerProcess, named_by

_MARK_WORDS = 2
_START_SECONDS = 30.0


class ThreadRunner(RunnerProcess):
    """A runner whose slots are threads of this process."""

    def __init__(
        self,
        number: int,
        slots: range,
        setup: dict[str, Any],
        *,
        python: Interpreter,
        on_says: Callable[[int, list[tuple[Any, Buffer]]], None],
        on_control: Callable[[int, list[tuple[Any, Buffer]]], None],
        on_end: Callable[[RunnerProcess], None],
    ) -> None:
        super().__init__(
            number,
            slots,
            # This process has its own modules, directory and environment already.
            {**setup, "sys_path": [], "cwd": "", "environ": {}},
            python=python,
            on_says=on_says,
            on_control=on_control,
            on_end=on_end,
        )
        self._words = bytearray(8 * _MARK_WORDS * len(slots))

    async def start(self) -> None:
        """Start the threads and connect their sockets."""
        state = RunnerState(own_process=False)
        pairs = [socket.socketpair() for _ in range(1 + len(self.slots))]
        unused = [end for pair in pairs for end in pair]
        try:
            self.control = await self._connect(pairs[0][0], self._control_says)
            unused.remove(pairs[0][0])
            for slot, (ours, _) in zip(self.slots, pairs[1:], strict=True):
                self.links.append(await self._connect(ours, self._slot_says(slot)))
                unused.remove(ours)
        except BaseException:
            # The cluster ends while its threads are being started.
            self.stop()
            for end in unused:
                end.close()
            raise
        self._open = len(pairs)
        words = memoryview(self._words).cast("Q")
        for index, (_, theirs) in enumerate(pairs[1:]):
            marks = words[_MARK_WORDS * index : _MARK_WORDS * (index + 1)]
            _thread(f"slot-{index}", theirs, _serve_slot, marks, state, index)
        _thread("control", pairs[0][1], control.serve_control, state)
        self.control.tell(["setup", self._setup])

    @property
    def pid(self) -> int:
        """There is no process."""
        return 0

    def kill(self, because: str = "") -> None:
        """Close the sockets; a thread that executes a task ends after it."""
        self.killed_because = self.killed_because or because
        self._reaped = True
        self.stop()

    @property
    def is_ending(self) -> bool:
        """Whether the threads are being ended."""
        return bool(self.killed_because)

    @property
    def ended_by(self) -> int:
        """No signal ends threads alone."""
        return 0

    @property
    def was_killed_by_others(self) -> bool:
        """Nobody kills threads."""
        return False

    def executing(self) -> tuple[tuple[int, int], ...]:
        """Threads do not die by themselves, so nothing is to blame."""
        return ()

    def named(self) -> tuple[tuple[int, int], ...]:
        """Return what the marks name at this moment."""
        return named_by(self._words)

    def failure(self, worker: str) -> Failure:
        """Return what can be said of the end of threads."""
        if self.verdict is not None:
            return self.verdict
        return Failure(
            "died",
            "RunnerDied",
            f"the threads that ran it on {worker} were ended",
            details={"worker": worker},
        )


def _serve_slot(
    sock: socket.socket, marks: memoryview, state: RunnerState, index: int
) -> None:
    """Serve a slot until nobody does: a task may hand it to another thread."""
    serving.serve_slot(sock, marks, state, index)
    state.slots[index].stopped.wait()


def _thread(
    name: str, end: socket.socket, serve: Callable[..., Any], *args: Any
) -> None:
    """Serve one end of a socket pair in a thread, and close it afterwards."""

    def run() -> None:
        with end:
            serve(end, *args)

    threading.Thread(target=run, name=f"covey-{name}", daemon=True).start()


def start(
    plan: dict[str, Any],
) -> tuple[dict[str, Any], Callable[[], None], Callable[[], None]]:
    """Start a cluster in a thread.

    Returns:
        Where it listens, what ends it, and what raises ``StartFailed`` once it has ended
        by itself.

    Raises:
        StartFailed: it did not come up.
    """
    event_loop = new_event_loop()
    started: concurrent.futures.Future[dict[str, Any]] = concurrent.futures.Future()
    holder: list[EmbeddedCluster] = []

    async def serve() -> None:
        cluster = EmbeddedCluster(plan, ThreadRunner, own_processes=False)
        holder.append(cluster)
        try:
            facts = await cluster.start()
            await cluster.first_runner()
            started.set_result(facts)
            await cluster.ended
        except (OSError, CoveyError) as error:
            started.set_exception(StartFailed(str(error)))
        except Exception as error:
            # Whoever waits for the start is told, whatever it is.
            started.set_exception(error)
            raise
        finally:
            await cluster.close()

    def run() -> None:
        asyncio.set_event_loop(event_loop)
        try:
            event_loop.run_until_complete(serve())
        finally:
            close_event_loop(event_loop)

    thread = threading.Thread(target=run, name="covey-cluster", daemon=True)
    thread.start()
    facts = started.result(_START_SECONDS)

    def stop() -> None:
        if thread.is_alive():
            try:
                event_loop.call_soon_threadsafe(holder[0].end)
            except RuntimeError:
                pass  # The loop has just ended by itself.
            thread.join(_START_SECONDS)

    def check() -> None:
        ended = holder[0].ended
        if ended.done():
            raise StartFailed(ended.result() or "the cluster was told to end")

    return facts, stop, check
