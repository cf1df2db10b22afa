"""What tasks print, on its way to whoever wants to read it.

A task that prints in a loop must not drown everybody else: a worker passes on so many
lines a second, counts the rest, and remembers the last lines of each task for the case
that it fails.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
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
    """Limits, and the last lines of each task.

    Args:
        tell: passes on what a task printed.
    """

    def __init__(self, tell: Callable[[Printed], object]) -> None:
        self._tell = tell
        self._room = float(LINES_AT_ONCE)
        self._at = 0.0
        self._left_out = 0
        #: What was left out last.
        self._cut: SaysPrinted | None = None
        self._last: OrderedDict[int, deque[str]] = OrderedDict()

    def take(self, says: SaysPrinted, now: float) -> None:
        """Take in what a task printed; pass it on, if there is room."""
        lines = says.text.splitlines() or [""]
        last = self._last.get(says.task)
        if last is None:
            last = self._last[says.task] = deque(maxlen=LAST_LINES)
            while len(self._last) > _TASKS_MAX:
                self._last.popitem(last=False)
        last.extend(line[:500] for line in lines[-LAST_LINES:])
        self._refill(now)
        text = _shortened(says.text)
        count = len(lines) if text is says.text else len(text.splitlines())
        if self._room < count:
            self._left_out += len(lines)
            self._cut = says
            return
        self._room -= count
        self._pass_on(says, text, self._left_out)

    def tell_rest(self, now: float) -> None:
        """Pass on the end of what was left out, if nothing has come after it.

        Else nobody would know that there was more.
        """
        self._refill(now)
        if self._cut is None or self._room < LAST_LINES:
            return
        end = list(self._last.get(self._cut.task, self._cut.text.splitlines()))
        end = end[-min(LAST_LINES, self._left_out) :]
        self._room -= len(end)
        text = _shortened("".join(f"{line}\n" for line in end))
        self._pass_on(self._cut, text, self._left_out - len(end))

    def _refill(self, now: float) -> None:
        room = self._room + (now - self._at) * LINES_PER_SECOND
        self._room, self._at = min(room, LINES_AT_ONCE), now

    def _pass_on(self, says: SaysPrinted, text: str, left_out: int) -> None:
        self._left_out, self._cut = 0, None
        self._tell(Printed(says.task, says.stream, text, left_out))

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
