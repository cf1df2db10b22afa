"""Which workers are reached straight, and which only by way of the scheduler.

Nobody is asked how the network is made: a worker that cannot be reached is spoken to by way of
the scheduler from then on, and now and then it is tried again, beside everything else::

    unknown ── reached ──► (nothing to remember)
       │ not reached                ▲
       ▼                            │ reached after all
    passed on ── 30 s ──► tried ────┤
       ▲                            │ not reached
       └────────────────────────────┘
"""

from __future__ import annotations

from typing import Final

#: A worker that was not reached is tried again after this time.
AGAIN_SECONDS: Final = 30.0

#: So many are remembered; most of those that went will never be asked for.
_KNOWN_MAX: Final = 4096


class Routes:
    """What is known of the ways to workers, by their addresses."""

    def __init__(self) -> None:
        #: Those that were not reached, and when they were tried last; the first to
        #: have been is the first.
        self._tried: dict[tuple[str, ...], float] = {}

    def __len__(self) -> int:
        return len(self._tried)

    def is_blocked(self, worker: tuple[str, ...]) -> bool:
        """Whether the last try to reach it straight failed."""
        return worker in self._tried

    def failed(self, worker: tuple[str, ...], now: float) -> None:
        """It cannot be reached straight."""
        self._tried.pop(worker, None)
        self._tried[worker] = now
        if len(self._tried) > _KNOWN_MAX:
            del self._tried[next(iter(self._tried))]

    def forget(self, worker: tuple[str, ...]) -> None:
        """It was reached straight, or in no way at all: then it is tried as at first."""
        self._tried.pop(worker, None)

    def is_due(self, worker: tuple[str, ...], now: float) -> bool:
        """Whether to try it again; whoever hears that does so."""
        tried = self._tried.get(worker)
        if tried is None or now - tried < AGAIN_SECONDS:
            return False
        self.failed(worker, now)
        return True
