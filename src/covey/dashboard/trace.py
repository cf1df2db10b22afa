"""A run as a trace for Perfetto and ``chrome://tracing``."""

from __future__ import annotations

from typing import Any

from covey.dashboard.model import ERRED, MOVED, Model


def trace(model: Model) -> dict[str, Any]:
    """Return the trace: a process for each worker, a track for each slot.

    Events of one track never overlap: transfers have a track of their own, and what
    happens side by side there is spread over several.
    """
    events: list[dict[str, Any]] = []
    numbers: dict[str, int] = {}
    tracks: set[tuple[int, int]] = set()
    free_at: dict[tuple[int, int], float] = {}
    for worker, slot, start, stop, label, n, how, task, nbytes in model.rects.since(
        0
    ).events:
        pid = numbers.setdefault(worker, len(numbers) + 1)
        tid = slot + 1
        if how == MOVED:
            tid = 1000
            while free_at.get((pid, tid), 0.0) > start:
                tid += 1
        free_at[pid, tid] = stop
        tracks.add((pid, tid))
        events.append(
            {
                "name": f"from {label}" if how == MOVED else label,
                "cat": ("task", "error", "transfer")[how],
                "ph": "X",
                "ts": round(start * 1e6, 1),
                "dur": round((stop - start) * 1e6, 1),
                "pid": pid,
                "tid": tid,
                "args": {"task": f"{label}-{task}", "tasks": n, "bytes": nbytes},
                **({"cname": "terrible"} if how == ERRED else {}),
            }
        )
    events += [
        {"name": "process_name", "ph": "M", "pid": pid, "args": {"name": worker}}
        for worker, pid in numbers.items()
    ]
    events += [
        {
            "name": "thread_name",
            "ph": "M",
            "pid": pid,
            "tid": tid,
            "args": {"name": "transfers" if tid >= 1000 else f"slot {tid - 1}"},
        }
        for pid, tid in sorted(tracks)
    ]
    return {"traceEvents": events, "displayTimeUnit": "ms"}
