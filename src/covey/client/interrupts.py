"""Ctrl-C that comes just when a future is being dropped.

Python prints what ``__del__`` raises and goes on.  What comes inside of our ``__del__`` is
caught there; what comes at the moment when it is entered cannot be, and shows up here.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

from covey.client.future import Future, Futures

_AGAIN_SECONDS = 0.05

_lock = threading.Lock()
_installed: list[bool] = []


def bring_again() -> None:
    """From now on, interrupt the program once more when dropping a future swallowed it."""
    with _lock:
        if _installed:
            return
        _installed.append(True)
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        dropping = unraisable.object in (Future.__del__, Futures.__del__)
        if not (dropping and unraisable.exc_type is KeyboardInterrupt):
            before(unraisable)
            return
        main = threading.main_thread().ident
        again = threading.Timer(
            _AGAIN_SECONDS, signal.pthread_kill, (main, signal.SIGINT)
        )
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
