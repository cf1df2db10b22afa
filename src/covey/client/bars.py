"""How progress is drawn: in a terminal, in a notebook, in a log.

``choose`` finds out which.  All of them are told the same: a list of ``Row``, ten times a
second.  In a terminal rich draws a line for each function when it is installed
(``covey[tui]``); without it, there is one line for all.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html import escape
from importlib.util import find_spec
from typing import Any, Final, NamedTuple, Protocol

from covey.client import screen
from covey.client.html import bar, card
from covey.units import format_seconds

#: In a log, a line is written so often at most, and none before that.
LOG_SECONDS: Final = 10.0

#: A card in a notebook is replaced so often at most: each time goes through its kernel.
CARD_SECONDS: Final = 0.25

#: Functions that get a line of their own; the rest is summed up.
ROWS_MAX: Final = 12

_FULL, _EMPTY = "█", "░"


class Row(NamedTuple):
    """How far the tasks of one function are.

    Attributes:
        label: the function.
        total: how many tasks there are.
        done: how many have ended, failed ones too.
        failed: how many of these have failed.
    """

    label: str
    total: int
    done: int
    failed: int = 0


class Bars(Protocol):
    """What draws."""

    def draw(self, rows: Sequence[Row], seconds: float, *, last: bool) -> None:
        """Draw how everything stands, *seconds* after the beginning.

        Raises:
            OSError: nobody can see it any more; so may ``ValueError`` say.
        """


def choose(*, notebook: bool, force: bool) -> Bars:
    """Return what fits to where this process writes to."""
    if notebook and "IPython" in sys.modules:
        return NotebookBars()
    if force or notebook:
        return LineBar()
    if not sys.stderr.isatty():
        return LogLines()
    return RichBars() if find_spec("rich") is not None else LineBar()


def in_all(rows: Sequence[Row], label: str = "in all") -> Row:
    """Sum rows up."""
    return Row(
        label,
        sum(row.total for row in rows),
        sum(row.done for row in rows),
        sum(row.failed for row in rows),
    )


def few(rows: Sequence[Row]) -> list[Row]:
    """Return as many rows as can be looked at: the largest, and the rest as one."""
    if len(rows) <= ROWS_MAX:
        return list(rows)
    by_size = sorted(range(len(rows)), key=lambda at: -rows[at].total)
    own = sorted(by_size[: ROWS_MAX - 1])
    rest = [rows[at] for at in by_size[ROWS_MAX - 1 :]]
    return [*(rows[at] for at in own), in_all(rest, f"{len(rest)} others")]


def numbers(row: Row, seconds: float) -> str:
    """Return counts, rate and what is left, as text."""
    text = f"{row.done:,} / {row.total:,}"
    if row.failed:
        text += f"  {row.failed:,} failed"
    rate = row.done / seconds if seconds > 0 else 0.0
    if row.done < row.total and rate > 0:
        left = format_seconds((row.total - row.done) / rate)
        return f"{text}  {rate:,.0f}/s  {left} left"
    return f"{text}  {format_seconds(seconds)}"


def share(row: Row) -> float:
    """Return how much of it has ended, from 0 to 1."""
    return min(1.0, row.done / row.total) if row.total else 1.0


class LineBar:
    """One line, drawn over and over."""

    def draw(self, rows: Sequence[Row], seconds: float, *, last: bool) -> None:
        """Draw the sum of all rows."""
        screen.draw(line(in_all(rows), seconds, screen.columns()), last=last)


def line(row: Row, seconds: float, width: int) -> str:
    """Return a bar as a line of at most *width* characters."""
    text = f" {numbers(row, seconds)}"
    room = max(10, min(40, width - len(text) - 8))
    full = round(share(row) * room)
    filled = _FULL * full + _EMPTY * (room - full)
    return f"{filled} {share(row):4.0%}{text}"[:width]


class LogLines:
    """A line of text now and then, for logs; none if it is over soon."""

    def __init__(self) -> None:
        self._said = 0.0

    def draw(self, rows: Sequence[Row], seconds: float, *, last: bool) -> None:
        """Write a line if it is time for one, or if it is the last of several."""
        due = seconds - self._said >= LOG_SECONDS
        if due or (last and self._said):
            self._said = seconds
            row = in_all(rows)
            text = f"covey: {share(row):.0%} {numbers(row, seconds)}\n"
            screen.write(text, sys.stderr)


class RichBars:
    """A line for each function, drawn by rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._rich: Any = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%", markup=False),
            TextColumn("{task.fields[numbers]}", markup=False),
            console=Console(stderr=True),
            auto_refresh=False,
            # What is printed meanwhile goes above the bars, unless it goes to a file.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._lines: dict[str, Any] = {}
        self._rich.start()

    def draw(self, rows: Sequence[Row], seconds: float, *, last: bool) -> None:
        """Draw every row."""
        shown = few(rows)
        names = {row.label for row in shown}
        for label in [label for label in self._lines if label not in names]:
            self._rich.remove_task(self._lines.pop(label))
        for row in shown:
            number = self._lines.get(row.label)
            if number is None:
                number = self._lines[row.label] = self._rich.add_task(
                    row.label, total=row.total, numbers=""
                )
            self._rich.update(
                number,
                total=max(1, row.total),
                completed=row.done if row.total else 1,
                numbers=numbers(row, seconds),
            )
        self._rich.refresh()
        if last:
            self._rich.stop()


class NotebookBars:
    """A card in the output of a cell, replaced as things go on; needs IPython only."""

    def __init__(self) -> None:
        from IPython.display import display

        # Made in the thread of the cell, so that it lands in that cell's output.
        self._place: Any = display({"text/plain": ""}, raw=True, display_id=True)
        self._drawn = -CARD_SECONDS

    def draw(self, rows: Sequence[Row], seconds: float, *, last: bool) -> None:
        """Replace the card, if it is time for that."""
        if not last and seconds - self._drawn < CARD_SECONDS:
            return
        self._drawn = seconds
        html = notebook_html(rows, seconds)
        text = line(in_all(rows), seconds, 80)
        self._place.update({"text/html": html, "text/plain": text}, raw=True)


def notebook_html(rows: Sequence[Row], seconds: float) -> str:
    """Return the card: a bar for each function."""
    parts = []
    for row in few(rows):
        color = "#d55e00" if row.failed else "#0f8f7a"
        parts.append(
            f"<div style='margin-top:6px'><span>{escape(row.label)}</span> "
            f"<span style='opacity:.65'>{escape(numbers(row, seconds))}</span>"
            f"{bar(share(row), color)}</div>"
        )
    return card("Progress", (), "".join(parts))
