"""What tasks print, on its way to whoever wants to read it.

A task that prints in a loop must not drown everybody else: a worker passes on so many
lines a second, counts the rest, and remembers the last lines of each task for the case
that it fails.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from covey.wire.worker_link import Printed
from covey.worker.runner_link import SaysPrinted

#: Lines passed on in a second, and at once after a silence.
LINES_PER_SECOND: Final = 200
LINES_AT_ONCE: Final = 1000

#: Characters and lines of one stretch; the middle of a longer one is left out.
TEXT_MAX: Final = 16_000
LINES_MAX: Final = LINES_AT_ONCE // 2

#: Lines that a failure shows, and tasks whose lines are remembered.
LAST_LINES: Final = 10
_TASKS_MAX: Final = 1000


class Printing:
    """Limits, and the last lines of each task."""

    def __init__(self) -> None:
        self._room = float(LINES_AT_ONCE)
        self._at = 0.0
        self._left_out = 0
        self._last: OrderedDict[int, deque[str]] = OrderedDict()

    def take(self, says: SaysPrinted, now: float) -> Printed | None:
        """Take in what a task printed; return what to pass on, if there is room."""
        lines = says.text.splitlines() or [""]
        last = self._last.get(says.task)
        if last is None:
            last = self._last[says.task] = deque(maxlen=LAST_LINES)
            while len(self._last) > _TASKS_MAX:
                self._last.popitem(last=False)
        last.extend(line[:500] for line in lines[-LAST_LINES:])
        room = self._room + (now - self._at) * LINES_PER_SECOND
        self._room, self._at = min(room, LINES_AT_ONCE), now
        text = _shortened(says.text)
        count = len(lines) if text is says.text else len(text.splitlines())
        if self._room < count:
            self._left_out += len(lines)
            return None
        self._room -= count
        left_out, self._left_out = self._left_out, 0
        return Printed(says.task, says.stream, text, left_out)

    def last_lines(self, task: int) -> dict[str, str]:
        """Return the last lines of a task that has ended, as details of its failure."""
        last = self._last.pop(task, None)
        return {"printed": "\n".join(last)} if last else {}


def _shortened(text: str) -> str:
    """Return a text with its middle left out, if it is long."""
    lines = text.splitlines(keepends=True)
    if len(lines) > LINES_MAX:
        half = LINES_MAX // 2
        text = "".join([*lines[:half], "[...]\n", *lines[1 - half :]])
    if len(text) > TEXT_MAX:
        half = TEXT_MAX // 2
        text = f"{text[:half]}\n[...]\n{text[-half:]}"
    return text
