"""``profile``: what code runs on a cluster, over some seconds."""

from __future__ import annotations

import time
from typing import Any, Final

from covey import clock
from covey.client.current import get_client
from covey.stacks import Profiles

#: How often the scheduler is asked for what was seen.
_PACE_SECONDS: Final = 1.0

#: A busy machine may take so much longer to tell the first time.
_LATE_SECONDS: Final = 10.0

#: A number that no entry has yet: only what comes from now on.
_NEW: Final = 1 << 62


def profile(seconds: float = 5.0, client: Any = None) -> Profiles:
    """Look at what runs on a cluster for so many seconds, and return what was seen.

    Every runner looks at its tasks a hundred times a second, and so do scheduler and
    workers at themselves, for as long as somebody asks and not at all otherwise.

    Args:
        seconds: how long to look.
        client: whose cluster; the current client if none is given.

    Returns:
        The stacks that were seen, by worker and function: ``tree(function, worker)``
        gives one of them, or all added up.
    """
    chosen = get_client() if client is None else client
    found = Profiles()
    began = clock.monotonic()
    number = _take(found, chosen, _NEW)
    while (left := began + seconds - clock.monotonic()) > 0:
        time.sleep(min(left, _PACE_SECONDS))
        number = _take(found, chosen, number)
    # What was seen in the last second is told in the next one.
    time.sleep(1.5 * _PACE_SECONDS)
    number = _take(found, chosen, number)
    end = clock.monotonic() + _LATE_SECONDS
    while _is_late(found, chosen) and clock.monotonic() < end:
        time.sleep(_PACE_SECONDS)
        number = _take(found, chosen, number)
    return found


def _is_late(found: Profiles, client: Any) -> bool:
    """Whether tasks run, and not one of them was told of yet."""
    return not found.subjects() and bool(client.session.ask("overview")["running"])


def _take(found: Profiles, client: Any, number: int) -> int:
    answer = client.session.ask("profile", number=number)
    for at, worker, label, names, nodes in answer["seen"]:
        found.add(at, worker, label, names, nodes)
    return int(answer["next"])
