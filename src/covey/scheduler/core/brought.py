"""Values that a client has brought, keeps the memory of, and can bring again.

::

    DONE ──(lost with its last worker)──► RELEASED ──needed──► WAITING ──► DONE
                                                    BringAgain │     Placed, elsewhere
                                                               └──► FAILED
                                              NotBrought, or the client is gone

What takes such a value waits with it, as for one that is made anew.
"""

from __future__ import annotations

from covey.ids import client_of
from covey.scheduler.core.state import SchedulerState, Span, State
from covey.wire.client_link import BringAgain


def ask(state: SchedulerState, span: Span) -> bool:
    """Have the client bring a lost value again, if it can; say whether it is asked."""
    client = state.client_numbers.get(client_of(span.base))
    if span not in state.brought or client is None:
        return False
    state.brought[span] = True
    state.send(client.peer, BringAgain(span.base))
    return True


def awaited(state: SchedulerState, span: Span) -> bool:
    """Whether *span* waits for nothing but its client."""
    return span.state is State.WAITING and state.brought.get(span, False)


def awaited_of(state: SchedulerState, number: int) -> list[Span]:
    """Return what waits for the client of that number."""
    return [
        span
        for span, asked in state.brought.items()
        if asked and client_of(span.base) == number
    ]
