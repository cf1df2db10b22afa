"""The lines that the pages show: functions, workers, groups of errors.

Each line knows the version of the model at its last change, so that a page is sent only
what is new to it.
"""

from __future__ import annotations

from typing import Any

from covey.dashboard.durations import Durations


class FunctionLine:
    """Tasks of one function (of one label, to be exact)."""

    __slots__ = (
        "cancelled",
        "done",
        "durations",
        "failed",
        "first",
        "label",
        "last",
        "lost",
        "nbytes",
        "retried",
        "running",
        "submitted",
        "version",
    )

    def __init__(self, label: str) -> None:
        self.label = label
        self.submitted = self.done = self.failed = 0
        self.retried = self.lost = self.running = 0
        #: Of those that failed, what somebody wanted to end.
        self.cancelled = 0
        self.nbytes = 0
        self.durations = Durations()
        self.first = self.last = 0.0
        self.version = 0

    @property
    def pending(self) -> int:
        """Tasks that have not ended."""
        return max(0, self.submitted + self.lost - self.done - self.failed)

    def fields(self) -> dict[str, Any]:
        """Return what a page is sent."""
        times = self.durations
        return {
            "label": self.label,
            "submitted": self.submitted,
            "done": self.done,
            "failed": self.failed,
            "retried": self.retried,
            "lost": self.lost,
            "running": min(self.running, self.pending),
            "pending": self.pending,
            "bytes": self.nbytes,
            "mean": times.mean,
            "p95": times.quantile(0.95),
            "longest": times.longest,
            "total": times.total,
            "first": self.first,
            "last": self.last,
        }


class WorkerLine:
    """One worker, there or gone."""

    __slots__ = (
        "busy",
        "done",
        "facts",
        "failed",
        "host",
        "joined",
        "last",
        "left",
        "limit",
        "name",
        "received",
        "resources",
        "sampled",
        "sent",
        "slots",
        "version",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.slots = 0
        self.host = ""
        self.resources: dict[str, float] = {}
        self.limit = 0
        self.joined = 0.0
        self.left: float | None = None
        self.facts: dict[str, Any] = {}
        self.sampled = 0.0
        #: Seconds of tasks, and when the last one ended.
        self.busy = 0.0
        self.last = 0.0
        self.done = self.failed = 0
        self.sent = self.received = 0
        self.version = 0

    @property
    def paused(self) -> bool:
        """Whether it begins nothing, because memory is short there."""
        return bool((self.facts.get("memory") or {}).get("paused"))

    def fields(self) -> dict[str, Any]:
        """Return what a page is sent."""
        return {
            "name": self.name,
            "slots": self.slots,
            "host": self.host,
            "resources": self.resources,
            "limit": self.limit,
            "joined": self.joined,
            "left": self.left,
            "cpu": self.facts.get("cpu", 0.0),
            "lag": self.facts.get("lag_seconds", 0.0),
            "memory": self.facts.get("memory", {}),
            "queued": self.facts.get("queued", 0),
            "paused": self.paused,
            "running": [
                (slot, f"{task:x}", label, seconds)
                for slot, task, label, seconds in self.facts.get("running", ())
            ],
            "pid": self.facts.get("pid", 0),
            "runners": self.facts.get("runners", []),
            "sampled": self.sampled,
            "busy": self.busy,
            "last": self.last,
            "done": self.done,
            "failed": self.failed,
            "sent": self.sent,
            "received": self.received,
        }


class ErrorLine:
    """Failures of one cause: the same function, type and message, but for its numbers.

    The message shown is that of the last one.
    """

    __slots__ = (
        "cause",
        "count",
        "first",
        "kind",
        "label",
        "last",
        "message",
        "tasks",
        "type_name",
        "version",
        "workers",
    )

    #: Tasks that are named, the latest ones.
    TASKS_MAX = 20

    def __init__(
        self, label: str, kind: str, type_name: str, message: str, cause: str
    ) -> None:
        self.label = label
        self.kind = kind
        self.type_name = type_name
        self.message = message
        self.cause = cause
        self.count = 0
        self.first = self.last = 0.0
        self.workers: dict[str, int] = {}
        self.tasks: list[str] = []
        self.version = 0

    def fields(self) -> dict[str, Any]:
        """Return what a page is sent."""
        return {
            "id": f"{self.label}/{self.type_name}/{self.cause}",
            "label": self.label,
            "kind": self.kind,
            "type": self.type_name,
            "message": self.message,
            "count": self.count,
            "first": self.first,
            "last": self.last,
            "workers": self.workers,
            "tasks": self.tasks,
        }
