"""Where a task is, for the task itself.

``current()`` returns the context of the task that runs in the calling thread.
A task that is about to wait for its own subtasks does so inside ``blocking()``:
its slot is handed to another thread meanwhile, so that the subtasks have
somewhere to run.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, Protocol

from covey.serde.packing import LIMIT_BYTES
from covey.stacks import Seen


class TaskInterrupted(BaseException):  # like KeyboardInterrupt
    """Raised inside a task that was cancelled while it ran.

    It is no ``Exception``, so that ``except Exception`` in a task lets it pass.
    """


class Setup:
    """What the agent tells its runner first.

    Attributes:
        worker: the name of the worker.
        address: where a client made inside a task finds the scheduler.
        token: the secret that such a client shows; it never enters the environment.
        environment: what the tasks of this runner have asked for; empty for nothing.
        inline_limit: results larger than this many bytes go into a segment.
        threads: how many slots there are.
    """

    def __init__(self, fields: dict[str, Any]) -> None:
        self.worker: str = fields.get("worker") or "worker"
        self.address: str | None
        self.token: str | None
        self.log_in(fields)
        self.environment: str = fields.get("environment") or ""
        self.inline_limit: int = fields.get("inline_limit") or LIMIT_BYTES
        self.threads: int = fields.get("threads") or 1

    def log_in(self, fields: dict[str, Any]) -> None:
        """Take over where and how a client made inside a task comes in."""
        self.address = fields.get("address")
        self.token = fields.get("token")


class Loop(Protocol):
    """A thread that serves a slot, as tasks and the control thread see it."""

    @property
    def setup(self) -> Setup:
        """What the agent told the runner."""
        ...

    def executing(self) -> tuple[int, int]:
        """Return the run and the task that the thread executes; run 0 is none."""
        ...

    def at_work(self) -> Seen | None:
        """Return the function that executes and the thread; ``None`` if none does."""
        ...

    def hand_over(self) -> None:
        """Give the slot to a new thread, because this task is going to wait."""
        ...

    def resume(self) -> None:
        """Say that this task goes on."""
        ...

    def interrupt(self, run: int, task_id: int) -> bool:
        """Interrupt a task if the thread executes it, and say whether it does."""
        ...

    def take_signal(self) -> bool:
        """Say whether a signal that arrives right now is meant for this task."""
        ...

    def flush_meanwhile(self) -> None:
        """Send what is settled while a task computes."""
        ...

    def print(self, run: int, task_id: int, stream: str, text: str) -> None:
        """Keep a copy of what a task prints."""
        ...

    def send_prints(self) -> None:
        """Send what tasks have printed, at once."""
        ...


class _Here(threading.local):
    loop: Loop | None = None


here = _Here()


def _forget_after_fork() -> None:
    """A child that a task forks is no task: the slot and its socket are its parent's."""
    here.loop = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


class TaskContext:
    """The task that runs in this thread.

    Attributes:
        run: the number of the attempt.
        task_id: which task.
        setup: what the agent told the runner: worker, address, token.
    """

    __slots__ = ("_loop", "run", "setup", "task_id")

    def __init__(self, loop: Loop) -> None:
        self.run, self.task_id = loop.executing()
        self.setup = loop.setup
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


def blocking() -> AbstractContextManager[None]:
    """Give this task's slot away while the body waits; outside a task, do nothing."""
    # Most who wait are no tasks, and need not be asked which one.
    context = current() if here.loop is not None else None
    return _NO_TASK if context is None else context.blocking()


_NO_TASK: Final = nullcontext()
