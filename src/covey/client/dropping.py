"""Handles that nobody holds any more, and what the scheduler is told of them.

Any thread drops a future, at any moment; the I/O thread lets go of its task and tells the
scheduler, of many at once where many are dropped.  Who asks for one result after the other
drops one future each time, and tells of it by itself, at a moment at which nobody waits for
the scheduler::

    thread       submit ─► │ part ─► wait ······· result │ submit ─► part ─► ···
    scheduler              run it ─► let go of the last ─►

All of them together, as the I/O thread tells them, would keep the scheduler from whatever comes
at that moment.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from covey.client.core.ranges import Range, Status
from covey.client.extents import RELEASED_AT_ONCE, join_extents
from covey.client.handles import Copies, Handles, are_small, emptied, joined, taken_out
from covey.client.midst import is_amid
from covey.wire.client_link import Release

if TYPE_CHECKING:
    from covey.client.engine import Engine
    from covey.client.future import Future
    from covey.wire.base import Extent

_FINISHED: Final = int(Status.FINISHED)

#: Who tells of them by himself does so when there are so many.
FEW: Final = 4

#: It looks for them among so many that were dropped last.
LAST: Final = 2 * FEW


class Dropper:
    """Lets go of the tasks of one client."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        #: Taken by whoever changes how many handles a range has.
        self._holding = threading.RLock()
        self._copies = Copies()
        self._dropped: list[Handles] = []
        self._drop_is_due = False
        #: An item for each range whose futures are being dropped at this moment.
        self._dropping: list[None] = []
        engine.outbox.catch_up = self._send_dropped

    # Called from ``__del__``: no locks, no waiting, no errors.

    def release(self, wish: Range, index: int, n: int) -> None:
        """Nobody here holds these futures any more."""
        self.let_go([(wish, index, n)])

    def let_go(self, handles: Handles) -> None:
        """Nobody here holds these futures any more; the I/O thread empties the list."""
        self._dropped.append(handles)
        if self.engine.lull_is_coming and (self._dropping or are_small(handles)):
            return
        if not self._drop_is_due and not self.engine.closed:
            self._drop_is_due = True
            try:
                self.engine.loop.call_soon_threadsafe(self._send_dropped)
            except RuntimeError:
                return  # The loop has ended; the cluster forgets us anyway.

    def drop_in_order(
        self, made: dict[int, Future[Any]], items: list[Future[Any]] | None
    ) -> None:
        """Let go of the futures of a map by their places, and tell of all at once.

        Whichever were made first: so these are few stretches for the scheduler.
        """
        if made or items:
            try:
                # Ctrl-C may come right behind it: then nothing would be let go any more.
                self._dropping.append(None)
                for index in sorted(made):
                    del made[index]
                if items:
                    items.clear()
            finally:
                if self._dropping:
                    self._dropping.pop()
                self.let_go([])

    def let_go_once_more(self, handles: Handles) -> None:
        """Ctrl-C came in the middle of ``let_go``; twice is once: the list is emptied."""
        self._drop_is_due = False
        self.let_go(handles)

    def _send_dropped(self) -> None:
        self._drop_is_due = False
        if not self._dropped or self._dropping:
            return
        dropped, self._dropped = self._dropped, []
        dropped = [handles for handles in dropped if handles]
        if untold := self.engine.wishes.untold:
            # Their time comes in the lull after the scheduler has told of them.
            self._dropped.append(taken_out(dropped, untold))
        # What is posted in here comes before whatever is made because of it.
        with self._holding:
            pending = self._release(self._copies.last(joined(emptied(dropped))))
        # Who still waits for one that was released may do what needs that lock.
        for wish, lo, n in pending:
            wish.give_up(lo, n)

    def _release(self, dropped: Iterable[tuple[Range, int, int]]) -> Handles:
        """Let go of handles, the last of their tasks; return those of pending ranges."""
        engine, extents, pending = self.engine, [], []
        for wish, lo, n in dropped:
            base = wish.base
            wish.held = left = wish.held - n
            if left > 0:
                if wish.n == 1:
                    continue  # Another handle of the same task is alive.
                wish.let_go(lo, n)
            else:
                engine.wishes.remove(wish)
                engine.kept_as.pop(base, None)
                engine.tokens.pop(base, None)
                wish.holds = ()
            if wish.pending:
                pending.append((wish, lo, n))
            extents.append((base + lo, n))
        joined = join_extents(extents)
        for at in range(0, len(joined), RELEASED_AT_ONCE):
            engine.post(Release(tuple(joined[at : at + RELEASED_AT_ONCE])))
        engine.asker.tidy()
        return pending

    # Called by a thread that has said something and is about to wait.

    def part(self) -> None:
        """Tell the scheduler of what was dropped last, if that is simple.

        That are the last futures of tasks that were submitted one by one, and whose values
        have come.  An interrupt may come anywhere: then the I/O thread does all of it once more, to no
        effect.
        """
        last = self._dropped[-LAST:]
        # Not in the handler of a signal that has come in the middle of this.
        if sum(map(len, last)) < FEW or self._dropping or is_amid(self._holding):
            return
        engine = self.engine
        untold = engine.wishes.untold
        extents: list[Extent] = []
        told: list[Handles] = []
        with self._holding:
            for handles in last:
                if len(handles) != 1:
                    continue
                wish = handles[0][0]
                if wish.n > 1 or wish.held != 1 or wish.name is not None:
                    continue
                base = wish.base
                if wish.status[0] != _FINISHED or base in untold:
                    continue
                if base in engine.tokens or base in engine.kept_as:
                    continue
                # From here on nobody gets another handle of it.
                wish.held = 0
                engine.wishes.remove(wish)
                wish.holds = ()
                extents.append((base, 1))
                told.append(handles)
        if extents:
            engine.outbox.part(Release(tuple(extents)))
            for handles in told:
                handles.clear()
