"""The dashboard of ``covey scheduler``: a door that costs nothing until somebody knocks."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from covey.dashboard.launch import Dashboard
from covey.errors import StartFailed, UsageError
from covey.net.addresses import is_wildcard
from covey.net.join_string import Connection

#: So often it is looked whether the process is still there.
LOOK_SECONDS: Final = 2.0


class Places(NamedTuple):
    """Where a scheduler lets itself be watched, ``HOST:PORT`` or ``:PORT``; or nowhere.

    Attributes:
        dashboard: its pages; at another port if that is taken.
        metrics: numbers for Prometheus, and nothing else; there, or it is an error.
    """

    dashboard: str | None = None
    metrics: str | None = None


class Door:
    """Listens for the first visitor, and starts the dashboard's process then.

    If that process ends, in whatever way, the next visitor starts another one.

    Args:
        connection: the cluster.
        place: where to listen, ``HOST:PORT`` or ``:PORT``.
        pages: whether there is more behind it than numbers for Prometheus.

    Raises:
        UsageError: nothing can listen there.
        StartFailed: a package is missing.
    """

    def __init__(
        self, connection: Connection, place: str, *, pages: bool = True
    ) -> None:
        self.dashboard = Dashboard(_near(connection), place, pages=pages)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._wait()

    def _wait(self) -> None:
        self._loop.add_reader(self.dashboard.socket, self._knock)

    def _knock(self) -> None:
        """Somebody has come; the new process lets them in."""
        self._loop.remove_reader(self.dashboard.socket)
        self.dashboard.start()
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        if self.dashboard.alive:
            self._timer = self._loop.call_later(LOOK_SECONDS, self._look)
        else:
            self._wait()

    def renew(self, connection: Connection) -> None:
        """The cluster has other secrets; pages that are open must be opened anew."""
        self.dashboard.renew(_near(connection))

    def close(self) -> None:
        """Let nobody in any more, and end the process."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self.dashboard.socket)
        self.dashboard.close()


def _near(connection: Connection) -> Connection:
    """Return how the cluster is reached from this machine."""
    address = connection.address
    if not is_wildcard(address.host):
        return connection
    near = "::1" if ":" in address.host else "127.0.0.1"
    return connection._replace(address=address._replace(host=near))


def open_door(connection: Connection, place: str | None) -> tuple[Door | None, str]:
    """Return a door at *place*, or why there is none."""
    if place is None:
        return None, ""
    try:
        return Door(connection, place), ""
    except (StartFailed, UsageError) as error:
        return None, f"no dashboard: {error}"
