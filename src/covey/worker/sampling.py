"""How busy a worker is: processor time, and how late its loop is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from covey import clock
from covey.worker.counters import cpu_seconds


class Sampler:
    """Measures the agent and its runners, now and then."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._at = 0.0
        #: When the next sample is due, if the loop is on time.
        self._due = 0.0

    def expect(self, pace_seconds: float) -> None:
        """The next sample is to come after so many seconds."""
        self._due = clock.monotonic() + pace_seconds

    def sample(self, runners: Sequence[int]) -> dict[str, Any]:
        """Return processor use since the last sample.

        Args:
            runners: their process ids.

        Returns:
            ``cpu`` in processors (1.5 means one and a half), and ``lag_seconds``, how
            late the loop was.
        """
        now = clock.monotonic()
        if not self._at:
            # Nothing to compare with, while somebody waits for the first runner.
            self._at, self._due = now, 0.0
            return {"cpu": 0.0, "lag_seconds": 0.0}
        elapsed = max(now - self._at, 1e-3)
        lag = max(0.0, now - self._due) if self._due else 0.0
        self._at, self._due = now, 0.0
        cpu = 0.0
        before, self._seconds = self._seconds, {}
        for pid in (os.getpid(), *runners):
            seconds = cpu_seconds(pid)
            if seconds is None:
                continue  # It has just ended.
            self._seconds[pid] = seconds
            cpu += max(0.0, seconds - before.get(pid, seconds)) / elapsed
        return {"cpu": round(cpu, 3), "lag_seconds": round(lag, 4)}
