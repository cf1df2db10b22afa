"""What the dashboard knows: the event stream, summed up, in bounded memory.

``Model`` takes in batches of events and gives frames: what has changed since a page's
last one.  A million tasks are a few lines and a ring of rectangles; what does not fit any
more is counted, never silently gone.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, ClassVar, Final

from covey.dashboard.lives import Lives
from covey.dashboard.suspects import suspects
from covey.dashboard.tables import ErrorLine, FunctionLine, WorkerLine
from covey.events import Ring
from covey.recording import Batch, Head
from covey.snapshots import cause_of
from covey.units import format_bytes

#: Rectangles of the task stream, printed stretches, points of the curves, lines of tables.
RECTS_MAX: Final = 100_000
LOGS_MAX: Final = 5_000
POINTS_MAX: Final = 1_800
FUNCTIONS_MAX: Final = 2_000
ERRORS_MAX: Final = 500
GONE_MAX: Final = 200
TASKS_MAX: Final = 20_000
PAIRS_MAX: Final = 10_000

#: So many rectangles, or lines of logs, go into one frame.
_RECTS_IN_FRAME: Final = 20_000
_LOGS_IN_FRAME: Final = 1_000

#: Everything that does not fit into the table of functions.
OTHERS: Final = "(others)"

#: How a rectangle ended.
FINE, ERRED, MOVED = 0, 1, 2


class Model:
    """The state behind all pages."""

    def __init__(self) -> None:
        self.functions: dict[str, FunctionLine] = {}
        self.workers: dict[str, WorkerLine] = {}
        self.errors: OrderedDict[tuple[str, ...], ErrorLine] = OrderedDict()
        self.pairs: dict[tuple[str, str], list[float]] = {}
        #: Bytes by way of the scheduler: who has asked which worker.
        self.passages: dict[tuple[str, str], int] = {}
        #: Worker, slot, start, stop, label, tasks, how it ended, id, bytes.
        self.rects: Ring[tuple[Any, ...]] = Ring(RECTS_MAX)
        self.logs: Ring[tuple[Any, ...]] = Ring(LOGS_MAX)
        self.points: Ring[tuple[Any, ...]] = Ring(POINTS_MAX)
        #: When, what, which worker, and more words: who came and went, and memory.
        self.history: Ring[tuple[Any, ...]] = Ring(GONE_MAX)
        self.lives = Lives()
        #: Where stretches of tasks ran last: for those who search.
        self.ran: OrderedDict[int, tuple[Any, ...]] = OrderedDict()
        self.impossible: list[dict[str, Any]] = []
        self.version = 1
        #: The scheduler's clock at the last news, and the time of day then.
        self.now = 0.0
        self.wall = 0.0
        self.cluster = ""
        self.clients: list[str] = []
        self.counters: dict[str, Any] = {}
        self.dropped = 0
        self.next_event = 0
        self.done = self.failed = 0
        self.bytes_moved = 0
        self._point_at = 0.0
        self._point_done = 0
        self._point_moved = 0
        #: How much was missed when the scheduler's counts were taken over last, and
        #: those that wait until the stream has come so far.
        self._dropped_counted = 0
        self._recount_from: dict[str, Any] | None = None
        self._lane_ends: dict[tuple[str, int], float] = {}
        self._departed: deque[str] = deque()

    # Taking in.

    def begin(self, head: Head) -> None:
        """Take in how everything stands; what was known of the stream before is kept."""
        view = head.overview
        self.cluster = view["cluster"]
        self.now, self.wall = view["now"], head.wall
        self.next_event = view["next"]
        self.version += 1
        for fields in view["workers"]:
            line = self._worker(fields["name"])
            line.slots, line.host = fields["slots"], fields["host"]
            line.resources = fields["resources"]
            line.limit = fields["memory_limit_bytes"]
            line.facts = fields["facts"]
            line.sampled = line.joined = self.now
            line.left = None
        here = {fields["name"] for fields in view["workers"]}
        for name in [n for n in self.workers if n not in here]:
            self._worker_left(self.now, name, 0)
        self._recount(view)
        self._point_done = self.done
        self.refresh(view)

    def _recount(self, view: dict[str, Any]) -> None:
        """Take over the scheduler's counts, where events have been missed."""
        for label, fields in view["functions"].items():
            function = self._function(label)
            function.submitted = max(function.submitted, fields["submitted"])
            if fields["done"] > function.done:
                missed = fields["done"] - function.done
                function.done = fields["done"]
                if fields["seconds"] is not None:
                    function.durations.add(fields["seconds"], missed)
            function.failed = max(function.failed, fields["failed"])
        self.done = sum(line.done - line.lost for line in self.functions.values())
        self.failed = sum(line.failed for line in self.functions.values())
        self._recount_from = None
        self._dropped_counted = self.dropped

    def refresh(self, view: dict[str, Any]) -> None:
        """Take in what no event tells: who runs what, and what cannot run."""
        self.version += 1
        if self.dropped > self._dropped_counted and view["next"] >= self.next_event:
            # The counts hold once all events before them have been taken in.
            self._recount_from = view
        self.impossible = view["impossible"]
        self.clients = view["clients"]
        for line in self.functions.values():
            running = view["running"].get(line.label, 0)
            if running != line.running:
                line.running = running
                line.version = self.version
        self.counters = {
            **self.counters,
            "ready": view["ready"],
            "known": view["known"],
            "slots": view["slots"],
        }

    def take(self, batch: Batch) -> None:
        """Take in a batch of events."""
        self.version += 1
        self.dropped += batch.dropped
        number = batch.first
        self.next_event = number + len(batch.events)
        for event in batch.events:
            if self._recount_from is not None and number >= self._recount_from["next"]:
                self._recount(self._recount_from)
            number += 1
            handler = self._HANDLERS.get(event[1])
            if handler is not None:
                handler(self, event[0], *event[2:])
        if batch.now > self.now:
            self.wall += batch.now - self.now
            self.now = batch.now

    def _function(self, label: str) -> FunctionLine:
        line = self.functions.get(label)
        if line is None:
            if len(self.functions) >= FUNCTIONS_MAX:
                label = OTHERS
            line = self.functions.setdefault(label, FunctionLine(label))
        line.version = self.version
        return line

    def _worker(self, name: str) -> WorkerLine:
        line = self.workers.get(name)
        if line is None:
            line = self.workers[name] = WorkerLine(name)
        line.version = self.version
        return line

    def _submitted(self, at: float, base: int, n: int, label: str, client: str) -> None:
        self.lives.note(at, "submitted", base, n, "", client)
        line = self._function(label)
        line.submitted += n
        line.first = line.first or at

    def _ran(
        self,
        at: float,
        base: int,
        n: int,
        label: str,
        worker: str,
        seconds: float,
        nbytes: int,
        slot: int,
    ) -> None:
        line = self._function(label)
        line.done += n
        line.nbytes += nbytes
        line.last = at
        line.durations.add(seconds / n, n)
        self.done += n
        place = self._worker(worker)
        place.done += n
        place.busy += seconds
        place.last = at
        self._draw(worker, slot, at, seconds, label, n, FINE, base, nbytes)
        self.lives.note(at, "returned", base, n, worker, seconds, nbytes, slot)
        self.ran[base] = (n, label, worker, at, seconds, "done")
        self.ran.move_to_end(base)
        while len(self.ran) > TASKS_MAX:
            self.ran.popitem(last=False)

    def _draw(
        self,
        worker: str,
        slot: int,
        at: float,
        seconds: float,
        label: str,
        n: int,
        how: int,
        base: int,
        nbytes: int,
    ) -> None:
        """Add a rectangle; none begins before the one before it in its lane ends."""
        lane = (worker, slot)
        start = max(at - seconds, self._lane_ends.get(lane, 0.0))
        stop = max(at, start)
        self._lane_ends[lane] = stop
        task = f"{base:x}"  # Numbers of a browser end at 2**53.
        self.rects.append((worker, slot, start, stop, label, n, how, task, nbytes))

    def _erred(
        self,
        at: float,
        base: int,
        label: str,
        worker: str,
        seconds: float,
        slot: int,
    ) -> None:
        place = self._worker(worker)
        place.failed += 1
        place.busy += seconds
        place.last = at
        self._draw(worker, slot, at, seconds, label, 1, ERRED, base, 0)
        self.lives.note(at, "raised", base, 1, worker, seconds, slot)
        self.ran[base] = (1, label, worker, at, seconds, "failed")

    def _failed(
        self,
        at: float,
        base: int,
        n: int,
        label: str,
        worker: str,
        kind: str,
        type_name: str,
        message: str,
        origin: int,
    ) -> None:
        line = self._function(label)
        line.failed += n
        line.cancelled += n if kind == "cancelled" else 0
        line.last = at
        self.failed += n
        key = cause_of(label, type_name, message)
        first_line = message.partition("\n")[0][:200]
        why = f"{type_name}: {first_line}"
        self.lives.note(at, "failed", base, n, worker, why)
        if origin not in {-1, base}:
            return  # Its input has failed, and is listed itself.
        error = self.errors.get(key)
        if error is None:
            error = ErrorLine(label, kind, type_name, message, key[2])
            self.errors[key] = error
            error.first = at
            while len(self.errors) > ERRORS_MAX:
                self.errors.popitem(last=False)
        error.version = self.version
        error.count += n
        error.last = at
        error.message = message
        if worker:
            error.workers[worker] = error.workers.get(worker, 0) + n
        error.tasks = [*error.tasks, f"{label}-{base:x}"][-ErrorLine.TASKS_MAX :]

    def _retried(
        self, at: float, base: int, n: int, label: str, worker: str, why: str
    ) -> None:
        self.lives.note(at, "tried again", base, n, worker, why.partition("\n")[0])
        self._function(label).retried += n

    def _lost(self, at: float, base: int, n: int, label: str) -> None:
        self.lives.note(at, "lost", base, n, "")
        self._function(label).lost += n
        self.done = max(0, self.done - n)

    def _changed(self, at: float, base: int, n: int, label: str) -> None:
        del label
        self.lives.note(at, "changed", base, n, "")

    def _found(self, at: float, base: int, n: int, label: str, worker: str) -> None:
        self.lives.note(at, "found", base, n, worker)
        self._function(label).done += n
        self.done += n

    def _moved(
        self,
        at: float,
        base: int,
        n: int,
        source: str,
        target: str,
        nbytes: int,
        seconds: float,
    ) -> None:
        self.lives.note(at, "copied", base, n, target, source, nbytes, seconds)
        pair = self.pairs.get((source, target))
        if pair is None:
            if len(self.pairs) >= PAIRS_MAX:
                return
            pair = self.pairs[source, target] = [0, 0, 0.0, 0]
        pair[0] += nbytes
        pair[1] += 1
        pair[2] += seconds
        pair[3] = self.version
        self.bytes_moved += nbytes
        self._worker(source).sent += nbytes
        self._worker(target).received += nbytes
        self.rects.append(
            (target, -1, at - seconds, at, source, n, MOVED, f"{base:x}", nbytes)
        )

    def _passed_on(self, at: float, asker: str, worker: str, nbytes: int) -> None:
        del at
        pair = asker, worker
        if pair in self.passages or len(self.passages) < PAIRS_MAX:
            self.passages[pair] = self.passages.get(pair, 0) + nbytes

    def _printed(
        self,
        at: float,
        task: int,
        label: str,
        worker: str,
        stream: str,
        text: str,
        left_out: int,
    ) -> None:
        key = f"{label}-{task:x}"
        self.logs.append((at, key, worker, stream, text, left_out))

    def _worker_joined(
        self,
        at: float,
        name: str,
        slots: int,
        host: str,
        resources: dict[str, float],
        limit: int,
    ) -> None:
        line = self._worker(name)
        line.slots, line.host, line.resources = slots, host, resources
        line.limit, line.joined, line.left = limit, at, None
        self.history.append((at, "joined", name, f"{slots} slots on {host}"))

    def _worker_left(self, at: float, name: str, slots: int) -> None:
        del slots
        line = self._worker(name)
        if line.left is not None:
            return
        line.left = at
        line.facts = {}
        self.history.append((at, "left", name, ""))
        self._departed.append(name)
        while len(self._departed) > GONE_MAX:
            gone = self._departed.popleft()
            if gone in self.workers and self.workers[gone].left is not None:
                del self.workers[gone]

    def _paused(self, at: float, name: str) -> None:
        self.history.append((at, "paused", name, "memory is short there"))

    def _unpaused(self, at: float, name: str) -> None:
        self.history.append((at, "goes on", name, "memory is there again"))

    def _spilled(self, at: float, name: str, nbytes: int) -> None:
        words = f"{format_bytes(nbytes)} to disk"
        self.history.append((at, "spilled", name, words))

    def _sample(self, at: float, name: str, facts: dict[str, Any]) -> None:
        line = self._worker(name)
        line.facts = facts
        line.sampled = at

    def _scheduler(self, at: float, facts: dict[str, Any]) -> None:
        """One point of all curves."""
        self.counters.update(facts)
        elapsed = at - self._point_at
        if not self._point_at:
            elapsed = 0.0
        rate = (self.done - self._point_done) / elapsed if elapsed > 0 else 0.0
        moved = (self.bytes_moved - self._point_moved) / elapsed if elapsed > 0 else 0.0
        self._point_at, self._point_done = at, self.done
        self._point_moved = self.bytes_moved
        here = [line for line in self.workers.values() if line.left is None]
        slots = sum(line.slots for line in here)
        cpu = sum(line.facts.get("cpu", 0.0) for line in here)
        memory = [line.facts.get("memory") or {} for line in here]
        self.points.append(
            (
                at,
                max(0.0, rate),
                cpu / max(1, slots),
                sum(m.get("heap", 0) for m in memory),
                sum(m.get("shared", 0) for m in memory),
                sum(m.get("spilled", 0) for m in memory),
                max(0.0, moved),
                facts.get("lag_seconds", 0.0),
                facts.get("cpu", 0.0),
                facts.get("ready", 0),
            )
        )

    _HANDLERS: ClassVar[dict[str, Callable[..., None]]] = {
        "submitted": _submitted,
        "ran": _ran,
        "erred": _erred,
        "failed": _failed,
        "retried": _retried,
        "lost": _lost,
        "found": _found,
        "changed": _changed,
        "moved": _moved,
        "passed-on": _passed_on,
        "printed": _printed,
        "paused": _paused,
        "unpaused": _unpaused,
        "spilled": _spilled,
        "worker-joined": _worker_joined,
        "worker-left": _worker_left,
        "sample": _sample,
        "scheduler": _scheduler,
    }

    # Giving out.

    def frame(self, cursor: str) -> dict[str, Any]:
        """Return what has changed since *cursor*, the mark of an earlier frame.

        Args:
            cursor: ``version.rects.logs.points.history``; anything else means nothing
                was seen so far.
        """
        seen, rects_at, logs_at, points_at, history_at = _parse(cursor)
        if seen > self.version:
            # Marks of another dashboard process: begin anew.
            seen = rects_at = logs_at = points_at = history_at = 0
        rects = self.rects.since(rects_at)
        logs = self.logs.since(logs_at)
        points = self.points.since(points_at)
        history = self.history.since(history_at)
        cut = rects.events[-_RECTS_IN_FRAME:]
        mark = (self.version, self.rects.next, self.logs.next, self.points.next)
        return {
            "cursor": ".".join(map(str, (*mark, self.history.next))),
            "fresh": not seen,
            "cluster": self.cluster,
            "now": self.now,
            "wall": self.wall,
            "dropped": self.dropped,
            "totals": self.totals(),
            "suspects": suspects(self),
            "functions": _changed(self.functions.values(), seen),
            "workers": _changed(self.workers.values(), seen),
            "errors": _changed(self.errors.values(), seen),
            "pairs": [
                [source, target, *pair[:3]]
                for (source, target), pair in self.pairs.items()
                if pair[3] > seen
            ],
            "rects": cut,
            "logs": logs.events[-_LOGS_IN_FRAME:],
            "points": points.events,
            "history": history.events,
        }

    def totals(self) -> dict[str, Any]:
        """Return the numbers of the health strip."""
        here = [line for line in self.workers.values() if line.left is None]
        lines = self.functions.values()
        pending = sum(line.pending for line in lines)
        memory = [line.facts.get("memory") or {} for line in here]
        last = self.points.since(self.points.next - 1).events
        rate = last[0][1] if last else 0.0
        slots = sum(line.slots for line in here)
        work = sum(line.pending * line.durations.mean for line in lines)
        return {
            "workers": len(here),
            "lost": sum(line.left is not None for line in self.workers.values()),
            "slots": slots,
            "running": sum(min(line.running, line.pending) for line in lines),
            "ready": self.counters.get("ready", 0),
            "pending": pending,
            "done": self.done,
            "failed": self.failed,
            "retried": sum(line.retried for line in lines),
            "rate": rate,
            "eta": work / slots if slots else None,
            "cpu": last[0][2] if last else 0.0,
            "heap": sum(m.get("heap", 0) for m in memory),
            "shared": sum(m.get("shared", 0) for m in memory),
            "spilled": sum(m.get("spilled", 0) for m in memory),
            "limit": sum(line.limit for line in here),
            "moved": self.bytes_moved,
            "passed_on": self.counters.get("bytes_passed_on", 0),
            "lag": self.counters.get("lag_seconds", 0.0),
            "scheduler_cpu": self.counters.get("cpu", 0.0),
            "scheduler_rss": self.counters.get("rss_bytes", 0),
            "known": self.counters.get("known", 0),
            "recomputed": self.counters.get("tasks_recomputed", 0),
            "events": self.next_event,
            "clients": self.clients,
            "dashboard_rss": self.counters.get("dashboard_rss_bytes", 0),
        }

    def search(self, text: str, limit: int = 200) -> list[dict[str, Any]]:
        """Return stretches of tasks whose key, function or worker contains *text*."""
        found: list[dict[str, Any]] = []
        for base in reversed(self.ran):
            n, label, worker, *_ = self.ran[base]
            key = f"{label}-{base:x}"
            if text in key or text in worker or _inside(text, label, base, n):
                found.append(self._run(base))
                if len(found) >= limit:
                    break
        return found

    def run_of(self, key: str) -> dict[str, Any] | None:
        """Return where the task that is called *key* ran last, as ``search`` has it."""
        for base, (n, label, *_) in self.ran.items():
            if _inside(key, label, base, n):
                return self._run(base)
        return None

    def _run(self, base: int) -> dict[str, Any]:
        n, label, worker, at, seconds, how = self.ran[base]
        return {
            "key": f"{label}-{base:x}",
            "n": n,
            "label": label,
            "worker": worker,
            "at": at,
            "seconds": seconds,
            "state": how,
        }


def _inside(text: str, label: str, base: int, n: int) -> bool:
    """Whether *text* is the key of a task in the middle of a stretch."""
    name, _, digits = text.rpartition("-")
    if name != label:
        return False
    try:
        return base <= int(digits, 16) < base + n
    except ValueError:
        return False


def _changed(lines: Any, seen: int) -> list[dict[str, Any]]:
    return [line.fields() for line in lines if line.version > seen]


def _parse(cursor: str) -> list[int]:
    parts = cursor.split(".")
    if len(parts) == 5 and all(part.isdigit() and len(part) < 18 for part in parts):
        return [int(part) for part in parts]
    return [0] * 5
