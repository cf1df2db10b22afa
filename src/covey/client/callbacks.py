"""What users want called when a task has ended, in a thread of its own.

A callback may do whatever it likes: fetch a value, submit more work, take its time.
So it must not run in the I/O thread, which would have to bring what it waits for::

    [I/O thread] a task has ended ──soon()──► queue ──► [callback thread] callback(future)

The thread is started by the first callback that has to wait, one for each client, and
calls one after the other, in the order in which the tasks ended.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from covey.errors import Closed, TaskCancelled

if TYPE_CHECKING:
    from covey.client.engine import Engine

#: A client that is closed gives the callbacks that are left so much time.
CLOSE_SECONDS: Final = 5.0


class Callbacks:
    """Calls what was asked for, one after the other.

    Args:
        engine: of the client that is waited for.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._calls: queue.SimpleQueue[tuple[Callable[..., object], Any] | None]
        self._calls = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def soon(self, callback: Callable[..., object], subject: Any) -> None:
        """Have ``callback(subject)`` called; return at once."""
        self._calls.put((callback, subject))
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run,
                    name=f"covey-callbacks-{self._engine.name}",
                    daemon=True,
                )
                self._thread.start()

    def close(self) -> None:
        """Wait for what is left to be called, but not for ever."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        self._calls.put(None)
        # A callback may close the client.
        if thread is not threading.current_thread():
            thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            callback, subject = call
            try:
                callback(subject)
            except (Closed, TaskCancelled) as error:
                # Who closes a client knows that nothing more is had of it.
                if not self._engine.closed:
                    _log(subject, error)
            except BaseException as error:
                # sys.exit() in a thread of its own ends no program, and not this thread.
                _log(subject, error)
            # Not kept until the next one comes: it holds a future.
            del call, callback, subject


def run_callback(callback: Callable[..., object], subject: Any) -> None:
    """Call it; an error is nobody's, so it is logged, as the standard library does."""
    try:
        callback(subject)
    except Exception as error:
        _log(subject, error)


def _log(subject: Any, error: BaseException) -> None:
    logger = logging.getLogger("covey.client")
    logger.error("a callback of %r raised", subject, exc_info=error)
