"""Ctrl-C that comes where Python swallows it: as something is being dropped.

Python prints what ``__del__`` or the callback of a weak reference raises, and goes on as if
nothing had been: a program that drops futures all the time could not be interrupted. All
of it shows up here, whether it came inside of such a function or at the moment when that
was entered, and is brought again::

    Ctrl-C ──► Future.__del__ ──raises──► sys.unraisablehook ──a little later──► Ctrl-C

It may be anybody's ``__del__``, or a callback of Python's own weak dictionaries: whoever
pressed Ctrl-C meant the program.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any, Final

#: A signal that comes just before a thread blocks does not wake it, and where ``__del__``
#: was called it may be about to.
AGAIN_SECONDS: Final = 0.05

_lock: Final = threading.Lock()
_installed: Final[list[bool]] = []


def bring_again() -> None:
    """From now on, interrupt the program once more where an interrupt was swallowed."""
    with _lock:
        if _installed:
            return
        _installed.append(True)
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        swallowed = unraisable.exc_type is KeyboardInterrupt
        # Signals are handled in the main thread: in others it is not Ctrl-C.
        if swallowed and threading.current_thread() is threading.main_thread():
            _interrupt_soon()
        else:
            before(unraisable)

    sys.unraisablehook = hook


def _interrupt_soon() -> None:
    main = threading.main_thread().ident
    again = threading.Timer(AGAIN_SECONDS, signal.pthread_kill, (main, signal.SIGINT))
    again.daemon = True
    again.start()
