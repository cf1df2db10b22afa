"""Listening: on a unix socket in a private directory, or on a TCP port.

Whatever listens where other machines can call speaks TLS, or somebody has said in so
many words that it shall not: this is the one place that opens ports, and it insists.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from covey.errors import UsageError
from covey.net.addresses import PORT_MAX, Address, is_loopback
from covey.net.door import Door, Stranger
from covey.net.link import Link
from covey.net.tls import IN_CLEAR, Certificate, listener_context, show
from covey.wire.handshake import ListenerHandshake
from covey.wire.keys import Keys, Role

#: So many callers the kernel holds until they are accepted.  Whoever finds no place
#: tries again after a second, and then after two more.
_BACKLOG: Final = 1024

#: Entered before a port is bound.  What it gives, if anything, is called with the port
#: before anybody can connect to it.
Opening: TypeAlias = Callable[[], AbstractContextManager[Callable[[int], None] | None]]

#: A machine may know the name of a family of addresses, and have none of it.
_NO_SUCH_FAMILY: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


@dataclass
class Listener:
    """An open listening socket."""

    address: Address
    door: Door
    #: What callers are shown, and what shows it; none where no TLS is spoken.
    certificate: Certificate
    context: ssl.SSLContext | None
    #: Whether the port asked for was taken, so that another one serves.
    moved: bool = False

    def renew(self, certificate: Certificate) -> None:
        """Show another certificate to whoever calls from now on."""
        if self.context is not None:
            show(self.context, certificate)
            self.certificate = certificate
            self.address = self.address._replace(fingerprint=certificate.fingerprint)

    async def close(self) -> None:
        """Stop listening; links that are open stay open."""
        await self.door.close()


async def listen(  # noqa: PLR0913  (each by its name)
    address: Address,
    union: Any,
    *,
    role: Role,
    keys: Keys,
    version: str,
    on_open: Callable[[Link], None],
    on_messages: Callable[[Link, list[Any]], None],
    on_lost: Callable[[Link, Exception | None], None],
    on_turned_away: Callable[[], None] = lambda: None,
    certificate: Certificate | None = None,
    opening: Opening = nullcontext,
) -> Listener:
    """Listen at *address*.  A TCP port that is in use is replaced by a free one.

    Args:
        address: where.
        union: the messages that may come in first.
        role: what this side is, which says who may come in.
        keys: what it knows.
        version: its version of covey.
        on_open: called when a peer has proved itself; the rest is as in ``Link``.
        on_messages: called with messages.
        on_lost: called when a link has ended, whether it was ever open or not.
        on_turned_away: called for every caller who has not got in.
        certificate: shown to callers, who then have to speak TLS.  ``IN_CLEAR`` says
            that a network need not be kept from listening in.
        opening: is around the opening of a TCP port.

    Raises:
        OSError: the path cannot be made.
        UsageError: the address is not this machine's; or strangers could listen in,
            and nobody has said that this is fine.
    """
    in_secret = certificate is None
    if in_secret and not address.is_local:
        raise UsageError(f"nothing listens on {address.shown} without TLS")
    certificate = certificate or IN_CLEAR

    def make_link(stranger: Stranger) -> Link:
        def opened(link: Link) -> None:
            stranger.proved()
            on_open(link)

        def lost(link: Link, error: Exception | None) -> None:
            stranger.gone()
            on_lost(link, error)

        mark = bytes.fromhex(listener.certificate.fingerprint)
        return Link(
            union,
            ListenerHandshake(role, keys, version, fingerprint=mark),
            on_open=opened,
            on_messages=on_messages,
            on_lost=lost,
        )

    sockets, moved = await _bind_near(address, opening, in_secret)
    context = listener_context(certificate) if certificate.pem else None
    door = Door(sockets, make_link, context, on_turned_away)
    if not address.path:
        port = sockets[0].getsockname()[1]
        address = address._replace(port=port, fingerprint=certificate.fingerprint)
    listener = Listener(address, door, certificate, context, moved)
    return listener


def _demand_loopback(address: Address, sockets: list[socket.socket]) -> None:
    """See to it that a name such as ``localhost`` means here what it means elsewhere.

    Raises:
        UsageError: other machines could call; nothing listens.
    """
    for bound in sockets:
        if bound.family != socket.AF_UNIX and not is_loopback(bound.getsockname()[0]):
            place = bound.getsockname()[0]
            for each in sockets:
                each.close()
            raise UsageError(
                f"{address.host} is {place} on this machine (look into /etc/hosts), "
                f"where others can call; nothing listens there without TLS"
            )


async def _bind_near(
    address: Address, opening: Opening, in_secret: bool
) -> tuple[list[socket.socket], bool]:
    """Return listening sockets at *address*, and whether another port had to do.

    Raises:
        OSError: the path cannot be made.
        UsageError: nothing can listen there, and why.
    """
    if address.path:
        return [_bind_path(address.path)], False
    if not 0 <= address.port <= PORT_MAX:
        raise UsageError(
            f"port {address.port}: a port is a number from 0 to {PORT_MAX}"
        )
    try:
        try:
            return await _bind(address, opening, in_secret), False
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not address.port:
                raise
        return await _bind(address._replace(port=0), opening, in_secret), True
    except socket.gaierror as error:
        raise UsageError(
            f"the interface {address.host} is not known here ({error.strerror}); give "
            f"an address of this machine, or 0.0.0.0 for all"
        ) from error
    except OSError as error:
        raise UsageError(_why_not(address, error)) from error


def _why_not(address: Address, error: OSError) -> str:
    """Say why nothing can listen at *address*, and what to do."""
    text = f"nothing can listen at {address.shown}: "
    if error.errno == errno.EADDRNOTAVAIL:
        return text + (
            "this machine has no such address; give one that it has, or 0.0.0.0 for all"
        )
    if error.errno == errno.EACCES:
        return text + "this user may not take that port; take one from 1024 up"
    return text + os.strerror(error.errno or 0)


async def _bind(
    address: Address, opening: Opening, in_secret: bool
) -> list[socket.socket]:
    """Return listening sockets: for a name there may be one of each family.

    Raises:
        OSError: the address is in use, or not this machine's.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        address.host or None,
        address.port,
        type=socket.SOCK_STREAM,
        flags=socket.AI_PASSIVE,
    )
    places = [(family, place) for family, _, _, _, place in dict.fromkeys(found)]
    with opening() as tell:
        sockets, port = _bind_all(places, address.port)
        if in_secret:
            _demand_loopback(address, sockets)
        try:
            if tell is not None:
                tell(port)
            for bound in sockets:
                bound.listen(_BACKLOG)
        except BaseException:
            for bound in sockets:
                bound.close()
            raise
    return sockets


def _bind_all(places: list[Any], port: int) -> tuple[list[socket.socket], int]:
    """Return sockets that do not listen yet, and their port.

    Raises:
        OSError: the address is in use, or not this machine's.
    """
    sockets: list[socket.socket] = []
    problem: OSError | None = None
    for family, place in places:
        there = (place[0], port, *place[2:])
        try:
            bound = _bound(family, there)
        except OSError as error:
            problem = error
            if error.errno in _NO_SUCH_FAMILY:
                continue
            break
        bound.setblocking(False)
        sockets.append(bound)
        # All families share the port that the first one got.
        port = port or bound.getsockname()[1]
    if problem is not None and (not sockets or problem.errno not in _NO_SUCH_FAMILY):
        for bound in sockets:
            bound.close()
        raise problem
    return sockets, port


def _bound(family: int, place: Any) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(place)
    except OSError:
        bound.close()
        raise
    return bound


def _bind_path(path: str) -> socket.socket:
    Path(path).unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.setblocking(False)
    try:
        listening.bind(path)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening
