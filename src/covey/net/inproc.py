"""A link within one process: two ends that hand each other batches of messages.

It has the face of ``Link`` as far as scheduler and worker use it, and the same
timing: what is sent within one turn of the loop arrives as one batch, later.  But who has
said all that is to be said for now can have the first of a turn handed over at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from covey.wire.base import Message


class InprocLink:
    """One end of a link to a peer in the same event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._outbox: list[Message] = []
        self._flush_is_due = False
        #: Whether something was handed over in this turn, before its end.
        self._hastened = False
        self.other: InprocLink | None = None
        self.on_messages: Callable[[Any, list[Any]], None] = _ignore
        self.on_lost: Callable[[Any, Exception | None], None] = _ignore
        self.lost = False
        self.peer: Any = None

    def send(self, message: Message) -> None:
        """Queue *message*; it arrives in a later turn of the loop."""
        self._outbox.append(message)
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self.flush)

    def send_all(self, messages: list[Message]) -> None:
        """Queue several messages."""
        self._outbox += messages
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self.flush)

    def send_first(self, messages: list[Message]) -> None:
        """Queue several messages, and hand them over as ``hasten`` does."""
        if self._hastened or self._outbox:
            self.send_all(messages)
            self.hasten()
            return
        self._hastened = True
        self._loop.call_soon(self.flush)
        other = self.other
        if other is not None and not other.lost:
            other.on_messages(other, messages)

    def hasten(self) -> None:
        """Hand over what is queued, if it is the first in this turn of the loop.

        The other end acts on it before this returns.
        """
        if self._flush_is_due and not self._hastened:
            self.flush()
            self._hastened = True

    def flush(self) -> None:
        """Hand over what is queued."""
        self._flush_is_due = self._hastened = False
        outbox = self._outbox
        if not outbox:
            return
        self._outbox = []
        other = self.other
        if other is not None and not other.lost:
            other.on_messages(other, outbox)

    def close(self) -> None:
        """End the link; the other end learns of it in a later turn."""
        if self.lost:
            return
        self.flush()
        self.lost = True
        other = self.other
        if other is not None and not other.lost:
            other.lost = True
            self._loop.call_soon(other.on_lost, other, None)

    abort = close


def _ignore(*_: object) -> None:
    """Until the owner has set its own callbacks, nothing can arrive."""


def inproc_pair() -> tuple[InprocLink, InprocLink]:
    """Return the two ends of a new link."""
    one, two = InprocLink(), InprocLink()
    one.other, two.other = two, one
    return one, two
