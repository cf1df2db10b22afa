"""Booking outcomes undisturbed."""

from __future__ import annotations

import threading
from typing import Protocol


class Booker(Protocol):
    """A loop that books outcomes; see ``loop``."""

    shielded: bool
    busy: bool
    booking: threading.RLock

    def shield(self) -> None:
        """Let no interrupt in from here on."""


class Settling:
    """``with``: no interrupt is raised, and nobody else books outcomes.

    Finalizers may run in it, as anywhere, and may print: what they print waits.
    """

    __slots__ = ("_loop", "_was_busy", "_was_shielded")

    def __init__(self, loop: Booker) -> None:
        self._loop = loop

    def __enter__(self) -> None:
        loop = self._loop
        self._was_shielded, self._was_busy = loop.shielded, loop.busy
        if not loop.shielded:
            loop.shield()
        loop.busy = True
        loop.booking.acquire()

    def __exit__(self, *_: object) -> None:
        loop = self._loop
        loop.booking.release()
        loop.busy = self._was_busy
        loop.shielded = self._was_shielded


class Shielded:
    """``with``: no interrupt is raised; others book outcomes meanwhile.

    Memory that was written in vain would stay ours, or lent to us.
    """

    __slots__ = ("_loop",)

    def __init__(self, loop: Booker) -> None:
        self._loop = loop

    def __enter__(self) -> None:
        self._loop.shield()

    def __exit__(self, *_: object) -> None:
        self._loop.shielded = False


def bytecode() -> None:
    """Be a place where the interpreter raises what was sent to this thread."""
