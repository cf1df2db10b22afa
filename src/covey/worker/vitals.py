"""How a worker is, told now and then: more often while somebody looks on."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from covey import clock, config
from covey.worker.core.state import WorkerState
from covey.worker.sampling import Sampler

#: What executes for this long is worth telling while it still does.
RUNNING_SECONDS: Final = 0.1


class Vitals:
    """Calls *tell* at a pace, and measures what is told.

    Args:
        tell: sends facts to the scheduler.
    """

    def __init__(self, tell: Callable[[], None]) -> None:
        self._call = tell
        self._sampler = Sampler()
        #: How often to tell, while somebody looks on.
        self._pace = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Tell how the worker is, now and from now on."""
        self._call()
        pace = self._pace or config.get().worker.heartbeat_seconds
        self._sampler.expect(pace)
        self._timer = asyncio.get_running_loop().call_later(pace, self.start)

    def stop(self) -> None:
        """Tell nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def at_pace(self, seconds: float) -> None:
        """Somebody looks on, or (0) nobody does any more."""
        self.stop()
        self._pace = seconds
        self.start()

    def sample(
        self,
        pids: Sequence[int],
        state: WorkerState,
        functions: Mapping[int, tuple[str, bytes]],
    ) -> dict[str, Any]:
        """Return ``cpu``, ``lag_seconds`` and what is ``running``.

        Args:
            pids: the processes of the runners.
            state: the tables of the worker's core.
            functions: the label of each function, by number.
        """
        running = _running(state, functions)
        return {**self._sampler.sample(pids), "running": running}


def _running(
    state: WorkerState, functions: Mapping[int, tuple[str, bytes]]
) -> list[tuple[int, int, str, float]]:
    """Return what executes for a while already: slot, task, function, seconds."""
    now = clock.monotonic()
    found = []
    for slot in state.slots:
        for flight in (*itertools.islice(slot.flights, 1), *slot.parked.values()):
            seconds = now - flight.since
            if seconds >= RUNNING_SECONDS:
                label, _ = functions.get(flight.run.fn, ("", b""))
                found.append((slot.number, flight.at, label, seconds))
    return found
