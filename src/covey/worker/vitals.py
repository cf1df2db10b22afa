"""How a worker is, told now and then: more often while somebody looks on."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any, Final

from covey import clock, config
from covey.net.addresses import host_identity
from covey.net.asking import Asker
from covey.wire.worker_link import Status
from covey.worker.core.state import WorkerState
from covey.worker.inputs import Inputs
from covey.worker.pressure import Pressure
from covey.worker.printing import Printing
from covey.worker.processes import RunnerProcess
from covey.worker.sampling import Sampler
from covey.worker.serving import DataServer

#: What executes for this long is worth telling while it still does.
RUNNING_SECONDS: Final = 0.1


class Vitals:
    """Tells how the worker is, at a pace.

    Args:
        state: the tables of the worker's core.
        processes: its runners.
        label: returns what a function is called, by number.
        pressure: knows its memory.
        data: serves its values.
        asker: fetches those of others.
        inputs: knows what runners keep mapped.
        printing: has the last word on prints that were too many.
        say: sends a message to the scheduler.
    """

    def __init__(
        self,
        state: WorkerState,
        processes: Sequence[RunnerProcess | None],
        label: Callable[[int], str],
        pressure: Pressure,
        data: DataServer,
        asker: Asker,
        inputs: Inputs,
        printing: Printing,
        say: Callable[[Status], None],
    ) -> None:
        self._state = state
        self._processes = processes
        self._label = label
        self._pressure = pressure
        self._data = data
        self._asker = asker
        self._inputs = inputs
        self._printing = printing
        self._say = say
        self._sampler = Sampler()
        self._host = host_identity().partition("/")[0]
        #: How often to tell, while somebody looks on.
        self._pace = 0.0
        #: What hinders the worker, for people.
        self._trouble = ""
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Tell how the worker is, now and from now on."""
        self._printing.tell_rest(clock.monotonic())
        self._say(Status(self.facts()))
        pace = self._pace or config.get().worker.heartbeat_seconds
        self._sampler.expect(pace)
        self._timer = asyncio.get_running_loop().call_later(pace, self.start)

    def stop(self) -> None:
        """Tell nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def at_pace(self, seconds: float) -> None:
        """Somebody looks on, or (0) nobody does any more."""
        if seconds != self._pace:
            self.stop()
            self._pace = seconds
            self.start()

    def has_trouble(self, text: str) -> None:
        """Tell at once what hinders the worker; empty when nothing does any more."""
        self._trouble = text
        if self._timer is not None:
            self.stop()
            self.start()

    def facts(self) -> dict[str, Any]:
        """Return plain numbers about this worker."""
        pids = [p.pid for p in self._processes if p is not None and p.pid]
        return {
            **self._sampler.sample(pids),
            "running": _running(self._state, self._label),
            "pid": os.getpid(),
            "host": self._host,
            "runners": [p.pid for p in self._processes if p is not None],
            "memory": {
                **self._pressure.accounts().facts(),
                "mapped": self._inputs.mapped_bytes(),
                "paused": self._pressure.paused,
            },
            "moved": {
                "sent": self._data.bytes_sent,
                "saved": self._data.bytes_saved,
                "received": self._asker.bytes_received,
                "garbled": self._asker.garbled,
                "links": {**self._asker.links(), **self._data.links()},
            },
            "queued": self._state.queued,
            "trouble": self._trouble,
            "protocol_errors": self._data.protocol_errors,
            "strangers_turned_away": self._data.strangers_turned_away,
        }


def _running(
    state: WorkerState, label: Callable[[int], str]
) -> list[tuple[int, int, str, float]]:
    """Return what executes for a while already: slot, task, function, seconds."""
    now = clock.monotonic()
    found = []
    for slot in state.slots:
        for flight in (*itertools.islice(slot.flights, 1), *slot.parked.values()):
            seconds = now - flight.since
            if seconds >= RUNNING_SECONDS:
                name = label(flight.run.fn)
                found.append((slot.number, flight.at, name, seconds))
    return found
