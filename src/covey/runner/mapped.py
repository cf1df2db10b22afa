"""Large inputs of tasks: what stays mapped between tasks, and what does not.

A runner keeps the memory of a large value mapped, since most often more tasks want it, and
its pages need not be found again then.  Each task gets objects of its own all the same,
made anew of that memory: arrays are views of it, so only the pickle stream is read.  Where
descriptors are short, and it is a copy, nothing of it is kept::

    mapped memory ──────────────────────────────► stays, until the agent forgets it
      └─ [stream, buffer, buffer ...] ──loads──► objects of one task; gone with it

Two kinds are made once and stay with the memory.  A *function* that was too large for
a message is one object for all who call it, as every function is.  And what tasks only
look into, a dict of which each takes an item, is shared by these (see ``looked``).

The threads of all slots ask, and the control thread forgets, so everything here is one
operation on a dict; a value may be made once too often, and nothing else can happen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from covey.payload import Buffer, read_layout
from covey.runner.looked import LOOKED_BYTES, is_plain
from covey.serde.mapped import value_of
from covey.serde.values import refuse_pickle
from covey.store.segments import open_segment

#: Values whose memory is kept mapped; beyond this the oldest one is dropped.
MAPPED_VALUES_MAX: Final = 64

#: A stream with one of these takes in values of other tasks, or copies of buffers: the
#: one may change, and the other is memory of ours that nobody counts.
_TAKES_MORE: Final = (b"covey.serde.refs", b"covey.serde.arrays")

_NONE: Final = object()


class LargeInputs(Protocol):
    """What the inputs of tasks ask for large values."""

    def value(self, task: int, place: str, size: int, *, plain: bool) -> Any:
        """Return the value of a task, made for whoever asks."""
        ...

    def function(self, task: int, place: str, size: int, *, plain: bool) -> Any:
        """Return the function that is the value of a task, the same one each time."""
        ...

    def looked(self, task: int, place: str, size: int) -> tuple[Any, bool]:
        """Return the value of a task for one that looks into it, and if others have it."""
        ...


class _Kept:
    """The memory of one value.

    Attributes:
        place: where it was mapped from.
        frames: the stream and the buffers in it.
        shared: the object that all who may share it get.
        shared_bytes: how long the stream is of which that was made; 0 for a function.
    """

    __slots__ = ("frames", "place", "shared", "shared_bytes")

    def __init__(self, place: str, frames: list[memoryview]) -> None:
        self.place = place
        self.frames = frames
        self.shared: Any = _NONE
        self.shared_bytes = 0


class MappedInputs:
    """The large inputs that one runner keeps mapped."""

    def __init__(self) -> None:
        self._kept: dict[int, _Kept] = {}
        #: Whether objects may be kept that tasks share.
        self.shares = False

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def shared_bytes(self) -> int:
        """The bytes of all streams of which objects are kept, but for functions."""
        return sum([kept.shared_bytes for kept in list(self._kept.values())])

    def value(self, task: int, place: str, size: int, *, plain: bool) -> Any:
        """Return the value of a task, made for whoever asks.

        Args:
            task: whose value it is.
            place: where its segment is.
            size: how many bytes it has.
            plain: refuse what pickle wrote.

        Raises:
            OSError: the segment is gone, or belongs to somebody else.
            ValueError: what is there is no payload of that size.
            TaskUnreadable: it may not be read, or cannot be.
        """
        return value_of(self._mapped(task, place, size).frames, plain=plain)

    def function(self, task: int, place: str, size: int, *, plain: bool) -> Any:
        """Return the function that is the value of a task, the same one each time.

        Args:
            task: whose value it is.
            place: where its segment is.
            size: how many bytes it has.
            plain: refuse what pickle wrote.

        Raises:
            BaseException: as ``value`` does, and what loading it raises.
        """
        kept = self._mapped(task, place, size)
        if plain:
            refuse_pickle(kept.frames[0])
        if kept.shared is _NONE or kept.shared_bytes:
            kept.shared = value_of(kept.frames, plain=plain)
            kept.shared_bytes = 0
        return kept.shared

    def looked(self, task: int, place: str, size: int) -> tuple[Any, bool]:
        """Return the value of a task for one that only looks into it.

        Args:
            task: whose value it is.
            place: where its segment is.
            size: how many bytes it has.

        Returns:
            The value, and whether others get the same object.

        Raises:
            OSError: the segment is gone, or belongs to somebody else.
            ValueError: what is there is no payload of that size.
        """
        kept = self._mapped(task, place, size)
        if kept.shared is not _NONE:
            return kept.shared, True
        value = value_of(kept.frames)
        stream = kept.frames[0]
        if not is_plain(value) or len(stream) > LOOKED_BYTES or _takes_more(stream):
            return value, False
        for before in list(self._kept.values()):
            if self.shared_bytes + len(stream) <= LOOKED_BYTES:
                break
            _unshare(before)
        kept.shared_bytes = len(stream)
        kept.shared = value
        # Only now: who unshares meanwhile may not have seen this one.
        self.shares = True
        return value, True

    def _mapped(self, task: int, place: str, size: int) -> _Kept:
        kept = self._kept.get(task)
        if kept is not None and kept.place == place:
            return kept
        opened = open_segment(place, size)
        made = _Kept(place, read_layout(opened.view))
        if opened.copied:
            # Memory of ours, which goes with the task.
            self._kept.pop(task, None)
            return made
        if kept is None and len(self._kept) >= MAPPED_VALUES_MAX:
            for oldest in list(self._kept)[:1]:
                self._kept.pop(oldest, None)
        self._kept[task] = made
        return made

    def unshare(self) -> None:
        """Keep nothing of what was only looked into, but its memory."""
        self.shares = False
        for kept in list(self._kept.values()):
            _unshare(kept)

    def forget(self, ranges: Sequence[Sequence[int]]) -> None:
        """Let go of the values in these ranges of task ids."""
        for base, count in ranges:
            gone: Sequence[int] = range(base, base + count)
            if count >= len(self._kept):
                # A copy: the thread of a slot may be mapping another one right now.
                gone = [task for task in list(self._kept) if 0 <= task - base < count]
            for task in gone:
                self._kept.pop(task, None)


def _takes_more(stream: Buffer) -> bool:
    written = bytes(stream)
    return any(name in written for name in _TAKES_MORE)


def _unshare(kept: _Kept) -> None:
    if kept.shared_bytes:
        kept.shared = _NONE
        kept.shared_bytes = 0
