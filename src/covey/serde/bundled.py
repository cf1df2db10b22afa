"""Several values in one payload, each of which can be read by itself.

Large arguments of neighbouring calls of a map go to a worker together::

    frames:   [head, stream, buffer, stream, stream, buffer, buffer]
               │     └─ part 0 ────┘ └─ 1 ─┘ └─ part 2 ───────────┘
               └─ how many frames each part has

``refs.PartOf`` stands for one of them in the arguments of a call.  Whoever reads that
reads no other part.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any, Final

from covey.errors import TaskUnreadable
from covey.payload import Buffer
from covey.serde.values import BUNDLE_CODEC, loads

_HEAD: Final = bytes((BUNDLE_CODEC,))


def join(parts: Sequence[Sequence[Buffer]]) -> list[Buffer]:
    """Return the frames of one payload that holds values of these frames."""
    counts = array("I", map(len, parts))
    if sys.byteorder == "big":
        counts.byteswap()
    return [_HEAD + counts.tobytes(), *chain.from_iterable(parts)]


class Bundle:
    """Several values, of which none has been read.

    Args:
        head: the first frame.
        frames: those that follow.

    Raises:
        TaskUnreadable: these are not what ``join`` has made.
    """

    __slots__ = ("_ends", "_frames")

    def __init__(self, head: Buffer, frames: Sequence[Buffer]) -> None:
        counts: array[int] = array("I")
        try:
            counts.frombytes(bytes(head)[1:])
        except ValueError:
            raise _broken() from None
        if sys.byteorder == "big":
            counts.byteswap()
        self._ends = list(accumulate(counts))
        self._frames = frames
        if not self._ends or self._ends[-1] != len(frames) or 0 in counts:
            raise _broken()

    def part(self, index: int) -> Any:
        """Return one of them, read anew.

        Raises:
            TaskUnreadable: it cannot be read, or there is none of that number.
        """
        if not 0 <= index < len(self._ends):
            raise _broken()
        start = self._ends[index - 1] if index else 0
        return loads(self._frames[start : self._ends[index]])


def _broken() -> TaskUnreadable:
    return TaskUnreadable("values that came as one are not as they were written")
