"""Where the dashboard of a cluster is, that is not one of this process."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from covey.client.warn import warn

if TYPE_CHECKING:
    from covey.client.fetching import Session


def dashboard_of(session: Session) -> str | None:
    """Return a link, good for one visit; ``None``, with a warning, if there is none."""
    secret = session.engine.keys.client
    if secret is None:
        return None
    place = session.ask("info").get("dashboard")
    if not place:
        warn(
            f"the cluster at {session.engine.address} has no dashboard of its own; "
            f"`covey dashboard` serves one"
        )
        return None
    # A surrounding of ours, one floor up: found by name, when asked for.
    launch = import_module("covey.dashboard.launch")
    made: str = launch.link(secret, place)
    return made
