"""Two links joined: what comes on the one goes out on the other, unread.

Nothing is kept but what the kernel does not take at once, which is less than a
megabyte in each direction: while it is full, the other side is not read from.

All joined links of a loop share a ration: so many pieces are passed on in one turn, and
whose piece was one too many reads on in a later turn.  So whoever else lives in that
loop is never held up for longer than that takes, however many there are::

    peer ──► link ──► Pipe ──► link ──► peer
               ▲        │ full, or no ration
               └─ hold ─┘
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from covey.net.link import Link
from covey.payload import Buffer

#: What comes as raw bytes never ends before the link does.
_ENDLESS: Final = 1 << 62

#: So many pieces, of at most ``link.READ_BYTES``, are passed on in one turn.
PIECES_A_TURN: Final = 4


class Ration:
    """What may be passed on in one turn of the loop."""

    def __init__(self) -> None:
        self._left = PIECES_A_TURN
        self._waiting: deque[Pipe] = deque()
        self._is_due = False

    def take(self, pipe: Pipe) -> None:
        """*pipe* has passed a piece on; it may have to wait before the next."""
        self._left -= 1
        if self._left < 0:
            pipe.wait()
            self._waiting.append(pipe)
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._renew)

    def _renew(self) -> None:
        self._left = PIECES_A_TURN
        for _ in range(min(PIECES_A_TURN, len(self._waiting))):
            self._waiting.popleft().its_turn()
        self._is_due = bool(self._waiting)
        if self._is_due:
            asyncio.get_running_loop().call_soon(self._renew)


class Pipe:
    """Takes what comes on one link to another one.

    Args:
        source: where it comes from.
        target: where it goes.
        ration: shared by all pipes of the loop.
        passed: told how many bytes were passed on.
    """

    def __init__(
        self, source: Link, target: Link, ration: Ration, passed: Callable[[int], None]
    ) -> None:
        self._source = source
        self._target = target
        self._ration = ration
        self._passed = passed
        self._is_full = False
        self._waits = False
        target.on_full = self._on_full
        source.expect_raw(_ENDLESS, self)

    def take(self, data: Buffer) -> None:
        """Pass the next bytes on."""
        # What they lie in is used again, and the kernel may not take all of them now.
        self._target.pour(bytes(data))
        self._passed(len(data))
        self._ration.take(self)

    def give_up(self) -> None:
        """The source is lost; whoever joined the two sees to the other one."""

    def wait(self) -> None:
        """Others have their turn first."""
        self._change(self._is_full, True)

    def its_turn(self) -> None:
        """There is a ration again."""
        self._change(self._is_full, False)

    def _on_full(self, full: bool) -> None:
        self._change(full, self._waits)

    def _change(self, full: bool, waits: bool) -> None:
        held = self._is_full or self._waits
        self._is_full, self._waits = full, waits
        if held != (full or waits):
            if held:
                self._source.go_on()
            else:
                self._source.hold()


def splice(
    one: Link, other: Link, ration: Ration, passed: Callable[[Link, int], None]
) -> None:
    """Join two links for good; *passed* is told of each piece, and where it came from."""
    Pipe(one, other, ration, lambda nbytes: passed(one, nbytes))
    Pipe(other, one, ration, lambda nbytes: passed(other, nbytes))
