"""A cluster at work in the output of a notebook's cell: needs ``covey[jupyter]``.

A page that shows it says so every few seconds.  While one does, the scheduler is asked
once a second how everything stands, which costs the same for ten tasks and for ten
million, and what has changed is sent: one small message.  The event stream would bring a
hundred thousand tasks a second into the process in which the user thinks.

All that is shown is made into text here; ``widget.js`` only puts it into its place.
Without the extra, a notebook shows the card of ``_repr_html_``.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from covey import clock
from covey.client.bars import Row, few, share
from covey.errors import CoveyError
from covey.units import counted, format_bytes, format_seconds

#: How often is looked.
LOOK_SECONDS: Final = 1.0

#: A page that has said nothing for so long shows it no more.  It cannot say anything while
#: a cell runs: that time does not count.
LEASE_SECONDS: Final = 15.0

#: How long the scheduler may take to say how everything stands.
_ANSWER_SECONDS: Final = 5.0

#: So many workers are shown.
_WORKERS_MAX: Final = 32

#: What a notebook's page asks for when it can draw this.
_VIEW: Final = "application/vnd.jupyter.widget-view+json"


def view_of(
    view: dict[str, Any], before: tuple[float, int] | None = None
) -> dict[str, Any]:
    """Return what is shown: texts, and shares from 0 to 1.

    Args:
        view: what the scheduler says, see ``covey.scheduler.core.overview``.
        before: its clock, and how many runs had ended, at the last look.
    """
    lines = view["functions"].values()
    done = sum(line["done"] for line in lines)
    failed = sum(line["failed"] for line in lines)
    pending = sum(_pending(line) for line in lines)
    elapsed = view["now"] - before[0] if before else 0.0
    rate = (done + failed - before[1]) / elapsed if before and elapsed > 0 else 0.0
    memory = [worker["facts"].get("memory") or {} for worker in view["workers"]]
    used = sum(each.get("total", 0) for each in memory)
    limit = sum(worker["memory_limit_bytes"] for worker in view["workers"])
    cpu = sum(worker["facts"].get("cpu", 0.0) for worker in view["workers"])
    tiles = [
        _tile(len(view["workers"]), "worker"),
        _tile(view["slots"], "slot"),
        (f"{pending:,}", "tasks to do"),
        (f"{done:,}", "done"),
        (f"{failed:,}", "failed"),
        (f"{rate:,.0f}", "a second"),
        (f"{cpu / max(1, view['slots']):.0%}", "cpu"),
        (format_bytes(used), f"of {format_bytes(limit)}"),
    ]
    return {
        "tiles": tiles,
        "functions": _functions(view),
        "workers": [_worker(worker) for worker in view["workers"][:_WORKERS_MAX]],
        "more": _more(len(view["workers"])),
        "impossible": [
            f"{counted(each['n'], 'task')} cannot run: {each['key']} asks for "
            f"{each['asks']}"
            for each in view["impossible"][:3]
        ],
    }


def _tile(n: int, noun: str) -> tuple[str, str]:
    return f"{n:,}", noun if n == 1 else f"{noun}s"


def _pending(line: dict[str, Any]) -> int:
    return max(0, int(line["submitted"] - line["done"] - line["failed"]))


def _functions(view: dict[str, Any]) -> list[tuple[str, float, bool, str]]:
    """Return label, share, whether some failed, and numbers; what has to do comes first."""
    table = view["functions"]
    order = sorted(table, key=lambda k: (-_pending(table[k]), -table[k]["submitted"]))
    rows = [
        Row(
            label,
            table[label]["submitted"],
            table[label]["done"] + table[label]["failed"],
            table[label]["failed"],
        )
        for label in order
    ]
    found = []
    for row in few(rows):
        seconds = table.get(row.label, {}).get("seconds")
        text = f"{row.done:,} / {row.total:,}"
        if row.failed:
            text += f", {row.failed:,} failed"
        if seconds is not None:
            text += f", {format_seconds(seconds)} each"
            left = (row.total - row.done) * seconds / max(1, view["slots"])
            if left > 0:
                text += f", {format_seconds(left)} left"
        found.append((row.label, share(row), row.failed > 0, text))
    return found


def _worker(worker: dict[str, Any]) -> tuple[str, float, float, str]:
    """Return name, share of its processors, share of its memory, and numbers."""
    facts = worker["facts"]
    used = (facts.get("memory") or {}).get("total", 0)
    limit = worker["memory_limit_bytes"]
    return (
        worker["name"],
        min(1.0, facts.get("cpu", 0.0) / max(1, worker["slots"])),
        min(1.0, used / limit) if limit else 0.0,
        f"{counted(worker['assigned'], 'task')}, {format_bytes(used)}",
    )


def _more(workers: int) -> str:
    return f"and {workers - _WORKERS_MAX:,} more" if workers > _WORKERS_MAX else ""


class Watch:
    """Looks at a cluster while somebody sees it.

    Args:
        client: whose cluster.
        tell: called with what is to be shown whenever that has changed.
        busy: whether a cell runs.
    """

    def __init__(
        self,
        client: Any,
        tell: Callable[[dict[str, Any]], None],
        busy: Callable[[], bool],
    ) -> None:
        # Something on a screen keeps no cluster alive.
        self._client = weakref.ref(client)
        self._tell = tell
        self._busy = busy
        self._lock = threading.Lock()
        self._until = 0.0
        self._thread: threading.Thread | None = None
        self._before: tuple[float, int] | None = None
        self._told: dict[str, Any] = {}

    def seen(self) -> None:
        """A page shows it: look on for a while."""
        with self._lock:
            self._until = clock.monotonic() + LEASE_SECONDS
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._look_on, name="covey-widget", daemon=True
                )
                self._thread.start()

    def _look_on(self) -> None:
        while True:
            shown = self.look()
            if shown != self._told:
                self._told = shown
                self._tell(shown)
            if self._busy():
                self._until = clock.monotonic() + LEASE_SECONDS
            with self._lock:
                if shown["status"] == "closed" or clock.monotonic() > self._until:
                    self._thread = None
                    return
            threading.Event().wait(LOOK_SECONDS)

    def look(self) -> dict[str, Any]:
        """Return what is to be shown now."""
        client = self._client()
        status = "closed" if client is None else client.status
        shown = {**self._told, "status": status}
        if client is None or status == "closed":
            return shown
        engine = client.session.engine
        try:
            view = engine.call(engine.ask("overview"), _ANSWER_SECONDS)
        except (CoveyError, TimeoutError, RuntimeError):
            # It is away, or was closed meanwhile: the next look tells.
            return {**shown, "status": client.status}
        found = view_of(view, self._before)
        ended = sum(
            line["done"] + line["failed"] for line in view["functions"].values()
        )
        self._before = (view["now"], ended)
        return {**found, "status": status, "scheduler": client.address}


def bundle_of(client: Any) -> dict[str, Any] | None:
    """Return what a notebook shows of a client beside its card; ``None`` if nothing."""
    if "ipykernel" not in sys.modules or find_spec("anywidget") is None:
        return None
    if client not in _widgets:
        _widgets[client] = _widget(client)
    made, watch = _widgets[client]
    watch.seen()
    shown: Any = made._repr_mimebundle_()
    data: dict[str, Any] = shown[0] if isinstance(shown, tuple) else shown
    return {_VIEW: data[_VIEW]} if data and _VIEW in data else None


#: One for each client, however often it is shown.
_widgets: weakref.WeakKeyDictionary[Any, tuple[Any, Watch]] = (
    weakref.WeakKeyDictionary()
)


@cache
def _class() -> Any:
    """Return the class of widgets: made late, for what it needs is no part of covey."""
    import anywidget
    import traitlets

    class ClusterWidget(anywidget.AnyWidget):
        """What is on the screen, kept equal on both sides."""

        _esm = Path(__file__).with_name("widget.js").read_text(encoding="utf-8")
        shown = traitlets.Dict().tag(sync=True)

    return ClusterWidget


def _widget(client: Any) -> tuple[Any, Watch]:
    """Return a widget of a client, and what fills it."""
    made = _class()()
    held = weakref.ref(client)

    def tell(shown: dict[str, Any]) -> None:
        made.shown = shown

    watch = Watch(client, tell, _Cells().busy)

    def said(_: Any, message: Any, __: Sequence[Any]) -> None:
        """A page is there, or wants a link: that is no state, which notebooks keep."""
        watch.seen()
        owner = held()
        if message == "link" and owner is not None:
            made.send({"link": owner.dashboard_link})

    made.on_msg(said)
    made.shown = watch.look()
    return made, watch


class _Cells:
    """Knows whether a cell runs."""

    def __init__(self) -> None:
        from IPython.core.getipython import get_ipython

        self._running = True  # the cell that shows it
        shell = get_ipython()
        if shell is not None:
            shell.events.register("pre_run_cell", self._begins)
            shell.events.register("post_run_cell", self._ends)

    def _begins(self, *_: Any) -> None:
        self._running = True

    def _ends(self, *_: Any) -> None:
        self._running = False

    def busy(self) -> bool:
        """Whether a cell runs."""
        return self._running
