"""What tasks ask for of the worker that runs them: amounts, workers, an environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from covey.scheduler.core.heap import Heap

if TYPE_CHECKING:
    from covey.scheduler.core.state import Worker
    from covey.wire.base import Options

#: So many different demands are remembered in any case.
DEMANDS_MAX: Final = 64


class Demand:
    """Tasks that ask for the same resources and workers share a queue."""

    __slots__ = (
        "able",
        "allow_other_workers",
        "environment",
        "heap",
        "named",
        "noticed",
        "python",
        "resources",
        "workers",
    )

    def __init__(
        self, options: Options, python: str = "", environment: str = ""
    ) -> None:
        #: The minor version that its runner must have; empty for any.  And all that
        #: it asks for of its runner, as its client wrote it.
        self.python = python
        self.environment = environment
        self.resources = {k: need for k, need in options.resources.items() if need}
        self.workers = frozenset(options.workers)
        self.allow_other_workers = options.allow_other_workers
        self.heap = Heap()
        #: The workers that this admits, whether they have the resources free or not.
        self.able: dict[Worker, None] = {}
        #: Those of them that were asked for, where others may run it as well.
        self.named: dict[Worker, None] = {}
        #: Whether somebody has been told that no worker can serve this.
        self.noticed = False

    def enter(self, worker: Worker) -> None:
        """Note that *worker* could run such a task."""
        self.able[worker] = None
        if self.workers and self.allow_other_workers and self.prefers(worker):
            self.named[worker] = None
        worker.demands.append(self)

    def leave(self, worker: Worker) -> None:
        """*worker* is gone, or cannot run such a task any more."""
        del self.able[worker]
        self.named.pop(worker, None)

    def prefers(self, worker: Worker) -> bool:
        """Whether *worker* is one of those that were asked for."""
        return not self.workers or not self.workers.isdisjoint(worker.names)

    def admits(self, worker: Worker) -> bool:
        """Whether *worker* could ever run such a task."""
        if not (self.prefers(worker) or self.allow_other_workers):
            return False
        if self.python and worker.pythons and self.python not in worker.pythons:
            return False
        if self.environment in worker.unfit:
            return False
        offers = worker.resources
        return all(offers.get(name, 0) >= need for name, need in self.resources.items())
