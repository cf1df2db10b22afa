"""What tasks printed: the latest of it whole, and older of it in few words.

The stream of events holds ten times as many as there are prints kept, and what was printed
is the only long thing in it.  So what is not kept among the prints any more stays in the
stream as its beginning.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from covey.events import Ring

#: Stretches that tasks printed, and that are kept for those who ask later.
PRINTS_KEPT: Final = 10_000

#: So many characters of an older one stay in the stream.
SHORT: Final = 200

#: Where the text is in such an event: see ``history``.
_TEXT: Final = 6


class Prints(Ring[tuple[Any, ...]]):
    """The latest prints, of which the stream of events has copies.

    Args:
        events: that stream.
        first: what the first print is numbered.
        capacity: how many are kept whole.
    """

    __slots__ = ("_copies", "_events")

    def __init__(
        self, events: Ring[tuple[Any, ...]], first: int, capacity: int = PRINTS_KEPT
    ) -> None:
        super().__init__(capacity, first)
        self._events = events
        #: The numbers and events that the stream has whole, the oldest first.
        self._copies: deque[tuple[int, tuple[Any, ...]]] = deque()

    def enter(self, event: tuple[Any, ...]) -> None:
        """Add what was printed, also to the stream of events."""
        self.append(event)
        self._copies.append((self._events.next, event))
        self._events.append(event)
        if len(self._copies) > self.capacity:
            number, older = self._copies.popleft()
            self._events.replace(number, _shortened(older))


def _shortened(event: tuple[Any, ...]) -> tuple[Any, ...]:
    text = event[_TEXT]
    if len(text) <= SHORT:
        return event
    left_out = f"… ({len(text) - SHORT:,} characters more)"
    return (*event[:_TEXT], text[:SHORT] + left_out, *event[_TEXT + 1 :])
