"""What the kernel is told about a connection."""

from __future__ import annotations

import asyncio
import socket
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
