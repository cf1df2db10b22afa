"""Handlers of signals that come in the middle of a call of their own thread.

A handler may use covey.  But Python calls it wherever the thread is, and that may be in the
midst of entering a task, or of writing to the scheduler.  What the call below holds then
nobody gets before the handler has returned::

    submit ── takes a lock ──┐
                             └── signal ── handler ── submit, result ── needs that lock

Such a handler would wait for itself, and is told so at once.
"""

from __future__ import annotations

from typing import Any

from covey.errors import UsageError


def check_free(lock: Any) -> None:
    """Raise if this very thread has *lock*, a ``threading.RLock``, below a handler.

    Raises:
        UsageError: it has; says what to do.
    """
    if lock._is_owned():
        raise UsageError(
            "a signal came while this thread was in the middle of a call of this client, "
            "which cannot go on before the handler of the signal has returned, and that "
            "handler asks for something that has to wait for it. Have it set an event, or "
            "put what is to be done into a queue.SimpleQueue, for another thread"
        )


def is_amid(lock: Any) -> bool:
    """Whether this very thread has *lock*, a ``threading.RLock``."""
    owned: bool = lock._is_owned()
    return owned
