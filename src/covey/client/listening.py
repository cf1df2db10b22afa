"""A thread that waits for one result, and takes it from the socket by itself.

What it acts on is what nearly always comes in answer to a single task: the small value of
a task that was submitted by itself, for which nobody waits but threads like this one.  All
else is for the I/O thread, which has what this one has not: a loop.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from covey.client.countdown import End
from covey.wire.client_link import Finished

if TYPE_CHECKING:
    from covey.client.engine import Engine


def listen(engine: Engine, end: End, timeout: float | None) -> bool:
    """Wait until a task has ended; false if it has not within *timeout* seconds."""
    line = engine.line
    if line is None or threading.get_ident() == engine.thread_id:
        return end.wait(timeout)
    take = partial(_take, engine)
    return line.listen(end, timeout, take, engine.early, engine.has_time)


def _take(engine: Engine, batch: list[Any]) -> bool:
    """Act on messages; false if they are for the I/O thread.

    An interrupt may come in the middle: then they come again.
    """
    ended = engine.wishes.ended_alone
    for message in batch:
        if type(message) is not Finished:
            return False
        base, data = message.base, message.data
        if message.sizes != len(data).to_bytes(4, "little"):
            return False  # It is of several tasks.
        if not ended(base, data, End):
            return False
    engine.outbox.quiet = True
    if not engine.lull_is_coming:
        expect_lull(engine)
    return True


def expect_lull(engine: Engine) -> None:
    """This thread has taken in what has come, and no lull is coming."""
    engine.loop.call_soon_threadsafe(engine.expect_lull)
