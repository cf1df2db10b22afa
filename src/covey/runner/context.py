"""Where a task is, for the task itself.

``current()`` returns the context of the task that runs in the calling thread.
A task that is about to wait for its own subtasks does so inside ``blocking()``:
its slot is handed to another thread meanwhile, so that the subtasks have
somewhere to run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from covey.runner.process import Setup
    from covey.runner.slot import SlotLoop


class TaskInterrupted(BaseException):  # like KeyboardInterrupt
    """Raised inside a task that was cancelled while it ran.

    It is no ``Exception``, so that ``except Exception`` in a task lets it pass.
    """


class _Here(threading.local):
    loop: SlotLoop | None = None


here = _Here()


class TaskContext:
    """The task that runs in this thread.

    Attributes:
        run: the number of the attempt.
        task_id: which task.
        setup: what the agent told the runner: worker, address, token.
    """

    __slots__ = ("_loop", "run", "setup", "task_id")

    def __init__(self, loop: SlotLoop) -> None:
        self.run, self.task_id = loop.executing()
        self.setup: Setup = loop.process.setup
        self._loop = loop

    @property
    def worker(self) -> str:
        """The name of the worker."""
        return self.setup.worker

    @property
    def address(self) -> str | None:
        """Where the scheduler is, for a client made inside the task."""
        return self.setup.address

    @property
    def token(self) -> str | None:
        """The secret that goes with the address."""
        return self.setup.token

    @contextmanager
    def blocking(self) -> Iterator[None]:
        """Give the slot away while the body waits for other tasks."""
        self._loop.hand_over()
        try:
            yield
        finally:
            self._loop.resume()


def current() -> TaskContext | None:
    """Return the context of the task in this thread; ``None`` outside of tasks."""
    loop = here.loop
    if loop is None or not loop.executing()[0]:
        return None
    return TaskContext(loop)


@contextmanager
def blocking() -> Iterator[None]:
    """Give this task's slot away while the body waits; outside a task, do nothing."""
    context = current()
    if context is None:
        yield
    else:
        with context.blocking():
            yield
