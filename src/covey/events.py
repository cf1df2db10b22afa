"""A bounded stream of events, each with a number.

Scheduler and workers append what happened; the progress bar, the dashboard and
the reports read along.  A reader remembers the next number that it has not
seen, and asks for what came since::

            oldest                        next
              │                             │
       ┄┄┄┄┄┄[ 4096 4097 4098 ┄┄┄┄┄┄┄ 8191 ] ← append
      forgotten         since(4098, limit=2) = 4098, [·, ·], nothing missed

The ring holds the last ``capacity`` events, so a writer never waits and memory
stays bounded.  A reader that falls behind is told how many it missed, never
given a silent gap.

An event is any immutable object: a ``msgspec`` struct or a tuple.  The ring
looks into none of them, and reads no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from covey.errors import UsageError

Event = TypeVar("Event")


class Excerpt(NamedTuple, Generic[Event]):
    """A run of consecutive events.

    Attributes:
        first: the number of the first event; without events, the number to ask
            for next.
        events: the events ``first``, ``first + 1``, ...
        dropped: how many the reader missed before ``first``.
    """

    first: int
    events: list[Event]
    dropped: int


class Ring(Generic[Event]):
    """The last ``capacity`` events.  One writer, any number of readers.

    Attributes:
        capacity: how many events are kept.
        start: the number of the first event ever.  A stream that follows an earlier
            one starts above it, so that a reader of that goes on without a gap.
    """

    __slots__ = ("_first", "_kept", "_most", "capacity", "start")

    def __init__(self, capacity: int, start: int = 0) -> None:
        if capacity < 1:
            raise UsageError(f"a ring must hold at least one event, not {capacity}")
        self.capacity = capacity
        self.start = start
        #: The events from number ``_first`` on.  Some more than are kept: they are
        #: forgotten many at a time, for which those that stay are moved.
        self._kept: list[Event] = []
        self._first = start
        self._most = capacity + max(1, capacity // 8)

    @property
    def next(self) -> int:
        """The number that the next event will get."""
        return self._first + len(self._kept)

    def append(self, event: Event) -> None:
        """Add an event, and forget the oldest if need be."""
        kept = self._kept
        kept.append(event)
        if len(kept) > self._most:
            self._forget()

    def extend(self, events: Iterable[Event]) -> None:
        """Append several events."""
        self._kept.extend(events)
        if len(self._kept) > self._most:
            self._forget()

    def _forget(self) -> None:
        many = len(self._kept) - self.capacity
        del self._kept[:many]
        self._first += many

    def replace(self, number: int, event: Event) -> None:
        """Put *event* in the place of that of this number, if that is still here."""
        if self.oldest <= number < self.next:
            self._kept[number - self._first] = event

    @property
    def oldest(self) -> int:
        """The number of the oldest event still here, or ``next`` if there is none."""
        return max(self.start, self.next - self.capacity)

    def __len__(self) -> int:
        return self.next - self.oldest

    def backwards(self) -> Iterator[Event]:
        """Yield the events that are still here, the latest first."""
        return islice(reversed(self._kept), len(self))

    def since(self, number: int, limit: int | None = None) -> Excerpt[Event]:
        """Return the events from *number* on, at most *limit* of them.

        A *number* that is still to come gives no events.
        """
        first = min(max(number, self.oldest), self.next)
        end = self.next if limit is None else min(self.next, first + max(0, limit))
        events = self._kept[first - self._first : end - self._first]
        return Excerpt(first, events, max(0, first - max(number, self.start)))
