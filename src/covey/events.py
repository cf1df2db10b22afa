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

from collections.abc import Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

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
        next: the number that the next event will get.
    """

    __slots__ = ("_slots", "capacity", "next", "start")

    def __init__(self, capacity: int, start: int = 0) -> None:
        if capacity < 1:
            raise UsageError(f"a ring must hold at least one event, not {capacity}")
        self.capacity = capacity
        self.start = start
        self.next = start
        #: Event ``n`` rests in slot ``(n - start) % capacity``; grows up to ``capacity``.
        self._slots: list[Any] = []

    def append(self, event: Event) -> int:
        """Add an event, forget the oldest if need be, and return its number."""
        number, slots = self.next, self._slots
        self.next = number + 1
        if len(slots) < self.capacity:
            slots.append(event)
        else:
            slots[(number - self.start) % self.capacity] = event
        return number

    def extend(self, events: Sequence[Event]) -> None:
        """Append several events."""
        slots, capacity = self._slots, self.capacity
        free = capacity - len(slots)
        slots += events[:free]
        done = min(free, len(events))
        while done < len(events):
            at = (self.next + done - self.start) % capacity
            some = events[done : done + capacity - at]
            slots[at : at + len(some)] = some
            done += len(some)
        self.next += len(events)

    def replace(self, number: int, event: Event) -> None:
        """Put *event* in the place of that of this number, if that is still here."""
        if self.oldest <= number < self.next:
            self._slots[(number - self.start) % self.capacity] = event

    @property
    def oldest(self) -> int:
        """The number of the oldest event still here, or ``next`` if there is none."""
        return max(self.start, self.next - self.capacity)

    def __len__(self) -> int:
        return len(self._slots)

    def backwards(self) -> Iterator[Event]:
        """Yield the events that are still here, the latest first."""
        for number in range(self.next - 1, self.oldest - 1, -1):
            yield self._slots[(number - self.start) % self.capacity]

    def since(self, number: int, limit: int | None = None) -> Excerpt[Event]:
        """Return the events from *number* on, at most *limit* of them.

        A *number* that is still to come gives no events.
        """
        first = min(max(number, self.oldest), self.next)
        end = self.next if limit is None else min(self.next, first + max(0, limit))
        events: list[Event] = []
        if first < end:
            start = (first - self.start) % self.capacity
            stop = (end - 1 - self.start) % self.capacity + 1
            if start < stop:
                events = self._slots[start:stop]
            else:
                events = self._slots[start:] + self._slots[:stop]
        return Excerpt(first, events, max(0, first - max(number, self.start)))
