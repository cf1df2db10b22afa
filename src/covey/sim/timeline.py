"""Virtual time, and the trace of what happened in it."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from typing import Any, Final

from covey.wire.framing import encode_ack

#: How long a slice of time is.  A tenth of what a message takes on its way.
SLICE_SECONDS: Final = 2e-5

#: So many of the last happenings are kept for a report.
KEPT: Final = 400

#: Beats are many and say little: they count, and are not shown.
BEAT_BYTES: Final = len(encode_ack(0))

_HEAD: Final = struct.Struct("<dI")


#: A time and, among calls of the same time, when it was asked for; and what to call.
_Due = tuple[float, int, Callable[..., Any], tuple[Any, ...]]


class Timeline:
    """Calls that are due at some time, in order of time and then of asking.

    Of all that is to come only the next slice of time is in order, as in a calendar
    queue (Brown 1988): in a world of a thousand machines one heap is so deep, and so
    much larger than the processor's caches, that to take a call from it takes longer
    than to make it.
    """

    __slots__ = ("_next", "_slice", "_slices", "_starts", "asked", "now")

    def __init__(self) -> None:
        self.now = 0.0
        #: How many calls were asked for.
        self.asked = 0
        #: What is due in the slice of this number, or before: a heap.
        self._slice = 0
        self._next: list[_Due] = []
        #: What is due in later ones, as it came, and a heap of their numbers.
        self._slices: dict[int, list[_Due]] = {}
        self._starts: list[int] = []

    def at(self, time: float, call: Callable[..., Any], *args: Any) -> None:
        """Call *call* at *time*, or now if that has passed."""
        time = max(time, self.now)
        self.asked += 1
        number = int(time / SLICE_SECONDS)
        if number <= self._slice:
            heappush(self._next, (time, self.asked, call, args))
            return
        later = self._slices.get(number)
        if later is None:
            self._slices[number] = [(time, self.asked, call, args)]
            heappush(self._starts, number)
        else:
            later.append((time, self.asked, call, args))

    def after(self, seconds: float, call: Callable[..., Any], *args: Any) -> None:
        """Call *call* so many seconds from now."""
        self.at(self.now + seconds, call, *args)

    def _first(self) -> list[_Due]:
        """Return the slice with the next call, in order; empty if there is none."""
        if not self._next and self._starts:
            self._slice = heappop(self._starts)
            self._next = self._slices.pop(self._slice)
            heapify(self._next)
        return self._next

    def step(self) -> bool:
        """Make the next call; false if there is none."""
        return self.steps(1) > 0

    def steps(self, at_most: int) -> int:
        """Make so many of the next calls, or all that there are; return how many."""
        for made in range(at_most):
            due = self._next or self._first()
            if not due:
                return made
            self.now, _, call, args = heappop(due)
            call(*args)
        return at_most

    def run(self, until: float, *, at_most: int | None = None) -> None:
        """Make all calls that are due up to a time, and stand there then.

        Raises:
            AssertionError: more than *at_most* calls were asked for since the
                beginning: it runs in circles.
        """
        while (due := self._first()) and due[0][0] <= until:
            self.step()
            if at_most is not None and self.asked > at_most:
                raise AssertionError("it runs in circles: too much happens")
        self.now = max(self.now, until)


class Trace:
    """A hash of everything that happened, and the last of it in the clear."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self.last: deque[tuple[float, str, bytes]] = deque(maxlen=KEPT)
        self.count = 0

    def note(self, now: float, where: str, data: bytes = b"") -> None:
        """Something happened: *where* says what, *data* is what was said."""
        self.count += 1
        if len(data) != BEAT_BYTES:
            self.last.append((now, where, data))
        self._hash.update(_HEAD.pack(now, len(where)))
        self._hash.update(where.encode())
        self._hash.update(data)

    def digest(self) -> str:
        """Return what two runs of one seed must have in common."""
        return self._hash.hexdigest()
