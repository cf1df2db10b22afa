"""How long the calls of a function take: count, mean and quantiles in little memory."""

from __future__ import annotations

import math
from typing import Final

#: Durations are counted in boxes, each a fifth longer than the one before.
_RATIO: Final = 1.2
_SHORTEST: Final = 1e-7
_BOXES: Final = 128


class Durations:
    """Counts of durations; a quantile is right within a tenth."""

    __slots__ = ("boxes", "count", "longest", "total")

    def __init__(self) -> None:
        self.boxes: dict[int, int] = {}
        self.count = 0
        self.total = 0.0
        self.longest = 0.0

    def add(self, seconds: float, n: int = 1) -> None:
        """Count *n* calls that took *seconds* each."""
        box = 0
        if seconds > _SHORTEST:
            box = min(_BOXES, int(math.log(seconds / _SHORTEST, _RATIO)) + 1)
        self.boxes[box] = self.boxes.get(box, 0) + n
        self.count += n
        self.total += seconds * n
        self.longest = max(self.longest, seconds)

    def at_most(self, seconds: float) -> int:
        """Return how many calls took at most *seconds*, within a fifth of that."""
        # Boxes whose middle lies below.
        box = math.log(max(seconds, _SHORTEST) / _SHORTEST, _RATIO) + 0.5
        return sum(n for number, n in self.boxes.items() if number <= box)

    @property
    def mean(self) -> float:
        """The mean, or 0 when nothing was counted."""
        return self.total / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """Return how long the given share of all calls takes at most."""
        left = share * self.count
        for box in sorted(self.boxes):
            left -= self.boxes[box]
            if left <= 0:
                middle: float = _SHORTEST * _RATIO ** (box - 0.5)
                return min(middle, self.longest)
        return self.longest
