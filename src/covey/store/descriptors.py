"""How many files this process may have open, and what is done when that gets short.

Every segment takes a descriptor, here in whoever holds it and there in whoever maps it.
The kernel gives the lowest number that is free, so the number of the one that was opened
last tells how many there are: nobody has to count them.

::

    0 ............................... 3/4 ............ 7/8 ......... limit
    │ a segment for each large value   │ small ones    │ only links,  │
    │                                  │ are kept as   │ runners and  │
    │                                  │ bytes         │ user's files │
"""

from __future__ import annotations

import os
import resource
from typing import Final

#: What macOS allows where it says that there is no limit.
_OPEN_FILES: Final = 10_240

#: So many descriptors in eight may be those of values, and of readers.
_VALUES_EIGHTHS: Final = 6
_READERS_EIGHTHS: Final = 7


def limit() -> int:
    """Return how many files this process may have open at present."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 30


def raise_limit() -> None:
    """Let this process, and those that it starts, open as many files as it may.

    Every large value and every link takes one, and the usual limit is from a time when
    1024 were many.  Anybody may raise it as far as the administrator lets them.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    for at_most in (hard, _OPEN_FILES):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (at_most, hard))
        except (OSError, ValueError):
            continue  # Some kernels allow less than they say.
        return


def are_scarce(fd: int) -> bool:
    """Whether the store should not take many more like *fd*, which was just opened."""
    return 8 * fd >= _VALUES_EIGHTHS * limit()


def are_short(fd: int) -> bool:
    """Whether *fd*, which was just opened, is one that should be left to others."""
    return 8 * fd >= _READERS_EIGHTHS * limit()


def room_for_copy_of(fd: int) -> bool:
    """Whether there may be one more of *fd* for long; the limit is raised if need be."""
    if _next_is_short(fd):
        raise_limit()
        return not _next_is_short(fd)
    return True


def _next_is_short(fd: int) -> bool:
    try:
        other = os.dup(fd)
    except OSError:
        return True
    os.close(other)
    return are_short(other)


def problem(whose: str = "this") -> str:
    """Say that there are none left, and what to do, as a part of a sentence.

    Args:
        whose: which process it is.
    """
    return (
        f"{whose} process may have {limit():,} files open, and each large value takes one; "
        f"let go of values, or raise the limit (ulimit -n)"
    )
