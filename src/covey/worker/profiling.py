"""What code runs on a worker: asked of its runners while somebody wants to know.

Every runner looks by itself (``covey.runner.profile``); here their trees are added up by
function, and passed on.  The agent looks at itself as well, unless it shares its process
with the scheduler, which does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from covey import clock
from covey.errors import RemoteProtocolError
from covey.stacks import Tree, of_event_loop
from covey.wire.worker_link import Profiled
from covey.worker.processes import RunnerProcess

#: How often what was seen is passed on; less often where there are many workers.
PACE_SECONDS: Final = 1.0

#: What takes less than this share of a function's time is counted for its caller.
_SHARE: Final = 0.002

#: What the worker itself does is filed under this.
OWN_LABEL: Final = "(worker)"

#: The longest name of a frame that is passed on; runners may say anything.
_NAME_MAX: Final = 400


class Profiling:
    """Asks while it is asked, and passes on what was seen.

    Args:
        processes: the runners.
        label: returns what a function is called, by number.
        say: sends a message to the scheduler.
    """

    def __init__(
        self,
        processes: Sequence[RunnerProcess | None],
        label: Callable[[int], str],
        say: Callable[[Profiled], None],
    ) -> None:
        self._processes = processes
        self._label = label
        self._say = say
        self._trees: dict[str, Tree] = {}
        self._until = 0.0
        self._pace = PACE_SECONDS
        self._alone = False
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._sampler = of_event_loop(self._loop.call_soon)

    def look(self, seconds: float, pace: float, *, alone: bool) -> None:
        """Look for so many seconds from now.

        Args:
            seconds: how long.
            pace: how often this worker says how it is.
            alone: whether this process has no scheduler in it.
        """
        self._until = clock.monotonic() + seconds
        self._pace = max(PACE_SECONDS, 2 * pace)
        self._alone = alone
        if self._timer is None:
            self._go_on()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def take(self, seen: Sequence[tuple[int, list[str], list[int]]]) -> None:
        """Take in what a runner has seen.

        Raises:
            RemoteProtocolError: it makes no sense.
        """
        for fn, names, nodes in seen:
            label = self._label(fn)
            tree = self._trees.setdefault(label, Tree())
            try:
                tree.add_flat([name[:_NAME_MAX] for name in names], nodes)
            except ValueError as error:
                raise RemoteProtocolError(f"a runner says: {error}") from error

    def _go_on(self) -> None:
        for tree in self._sampler.take().values():
            self._trees.setdefault(OWN_LABEL, Tree()).add_tree(tree)
        trees, self._trees = self._trees, {}
        for label, tree in trees.items():
            names, nodes = tree.pruned(_SHARE).flat()
            self._say(Profiled(label, tuple(names), tuple(nodes)))
        if clock.monotonic() >= self._until:
            self._timer = None
            return
        # Longer than until the next time, so that nobody stops in between.
        seconds = 2 * self._pace
        for process in self._processes:
            if process is not None and process.control is not None:
                process.control.tell(["profile", seconds])
        if self._alone:
            self._sampler.go_on(seconds)
        self._timer = self._loop.call_later(self._pace, self._go_on)
