"""Booking outcomes undisturbed."""

from __future__ import annotations

import threading
from typing import Protocol


class Booker(Protocol):
    """A loop that books outcomes; see ``loop``."""

    shielded: bool
    booking: threading.RLock

    def shield(self) -> None:
        """Let no interrupt in from here on."""


class Settling:
    """``with``: no interrupt is raised, and nobody else books outcomes."""

    __slots__ = ("_before", "_loop")

    def __init__(self, loop: Booker) -> None:
        self._loop = loop

    def __enter__(self) -> None:
        loop = self._loop
        self._before = loop.shielded
        loop.shield()
        loop.booking.acquire()

    def __exit__(self, *_: object) -> None:
        loop = self._loop
        loop.booking.release()
        loop.shielded = self._before
