"""The door: where connections wait until they have proved who they are.

Until then a stranger gets a few kilobytes and five seconds, and there are never many
of them.  When one too many comes, the one that has waited longest makes room, first
of all one from the address with most of them: who belongs here needs a few
milliseconds, so a crowd at the door keeps nobody out::

    accept ──► Stranger ──► [TLS] ──► Link: handshake ──► proved
                  │ another user, too many, too late, a wrong proof
                  └──► cut off, and counted

A unix socket is for processes of this user (or root's); the kernel says who calls.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Callable
from typing import Final

from covey.errors import RemoteProtocolError
from covey.net import link as links
from covey.net.link import Link

#: So many strangers may wait, and so many of one address.
STRANGERS_MAX: Final = 64
STRANGERS_PER_ADDRESS_MAX: Final = 16

#: How long nobody is let in when this process has no file descriptor left.
_PAUSE_SECONDS: Final = 0.5

#: How macOS tells who is at the other end of a unix socket.
_LOCAL_PEERCRED: Final = 1


class Door:
    """Lets in who proves himself, and keeps the number of the others small.

    Args:
        sockets: what to accept connections on.
        make_link: makes the link of a stranger.
        context: what TLS needs; ``None`` where none is spoken.
        on_turned_away: called for everybody who has not got in.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        make_link: Callable[[Stranger], Link],
        context: ssl.SSLContext | None,
        on_turned_away: Callable[[], None],
    ) -> None:
        self._sockets = sockets
        self._make_link = make_link
        self._context = context
        self._on_turned_away = on_turned_away
        #: In the order in which they came.
        self._waiting: dict[Stranger, None] = {}
        self._from: Counter[str] = Counter()
        self._loop = asyncio.get_running_loop()
        for listening in sockets:
            self._open(listening)

    def __len__(self) -> int:
        return len(self._waiting)

    async def close(self) -> None:
        """Accept nobody any more, and cut off all that wait."""
        strangers = list(self._waiting)
        for stranger in strangers:
            stranger.cut_off()
        ending = [s.connecting for s in strangers if s.connecting is not None]
        for listening in self._sockets:
            self._loop.remove_reader(listening)
            listening.close()
        await asyncio.gather(*ending, return_exceptions=True)

    def _open(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        # One a turn: whoever was cut off is gone, with its memory, before too many
        # others have come.
        try:
            connection, peer = listening.accept()
        except (BlockingIOError, ConnectionError):
            return  # It has gone already.
        except OSError:
            # There is no room for it in this process.
            self._loop.remove_reader(listening)
            self._loop.call_later(_PAUSE_SECONDS, self._open, listening)
            return
        connection.setblocking(False)
        host = str(peer[0]) if isinstance(peer, tuple) else ""
        stranger = Stranger(self, host)
        self._make_room(host)
        self._waiting[stranger] = None
        self._from[host] += 1
        if not host and not is_own_user(connection):
            connection.close()
            stranger.cut_off()
            return
        link = self._make_link(stranger)
        stranger.begin(link, connection, self._context)

    def _make_room(self, host: str) -> None:
        if not host:
            return  # On a unix socket a user could crowd out but himself.
        crowded = self._from[host] >= STRANGERS_PER_ADDRESS_MAX
        if crowded or len(self._waiting) >= STRANGERS_MAX:
            busiest = host if crowded else self._from.most_common(1)[0][0]
            next(s for s in self._waiting if s.host == busiest).cut_off()

    def leave(self, stranger: Stranger, *, proved: bool) -> None:
        """*stranger* is one no more, or is gone.  Idempotent."""
        if stranger not in self._waiting:
            return
        del self._waiting[stranger]
        self._from[stranger.host] -= 1
        if not self._from[stranger.host]:
            del self._from[stranger.host]
        if not proved:
            self._on_turned_away()


class Stranger:
    """A connection that has just been accepted.

    Attributes:
        host: where it comes from; empty on a unix socket.
        connecting: what makes its link stand.
    """

    def __init__(self, door: Door, host: str) -> None:
        self.host = host
        self._door = door
        self._link: Link | None = None
        self._hurry: asyncio.TimerHandle | None = None
        self.connecting: asyncio.Task[None] | None = None

    def begin(
        self, link: Link, connection: socket.socket, context: ssl.SSLContext | None
    ) -> None:
        """Let *link* shake hands with it, behind TLS if there is a *context*."""
        loop = asyncio.get_running_loop()
        self._link = link
        self._hurry = loop.call_later(links.HANDSHAKE_SECONDS, self.cut_off)

        async def connect() -> None:
            seconds = links.HANDSHAKE_SECONDS if context is not None else None
            await loop.connect_accepted_socket(
                lambda: link, connection, ssl=context, ssl_handshake_timeout=seconds
            )

        def connected(connecting: asyncio.Task[None]) -> None:
            if connecting.cancelled() or connecting.exception() is not None:
                # It speaks no TLS, or has gone, or was cut off before it began.
                connection.close()
                self.gone()

        self.connecting = loop.create_task(connect())
        self.connecting.add_done_callback(connected)

    def cut_off(self) -> None:
        """Close the connection: too late, or too many."""
        self.gone()
        if self.connecting is not None:
            self.connecting.cancel()
        if self._link is not None:
            self._link.fail(
                RemoteProtocolError(
                    f"the peer has not proved itself: not within "
                    f"{links.HANDSHAKE_SECONDS:g} s, or others needed its place"
                )
            )

    def proved(self) -> None:
        """It has said who it is."""
        self._calm()
        self._door.leave(self, proved=True)

    def gone(self) -> None:
        """Its connection has ended, unless it has said who it is before."""
        self._calm()
        self._door.leave(self, proved=False)

    def _calm(self) -> None:
        if self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None


def is_own_user(connection: socket.socket) -> bool:
    """Whether a process of this user, or of root, is at the other end."""
    return _peer_uid(connection) in {0, os.getuid()}


def _peer_uid(connection: socket.socket) -> int:
    """Return the user at the other end of a unix socket."""
    if hasattr(socket, "SO_PEERCRED"):
        form = struct.Struct("3i")
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, form.size)
        return int(form.unpack(raw)[1])
    form = struct.Struct("2I")
    raw = connection.getsockopt(0, _LOCAL_PEERCRED, form.size)
    return int(form.unpack(raw)[1])
