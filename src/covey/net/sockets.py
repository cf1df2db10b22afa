"""What the kernel is told about a connection, and tells of it."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import Final

#: A machine that was switched off says no farewell.  After so long without an
#: answer to what we sent, or to the kernel's own questions, its links are lost.
SILENCE_SECONDS: Final = 30

_QUESTIONS: Final = 4

_OPTIONS: Final = (
    ("TCP_KEEPIDLE", SILENCE_SECONDS // 3),
    ("TCP_KEEPINTVL", SILENCE_SECONDS // 3 * 2 // _QUESTIONS),
    ("TCP_KEEPCNT", _QUESTIONS),
    ("TCP_USER_TIMEOUT", SILENCE_SECONDS * 1000),
)


#: Where the kernel's account of a connection says how fast it delivers (``tcp_info``).
_DELIVERY_RATE: Final = struct.Struct("=160xQ")


def delivery_rate(transport: asyncio.Transport) -> int:
    """Return how many bytes a second came there of late; 0 if the kernel does not tell.

    It knows better than we do, who have to wait for a processor to see that it is ready.
    """
    connection = transport.get_extra_info("socket")
    if sys.platform != "linux" or connection is None:
        return 0
    if connection.family == socket.AF_UNIX:
        return 0
    size = _DELIVERY_RATE.size
    try:
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
    except OSError:
        return 0  # It has just ended, of which we shall hear.
    return int(_DELIVERY_RATE.unpack(told)[0]) if len(told) == size else 0


def shown_certificate(transport: asyncio.Transport) -> bytes:
    """Return the certificate, in DER, that the other side has shown; empty for none."""
    connection = transport.get_extra_info("ssl_object")
    return (connection.getpeercert(binary_form=True) or b"") if connection else b""


def notice_silence(transport: asyncio.Transport) -> None:
    """Let the kernel end the connection when the other machine is gone."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family == socket.AF_UNIX:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS:
        # Not every system has every one of them.
        option = getattr(socket, name, None)
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
