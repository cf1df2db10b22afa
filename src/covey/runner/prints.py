"""Standard output and standard error, with the name of the task that writes.

What a task prints still goes where it always went; a copy goes to the agent, for those who
look on from elsewhere.  A line leaves at once, unless a task writes so many that they had
better travel together; what has not left when the outcomes do goes ahead of them.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Final, TextIO

from covey.runner.context import here
from covey.serde.functions import encodable

#: Sends for lines in a second, and at once after a silence.
_SENDS_PER_SECOND: Final = 100
_SENDS_AT_ONCE: Final = 500

#: Characters that tasks have printed, before they are sent in any case.
_ALL_WAITING_MAX: Final = 64_000

#: Characters that wait together, at most; more of a single task are cut short.
_WAITING_MAX: Final = 16_000


class TaskStream:
    """A text stream that tells the agent what tasks write to it."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._sends = float(_SENDS_AT_ONCE)
        self._at = 0.0

    def write(self, text: str) -> int:
        """Write *text*, and keep a copy if a task is running in this thread."""
        count = self._stream.write(text)
        loop = here.loop
        if loop is not None and text:
            run, task = loop.executing()
            if run:
                copy = text[:_WAITING_MAX]
                if not copy.isascii():
                    # Names of files may hold bytes that no message can.
                    copy = encodable(copy)
                loop.print(run, task, self._name, copy)
                if "\n" in text and self._may_send():
                    loop.send_prints()
        return count

    def writelines(self, lines: Any) -> None:
        """Write several pieces."""
        for line in lines:
            self.write(line)

    def _may_send(self) -> bool:
        now = time.perf_counter()
        sends = self._sends + (now - self._at) * _SENDS_PER_SECOND
        self._sends, self._at = min(sends, _SENDS_AT_ONCE), now
        if self._sends < 1:
            return False
        self._sends -= 1
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Prints:
    """What the tasks of one loop have printed and was not sent yet.

    Attributes:
        by: the task that printed last, whatever has been sent of that.
    """

    __slots__ = ("by", "operations", "size")

    def __init__(self) -> None:
        self.operations: list[list[Any]] = []
        self.size = 0
        self.by = -1

    def add(self, run: int, task: int, stream: str, text: str) -> None:
        """Keep a piece, together with those of the same task before it."""
        last = self.operations[-1] if self.operations else None
        if last is None or last[1:4] != [run, task, stream]:
            self.operations.append(["printed", run, task, stream, text])
        elif len(last[4]) < _WAITING_MAX:
            last[4] += text
        self.size += len(text)
        self.by = task

    @property
    def full(self) -> bool:
        """Whether so much waits that it must leave."""
        return self.size >= _ALL_WAITING_MAX

    def take(self) -> list[list[Any]]:
        """Return all that waits, and wait for more."""
        operations, self.operations = self.operations, []
        self.size = 0
        return operations


def install() -> None:
    """Let the standard streams of this process tell what tasks write."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None:
            setattr(sys, name, TaskStream(stream, name))
