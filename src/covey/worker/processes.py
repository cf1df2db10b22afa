"""Starting and ending runner processes, and telling how one ended."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from covey.payload import Buffer
from covey.units import format_bytes
from covey.wire.base import Failure
from covey.worker.interpreters import Interpreter
from covey.worker.launching import Launched, launch
from covey.worker.runner_link import RunnerLink

#: Lines of a runner's stderr that are kept to explain its end.
STDERR_LINES: Final = 20

#: A process that has ended is waited for so long until its sockets are empty;
#: a child that it left behind may hold them open for ever.
_DRAIN_SECONDS: Final = 0.5

#: What a mark names while a runner prepares a batch, before its first task.
_NOBODY: Final = (1 << 64) - 1


class RunnerProcess:
    """One runner process, with a socket per slot and one to control it."""

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
        launched: Launched | None = None,
    ) -> None:
        self.number = number
        self.slots = slots
        self._setup = python.setup(setup)
        self._python = python
        self._on_says = on_says
        self._on_control = on_control
        self._on_end = on_end
        #: A process that was started for this runner before there was one.
        self._launched = launched
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: asyncio.ReadTransport | None = None
        self._marks: mmap.mmap | None = None
        #: What the marks named at the end, when they are closed.
        self._named_last: tuple[tuple[int, int], ...] = ()
        self._open = 0
        self._reaped = False
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self.links: list[RunnerLink] = []
        self.control: RunnerLink | None = None
        self.stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self.ready = False
        self.killed_because = ""
        #: What its task is told, if it was ended for what that task did.
        self.verdict: Failure | None = None
        #: The most memory that it had at any time, as far as is known.
        self.peak_bytes = 0
        #: Whether the process is no more; the loop hears of it a little later.
        self._gone = False
        #: Whether the kernel ended it for memory; ``None`` if that is not known.
        self.out_of_memory: bool | None = None

    @property
    def pid(self) -> int:
        """The process id, or 0 before the start."""
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """Start the process and connect its sockets.

        Raises:
            OSError: the process cannot be started.
        """
        launched = self._launched or launch(
            self._python.executable,
            len(self.slots),
            self._python.environment(self._setup),
        )
        self._launched = None
        self._process = launched.process
        self._marks = launched.marks
        self._open = len(launched.slots) + 2
        try:
            self.control = await self._connect(launched.control, self._control_says)
            for slot, ours in zip(self.slots, launched.slots, strict=True):
                self.links.append(await self._connect(ours, self._slot_says(slot)))
            await self._watch_stderr()
            self._wait_for_end()
        except OSError:
            self._abandon(launched)
            raise
        self.control.tell(["setup", self._setup])

    def _wait_for_end(self) -> None:
        """Have a thread wait for the end of the process.

        Raises:
            OSError: there may be no more threads.
        """
        name = f"covey-reap-{self.pid}"
        try:
            threading.Thread(target=self._reap, name=name, daemon=True).start()
        except RuntimeError as error:
            # A limit on processes counts threads, too; Python does not tell it as one.
            raise OSError(
                errno.EAGAIN, f"no thread can wait for it: {error}"
            ) from error

    async def _connect(
        self, end: socket.socket, on_says: Callable[[list[tuple[Any, Buffer]]], None]
    ) -> RunnerLink:
        end.setblocking(False)
        _, link = await self._loop.create_unix_connection(
            lambda: RunnerLink(on_says, self._one_less, self._said_nonsense), sock=end
        )
        return link

    def _slot_says(self, slot: int) -> Callable[[list[tuple[Any, Buffer]]], None]:
        return partial(self._on_says, slot)

    def _control_says(self, says: list[tuple[Any, Buffer]]) -> None:
        self._on_control(self.number, says)

    def _said_nonsense(self, what: str) -> None:
        """Its code has written into our sockets: nothing that it says counts now."""
        self.kill(f"what it wrote to the worker is nothing that a runner says: {what}")

    async def _watch_stderr(self) -> None:
        assert self._process is not None and self._process.stderr is not None
        process = self

        class Lines(asyncio.Protocol):
            def __init__(self) -> None:
                self.rest = b""

            def data_received(self, data: bytes) -> None:
                sys.stderr.buffer.write(data)
                sys.stderr.buffer.flush()
                *lines, self.rest = (self.rest + data).split(b"\n")
                process.stderr.extend(line.decode(errors="replace") for line in lines)

            def connection_lost(self, exc: Exception | None) -> None:
                del exc
                if self.rest:
                    process.stderr.append(self.rest.decode(errors="replace"))
                process._one_less()

        pipe = self._process.stderr
        self._stderr, _ = await self._loop.connect_read_pipe(Lines, pipe)

    # The end.

    def kill(self, because: str = "") -> None:
        """End the process at once.  ``on_end`` follows when it is gone."""
        if self._process is not None and not self._reaped:
            self.killed_because = self.killed_because or because
            # Not by Popen, which would look first whether it has ended, and so take
            # its end away from the thread that waits for it.
            if not self._gone:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Let the process go when it is idle: its sockets are closed."""
        for link in [*self.links, *([self.control] if self.control else [])]:
            link.close()

    def _abandon(self, launched: Launched) -> None:
        """Let nothing of a process be left to which we cannot connect."""
        self._ended = True
        self.stop()
        launched.process.kill()
        launched.process.wait()
        # What a transport has is closed by that: the loop still looks at it.
        stderr = self._stderr or launched.process.stderr
        for end in (launched.control, *launched.slots, stderr):
            if end is not None:
                end.close()
        self._close_marks()

    def _reap(self) -> None:
        process = self._process
        assert process is not None
        # Popen.wait would do, but for what it does not tell: how large it has been.
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except ChildProcessError:
            # Whoever started us has the ends of children ignored: the kernel waits
            # for them all the same, but does not keep how they ended.
            self._gone = True
        else:
            self._gone = True
            process.returncode = os.waitstatus_to_exitcode(status)
            self.peak_bytes = _peak_bytes(usage)
        try:
            self._loop.call_soon_threadsafe(self._was_reaped)
        except RuntimeError:
            return  # The loop is closed: nobody wants to know any more.

    def _was_reaped(self) -> None:
        self._reaped = True
        if self._open:
            self._loop.call_later(_DRAIN_SECONDS, self._end)
        else:
            self._end()

    def _one_less(self) -> None:
        self._open -= 1
        if not self._open and self._reaped:
            self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self.stop()
            self._close_marks()
            self._on_end(self)

    def _close_marks(self) -> None:
        """Read the marks a last time; whoever keeps this object keeps no memory of them."""
        if self._marks is not None:
            self._named_last = self.executing()
            self._marks.close()
            self._marks = None

    def executing(self) -> tuple[tuple[int, int], ...]:
        """Return who may be to blame for its end: what the marks name, or named last."""
        return self._named_last if self._marks is None else named_by(self._marks)

    def named(self) -> tuple[tuple[int, int], ...]:
        """Return what the marks name at this moment."""
        return self.executing()

    @property
    def is_ending(self) -> bool:
        """Whether the process has ended, though we may not have been told yet."""
        if self._process is None or self._reaped or self.killed_because:
            return True
        import psutil  # It takes a while to import, and a start waits for this room.

        try:
            return psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            return True

    @property
    def ended_by(self) -> int:
        """The signal that ended it; 0 if it was none, or is not known."""
        code = self._process.returncode if self._process is not None else None
        return -code if code is not None and code < 0 else 0

    @property
    def was_killed_by_others(self) -> bool:
        """Whether SIGKILL ended it, and we did not send that."""
        process = self._process
        return (
            process is not None
            and process.returncode == -signal.SIGKILL
            and not self.killed_because
        )

    def failure(self, worker: str) -> Failure:
        """Tell how the process ended, for the task that executed then."""
        if self.verdict is not None:
            return self.verdict
        assert self._process is not None
        code = self._process.returncode
        details: dict[str, str | int | float | None] = {"worker": worker}
        if code is not None and code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            details["signal"] = name
            how = f"was ended by {name}"
        elif code is None:
            how = "ended, and the system did not keep how"
        else:
            details["exit_code"] = code
            how = f"exited with code {code}"
        if self.killed_because:
            how += f" ({self.killed_because})"
        text = f"the process that ran it (pid {self.pid} on {worker}) {how}"
        if self.peak_bytes:
            details["peak_bytes"] = self.peak_bytes
            text += f"; it had used up to {format_bytes(self.peak_bytes)}"
        if self.stderr:
            details["stderr"] = "\n".join(self.stderr)
            text += "; the last lines of its stderr:\n  " + "\n  ".join(self.stderr)
        if self.was_killed_by_others and self.out_of_memory is not None:
            details["out_of_memory"] = int(self.out_of_memory)
        # One that we ended says why; one that was never ready has run no task.
        if self.ready and not self.killed_because:
            text += f"\n{_what_to_do(code, self.out_of_memory)}"
        return Failure("died", "RunnerDied", text, details=details)


#: A process ends so when what is not written in Python goes wrong.
_CRASHES: Final = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT}
)


def _what_to_do(code: int | None, out_of_memory: bool | None) -> str:
    """Return what somebody can do whose task's process has ended by itself.

    Args:
        code: as it was waited for: the number of a signal is negative.
        out_of_memory: whether the kernel ended it for memory, if that is known.
    """
    if code is not None and -code in _CRASHES:
        advice = (
            "It crashed in code that is not Python's, such as that of a library: run the "
            "task by itself, with the same arguments and versions, and look at what it "
            "was in (above, if it is there)"
        )
        if -code == signal.SIGBUS:
            advice += (
                ". SIGBUS is of a file that it maps: look at that disk, or /dev/shm"
            )
    elif code == -signal.SIGKILL and out_of_memory is None:
        advice = (
            "SIGKILL often means that the system ran out of memory: look at the "
            "memory use of the task, and give it smaller pieces or fewer neighbours"
        )
    elif code == -signal.SIGKILL:
        advice = (
            "SIGKILL came from another process: the kernel has ended nobody for memory. "
            "Look at who ends processes there, such as a batch system with a limit"
        )
    elif code is not None and code < 0:
        advice = (
            "That signal came from the task itself or from another process: look at who "
            "sends it there, such as a batch system or somebody at a terminal"
        )
    elif code is not None:
        advice = (
            "Only os._exit, or a library that ends processes, does that: let the task "
            "raise an exception instead"
        )
    else:
        advice = "Look at what the system's log says of it"
    return f"{advice}. With retries=1 it is run once more"


def named_by(marks: mmap.mmap | bytearray) -> tuple[tuple[int, int], ...]:
    """Return what the marks of threads name: (run, task) of each that is busy."""
    with memoryview(marks) as raw, raw.cast("Q") as words:
        pairs = [(words[i], words[i + 1]) for i in range(0, len(words), 2)]
    return tuple(pair for pair in pairs if pair[0] and pair[1] != _NOBODY)


def _peak_bytes(usage: resource.struct_rusage) -> int:
    """Return how large a process has been; 0 if it was never larger than we are.

    Until it called ``exec``, it counted as large as we were.
    """
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit if usage.ru_maxrss > ours else 0
