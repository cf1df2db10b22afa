"""Starting runners, and what is done when they do not come up.

A process that cannot be started now (too many processes, too many open files, too little
memory) may be startable later, and what other runners do and the store holds is worth
more than to be rid of it: so it is tried again, with a pause that grows::

    spawn ──► prepare the Python ──► start ──► ready
      ▲                               │ refused      │ ended before it was ready
      └── pause: 0.25 s ... 15 s ◄────┴──────────────┘ three times

A worker that never had a runner, or has none and keeps nothing, gives up and says why.
"""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import Callable
from typing import Final

from covey.errors import UsageError
from covey.wire.base import Failure
from covey.worker.environments import Environments
from covey.worker.interpreters import Interpreter
from covey.worker.processes import RunnerProcess

#: A runner that ends so often before it is ready will not come up for some time.
START_FAILURES_MAX: Final = 3

#: How long to wait before it is tried again.
_PAUSE_SECONDS: Final = 0.25
_PAUSE_SECONDS_MAX: Final = 15.0

#: What may be otherwise in a while; a program that is not there stays so.
_PASSING: Final = frozenset(
    {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOBUFS}
)


class Starting:
    """Starts the runners of one worker.

    Args:
        worker: the name of the worker.
        processes: its runners, by number; those that cannot be started are ``None``.
        environments: finds their Pythons.
        make: makes a runner, from its number, its environment and its Python.
        on_trouble: told why none can be started, once, and with nothing when they can.
        no_environment: told of a runner and an environment in which none comes up.
        give_up: told why the worker is of no use.
        keeps_values: tells whether something would be lost with the worker.

    Attributes:
        ever: whether any runner has come up.
        lives_in: the environment of each runner.
    """

    def __init__(
        self,
        worker: str,
        processes: list[RunnerProcess | None],
        environments: Environments,
        make: Callable[[int, str, Interpreter], RunnerProcess],
        on_trouble: Callable[[str], None],
        no_environment: Callable[[int, str, Failure], None],
        give_up: Callable[[str], None],
        keeps_values: Callable[[], bool],
    ) -> None:
        self._worker = worker
        self._processes = processes
        self._environments = environments
        self._make = make
        self._on_trouble = on_trouble
        self._no_environment = no_environment
        self._give_up = give_up
        self._keeps_values = keeps_values
        self.ever = False
        self.lives_in = [""] * len(processes)
        #: How often starts failed in a row, by environment.
        self._failures: Counter[str] = Counter()
        self._pause_seconds = 0.0
        self._trouble = ""
        self._closed = False

    def close(self) -> None:
        """Start no more."""
        self._closed = True

    async def spawn(self, number: int, environment: str = "") -> None:
        """Start a runner; try again until it can be started, or none ever will be."""
        if self._failures[environment] >= START_FAILURES_MAX:
            await self._pause()
        try:
            python = await self._environments.prepare(environment)
        except UsageError as error:
            return self._fail_all(number, environment, str(error))
        while not self._closed:
            process = self._make(number, environment, python)
            self._processes[number] = process
            self.lives_in[number] = environment
            try:
                return await process.start()
            except OSError as error:
                self._processes[number] = None
                if not self._again(number, environment, error):
                    return None
            await self._pause()
        return None

    def _again(self, number: int, environment: str, error: OSError) -> bool:
        """Whether to try once more to start a runner; what to do instead is done."""
        self._failures[environment] += 1
        text = f"a runner cannot be started: {error}"
        if environment and error.errno not in _PASSING:
            self._fail_all(number, environment, text)
            return False
        if self._is_useless(self._failures[environment]):
            self._give_up(text)
            return False
        self._in_trouble(text)
        return True

    async def _pause(self) -> None:
        longer = max(_PAUSE_SECONDS, 2 * self._pause_seconds)
        self._pause_seconds = min(_PAUSE_SECONDS_MAX, longer)
        await asyncio.sleep(self._pause_seconds)

    def _is_useless(self, failures: int) -> bool:
        """Whether the worker has no runner, and nothing else that anybody wants."""
        if any(process is not None for process in self._processes):
            return False
        if not self.ever:
            return True
        return failures >= START_FAILURES_MAX and not self._keeps_values()

    def came_up(self, number: int) -> None:
        """A runner is ready."""
        self.ever = True
        self._failures.pop(self.lives_in[number], None)
        self._pause_seconds = 0.0
        if self._trouble:
            self._trouble = ""
            self._on_trouble("")

    def ended(self, process: RunnerProcess, failure: Failure) -> bool:
        """A runner has ended; say whether it is to be replaced, if it is still needed."""
        environment = self.lives_in[process.number]
        self._processes[process.number] = None
        self._failures[environment] += not process.ready
        if self._failures[environment] < START_FAILURES_MAX:
            return True
        if environment:
            self._fail_all(process.number, environment, failure.message)
            return False
        if self._is_useless(self._failures[environment]):
            self._give_up(failure.message)
            return False
        self._in_trouble(failure.message)
        return True

    def _in_trouble(self, text: str) -> None:
        if not self._trouble:
            self._trouble = text
            self._on_trouble(
                f"{text}. It is tried again, at least every {_PAUSE_SECONDS_MAX:.0f} s; "
                f"what is stored here stays. Is there a limit on processes (ulimit -u, "
                f"pids of the container), open files (ulimit -n) or memory?"
            )

    def _fail_all(self, number: int, environment: str, text: str) -> None:
        """Fail the tasks that want it, and nothing else: the worker goes on."""
        why = Failure("environment", "EnvironmentFailed", f"{self._worker}: {text}")
        self._environments.forget(environment)
        self._failures.pop(environment, None)
        self._no_environment(number, environment, why)
