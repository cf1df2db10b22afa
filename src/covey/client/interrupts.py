"""Ctrl-C that comes just when a future is being dropped.

Python prints what ``__del__`` raises and goes on as if nothing had been: a program that
drops futures all the time could not be interrupted.  All of it shows up here, whether it
came inside of ``__del__`` or at the moment when that was entered, and is brought again::

    Ctrl-C ──► Future.__del__ ──raises──► sys.unraisablehook ──a little later──► Ctrl-C
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any, Final

from covey.client.future import Future, Futures
from covey.client.waiting import as_completed

#: A signal that comes just before a thread blocks does not wake it, and where ``__del__``
#: was called it may be about to.
AGAIN_SECONDS: Final = 0.05

#: What is called where the last handle of something is dropped.
_DROPPING: Final = (Future.__del__, Futures.__del__, as_completed.__del__)

_lock: Final = threading.Lock()
_installed: Final[list[bool]] = []


def bring_again() -> None:
    """From now on, interrupt the program once more when dropping a future swallowed it."""
    with _lock:
        if _installed:
            return
        _installed.append(True)
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        dropping = unraisable.object in _DROPPING
        if dropping and unraisable.exc_type is KeyboardInterrupt:
            _interrupt_soon()
        else:
            before(unraisable)

    sys.unraisablehook = hook


def _interrupt_soon() -> None:
    main = threading.main_thread().ident
    again = threading.Timer(AGAIN_SECONDS, signal.pthread_kill, (main, signal.SIGINT))
    again.daemon = True
    again.start()
