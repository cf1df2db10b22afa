"""Whether this process is a fork of the one that made something.

Asking the system for the process id takes longer than all else that a client checks
at every call.
"""

from __future__ import annotations

import os

#: How many forks lie between this process and the one that imported covey.
count = 0


def _forked() -> None:
    global count  # noqa: PLW0603  (a process has one count of its forks)
    count += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
