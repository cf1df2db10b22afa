"""The link to the scheduler, as an agent sees it."""

from __future__ import annotations

from typing import Protocol

from covey.wire.base import Message


class Upstream(Protocol):
    """The link to the scheduler, whatever it runs over."""

    def send(self, message: Message) -> None:
        """Queue a message."""

    def hasten(self) -> None:
        """Send what is queued now, if it is the first in this turn of the loop."""

    def close(self) -> None:
        """Say what is queued, and close."""
