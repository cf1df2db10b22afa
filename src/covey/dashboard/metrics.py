"""Numbers for Prometheus, in its text format: read when asked, no cost in between."""

from __future__ import annotations

from collections.abc import Iterator

from covey.dashboard.model import Model

#: name, type, help, key in the totals
_TOTALS = (
    ("covey_workers", "gauge", "Workers that are there.", "workers"),
    ("covey_slots", "gauge", "Slots of all workers.", "slots"),
    ("covey_tasks_ready", "gauge", "Tasks that wait for a slot.", "ready"),
    ("covey_tasks_pending", "gauge", "Tasks that have not ended.", "pending"),
    ("covey_tasks_done_total", "counter", "Tasks that returned.", "done"),
    ("covey_tasks_failed_total", "counter", "Tasks that failed for good.", "failed"),
    ("covey_tasks_retried_total", "counter", "Runs that were tried again.", "retried"),
    ("covey_moved_bytes_total", "counter", "Bytes between workers.", "moved"),
    ("covey_heap_bytes", "gauge", "Private memory of workers.", "heap"),
    ("covey_shared_bytes", "gauge", "Shared memory of workers.", "shared"),
    ("covey_spilled_bytes", "gauge", "Values on disk.", "spilled"),
    ("covey_scheduler_lag_seconds", "gauge", "How late its loop is.", "lag"),
    ("covey_scheduler_rss_bytes", "gauge", "Its memory.", "scheduler_rss"),
)


def text(model: Model) -> str:
    """Return all metrics."""
    return "\n".join(_lines(model)) + "\n"


def _lines(model: Model) -> Iterator[str]:
    totals = model.totals()
    for name, kind, about, key in _TOTALS:
        yield f"# HELP {name} {about}"
        yield f"# TYPE {name} {kind}"
        yield f"{name} {totals[key]}"
    yield "# HELP covey_function_seconds How long calls of a function take."
    yield "# TYPE covey_function_seconds summary"
    for line in model.functions.values():
        label = _escape(line.label)
        for share in (0.5, 0.95):
            value = line.durations.quantile(share)
            yield (
                f'covey_function_seconds{{function="{label}",quantile="{share}"}} '
                f"{value:.6g}"
            )
        yield (
            f'covey_function_seconds_sum{{function="{label}"}} '
            f"{line.durations.total:.6g}"
        )
        yield f'covey_function_seconds_count{{function="{label}"}} {line.durations.count}'
    yield "# HELP covey_worker_cpu Processors that a worker uses."
    yield "# TYPE covey_worker_cpu gauge"
    for worker in model.workers.values():
        if worker.left is None:
            cpu = worker.facts.get("cpu", 0.0)
            yield f'covey_worker_cpu{{worker="{_escape(worker.name)}"}} {cpu}'


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
