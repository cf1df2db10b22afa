"""The table of what came out otherwise, which ``versions`` keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from covey.scheduler.core.state import Span, Worker
    from covey.wire.base import Extent


class Versions:
    """Tasks that gave another value when they ran again."""

    __slots__ = ("count", "outdated", "refused")

    def __init__(self) -> None:
        #: How many different values they gave, where that is not one.
        self.count: dict[Span, int] = {}
        #: What was made of an earlier value, until it has run again.
        self.outdated: dict[Span, None] = {}
        #: Of workers that have come back: their copies of other versions, as long as
        #: something that they have made of them may be told, or asked for.
        self.refused: dict[Worker, list[Extent]] = {}

    def forget(self, span: Span) -> None:
        """Nobody will ask for *span* again."""
        self.count.pop(span, None)
        self.outdated.pop(span, None)
