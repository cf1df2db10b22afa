"""Modules that were imported anew by a client, for runners that import the same files.

A runner of a local cluster imports its client's own modules from where the client has them,
and keeps them.  When the client imports one anew (``importlib.reload``), its functions
say so from then on::

    head: {"reloads": [whose, count, ["helpers", ...]]} | function

``count`` goes up with each module that was.  A runner that knows of fewer lets go of the
modules that are named, and imports them again when the function, or one after it, needs
them.  It lets go of all of the client's own, for the others may hold what the changed ones had
before.  Functions that were loaded before keep what they have.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Collection
from typing import Final

from covey.serde import bundles

_lock: Final = threading.Lock()

#: How many reloads this process knows of, by whose they are.
_known: Final[dict[str, int]] = {}

#: By process, the name of its modules: whoever has it needs no other ones.  A process that
#: was forked has its own.
_names: Final[dict[int, str]] = {}


def name_here() -> str:
    """Return the name of the modules of this process."""
    pid = os.getpid()
    known = _names.get(pid)
    return known or _names.setdefault(pid, f"{pid}-{os.urandom(4).hex()}")


def let_go(whose: str, count: int, names: Collection[str]) -> None:
    """Have modules imported anew, if more of them were reloaded than is known here.

    A runner that is a thread of its client's process has the modules that were reloaded.

    Args:
        whose: what ``name_here`` says where they were reloaded.
        count: how many reloads there were.
        names: the top-level modules that may hold what was there before.
    """
    if whose == name_here():
        return
    with _lock:
        if _known.get(whose, 0) >= count:
            return
        _known[whose] = count
    bundles.forget(names)
    importlib.invalidate_caches()
