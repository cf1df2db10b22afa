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


def _place(span: Span) -> int:
    """Return the number of the worker where *span* lies, or runs; 0 for none."""
    worker = span.replicas[0] if span.replicas else span.worker
    return worker.peer if worker is not None else 0


class Leftovers:
    """What a step may not do any more, because it would take too long; others go on.

    Each step has an ``allowance``, of so many spans as may be let go of or fail
    ``at_once``.
    """

    __slots__ = ("allowance", "any", "at_once", "doomed", "gone", "thinned", "unkept")

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
        #: Whether there may be anything of these.
        self.any = False

    def let_go_later(self, spans: dict[Span, None]) -> None:
        """Leave spans that nobody may keep any more."""
        self.any = True
        if spans is not self.unkept:
            self.unkept.update(spans)

    def bring_together(self, spans: list[Span]) -> None:
        """Let go one after the other of those that lie on one worker: it is told once.

        As it is anyway of all that one step lets go of.
        """
        unkept = self.unkept
        if len(unkept) <= self.allowance:
            return
        for span in sorted(spans, key=_place, reverse=True):
            if span in unkept:
                del unkept[span]
                unkept[span] = None

    def fail_later(self, spans: dict[Span, None]) -> None:
        """Leave spans of which an input has failed."""
        self.any = True
        if spans is not self.doomed:
            self.doomed.update(spans)

    def strike_later(self, client: Client) -> None:
        """Leave the wishes of a client that is gone."""
        self.any = True
        self.gone[client.number] = client

    def thin_later(self, pack: Pack, base: TaskId, n: int) -> None:
        """Leave a pack of which little is needed, and whose tasks are these."""
        self.any = True
        self.thinned[pack] = (base, n)

    def see(self) -> None:
        """Some may have been done with: look whether there are any yet."""
        self.any = bool(self)

    def __bool__(self) -> bool:
        return bool(self.unkept or self.doomed or self.gone or self.thinned)
