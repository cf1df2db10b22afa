"""Warnings that point at the line of the user, however deep in covey they arise."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from pathlib import Path
from types import FrameType
from typing import Any, Final

#: Where Python's own library is.
_LIBRARY: Final = str(Path(os.__file__).parent)


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


def _where_it_stands() -> tuple[str, int]:
    """Return file and line of the user's at which the program's main thread is."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        name = frame.f_code.co_filename
        pythons = name.startswith((_LIBRARY, "<frozen")) and "-packages" not in name
        if not (pythons or is_ours(frame)):
            return name, frame.f_lineno
        frame = frame.f_back
    return "covey", 0


class PassedOn:
    """Warnings of what the scheduler says, at the line where the program is just then."""

    def __init__(self) -> None:
        self._told: dict[Any, int] = {}
        #: Where each was told first: there it is told again, if at all.
        self._places: dict[str, tuple[str, int]] = {}

    def warn(self, text: str) -> None:
        """Warn of *text*, which came in the I/O thread."""
        if text not in self._places:
            self._places[text] = _where_it_stands()
        file, line = self._places[text]
        try:
            warnings.warn_explicit(text, UserWarning, file, line, registry=self._told)
        except UserWarning:
            # Where warnings are errors, this one may not end the I/O thread.
            logging.getLogger("covey.client").warning(text)
