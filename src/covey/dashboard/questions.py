"""What pages ask for beyond the frames: a task, the graph, memory, what code runs.

The scheduler is asked at most once in a while for all pages together, however many are
open.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final
from urllib.parse import quote, urlencode

from covey import clock
from covey.dashboard.critical import critical_path
from covey.dashboard.feed import Feed
from covey.dashboard.model import Model
from covey.errors import CoveyError
from covey.serde.failures import traceback_text

#: An answer about the whole cluster is good for so long.
GOOD_SECONDS: Final = 3.0

#: So many tasks are drawn one by one.
_NODES_MAX: Final = 1_500

#: What a report keeps: lines of what ran, tasks (failed, critical, the slowest and the
#: latest ones), and flame graphs of single functions and workers.
_RUNS_KEPT: Final = 2_000
_TASKS_KEPT: Final = 100
_PROFILES_KEPT: Final = 20

#: What a browser leaves as it is in an address, beside letters and digits.
_PLAIN: Final = "!'()*~-._"

#: Less than this share of a profile is not drawn.
_PROFILE_SHARE: Final = 0.001


class Questions:
    """Asks the scheduler, and remembers its answers for a moment."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._answers: dict[str, tuple[float, Any]] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def _ask_rarely(self, topic: str) -> Any:
        async with self._asking.setdefault(topic, asyncio.Lock()):
            at, answer = self._answers.get(topic, (0.0, None))
            if answer is None or clock.monotonic() - at > GOOD_SECONDS:
                answer = await self._feed.ask(topic)
                self._answers[topic] = (clock.monotonic(), answer)
            return answer

    async def task(self, key: str) -> dict[str, Any]:
        """Return all that is known of a task: how it stands, its life, its prints."""
        answer = await self._feed.ask("task", names=(key,))
        found: dict[str, Any] = {"key": key, **answer}
        payload = found.pop("payload", b"")
        if payload:
            found["traceback"] = traceback_text(payload)
        model = self._feed.model
        found["logs"] = [e for e in model.logs.since(0).events if e[1] == key]
        task = found.get("task", _number_of(key))
        found["life"] = model.lives.of(task) if task is not None else []
        if "task" in found:
            found["task"] = f"{found['task']:x}"
        for source in found.get("inputs", ()):
            source.pop("base", None)
        return found

    async def graph(self) -> dict[str, Any]:
        """Return functions, tasks when they are few, and the critical path."""
        return with_path(await self._ask_rarely("graph"), self._feed.model)

    async def memory(self) -> dict[str, Any]:
        """Return what lies in memory."""
        answer: dict[str, Any] = await self._ask_rarely("memory")
        return answer

    def profile(self, function: str, worker: str, seconds: float) -> dict[str, Any]:
        """Return what code ran, and have it looked at for a while longer.

        Args:
            function: only this one; all without it.
            worker: only there; everywhere without it.
            seconds: only the last so many; all that is kept with 0.
        """
        self._feed.look_at_code()
        return self._seen(function, worker, seconds)

    def _seen(self, function: str, worker: str, seconds: float) -> dict[str, Any]:
        feed = self._feed
        since = feed.model.now - seconds if seconds else 0.0
        tree = feed.profiles.tree(function, worker, since).pruned(_PROFILE_SHARE)
        names, numbers = tree.flat()
        return {
            "names": names,
            "nodes": numbers,
            "subjects": feed.profiles.subjects(since),
            "status": feed.status,
        }

    async def to_keep(self) -> dict[str, Any]:
        """Return answers by address, for a page that can ask nobody any more."""
        model = self._feed.model
        ran = model.search("", limit=_RUNS_KEPT)
        found: dict[str, Any] = {"api/search": ran}
        for address, ask in (("api/graph", self.graph), ("api/memory", self.memory)):
            with contextlib.suppress(CoveyError):
                # What a recording does not know, its page says.
                found[address] = await ask()
        for function, worker in self._profiles_to_keep():
            query = urlencode({"function": function, "worker": worker, "seconds": "0"})
            seen = self._seen(function, worker, 0.0)
            found[f"api/profile?{query}"] = {**seen, "status": "replay"}
        failed = [key for line in model.errors.values() for key in line.tasks[-3:]]
        steps = [step["key"] for step in found.get("api/graph", {}).get("path", ())]
        slowest = [run["key"] for run in sorted(ran, key=lambda run: -run["seconds"])]
        latest = [run["key"] for run in ran]
        keys = dict.fromkeys((*failed, *steps, *slowest[:_TASKS_KEPT], *latest))
        for key in list(keys)[: 2 * _TASKS_KEPT]:
            found[f"api/task?key={quote(key, safe=_PLAIN)}"] = await self.task(key)
        return found

    def _profiles_to_keep(self) -> list[tuple[str, str]]:
        """Return which functions and workers are kept by themselves, all of them first."""
        subjects = self._feed.profiles.subjects()
        functions = dict.fromkeys(label for _, label, _ in subjects)
        workers = dict.fromkeys(worker for worker, _, _ in subjects if worker)
        return [
            ("", ""),
            *((label, "") for label in list(functions)[:_PROFILES_KEPT]),
            *(("", worker) for worker in list(workers)[:_PROFILES_KEPT]),
        ]


def with_path(answer: dict[str, Any], model: Model) -> dict[str, Any]:
    """Return the graph as pages draw it: see ``covey.scheduler.core.graph``."""
    nodes = answer["nodes"]
    took = [_seconds_of(node, model) for node in nodes]
    path = critical_path([node[6] for node in nodes], [each for each, _ in took])
    drawn = len(nodes) <= _NODES_MAX and answer["looked"] == answer["total"]
    return {
        **answer,
        "nodes": [
            {
                "key": key,
                "label": label,
                "state": state,
                "n": n,
                "needs": needs,
                "seconds": took[at][0],
            }
            for at, (key, label, state, n, _, _, needs) in enumerate(nodes)
        ]
        if drawn
        else [],
        "path": [
            {
                "at": at,
                "key": nodes[at][0],
                "label": nodes[at][1],
                "state": nodes[at][2],
                "seconds": took[at][0],
                "how": took[at][1],
            }
            for at in path.places
        ],
        "path_seconds": path.seconds,
    }


def _seconds_of(node: tuple[Any, ...], model: Model) -> tuple[float, str]:
    """Return how long one task of a node takes, and how that is known."""
    _, label, state, _, base, age, _ = node
    ran = model.ran.get(base)
    if ran is not None:
        return ran[4] / ran[0], "measured"
    line = model.functions.get(label)
    mean = line.durations.mean if line is not None else 0.0
    if state == "assigned" and age > mean:
        return age, "running"
    return mean, "mean of its function" if mean else "unknown"


def _number_of(key: str) -> int | None:
    """Return the number in a key that the scheduler has forgotten."""
    try:
        return int(key.rpartition("-")[2], 16)
    except ValueError:
        return None
