"""``progress``: how far tasks are, shown while they run.

Counting reads how many tasks of each range have ended, a counter that is kept anyway, so
it costs the same for ten tasks and for ten million.  How it is drawn is in ``bars``.
"""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Self

from covey import clock, config
from covey.client import bars
from covey.client.bars import Bars, Row
from covey.client.core.ranges import Range, Status
from covey.client.engine import Engine
from covey.client.future import Futures
from covey.client.nested import only_futures
from covey.errors import CoveyError

#: How often it is drawn.
_REDRAW_SECONDS: Final = 0.1

#: A look at everything that a client wished for may take such a share of the time.
_LOOKING_SHARE: Final = 0.05

#: How long the scheduler may take to say what runs, before the old news stay.
_ANSWER_SECONDS: Final = 1.0

#: Work that is over sooner is not worth a bar of its own accord.
_WORTH_SECONDS: Final = 0.5


class Drawer:
    """Draws, in a thread of its own, what *look* returns, until that is done."""

    def __init__(
        self,
        look: Callable[[], tuple[Sequence[Row], bool]],
        began: float | None = None,
    ) -> None:
        self._look = look
        self._began = clock.monotonic() if began is None else began
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, drawn: Bars) -> None:
        """Draw from now on."""
        self._thread = threading.Thread(
            target=self._draw, args=(drawn,), name="covey-progress", daemon=True
        )
        # A bar that is cut short at the end of the program leaves a mess.
        atexit.register(self.close)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still draws."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def seconds(self) -> float:
        """For how long it has been going on."""
        return clock.monotonic() - self._began

    def _draw(self, drawn: Bars) -> None:
        over = False
        while not over:
            stopped = self._stop.is_set()
            rows, done = self._look()
            over = done or stopped
            try:
                drawn.draw(rows, self.seconds, last=over)
            except (OSError, ValueError):
                return  # The terminal has gone away.
            if not over:
                self._stop.wait(_REDRAW_SECONDS)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the last line was drawn."""
        if self._thread is not None:
            self._thread.join(timeout)
            if not self._thread.is_alive():
                atexit.unregister(self.close)

    def close(self) -> None:
        """Draw once more, and no more after that."""
        self._stop.set()
        self.wait()


class Progress:
    """Bars that draw themselves until all tasks have ended.

    Attributes:
        total: how many tasks are watched.
    """

    def __init__(self, futures: Any, drawn: Bars | None = None) -> None:
        #: The tasks watched of each range; ``None`` for all of them.
        self._ranges: dict[Range, dict[int, None] | None] = {}
        self.total = 0
        #: What is watched is wanted: nobody else may hold these futures.
        self._held: Any = futures
        for group in futures:
            self._add(group)
        self._drawer = Drawer(self._look)
        if drawn is not None:
            self._drawer.start(drawn)

    def _add(self, group: Any) -> None:
        whole = group.whole if isinstance(group, Futures) else None
        if whole is not None:
            # Some of them may have been given one by one before.
            self.total += whole.n - len(self._ranges.get(whole) or ())
            if self._ranges.get(whole, ()) is None:
                self.total -= whole.n
            self._ranges[whole] = None
            return
        for future in only_futures(group):
            chosen = self._ranges.setdefault(future._range, {})
            if chosen is not None and future._index not in chosen:
                chosen[future._index] = None
                self.total += 1

    @property
    def done(self) -> int:
        """How many tasks have ended."""
        return bars.in_all(self.rows()).done

    def rows(self) -> list[Row]:
        """Return how far the tasks of each function are."""
        table: dict[str, Row] = {}
        for wish, chosen in self._ranges.items():
            if chosen is None:
                failed = wish.status.count(Status.ERROR)
                row = Row(wish.label, wish.n, wish.n - wish.pending, failed)
            else:
                status = [wish.status[index] for index in chosen]
                ended = len(status) - status.count(Status.PENDING)
                row = Row(wish.label, len(status), ended, status.count(Status.ERROR))
            known = table.get(wish.label)
            table[wish.label] = bars.in_all([known, row], wish.label) if known else row
        return list(table.values())

    def _look(self) -> tuple[Sequence[Row], bool]:
        rows = self.rows()
        over = bars.in_all(rows).done >= self.total
        if over:
            self._held = None
        return rows, over

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until the last line was drawn."""
        self._drawer.wait(timeout)
        return self

    def close(self) -> None:
        """Draw no more."""
        self._drawer.close()
        self._held = None

    def line(self, width: int) -> str:
        """Return the whole as a line of at most *width* characters."""
        return bars.line(bars.in_all(self.rows()), self._drawer.seconds, width)


def progress(
    *futures: Any, notebook: bool | None = None, force: bool = False
) -> Progress:
    """Show how far tasks are until they have ended, and return at once.

    In a terminal there is a bar for each function if rich is installed
    (``covey[tui]``), and one for all if not; in a notebook a card; in a log, a line
    every ten seconds.

    Args:
        *futures: futures, nested as they like; a persisted dask collection.
        notebook: whether this is a notebook; by default found out.
        force: draw a bar wherever stderr may lead to.

    Returns:
        A handle: ``.wait()`` waits for the end, ``.done`` and ``.total`` count.

    Raises:
        UsageError: these are no futures.
    """
    return Progress(futures, how(notebook=notebook, force=force))


def how(*, notebook: bool | None = None, force: bool = False) -> Bars | None:
    """Return what draws progress here, or ``None`` if the user wants none."""
    when = config.get().client.progress
    if when == "never" and not force:
        return None
    if notebook is None:
        notebook = "ipykernel" in sys.modules
    return bars.choose(notebook=notebook, force=force or when == "always")


class Standing:
    """``Client(progress=True)``: bars whenever a client waits for something.

    What runs is told by the scheduler, by function: the tasks inside of a dask graph, of
    which no futures are here, count as well, and so do those of other clients.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stop = threading.Event()
        #: What each function had submitted, done and failed when the work began.
        self._before: dict[str, tuple[int, int, int]] = {}
        self._rows: list[Row] = []
        self._note(self._functions())
        self._thread = threading.Thread(
            target=self._watch, name="covey-standing-progress", daemon=True
        )
        self._thread.start()

    def _watch(self) -> None:
        pause = _REDRAW_SECONDS
        since: float | None = None
        while not self._stop.wait(pause):
            begun = clock.monotonic()
            if self._busy():
                since = begun if since is None else since
                if begun - since >= _WORTH_SECONDS:
                    self._show(since)
            elif since is not None:
                # What comes from now on belongs to the next bar.
                since = None
                self._note(self._functions())
            looked = clock.monotonic() - begun
            pause = max(_REDRAW_SECONDS, looked / _LOOKING_SHARE)

    def _busy(self) -> bool:
        """Whether anything is pending, most likely what came last."""
        return any(wish.pending for wish in reversed(self._engine.wishes.all()))

    def _functions(self) -> dict[str, Any]:
        try:
            question = self._engine.ask("overview")
            view = self._engine.call(question, _ANSWER_SECONDS)
        except (CoveyError, TimeoutError, RuntimeError):
            return {}  # Nobody is there at the moment; the client says so itself.
        functions: dict[str, Any] = view["functions"]
        return functions

    def _note(self, functions: dict[str, Any]) -> None:
        for label, line in functions.items():
            self._before[label] = (line["submitted"], line["done"], line["failed"])

    def _look(self) -> tuple[Sequence[Row], bool]:
        rows = []
        functions = self._functions()
        for label, line in functions.items():
            submitted, done, failed = self._before.get(label, (0, 0, 0))
            total = line["submitted"] - submitted
            if total > 0:
                failed = line["failed"] - failed
                ended = min(total, line["done"] - done + failed)
                rows.append(Row(label, total, ended, failed))
        self._rows = rows or self._rows
        # Asked last: when nothing is pending, the rows may be a moment older.
        if self._busy():
            return self._rows, False
        return [row._replace(done=row.total) for row in self._rows], True

    def _show(self, began: float) -> None:
        drawn = how()
        if drawn is None:
            self._stop.set()
            return
        drawer = Drawer(self._look, began)
        drawer.start(drawn)
        while drawer.alive and not self._stop.wait(_REDRAW_SECONDS):
            pass
        drawer.close()

    def close(self) -> None:
        """Draw no more."""
        self._stop.set()
        self._thread.join()
