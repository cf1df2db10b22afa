"""Opening links: to an address, with patience, and with errors that help."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from covey import clock
from covey.errors import CoveyError, NoScheduler, RemoteProtocolError
from covey.net.addresses import Address
from covey.net.link import HANDSHAKE_SECONDS, Link
from covey.net.tls import caller_context
from covey.wire.handshake import CallerHandshake
from covey.wire.keys import Keys, Role

#: How long to keep trying an address where nobody answers.
CONNECT_SECONDS: Final = 10.0

_FIRST_PAUSE_SECONDS: Final = 0.02
_LONGEST_PAUSE_SECONDS: Final = 0.5

#: Even somebody without patience gives an address so long to answer at all.
_SHORTEST_TRY_SECONDS: Final = 1.0

#: To see whether anybody is there at all.
_LOOK_SECONDS: Final = 2.0

#: Trying again cannot help against these.
_HOPELESS: Final = frozenset({errno.EACCES, errno.EPERM})


async def open_link(
    address: Address,
    union: Any,
    *,
    role: Role,
    keys: Keys,
    version: str,
    on_messages: Callable[[Link, list[Any]], None],
    on_lost: Callable[[Link, Exception | None], None],
    number: int = 0,
    timeout_seconds: float = CONNECT_SECONDS,
    what: str = "scheduler",
) -> Link:
    """Connect to *address*, shake hands, and return the open link.

    A refused or unreachable address is tried again until *timeout_seconds*
    have passed, since the other side may just be starting.

    Args:
        address: where to; with a fingerprint, TLS is spoken.
        union: the messages that may come in first.
        role: what this side is.
        keys: what it knows, to prove it.
        version: its version of covey.
        on_messages: as in ``Link``.
        on_lost: as in ``Link``.
        number: for an asker, the client it speaks for.
        timeout_seconds: how long to keep trying.
        what: how errors call the other side.

    Raises:
        NoScheduler: nobody answered; says where, how long, and what to check.
        Refused: the other side answered and said no.
        RemoteProtocolError: something else than covey listens there.
    """
    start = clock.monotonic()
    pause = _FIRST_PAUSE_SECONDS
    while True:
        left = max(start + timeout_seconds - clock.monotonic(), _SHORTEST_TRY_SECONDS)
        try:
            # A firewall that swallows everything leaves the kernel trying for
            # minutes.  A socket file answers at once, and the link has a deadline
            # for the rest.
            async with asyncio.timeout(None if address.path else left):
                shake = CallerHandshake(
                    role,
                    keys,
                    version,
                    number=number,
                    fingerprint=bytes.fromhex(address.fingerprint),
                )
                return await _open_once(address, union, shake, on_messages, on_lost)
        except ssl.SSLError as error:
            raise RemoteProtocolError(
                f"{address.shown} does not speak TLS 1.3 ({error.reason}); is this "
                f"the right port, and the join string of the cluster that runs now?"
            ) from error
        except OSError as error:
            if isinstance(error, CoveyError):
                raise
            waited = clock.monotonic() - start
            if error.errno in _HOPELESS or waited + pause > timeout_seconds:
                raise NoScheduler(_explain(address, error, waited, what)) from error
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def look(
    address: Address,
    timeout_seconds: float = _LOOK_SECONDS,
    *,
    waited_seconds: float = 0.0,
) -> None:
    """See whether anybody listens at *address*, and hang up.

    *waited_seconds* have been spent on it before, for the error to tell.

    Raises:
        NoScheduler: nobody does; says where, and what to check.
    """
    start = clock.monotonic()
    try:
        if address.path:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(address.path)
        else:
            place = (address.host, address.port)
            socket.create_connection(place, timeout_seconds).close()
    except OSError as error:
        waited = waited_seconds + clock.monotonic() - start
        raise NoScheduler(_explain(address, error, waited, "scheduler")) from error


async def _open_once(
    address: Address,
    union: Any,
    handshake: CallerHandshake,
    on_messages: Callable[[Link, list[Any]], None],
    on_lost: Callable[[Link, Exception | None], None],
) -> Link:
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[None] = loop.create_future()

    def lost(link: Link, error: Exception | None) -> None:
        if opened.cancelled():
            return  # Nobody ever got to see this link.
        if opened.done():
            on_lost(link, error)
        else:
            opened.set_exception(
                error or ConnectionResetError("the peer closed the connection")
            )
            # Whoever is cancelled before waiting for it need not hear of it.
            opened.exception()

    def opened_now(_: Link) -> None:
        if not opened.done():
            opened.set_result(None)

    def make() -> Link:
        return Link(
            union,
            handshake,
            on_open=opened_now,
            on_messages=on_messages,
            on_lost=lost,
        )

    if address.path:
        _, link = await loop.create_unix_connection(make, address.path)
    elif address.fingerprint:
        _, link = await loop.create_connection(
            make,
            address.host,
            address.port,
            ssl=caller_context(),
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
        )
    else:
        _, link = await loop.create_connection(make, address.host, address.port)
    try:
        await opened
    except asyncio.CancelledError:
        link.abort()
        raise
    return link


def _explain(address: Address, error: OSError, waited: float, what: str) -> str:
    if isinstance(error, socket.gaierror):
        check = f"does the name {address.host!r} resolve on this machine?"
    elif address.path:
        check = "is the cluster that made this socket still running?"
    else:
        check = (
            f"is `covey scheduler` running there, is {address.port} the port that it "
            f"printed, and does a firewall let you through?"
        )
        if not address.is_local and isinstance(error, ConnectionRefusedError):
            check += (
                " A scheduler listens on its own machine only, unless it was started "
                "with --host"
            )
    if isinstance(error, TimeoutError):
        reason = "no answer at all"
    elif error.errno is not None and error.errno in errno.errorcode:
        # Event loops word it differently; the system says it best.
        reason = os.strerror(error.errno)
    else:
        reason = error.strerror or str(error) or type(error).__name__
    return (
        f"no {what} answers at {address.shown} (tried for {waited:.1f} s; last: "
        f"{reason}). Check: {check}"
    )
