"""Ctrl-C at each place in a call where it could come, one after the other."""

from __future__ import annotations

import gc
import sys


class Interrupt(BaseException):
    """Comes where Ctrl-C could: where a function is entered or left."""


def interrupted_at(event, call):
    """Interrupt *call* at its *event*-th event; false if there are not so many."""
    seen, armed, kept = 0, True, None

    def profile(frame, kind, arg):
        nonlocal seen
        if kind == "c_call":
            return  # Python looks for signals behind a call in C, and not before it.
        seen += armed
        if armed and seen == event:
            raise Interrupt

    gc.disable()  # What it finalizes is none of this.
    sys.setprofile(profile)
    try:
        kept = call()
        armed = False
    except Interrupt:
        armed = False
        return True
    finally:
        sys.setprofile(None)
        gc.enable()
        del kept
    return False
