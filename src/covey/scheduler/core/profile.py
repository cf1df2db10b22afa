"""What workers told of the code that runs: kept apart from the event stream."""

from __future__ import annotations

from typing import Final

from covey.events import Ring


class Profile:
    """What code was seen to run, and until when somebody wants to know."""

    __slots__ = ("seen", "until")

    #: So many pieces are kept for those who ask for them.
    KEPT: Final = 2_000

    def __init__(self, until: float, first: int) -> None:
        self.until = until
        #: Time, worker, label, and a tree as ``covey.stacks`` has it.
        self.seen: Ring[tuple[object, ...]] = Ring(self.KEPT, first)
