"""``Client(prints=True)``: what the tasks of a client print, shown here as they print it.

Each line begins with the key of its task.  Equal texts of many tasks are shown once, with
how many they were, and a flood is cut: ``client.logs`` has more of it.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from covey.client import screen
from covey.client.engine import Engine
from covey.errors import CoveyError
from covey.units import counted

#: Lines that are shown of one answer; there are up to ten answers in a second.
LINES_MAX: Final = 200

#: So many equal lines of one task are still shown one by one.
_EQUAL_LINES: Final = 3

#: How long the last words of tasks are waited for when the client is closed.
_LAST_SECONDS: Final = 2.0

#: Where the questions begin: with what comes from now on.
_FROM_NOW_ON: Final = -1


class Stretch(NamedTuple):
    """What a task wrote in one go, as the scheduler keeps it."""

    at: float
    word: str
    task: int
    label: str
    worker: str
    stream: str
    text: str
    left_out: int


class Prints:
    """Follows what the tasks of a client print, in a thread of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._number = _FROM_NOW_ON
        self._lock = threading.Lock()
        self._closing = False
        self._asked: concurrent.futures.Future[Any] | None = None
        # Asked before anything can be submitted, so that nothing is missed.
        self._ask()
        self._thread = threading.Thread(
            target=self._follow, name="covey-prints", daemon=True
        )
        self._thread.start()

    def _ask(self) -> concurrent.futures.Future[Any] | None:
        with self._lock:
            self._asked = None
            if not self._closing:
                question = self._engine.ask("prints", number=self._number)
                self._asked = self._engine.start(question)
            return self._asked

    def _follow(self) -> None:
        asked = self._asked
        while asked is not None:
            try:
                self._number, stretches, missed = asked.result()
                show((Stretch(*stretch) for stretch in stretches), missed)
            except (CoveyError, concurrent.futures.CancelledError, RuntimeError):
                return  # The cluster is gone, which others say.
            except (OSError, ValueError):
                return  # Nobody reads it any more.
            asked = self._ask()

    def close(self) -> None:
        """Show what has been printed by now, and no more."""
        with self._lock:
            self._closing = True
        try:
            self._engine.call(self._engine.ask("last-prints"), _LAST_SECONDS)
        except (CoveyError, TimeoutError, RuntimeError):
            pass  # Then there is nobody who could say what tasks printed.
        self._thread.join(_LAST_SECONDS)
        if self._asked is not None:
            self._asked.cancel()


def show(stretches: Iterable[Stretch], missed: int = 0) -> None:
    """Write to the standard streams of this process what tasks wrote to theirs.

    Args:
        stretches: what they wrote.
        missed: how many stretches more there were, which are not kept any more.

    Raises:
        OSError: nobody reads them any more; so may ``ValueError`` say.
    """
    for name, text in _texts(stretches, missed):
        screen.write(text, sys.stderr if name == "stderr" else sys.stdout)


def _texts(stretches: Iterable[Stretch], missed: int) -> Iterator[tuple[str, str]]:
    """Yield streams, and the text for each, in order."""
    shown: list[tuple[str, str]] = []
    more = 0
    for stretch, tasks in _without_doubles(_joined(stretches)):
        who = f"{stretch.label}-{stretch.task:x}"
        if tasks > 1:
            who = f"{stretch.label} ({counted(tasks, 'task')})"
        for line in _lines(stretch):
            if len(shown) < LINES_MAX:
                shown.append((stretch.stream, f"{who}  {line}\n"))
            else:
                more += 1
    for name, lines in itertools.groupby(shown, key=lambda entry: entry[0]):
        yield name, "".join(line for _, line in lines)
    if more:
        yield "stderr", f"covey: and {counted(more, 'line')} more; see client.logs()\n"
    if missed:
        yield "stderr", f"covey: {missed:,} prints came too fast, and are not kept\n"


def _joined(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    """Yield what a task wrote in turn as one stretch."""
    last: Stretch | None = None
    for stretch in stretches:
        if last is not None and last[2:6] == stretch[2:6]:
            last = last._replace(
                text=last.text + stretch.text,
                left_out=last.left_out + stretch.left_out,
            )
            continue
        if last is not None:
            yield last
        last = stretch
    if last is not None:
        yield last


def _without_doubles(stretches: Iterable[Stretch]) -> Iterator[tuple[Stretch, int]]:
    """Yield each text once, and how many tasks wrote just that."""
    tasks_of: dict[tuple[str, str, str], tuple[Stretch, set[int]]] = {}
    found: list[tuple[Stretch, set[int]]] = []
    for stretch in stretches:
        same = (stretch.label, stretch.stream, stretch.text)
        known = tasks_of.get(same)
        if known is not None and stretch.task not in known[1]:
            known[1].add(stretch.task)
            continue
        tasks_of[same] = (stretch, {stretch.task})
        found.append(tasks_of[same])
    for stretch, tasks in found:
        yield stretch, len(tasks)


def _lines(stretch: Stretch) -> Iterator[str]:
    if stretch.left_out:
        yield f"[{counted(stretch.left_out, 'line')} of this worker left out]"
    for line, equal in itertools.groupby(stretch.text.splitlines()):
        n = sum(1 for _ in equal)
        if n > _EQUAL_LINES:
            yield f"{line}  [{n:,} times]"
        else:
            yield from [line] * n
