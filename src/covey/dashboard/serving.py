"""Serving the site, in a process of its own or in that of a command."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

import uvicorn

from covey.dashboard.access import Gate
from covey.dashboard.feed import Feed
from covey.dashboard.links import names
from covey.dashboard.site import Site
from covey.secret import Secret


def serve(
    feed: Feed,
    secret: Secret,
    listening: socket.socket,
    on_start: Callable[[], None],
    *,
    lifeline: bool = False,
    pages: bool = True,
) -> None:
    """Serve until the process is told to end.

    Args:
        feed: what is shown.
        secret: the cluster's, from which codes and cookies are made.
        listening: a bound socket.
        on_start: called when the site is served.
        lifeline: end when the standard input does.
        pages: whether there are pages, or numbers for Prometheus only.
    """

    async def run() -> None:
        port = listening.getsockname()[1]
        site = Site(feed, Gate(secret), port, names(), pages=pages)
        server = _Server(
            site,
            uvicorn.Config(
                site.app,
                log_level="error",
                access_log=False,
                ws_max_size=1 << 16,
                server_header=False,
                timeout_graceful_shutdown=1,
            ),
        )

        def end() -> None:
            server.should_exit = True

        if lifeline:
            await _watch_lifeline(end)
        on_start()
        await server.serve(sockets=[listening])

    asyncio.run(run())


class _Server(uvicorn.Server):
    """Lets pages go before it ends: they wait for news that will not come."""

    def __init__(self, site: Site, settings: uvicorn.Config) -> None:
        super().__init__(settings)
        self._site = site

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End in order."""
        self._site.let_go()
        await super().shutdown(sockets)


async def _watch_lifeline(end: Callable[[], None]) -> None:
    class Lifeline(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            del exc
            end()

    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(Lifeline, os.fdopen(0, "rb", closefd=False))
