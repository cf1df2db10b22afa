"""Interrupting a task that runs.

In the main thread of a runner a signal does it: it also wakes a task out of a
blocking system call.  SIGURG is the one that nobody uses and that does nothing
by default, so a stray one is harmless.  In another thread the interpreter
raises the exception at the next bytecode; a thread that is inside a blocking
call notices when the call returns.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Final

from covey.runner.context import TaskInterrupted, here

#: Where the code lies that imports modules.
_IMPORTER: Final = "<frozen importlib._bootstrap>"

#: Who is importing something is interrupted so much later.
_AGAIN_SECONDS: Final = 0.05


def install() -> None:
    """Handle the signal, in the main thread of a process of our own."""
    signal.signal(signal.SIGURG, _on_signal)


def _on_signal(_number: int, frame: FrameType | None) -> None:
    loop = here.loop
    if loop is None:
        return
    if _imports(frame):
        # A package that is left half imported stays broken for whoever comes next.
        # Who imports for too long is killed, like all who do not listen.
        threading.Timer(_AGAIN_SECONDS, signal_main_thread).start()
    elif loop.take_signal():
        raise TaskInterrupted


def _imports(frame: FrameType | None) -> bool:
    """Say whether a module is being imported, somewhere up the stack."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTER:
            return True
        frame = frame.f_back
    return False


def signal_main_thread() -> None:
    """Interrupt the task in the main thread, if it is still the same one."""
    ident = threading.main_thread().ident
    assert ident is not None
    signal.pthread_kill(ident, signal.SIGURG)


def raise_in_thread(thread_id: int) -> None:
    """Raise ``TaskInterrupted`` in a thread at its next bytecode.

    By then it may have moved on: see ``loop`` for what keeps that harmless.
    """
    import ctypes

    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread_id), ctypes.py_object(TaskInterrupted)
    )
