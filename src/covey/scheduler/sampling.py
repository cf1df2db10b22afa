"""How the scheduler's own process is: processor time, memory, and how late its loop is."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from covey import clock
from covey.stacks import OWN, of_event_loop

#: A sample is taken this often, while somebody looks on.
SAMPLE_SECONDS: Final = 0.5


#: What the scheduler does is told this often, while somebody wants to know.
PROFILE_SECONDS: Final = 1.0


class SelfProfile:
    """Looks at the event loop that made it, while it is asked to."""

    def __init__(self) -> None:
        self._sampler = of_event_loop(asyncio.get_running_loop().call_soon)
        self._due = 0.0

    def seen_if_due(self) -> tuple[list[str], list[int]] | None:
        """Look on for a while; return what was seen when it is time for that."""
        now = clock.monotonic()
        if now < self._due:
            return None
        self._due = now + PROFILE_SECONDS
        self._sampler.go_on(2 * PROFILE_SECONDS)
        tree = self._sampler.take().get(OWN)
        return tree.pruned(0.002).flat() if tree is not None else None


class Sampler:
    """Measures this process, now and then, and its loop at every turn of a timer."""

    def __init__(self) -> None:
        self._at = 0.0
        self._seconds = 0.0
        self._due = 0.0
        self._lag = 0.0

    def expect(self, seconds: float) -> None:
        """The timer is to fire after so many seconds."""
        self._due = clock.monotonic() + seconds

    def facts_if_due(self) -> dict[str, Any] | None:
        """Return a sample if it is time for one.

        Returns:
            ``cpu`` in processors, ``rss_bytes``, and ``lag_seconds``: how late the
            loop was at worst since the sample before.
        """
        now = clock.monotonic()
        self._lag = max(self._lag, now - self._due)
        if now - self._at < SAMPLE_SECONDS:
            return None
        import psutil  # It takes a while to import, and seldom does somebody look on.

        seconds = time.process_time()
        cpu = (seconds - self._seconds) / (now - self._at) if self._at else 0.0
        facts = {
            "cpu": round(cpu, 3),
            "rss_bytes": psutil.Process().memory_info().rss,
            "lag_seconds": round(self._lag, 4),
        }
        self._at, self._seconds, self._lag = now, seconds, 0.0
        return facts
