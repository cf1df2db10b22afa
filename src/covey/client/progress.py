"""``progress``: a bar on stderr while tasks run.

The bar reads how many tasks of each range have ended, a counter that is kept
anyway, so it costs the same for ten tasks and for ten million.  Where stderr is
no terminal nothing is shown, so logs stay clean.
"""

from __future__ import annotations

import shutil
import sys
import threading
from typing import Any, Final, Self

from covey import clock, config
from covey.client.future import Futures
from covey.client.nested import futures_in
from covey.units import format_seconds

#: How often the bar is redrawn.
_REDRAW_SECONDS: Final = 0.1
_FULL, _EMPTY = "█", "░"


class Progress:
    """A bar that draws itself until all tasks have ended.

    Attributes:
        total: how many tasks it watches.
    """

    def __init__(self, futures: Any, *, shown: bool) -> None:
        #: The tasks watched of each range; ``None`` for all of them.
        self._ranges: dict[Any, dict[int, None] | None] = {}
        self.total = 0
        for group in futures:
            self._add(group)
        self._start = clock.monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if shown:
            self._thread = threading.Thread(
                target=self._draw_until_done, name="covey-progress", daemon=True
            )
            self._thread.start()

    def _add(self, group: Any) -> None:
        whole = group.whole if isinstance(group, Futures) else None
        if whole is not None:
            # Some of them may have been given one by one before.
            self.total += whole.n - len(self._ranges.get(whole) or ())
            if self._ranges.get(whole, ()) is None:
                self.total -= whole.n
            self._ranges[whole] = None
            return
        for future in futures_in(group):
            chosen = self._ranges.setdefault(future._range, {})
            if chosen is not None and future._index not in chosen:
                chosen[future._index] = None
                self.total += 1

    @property
    def done(self) -> int:
        """How many tasks have ended."""
        ended = 0
        for wish, chosen in self._ranges.items():
            if chosen is None:
                ended += wish.n - wish.pending
            else:
                ended += sum(bool(wish.status[index]) for index in chosen)
        return ended

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until the bar has drawn its last line."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self

    def close(self) -> None:
        """Draw no more."""
        self._stop.set()
        self.wait()

    def line(self, width: int) -> str:
        """Return the bar as a line of at most *width* characters."""
        ended = self.done
        seconds = clock.monotonic() - self._start
        share = ended / self.total if self.total else 1.0
        rate = ended / seconds if seconds > 0 else 0.0
        text = f" {ended:,} / {self.total:,}"
        if ended < self.total and rate > 0:
            left = (self.total - ended) / rate
            text += f"  {rate:,.0f}/s  {format_seconds(left)} left"
        else:
            text += f"  {format_seconds(seconds)}"
        room = max(10, min(40, width - len(text) - 8))
        full = round(share * room)
        bar = _FULL * full + _EMPTY * (room - full)
        return f"{bar} {share:4.0%}{text}"[:width]

    def _draw_until_done(self) -> None:
        stream = sys.stderr
        while True:
            finished = self.done >= self.total
            width = shutil.get_terminal_size().columns - 1
            try:
                stream.write("\r" + self.line(width).ljust(width))
                if finished or self._stop.is_set():
                    stream.write("\n")
                stream.flush()
            except (OSError, ValueError):
                return  # The terminal has gone away.
            if finished or self._stop.is_set():
                return
            self._stop.wait(_REDRAW_SECONDS)


def progress(
    *futures: Any, notebook: bool | None = None, force: bool = False
) -> Progress:
    """Show a bar on stderr until the tasks have ended, and return at once.

    Args:
        *futures: futures, nested as they like.
        notebook: whether this is a notebook, where stderr is no terminal but
            a line can be redrawn all the same; by default found out.
        force: draw even if stderr is neither.

    Returns:
        A handle: ``.wait()`` waits for the end, ``.done`` and ``.total`` count.
    """
    when = config.get().client.progress
    if notebook is None:
        notebook = "ipykernel" in sys.modules
    shown = when == "always" or (when == "auto" and (notebook or sys.stderr.isatty()))
    return Progress(futures, shown=force or shown)
