"""What a client shows of its own accord: progress, and what tasks print."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from covey.client.engine import Engine


class Shown(Protocol):
    """Something that is shown until it is told to stop."""

    def close(self) -> None:
        """Show what is there by now, and no more."""


class Shows(NamedTuple):
    """What the user of a client wants to see.

    Attributes:
        prints: what tasks print.
        progress: how far the work is.
    """

    prints: bool = False
    progress: bool = False

    def begin(self, engine: Engine, cluster: Any) -> list[Shown]:
        """Begin to show it; *cluster* is the one the client came with, if any."""
        shown: list[Shown] = []
        if self.prints and not _come_anyway(cluster):
            from covey.client.prints import Prints

            shown.append(Prints(engine))
        if self.progress:
            from covey.client.progress import Standing

            shown.append(Standing(engine))
        return shown


def _come_anyway(cluster: Any) -> bool:
    """Whether what tasks print goes where this process prints: once is enough."""
    if not getattr(cluster, "prints_here", False):
        return False
    if hasattr(sys.stdout, "watch_fd_thread"):
        return True  # A notebook's kernel shows what is written to its descriptors.
    try:
        return (sys.stdout.fileno(), sys.stderr.fileno()) == (1, 2)
    except (OSError, ValueError, AttributeError):
        return False  # Redirected: into a text, into nothing.
