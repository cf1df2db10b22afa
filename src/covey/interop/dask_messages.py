"""A large graph in many messages: work begins with the first of them.

Tasks leave in the order in which they had best run.  The scheduler forgets what
nobody wants or needs, and who needs a task may come in a later message: so each
message names the tasks that are still to be used (``coming``), and as soon as
the last user of such a task has left as well, the task is released::

    SubmitGraph(a b c)   coming: a            a is used by c and by e
    SubmitGraph(d e f)   Release(a)

So an intermediate of a large graph goes as early as that of a small one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from covey.client.extents import extents_of
from covey.ids import TaskId
from covey.interop.dask_annotations import OptionsOf
from covey.interop.dask_order import Order
from covey.interop.dask_packing import Ref
from covey.serde.packing import Packer
from covey.wire.base import Message, Options
from covey.wire.client_link import Release, SubmitGraph

#: A graph with more tasks or bytes than this leaves in several messages.  The
#: scheduler takes one in without a pause, and shall not stall meanwhile.
CHUNK_TASKS: Final = 1024
CHUNK_BYTES: Final = 1 << 20

#: So many tasks are packed at once, if they are all plain calls.
STRETCH_TASKS: Final = 64

#: What is large is brought with who takes it: they begin when so much is there.
BROUGHT_BYTES: Final = 64 << 20


class Ingest(Protocol):
    """What packs the tasks of a graph, and sends messages.

    Attributes:
        options: those of each task.
    """

    options: OptionsOf

    @property
    def promised(self) -> bool:
        """Whether anything large is still to be brought."""

    def bring(self, ref: Ref) -> int:
        """Bring what is large that a task takes; return how many bytes that was."""

    def pack(
        self,
        packer: Packer,
        chosen: Sequence[Ref],
        needs: list[tuple[TaskId, ...]],
        functions: list[int | str],
    ) -> None:
        """Pack tasks; add what each needs, and what runs it."""

    def take_functions(self, chosen: list[int | str]) -> tuple[int, ...]:
        """Return the numbers of functions for what was packed."""

    def post(self, message: Message) -> None:
        """Send a message."""


class Messages:
    """The messages of one graph.

    Args:
        ingest: packs and sends.
        ordered: the nodes of the graph in order, and which take which.
        places: where in that order the tasks are; the rest needs no task.
        base: the number of the first task; the others follow.
        chosen: the tasks that somebody holds futures of.
        names: the nodes that are other names of what they take, or are no tasks because
            who takes them makes their call.
    """

    def __init__(
        self,
        ingest: Ingest,
        ordered: Order,
        places: Sequence[int],
        base: TaskId,
        chosen: set[TaskId],
        names: set[Ref],
    ) -> None:
        self._ingest = ingest
        self._nodes = ordered.keys
        self._places = places
        self._base = base
        self._chosen = chosen
        self._last = (
            _last_uses(ordered, names) if len(places) > 1 else [0] * len(ordered.keys)
        )
        #: Tasks that left as ``coming``, each with the place of its last user.
        self._coming: list[tuple[int, TaskId]] = []
        self._packer = Packer()
        self._needs: list[tuple[TaskId, ...]] = []
        self._functions: list[int | str] = []
        self._posted = 0

    def send(self) -> None:
        """Pack and post all of them."""
        needs, functions, packer = self._needs, self._functions, self._packer
        try:
            for stretch, brought in self._stretches():
                self._ingest.pack(packer, stretch, needs, functions)
                if (
                    brought >= BROUGHT_BYTES
                    or len(needs) >= CHUNK_TASKS
                    or packer.nbytes > CHUNK_BYTES
                ):
                    self._post()
            if needs:
                self._post()
        finally:
            # Also when a node cannot be packed: then nobody uses the others.
            self._release(len(self._nodes))

    def _stretches(self) -> Iterator[tuple[list[Ref], int]]:
        """Yield tasks to pack at once, and how many bytes were brought for them."""
        nodes, bring = self._nodes, self._ingest.bring
        if not self._ingest.promised:
            for start in range(0, len(self._places), STRETCH_TASKS):
                chosen = self._places[start : start + STRETCH_TASKS]
                yield [nodes[at] for at in chosen], 0
            return
        stretch: list[Ref] = []
        brought = 0
        for at in self._places:
            stretch.append(nodes[at])
            brought += bring(nodes[at])
            if len(stretch) >= STRETCH_TASKS or brought >= BROUGHT_BYTES:
                yield stretch, brought
                stretch, brought = [], 0
        if stretch:
            yield stretch, brought

    def _post(self) -> None:
        start, count = self._posted, len(self._needs)
        places = self._places[start : start + count]
        pack = self._packer.take()
        kinds, choice = self._options(places)
        first, end = self._base + start, places[-1]
        chosen, last = self._chosen, self._last
        coming = [
            (last[at], task)
            for task, at in enumerate(places, first)
            if last[at] > end and task not in chosen
        ]
        self._ingest.post(
            SubmitGraph(
                first,
                self._ingest.take_functions(self._functions),
                pack.sizes_bytes(),
                bytes(pack.data),
                tuple(self._needs),
                tuple(range(count)),
                extents_of([t for t in range(first, first + count) if t in chosen]),
                kinds,
                choice,
                extents_of([task for _, task in coming]),
            )
        )
        self._posted += count
        self._needs.clear()
        self._functions.clear()
        self._coming += coming
        self._release(end)

    def _options(
        self, places: Sequence[int]
    ) -> tuple[tuple[Options, ...], tuple[int, ...]]:
        """Return the options there are, and which of them each task has."""
        options = self._ingest.options
        if not options.differ:
            return (options.common,), ()
        kinds: list[Options] = []
        choice: list[int] = []
        for at in places:
            mine = options.of(self._nodes[at].key)
            if mine not in kinds:
                kinds.append(mine)
            choice.append(kinds.index(mine))
        return tuple(kinds), tuple(choice)

    def _release(self, end: int) -> None:
        """Release what was to come, once all users up to *end* have left."""
        over = [task for last, task in self._coming if last <= end]
        if over:
            self._coming = [entry for entry in self._coming if entry[0] > end]
            self._ingest.post(Release(extents_of(over)))


def _last_uses(ordered: Order, names: set[Ref]) -> list[int]:
    """Return, for each place in the order, that of its last user."""
    last = list(ordered.last_uses)
    others = [at for at, ref in enumerate(ordered.keys) if ref in names]
    for at in reversed(others):
        # Who takes the other name takes what it names.
        for source in ordered.inputs_of(at):
            last[source] = max(last[source], last[at])
    return last
