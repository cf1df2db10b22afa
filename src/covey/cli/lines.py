"""What ``covey top`` shows, as lines of text: the dashboard's model, read for a terminal."""

from __future__ import annotations

from typing import NamedTuple

from covey.dashboard.model import Model
from covey.dashboard.suspects import suspects
from covey.units import counted, format_bytes, format_seconds

#: So many lines of each table are shown, the most interesting first.
LINES_MAX = 200

_BLOCKS = " ▁▂▃▄▅▆▇█"

WORKERS = ("worker", "slots", "cpu", "memory", "limit", "", "running", "done", "failed")
FUNCTIONS = ("function", "done", "of", "on workers", "failed", "mean", "p95", "left")
RUNNING = ("task", "for", "on", "slot")
ERRORS = ("function", "times", "error", "message")


class Line(NamedTuple):
    """A line of a table.

    Attributes:
        name: tells it from the others of its table.
        cells: what it shows.
        key: the key of the task that it is about, if it is about one.
    """

    name: str
    cells: tuple[str, ...]
    key: str = ""


def headline(model: Model, status: str) -> str:
    """Return the state of all in a line."""
    totals = model.totals()
    parts = [
        status,
        f"{counted(totals['workers'], 'worker')}, {counted(totals['slots'], 'slot')}",
        f"{totals['running']:,} on workers",
        f"{totals['pending']:,} pending",
        f"{totals['done']:,} done",
    ]
    if totals["failed"]:
        parts.append(f"{totals['failed']:,} failed")
    parts.append(f"{totals['rate']:,.0f}/s")
    if totals["eta"]:
        parts.append(f"{format_seconds(totals['eta'])} left")
    parts.append(f"cpu {totals['cpu']:.0%}")
    used = totals["heap"] + totals["shared"]
    parts.append(f"memory {format_bytes(used)} of {format_bytes(totals['limit'])}")
    if totals["spilled"]:
        parts.append(f"{format_bytes(totals['spilled'])} on disk")
    if model.dropped:
        parts.append(f"{model.dropped:,} events missed")
    return "  ·  ".join(parts)


def suspect(model: Model) -> str:
    """Return what looks wrong the most, with advice, or nothing."""
    found = suspects(model)
    if not found:
        return ""
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{found[0]['text']}: {found[0]['advice']}{more}"


def workers(model: Model) -> list[Line]:
    """Return a line for each worker; those that left come last, marked."""
    lines = []
    ordered = sorted(
        model.workers.values(), key=lambda line: (line.left is not None, line.name)
    )
    for line in ordered[:LINES_MAX]:
        memory = line.facts.get("memory") or {}
        used = memory.get("total", 0)
        share = used / line.limit if line.limit else 0.0
        state = "left" if line.left is not None else "paused" if line.paused else ""
        cells = (
            f"{line.name} ({state})" if state else line.name,
            str(line.slots),
            f"{100 * line.facts.get('cpu', 0.0) / max(1, line.slots):.0f}%",
            format_bytes(used),
            format_bytes(line.limit),
            _block(share),
            str(len(line.facts.get("running", ()))),
            f"{line.done:,}",
            f"{line.failed:,}",
        )
        lines.append(Line(line.name, cells))
    return lines


def _block(share: float) -> str:
    at = round(min(1.0, max(0.0, share)) * (len(_BLOCKS) - 1))
    return _BLOCKS[at]


def functions(model: Model) -> list[Line]:
    """Return a line for each function; what has most to do comes first."""
    slots = max(1, sum(w.slots for w in model.workers.values() if w.left is None))
    ordered = sorted(
        model.functions.values(), key=lambda f: (-min(1, f.pending), -f.last)
    )
    lines = []
    for line in ordered[:LINES_MAX]:
        times = line.durations
        left = line.pending * times.mean / slots
        cells = (
            line.label,
            f"{line.done + line.failed:,}",
            f"{line.submitted + line.lost:,}",
            f"{min(line.running, line.pending):,}",
            f"{line.failed:,}",
            format_seconds(times.mean) if times.count else "",
            format_seconds(times.quantile(0.95)) if times.count else "",
            format_seconds(left) if left else "",
        )
        lines.append(Line(line.label, cells))
    return lines


def running(model: Model) -> list[Line]:
    """Return a line for each task that executes for a while; the longest first."""
    found = []
    for worker in model.workers.values():
        # Since the worker said so, it has gone on.
        since = max(0.0, model.now - worker.sampled)
        for slot, task, label, seconds in worker.facts.get("running", ()):
            key = f"{label}-{task:x}"
            found.append((seconds + since, key, worker.name, slot))
    found.sort(key=lambda entry: (-entry[0], entry[1]))
    return [
        Line(key, (key, format_seconds(seconds), worker, str(slot)), key)
        for seconds, key, worker, slot in found[:LINES_MAX]
    ]


def errors(model: Model) -> list[Line]:
    """Return a line for each cause of failures; the latest first."""
    ordered = sorted(model.errors.items(), key=lambda item: -item[1].last)
    return [
        Line(
            "/".join(name),
            (
                line.label,
                f"{line.count:,}",
                line.type_name,
                line.message.partition("\n")[0][:200],
            ),
            line.tasks[-1] if line.tasks else "",
        )
        for name, line in ordered[:LINES_MAX]
    ]
