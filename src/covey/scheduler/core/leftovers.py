"""What steps of the scheduler's core leave for the steps that follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from covey.ids import ClientId, TaskId

if TYPE_CHECKING:
    from covey.payload import Pack
    from covey.scheduler.core.state import Client, Span

#: So many spans are let go of, or fail, in one step of the core: some milliseconds.
#: Where there are more, other steps follow at once.
AT_ONCE: Final = 512


class Leftovers:
    """What a step may not do any more, because it would take too long; others go on.

    Each step has an ``allowance``, of so many spans as may be let go of or fail
    ``at_once``.
    """

    __slots__ = ("allowance", "at_once", "doomed", "gone", "thinned", "unkept")

    def __init__(self) -> None:
        #: Spans that nobody may keep any more.
        self.unkept: dict[Span, None] = {}
        #: Spans of which an input has failed.
        self.doomed: dict[Span, None] = {}
        #: Clients that are gone, with wishes still to be struck out.
        self.gone: dict[ClientId, Client] = {}
        #: Packs of arguments of which little is needed any more: (base, n) of their tasks.
        self.thinned: dict[Pack, tuple[TaskId, int]] = {}
        self.at_once = self.allowance = AT_ONCE

    def __bool__(self) -> bool:
        return bool(self.unkept or self.doomed or self.gone or self.thinned)
