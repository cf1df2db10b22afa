"""Warnings that point at the line of the user, however deep in covey they arise."""

from __future__ import annotations

import logging
import sys
import warnings
from types import FrameType
from typing import Any


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


def pass_on(text: str, told: dict[Any, int]) -> None:
    """Warn of what the scheduler says, where no line would help the reader.

    Args:
        text: what it says.
        told: the registry of what was said before.
    """
    try:
        warnings.warn_explicit(text, UserWarning, "covey", 0, registry=told)
    except UserWarning:
        # Where warnings are errors, this one may not end the I/O thread.
        logging.getLogger("covey.client").warning(text)
