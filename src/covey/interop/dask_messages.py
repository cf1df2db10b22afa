"""A large graph in many messages: work begins with the first of them.

Tasks leave in the order in which they had best run, while the order of the others is
still being found.  The scheduler forgets what nobody wants or needs, and who needs a
task may come in a later message: so each message names the tasks that are still to be
used (``coming``), and as soon as the last user of such a task has left as well, the
task is released::

    SubmitGraph(a b c)   coming: a            a is used by c and by e
    SubmitGraph(d e f)   Release(a)

So an intermediate of a large graph goes as early as that of a small one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

from covey.client.extents import extents_of
from covey.ids import TaskId
from covey.interop.dask_annotations import OptionsOf
from covey.interop.dask_order import STRETCH_TASKS, Sequencer
from covey.interop.dask_packing import Ref
from covey.serde.packing import Packer
from covey.wire.base import Message, Options
from covey.wire.client_link import Release, SubmitGraph

#: A graph with more tasks or bytes than this leaves in several messages.  The
#: scheduler takes one in without a pause, and shall not stall meanwhile.
CHUNK_TASKS: Final = 1024
CHUNK_BYTES: Final = 1 << 20

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
    ) -> int:
        """Pack tasks; add what each needs, and what runs it; return how many bytes."""

    def take_functions(self, chosen: list[int | str]) -> tuple[int, ...]:
        """Return the numbers of functions for what was packed."""

    def hold(self, ref: Ref) -> None:
        """Hold the future of a task that somebody wants: it is about to be sent."""

    def post(self, message: Message) -> None:
        """Send a message."""


class Messages:
    """The messages of one graph.

    Args:
        ingest: packs and sends.
        nodes: those of the graph, by number; what needs no task has no node any more.
        sequencer: knows the order.
        base: the number of the first task; the others follow.
        wanted: the numbers of those that somebody holds futures of.
        names: by what they name, the other names: theirs is the same task.
    """

    def __init__(
        self,
        ingest: Ingest,
        nodes: Sequence[Ref],
        sequencer: Sequencer,
        base: TaskId,
        wanted: Sequence[int],
        names: Mapping[Ref, Sequence[Ref]],
    ) -> None:
        self._ingest = ingest
        self._nodes = nodes
        self._sequencer = sequencer
        self._wanted = wanted
        self._chosen = set(wanted)
        self._names = names
        self._packer = Packer()
        self._nbytes = 0
        self._needs: list[tuple[TaskId, ...]] = []
        self._functions: list[int | str] = []
        #: What the next message has, and the number of the first of these tasks; that of
        #: the first one of all.
        self._piece: list[Ref] = []
        self._first = self._base = base

    def send(self) -> None:
        """Pack and post all of them."""
        needs, functions, piece = self._needs, self._functions, self._piece
        ingest, packer, names = self._ingest, self._packer, self._names
        unused = self._base
        try:
            for stretch, brought in self._stretches():
                for task, ref in enumerate(stretch, unused):
                    ref.task = task
                unused += len(stretch)
                if names:
                    for ref in stretch:
                        for other in names.get(ref, ()):
                            other.task = ref.task
                self._nbytes += ingest.pack(packer, stretch, needs, functions)
                piece += stretch
                if (
                    brought >= BROUGHT_BYTES
                    or len(needs) >= CHUNK_TASKS
                    or self._nbytes > CHUNK_BYTES
                ):
                    self._post()
            if needs:
                self._post()
        except BaseException:
            # A node cannot be packed, or a user interrupts: then nobody uses the others.
            self._give_up()
            raise

    def _stretches(self) -> Iterator[tuple[list[Ref], int]]:
        """Yield tasks to pack at once, and how many bytes were brought for them."""
        nodes, ingest, sequencer = self._nodes, self._ingest, self._sequencer
        # One by one, where a message may end behind any of them.
        sequencer.at_once = 1 if ingest.promised else min(STRETCH_TASKS, CHUNK_TASKS)
        stretch: list[Ref] = []
        brought = 0
        for numbers in sequencer.stretches(self._wanted):
            found = map(nodes.__getitem__, numbers)
            some = [ref for ref in found if ref.node is not None]
            if sequencer.at_once > 1:
                if some:
                    yield some, 0
                continue
            stretch += some
            brought += sum(map(ingest.bring, some))
            if len(stretch) >= STRETCH_TASKS or brought >= BROUGHT_BYTES:
                yield stretch, brought
                stretch, brought = [], 0
                if not ingest.promised:
                    sequencer.at_once = min(STRETCH_TASKS, CHUNK_TASKS)
        if stretch:
            yield stretch, brought

    def _post(self) -> None:
        piece, first, left = self._piece, self._first, self._sequencer.left
        chosen = self._chosen
        kinds, choice = self._options(piece)
        pack = self._packer.take()
        wanted = [ref for ref in piece if ref.number in chosen]
        for ref in wanted:
            self._ingest.hold(ref)
        coming = [
            ref.task for ref in piece if left[ref.number] and ref.number not in chosen
        ]
        self._ingest.post(
            SubmitGraph(
                first,
                self._ingest.take_functions(self._functions),
                pack.sizes_bytes(),
                bytes(pack.data),
                tuple(self._needs),
                tuple(range(len(piece))),
                extents_of([ref.task for ref in wanted]),
                kinds,
                choice,
                extents_of(coming),
            )
        )
        over = self._over()
        self._first += len(piece)
        piece.clear()
        self._needs.clear()
        self._functions.clear()
        self._nbytes = 0
        if over:
            self._ingest.post(Release(extents_of(over)))

    def _over(self) -> list[TaskId]:
        """Return the tasks that left as ``coming``, and are used by nothing any more."""
        nodes, sequencer, chosen = self._nodes, self._sequencer, self._chosen
        base, first = self._base, self._first
        over = []
        for number in sequencer.over:
            task = nodes[number].task
            # Others were never to come, or are no tasks of this graph.
            if base <= task < first and number not in chosen:
                over.append(task)
        sequencer.over.clear()
        return over

    def _give_up(self) -> None:
        """Release all that is still to come."""
        over = self._over()
        left, base, first = self._sequencer.left, self._base, self._first
        over += [
            ref.task
            for ref in self._nodes
            if base <= ref.task < first
            and left[ref.number]
            and ref.number not in self._chosen
        ]
        if over:
            self._ingest.post(Release(extents_of(over)))

    def _options(
        self, piece: Sequence[Ref]
    ) -> tuple[tuple[Options, ...], tuple[int, ...]]:
        """Return the options there are, and which of them each task has."""
        options = self._ingest.options
        if not options.differ:
            return (options.common,), ()
        kinds: list[Options] = []
        choice: list[int] = []
        for ref in piece:
            mine = options.of(ref.key)
            if mine not in kinds:
                kinds.append(mine)
            choice.append(kinds.index(mine))
        return tuple(kinds), tuple(choice)
