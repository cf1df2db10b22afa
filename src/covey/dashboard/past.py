"""A feed of a run that was written down: what the pages show when nobody can be asked.

Of the looks that were taken at graph and memory, the latest one is shown that saw at least
half of what was there when most was: at the very end there is often nothing any more.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from covey.client.future import Future
from covey.dashboard.feed import Feed
from covey.dashboard.model import Model
from covey.errors import UsageError
from covey.recording import Batch, Head, Seen, Told, read

#: How much is there, by what was asked for.
_SIZES: Final[dict[str, Callable[[dict[str, Any]], int]]] = {
    "graph": lambda answer: int(answer["total"]),
    "memory": lambda answer: int(answer["bytes"]),
}


class ReplayFeed(Feed):
    """Shows a recording, as it stood at its end.

    Args:
        path: the recording.

    Raises:
        UsageError: it is none, or is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.status = "replay"
        self._looks: dict[str, Told] = {}
        self._most: dict[str, int] = {}
        self._tasks: dict[str, dict[str, Any]] = {}
        #: By cause, the task whose traceback was kept.
        self._failures: dict[tuple[str, ...], str] = {}
        for record in read(path):
            match record:
                case Head():
                    self.model.begin(record)
                case Batch():
                    self.model.take(record)
                case Seen(now, trees):
                    for worker, label, names, nodes in trees:
                        self.profiles.add(now, worker, label, names, nodes)
                case Told("task", key, _, answer):
                    self._keep_task(key, answer)
                case Told(topic) if topic in _SIZES:
                    self._keep(topic, record)

    def _keep(self, topic: str, look: Told) -> None:
        size = _SIZES[topic](look.answer)
        most = self._most[topic] = max(size, self._most.get(topic, 0))
        if 2 * size >= most:
            self._looks[topic] = look

    def _keep_task(self, key: str, answer: dict[str, Any]) -> None:
        self._tasks[key] = answer
        for cause, line in self.model.errors.items():
            if key in line.tasks:
                self._failures.setdefault(cause, key)

    async def ask(self, topic: str, **fields: Any) -> Any:
        """Answer with what was written down.

        Raises:
            UsageError: that was not.
        """
        if topic == "task":
            return self._task(*fields["names"])
        look = self._looks.get(topic)
        if look is None:
            raise UsageError(
                "this recording does not have that: it ended before anybody looked"
            )
        return {**look.answer, "as_of": look.now}

    def _task(self, key: str) -> dict[str, Any]:
        """Return what is known of a task, as the scheduler would have said it."""
        if key in self._tasks:
            return self._tasks[key]
        for cause, line in self.model.errors.items():
            if key in line.tasks:
                text = f"it has failed: {line.type_name}: {line.message}"
                answer = {"state": "failed", "text": text, "label": line.label}
                alike = self._failures.get(cause)
                if alike is not None:
                    kept = self._tasks[alike]
                    answer["text"] += f"\n(The traceback is that of {alike}.)"
                    answer["payload"] = kept.get("payload", b"")
                return answer
        found = self.model.run_of(key)
        if found is None:
            text = "this recording tells nothing of it, or no more than its life"
            return {"state": "unknown", "text": text}
        return {
            "state": found["state"],
            "text": f"it was {found['state']} on {found['worker']}",
            "label": found["label"],
            "n": found["n"],
            "workers": [found["worker"]],
        }

    def act(self, task: int, do: Callable[[Future[Any]], object]) -> None:
        """Refuse.

        Raises:
            UsageError: always.
        """
        del task, do
        raise UsageError("this is a recording: nothing can be changed")


def replay(path: str | Path) -> Model:
    """Return the model after everything in a recording.

    Raises:
        UsageError: it is no recording.
    """
    return ReplayFeed(path).model
