"""The table of what came out otherwise, which ``versions`` keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from covey.scheduler.core.state import Span


class Versions:
    """Tasks that gave another value when they ran again."""

    __slots__ = ("count", "outdated")

    def __init__(self) -> None:
        #: How many different values they gave, where that is not one.
        self.count: dict[Span, int] = {}
        #: What was made of an earlier value, until it has run again.
        self.outdated: dict[Span, None] = {}
