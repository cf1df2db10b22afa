"""The user's terminal, which a progress bar and the prints of tasks have to share.

A bar is the last line, drawn over and over.  What is printed meanwhile goes above it: the
line is erased, the text written, and the bar drawn again.
"""

from __future__ import annotations

import shutil
import sys
import threading
from typing import Final, TextIO

#: Go to the beginning of the line, and erase it.
_ERASE: Final = "\r\x1b[K"

_lock: Final = threading.RLock()
_bar = ""


def columns() -> int:
    """Return how many characters fit into a line."""
    return max(1, shutil.get_terminal_size().columns - 1)


def draw(text: str, *, last: bool = False) -> None:
    """Draw a bar on stderr, in place of the one before; the *last* one stays.

    Raises:
        OSError: the terminal has gone away; so may ``ValueError`` say.
    """
    global _bar  # noqa: PLW0603  (a process has one terminal)
    with _lock:
        sys.stderr.write(("\r" + text.ljust(columns())) + ("\n" if last else ""))
        sys.stderr.flush()
        _bar = "" if last else text


def write(text: str, stream: TextIO) -> None:
    """Write lines that end with a line's end, above the bar if there is one.

    Raises:
        OSError: nobody reads them any more; so may ``ValueError`` say.
    """
    with _lock:
        bar = _bar
        if bar:
            sys.stderr.write(_ERASE)
            sys.stderr.flush()
        stream.write(text)
        stream.flush()
        if bar:
            draw(bar)
