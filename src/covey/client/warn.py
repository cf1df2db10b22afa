"""Warnings that point at the line of the user, however deep in covey they arise."""

from __future__ import annotations

import sys
import warnings
from types import FrameType


def is_ours(frame: FrameType | None) -> bool:
    """Whether *frame* runs code of covey."""
    if frame is None:
        return False
    name = str(frame.f_globals.get("__name__", ""))
    return name == "covey" or name.startswith("covey.")


def warn(text: str) -> None:
    """Warn at the line, outside of covey, from which all this was called."""
    frame = sys._getframe(1)
    level = 2
    while is_ours(frame) and frame.f_back is not None:
        frame = frame.f_back
        level += 1
    warnings.warn(text, stacklevel=level)
