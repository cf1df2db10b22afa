"""When it pays to compress what goes to another machine.

Pure.  Two things are known of a moment: how fast the link takes bytes, and what became of
a sample of what is to be sent.  Of 1 MB that a codec makes 0.4 MB of::

    wire      0.6 MB less to send: 6 ms at 100 MB/s, 0.6 ms at 1 GB/s
    CPU       2 ms, to compress it here and to unpack it there

It pays where the first is more than twice the second: the CPU has other things to do.
Where it has so much to do that work takes longer by the clock than in CPU time, that counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

#: A second of CPU time is worth so many seconds on the wire.
_PRICE: Final = 2.0

#: No codec gets through a byte in less CPU time than this, both sides together.
LEAST_COST: Final = 1 / 1.5e9

#: What was seen of a link is not believed for longer.
_KNOWN_SECONDS: Final = 10.0

#: What takes no longer than it takes us to notice tells of us, not of the link.
_TELLING_BYTES: Final = 256 << 10

#: With each new look, what was seen before counts for so much less.
_FADING: Final = 0.7
_FADING_CROWD: Final = 0.9

#: At most so many parts are passed over between two looks.
_PAUSE_MAX: Final = 3


class Speed:
    """How fast a link takes bytes, as far as that was seen."""

    __slots__ = ("_bytes", "_seconds", "_seen")

    def __init__(self) -> None:
        self._bytes = 0.0
        self._seconds = 0.0
        self._seen = 0.0

    def saw(self, nbytes: int, seconds: float, now: float) -> None:
        """The link was full all the time, and took *nbytes* in *seconds*."""
        if nbytes < _TELLING_BYTES:
            return
        if now - self._seen > _KNOWN_SECONDS:
            self._bytes = self._seconds = 0.0
        self._bytes = self._bytes * _FADING + nbytes
        self._seconds = self._seconds * _FADING + seconds
        self._seen = now

    def per_second(self, now: float) -> float:
        """Return bytes a second; 0 where nothing is known any more."""
        if not self._seconds or now - self._seen > _KNOWN_SECONDS:
            return 0.0
        return self._bytes / self._seconds


class Crowding:
    """How much longer compressing takes by the clock than in CPU time.

    On a machine whose cores are all busy, as those of a cluster are, most of the time is
    spent waiting for one: in the thread that compresses, and wherever it hands on what
    it has made.  So what takes 3 ms may hold up a value for 20.
    """

    __slots__ = ("_cpu", "_seconds")

    def __init__(self) -> None:
        self._cpu = 0.0
        self._seconds = 0.0

    def saw(self, cpu_seconds: float, seconds: float) -> None:
        """Something took so much CPU time, and so long by the clock."""
        self._cpu = self._cpu * _FADING_CROWD + cpu_seconds
        self._seconds = self._seconds * _FADING_CROWD + seconds

    @property
    def factor(self) -> float:
        """How many seconds pass for one of CPU time; at least 1."""
        return max(1.0, self._seconds / self._cpu) if self._cpu else 1.0


class Sample(NamedTuple):
    """What a codec made of some bytes.

    Attributes:
        codec: its number.
        ratio: what is left of a byte.
        cost: seconds of CPU time that a byte takes, both sides together.
    """

    codec: int
    ratio: float
    cost: float


def is_slow(speed: float, cost: float = LEAST_COST) -> bool:
    """Whether there is a point in trying, at *speed* bytes a second.

    Args:
        speed: of the link; 0 if it is not known.
        cost: seconds of CPU time that a byte takes at least.
    """
    return 0 < speed < 1 / (_PRICE * cost)


def choose(samples: Iterable[Sample], speed: float, crowding: float = 1.0) -> int:
    """Return the codec that saves most at *speed* bytes a second; 0 if none does.

    *crowding* is how many seconds pass for one of CPU time.
    """
    best, saved = 0, 0.0
    for sample in samples:
        gain = (1 - sample.ratio) / speed - _PRICE * sample.cost * crowding
        if gain > saved:
            best, saved = sample.codec, gain
    return best


class Looking:
    """When to take the next sample: what is no use is looked at less and less often."""

    __slots__ = ("_pause", "_rest")

    def __init__(self) -> None:
        self._pause = 0
        self._rest = 0

    def is_due(self) -> bool:
        """Whether to take one of the next part."""
        if self._rest:
            self._rest -= 1
            return False
        return True

    def found(self, codec: int) -> None:
        """A sample was taken; 0 if it was no use."""
        self._pause = 0 if codec else min(_PAUSE_MAX, 2 * self._pause + 1)
        self._rest = self._pause
