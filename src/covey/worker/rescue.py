"""What becomes of values whose files the disk has refused after they were spilled.

The kernel writes files later (page 35 of the decisions), and may only then find that the
disk is broken.  As long as it needs the memory for nothing else it still has there what
was written::

    file ──in doubt──► read once more, and compared with its checksum
                           │ as it was                    └─ not: lost, made anew
                           ├──► another file, which is flushed at once
                           ├──► memory, if the disk does not take it and there is room
                           └──► it stays in doubt; whoever reads it compares it, too,
                                and all this is tried again later

From then on nothing is left to the kernel any more: a value has left memory only when it
has reached the disk.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from covey import clock
from covey.ids import TaskId
from covey.store.segments import Garbled, Segment
from covey.store.writeback import Unwritten

if TYPE_CHECKING:
    from covey.worker.storage import Storage

#: What stays in doubt is tried again after so long: to compare it takes half a second
#: for each GB.
_AGAIN_SECONDS: Final = 10.0


class _NoPlace(Exception):
    """A value is as it was written, and can be put nowhere else."""


class Rescue:
    """Brings values of one worker away from a disk that has refused some.

    Args:
        storage: where they are.

    Attributes:
        trusts_disk: nothing was refused yet.
        on_lost: told of a value that is lost, and why.
        on_moved: told of one that lies somewhere else now.
        has_room: tells whether so many bytes fit into memory.
        tell: called with a line for people.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.trusts_disk = True
        self.on_lost: Callable[[TaskId, str], None] = self._drop
        self.on_moved: Callable[[TaskId], None] = lambda _: None
        self.has_room: Callable[[int], bool] = lambda _: True
        self.tell: Callable[[str], None] = lambda _: None
        self._is_under_way = False
        self._not_before = 0.0
        #: Whether it is worth trying to write something there.
        self._disk_takes_some = True

    def _drop(self, task: TaskId, why: str) -> None:
        del why
        self._storage.drop(task, 1)

    def begin(self) -> None:
        """The disk has refused something: see what can be saved, if that is not known."""
        if self.trusts_disk:
            self.trusts_disk = False
            self.tell(
                f"the disk has not kept what was spilled to "
                f"{self._storage.spool.directory}, and told so afterwards; what can be "
                f"read still is moved, the rest made again, and from now on nothing "
                f"leaves memory before the disk has it. Look at that disk"
            )
        if not self._is_under_way and clock.monotonic() >= self._not_before:
            self._is_under_way = True
            self._storage.start(self._save_all())

    def lose(self, files: Collection[Unwritten]) -> None:
        """What lies in *files* is not what was written: nobody shall read it any more."""
        unsettled = self._storage.unsettled
        lost = [(t, s.unwritten) for t, s in unsettled.large.items()]
        for file in files:
            for stretch in self._storage.shelf.filed_in(file):
                lost += [(stretch.base + i, file) for i in range(stretch.n)]
            unsettled.small.discard(file)
        for task, unwritten in lost:
            if unwritten is not None and unwritten in files:
                self.on_lost(task, self._why(unwritten))

    def _why(self, file: Unwritten) -> str:
        return (
            f"the disk has not kept what was spilled to "
            f"{self._storage.spool.directory}: {os.strerror(file.error or errno.EIO)}"
        )

    async def _save_all(self) -> None:
        storage, unsettled = self._storage, self._storage.unsettled
        self._disk_takes_some = True
        try:
            for task, segment in list(unsettled.large.items()):
                if storage.closed:
                    return
                if unsettled.large.get(task) is segment:
                    await self._save(task, segment)
            for file in list(unsettled.small):
                if storage.closed:
                    return
                await self._save_small(file)
        except OSError as error:
            # There are too many open files.  With fewer, this will go on.
            storage.disk_failed(error)
        finally:
            self._is_under_way = False
            self._not_before = clock.monotonic() + _AGAIN_SECONDS

    async def _save(self, task: TaskId, segment: Segment) -> None:
        """Bring one large value away, if it is in doubt.

        Raises:
            OSError: there are too many open files.
        """
        storage, file = self._storage, segment.unwritten
        assert file is not None
        source = segment.again()
        moved: Segment | None = None
        is_lost = has_place = False
        try:
            moved = await self._elsewhere(source)
            has_place = True
        except Garbled:
            is_lost = True
        except _NoPlace:
            pass
        finally:
            source.close()
        if storage.closed or storage.shelf.segment(task) is not segment:
            # It was dropped meanwhile.
            if moved is not None:
                storage.let_go(moved)
        elif moved is not None:
            storage.moved(task, moved)
            self.on_moved(task)
        elif is_lost:
            storage.unsettled.drop(task)
            self.on_lost(task, self._why(file))
        elif has_place and not file.error:
            storage.unsettled.drop(task)
            segment.unwritten = None

    async def _elsewhere(self, source: Segment) -> Segment | None:
        """Return a value where it is safe; nothing if it has reached the disk.

        Raises:
            Garbled: it is not what was written any more.
            _NoPlace: neither the disk nor memory has room for it.
        """
        storage = self._storage
        if await storage.in_thread(lambda: _has_arrived(source)):
            return None
        if self._disk_takes_some:
            try:
                anew: Segment = await storage.in_thread(
                    lambda: self._write_anew(source)
                )
                return anew
            except Garbled:
                raise
            except OSError as error:
                self._disk_takes_some = False
                storage.disk_failed(error)
        if not self.has_room(source.size):
            raise _NoPlace
        try:
            return await storage.in_memory(source)
        except Garbled:
            raise
        except OSError as error:
            raise _NoPlace from error

    def _write_anew(self, source: Segment) -> Segment:
        """Return another file, which has reached the disk.  For a thread.

        Raises:
            Garbled: it is not what was written any more.
            OSError: the disk will not have it.
        """
        anew = self._storage.spool.write(source, through=True)
        if anew.checksum == source.checksum:
            return anew
        anew.close()
        raise Garbled("it was read as something else")

    async def _save_small(self, file: Unwritten) -> None:
        """Bring small values away, into memory: of these there are never many on disk."""
        storage = self._storage
        content = await storage.in_thread(lambda: _content(file))
        stretches = storage.shelf.filed_in(file)
        if not file.error:
            for stretch in stretches:
                stretch.filed = None
        elif content is None:
            self.lose([file])
        elif self.has_room(sum(stretch.nbytes for stretch in stretches)):
            for stretch in stretches:
                storage.shelf.take_out(stretch, content)
        else:
            return
        storage.unsettled.small.discard(file)
        storage.on_change()


def _has_arrived(source: Segment) -> bool:
    """Have a file reach the disk, and say whether it has.  For a thread.

    Raises:
        Garbled: it has not, and is not what was written any more.
    """
    file = source.unwritten
    assert file is not None
    if file.flushed():
        return True
    if not file.is_intact():
        raise Garbled("it is read as something else")
    return False


def _content(file: Unwritten) -> bytes | None:
    """Have a file reach the disk; return what it holds if it has not.  For a thread."""
    return None if file.flushed() else file.content()
