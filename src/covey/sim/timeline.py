"""Virtual time, and the trace of what happened in it."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Any, Final

from covey.wire.framing import encode_ack

#: So many of the last happenings are kept for a report.
KEPT: Final = 400

#: Beats are many and say little: they count, and are not shown.
BEAT_BYTES: Final = len(encode_ack(0))

_HEAD: Final = struct.Struct("<dI")


class Timeline:
    """Calls that are due at some time, in order of time and then of asking."""

    __slots__ = ("_heap", "asked", "now")

    def __init__(self) -> None:
        self.now = 0.0
        #: How many calls were asked for.
        self.asked = 0
        self._heap: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []

    def at(self, time: float, call: Callable[..., Any], *args: Any) -> None:
        """Call *call* at *time*, or now if that has passed."""
        self.asked += 1
        heappush(self._heap, (max(time, self.now), self.asked, call, args))

    def after(self, seconds: float, call: Callable[..., Any], *args: Any) -> None:
        """Call *call* so many seconds from now."""
        self.asked += 1
        heappush(self._heap, (self.now + seconds, self.asked, call, args))

    def step(self) -> bool:
        """Make the next call; false if there is none."""
        if not self._heap:
            return False
        self.now, _, call, args = heappop(self._heap)
        call(*args)
        return True

    def run(self, until: float, *, at_most: int | None = None) -> None:
        """Make all calls that are due up to a time, and stand there then.

        Raises:
            AssertionError: more than *at_most* calls were asked for since the
                beginning: it runs in circles.
        """
        heap = self._heap
        while heap and heap[0][0] <= until:
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
