"""Listening: on a unix socket in a private directory, or on a TCP port."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from covey.net.addresses import Address
from covey.net.link import Link
from covey.wire.handshake import ListenerHandshake
from covey.wire.keys import Keys, Role


@dataclass
class Listener:
    """An open listening socket."""

    server: asyncio.AbstractServer
    address: Address
    #: Whether the port asked for was taken, so that another one serves.
    moved: bool = False

    async def close(self) -> None:
        """Stop listening; links that are open stay open."""
        self.server.close()


async def listen(
    address: Address,
    union: Any,
    *,
    role: Role,
    keys: Keys,
    version: str,
    on_open: Callable[[Link], None],
    on_messages: Callable[[Link, list[Any]], None],
    on_lost: Callable[[Link, Exception | None], None],
) -> Listener:
    """Listen at *address*.  A TCP port that is in use is replaced by a free one.

    Raises:
        OSError: the address is not this machine's, or the path cannot be made.
    """
    loop = asyncio.get_running_loop()

    def make() -> Link:
        return Link(
            union,
            ListenerHandshake(role, keys, version),
            on_open=on_open,
            on_messages=on_messages,
            on_lost=on_lost,
        )

    if address.path:
        server = await loop.create_unix_server(make, address.path)
        return Listener(server, address)
    moved = False
    try:
        tcp = await loop.create_server(make, address.host or None, address.port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not address.port:
            raise
        tcp = await loop.create_server(make, address.host or None, 0)
        moved = True
    port = tcp.sockets[0].getsockname()[1]
    return Listener(tcp, address._replace(port=port), moved)
