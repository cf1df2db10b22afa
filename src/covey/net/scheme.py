"""What join strings begin with: all that must be known to keep them away from others.

A room of its own, since a process that somebody waits for needs no more of them before
it starts its runners.
"""

from __future__ import annotations

from typing import Final

SCHEME: Final = "covey://"


def is_join_string(text: str) -> bool:
    """Whether *text* is meant to be a join string."""
    return text.strip().startswith(SCHEME)
