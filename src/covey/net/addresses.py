"""Addresses: where a process listens, as text.

Three forms: ``unix:/path/to/socket``, ``tcp://host:port``, and where TLS is spoken
``tls://host:port/sha256:FINGERPRINT``, which says the hash of the one certificate
that is to be trusted there.  Users may also type ``host:port``.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from typing import Final, NamedTuple

from covey.errors import UsageError

DEFAULT_PORT: Final = 8786
PORT_MAX: Final = 65535
_PORT_DIGITS: Final = 5

#: How long a name may be, and a part of it between dots.
_HOST_MAX: Final = 253
_LABEL_MAX: Final = 63

#: What comes before the fingerprint, which has so many hexadecimal digits.
_HASH: Final = "sha256:"
_DIGITS: Final = 64


class Address(NamedTuple):
    """A place to connect to; ``path`` is empty for TCP, ``host`` for unix.

    ``fingerprint`` is empty where there is no TLS.
    """

    host: str
    port: int
    path: str
    fingerprint: str = ""

    def __str__(self) -> str:
        if self.fingerprint:
            return f"{self.shown}/{_HASH}{self.fingerprint}"
        return self.shown

    @property
    def shown(self) -> str:
        """The address without its fingerprint, for people to read."""
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "tls" if self.fingerprint else "tcp"
        return f"{scheme}://{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only processes of this machine can reach it."""
        return bool(self.path) or is_loopback(self.host)


def parse_address(text: str) -> Address:
    """Read an address that a user typed.

    Raises:
        UsageError: the text is no address; the message shows the forms.
    """
    text = text.strip()
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/") or not path.isprintable():
            raise UsageError(f"{text!r} names no socket; expected unix:/PATH")
        return Address("", 0, path)
    if text.startswith("tls://"):
        text, fingerprint = _split_fingerprint(text)
        return parse_address(text)._replace(fingerprint=fingerprint)
    rest = text.removeprefix("tcp://")
    host, colon, port = rest.rpartition(":")
    if not colon or rest.endswith("]"):
        host, port = rest, str(DEFAULT_PORT)
    host = host.strip("[]")
    number = port if port.isascii() and port.isdigit() else ""
    if not number or not _may_be_host(host):
        raise UsageError(
            f"{text!r:.300} is not an address; expected HOST:PORT, tcp://HOST:PORT, "
            f"[IPv6]:PORT, tls://HOST:PORT/sha256:FINGERPRINT or unix:/PATH"
        )
    # A text of so many digits that they cannot be counted is no port either.
    if len(number) > _PORT_DIGITS or int(number) > PORT_MAX:
        raise UsageError(f"{text!r:.60}: a port is a number from 0 to {PORT_MAX}")
    return Address(host, int(number), "")


def _may_be_host(host: str) -> bool:
    """Say whether a name could be looked up: the system raises what it likes else."""
    if ":" in host:
        try:
            return bool(ipaddress.IPv6Address(host))
        except ValueError:
            return False
    if not host.isprintable() or any(sign in host for sign in "/@ "):
        return False
    if host.isascii():
        labels = host.removesuffix(".").split(".")
        return len(host) <= _HOST_MAX and all(
            0 < len(label) <= _LABEL_MAX for label in labels
        )
    try:
        return bool(host.encode("idna"))
    except UnicodeError:
        return False


def _split_fingerprint(text: str) -> tuple[str, str]:
    place, _, told = text.removeprefix("tls://").partition("/")
    fingerprint = told.removeprefix(_HASH).lower()
    if (
        not told.startswith(_HASH)
        or len(fingerprint) != _DIGITS
        or not set(fingerprint) <= set("0123456789abcdef")
    ):
        raise UsageError(
            f"tls://{place} says no fingerprint, by which the other side could be "
            f"told from an impostor; take the join string or the connection file that "
            f"`covey scheduler` wrote"
        )
    return place, fingerprint


def is_loopback(host: str) -> bool:
    """Whether *host* names this machine's loopback interface."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_wildcard(host: str) -> bool:
    """Whether *host* stands for all interfaces of this machine."""
    return host in {"", "0.0.0.0", "::"}  # noqa: S104  (nothing is bound here)


def host_identity() -> str:
    """Return a text that two processes share when they can map each other's memory.

    That takes the same kernel, the same view of processes and the same user.
    """
    parts = [socket.gethostname(), str(os.getuid() if hasattr(os, "getuid") else 0)]
    for source in ("/proc/sys/kernel/random/boot_id", "/etc/machine-id"):
        try:
            parts.append(Path(source).read_text("ascii").strip())
            break
        except OSError:
            continue
    try:
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        pass
    return "/".join(parts)


#: Reserved for documentation: nobody is there, but there is a route to it.
_FAR_AWAY: Final = "192.0.2.1"


def own_host() -> str:
    """Return an address of this machine that other machines can reach, if any."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a datagram socket sends nothing: it only picks a route.
            probe.connect((_FAR_AWAY, 9))
            return str(probe.getsockname()[0])
        except OSError:
            pass
    import psutil

    interfaces = psutil.net_if_addrs().values()
    known = [a.address for i in interfaces for a in i if a.family == socket.AF_INET]
    return next((host for host in known if not is_loopback(host)), "127.0.0.1")
