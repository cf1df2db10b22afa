"""The lives of tasks: what happened to each, as far back as is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from covey.events import Ring
from covey.units import format_bytes, format_seconds

#: So many happenings are kept, of all tasks.
LIVES_MAX: Final = 50_000

#: So many are told of one task.
_TOLD: Final = 200


class Lives:
    """What happened to stretches of tasks, the latest happenings only."""

    def __init__(self) -> None:
        #: When, what, first task, how many, where, and facts as ``_WORDS`` takes them.
        self._ring: Ring[tuple[Any, ...]] = Ring(LIVES_MAX)

    def note(
        self, at: float, what: str, base: int, n: int, worker: str, *facts: Any
    ) -> None:
        """Remember something that happened to *n* tasks from *base* on."""
        self._ring.append((at, what, base, n, worker, *facts))

    def of(self, task: int) -> list[tuple[float, str, str, str]]:
        """Return what happened to a task: when, what, where, and more words."""
        found = []
        for at, what, base, n, worker, *facts in self._ring.backwards():
            if base <= task < base + n:
                found.append((at, what, worker, _WORDS[what](n, *facts)))
                if len(found) >= _TOLD:
                    break
        found.reverse()
        return found


def _among(n: int) -> str:
    return f", with {n - 1:,} others" if n > 1 else ""


def _returned(n: int, seconds: float, nbytes: int, slot: int) -> str:
    each = format_seconds(seconds / n)
    return f"after {each} on slot {slot}: {format_bytes(nbytes // n)}{_among(n)}"


_WORDS: Final[dict[str, Callable[..., str]]] = {
    "submitted": lambda n, client: f"by {client}{_among(n)}",
    "returned": _returned,
    "raised": lambda n, seconds, slot: (
        f"after {format_seconds(seconds)} on slot {slot}{_among(n)}"
    ),
    "tried again": lambda n, why: f"after {why}{_among(n)}",
    "failed": lambda _, why: why,
    "lost": lambda n: f"its value is gone; it is computed again{_among(n)}",
    "changed": lambda n: f"made again, it gave another value than before{_among(n)}",
    "found": lambda n: f"its value was there{_among(n)}",
    "copied": lambda _, source, nbytes, seconds: (
        f"{format_bytes(nbytes)} from {source} in {format_seconds(seconds)}"
    ),
}
