"""The handshake: both sides prove that they know the secret, and say their version.

Sans-IO.  Everything has a fixed size, so a stranger can make nobody allocate
anything::

    caller                                        listener
      | hello: magic, protocol, role, nonce, version  |
      |---------------------------------------------->|
      |  hello of the listener, proof of the listener |
      |<----------------------------------------------|
      | proof of the caller                           |
      |---------------------------------------------->|
      |                              verdict, 1 byte  |
      |<----------------------------------------------|

A proof is an HMAC-SHA256 under the cluster's secret over a label, both hellos
and the binding (the hash of the TLS certificate, if there is one).  The label
differs by side, so a proof cannot be mirrored; role and version are part of
what is proved, so they cannot be changed on the way.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import secrets
import struct
from typing import Final

from covey.errors import AuthRefused, RemoteProtocolError, VersionRefused

#: Raised whenever a message changes in a way that old peers cannot read.
PROTOCOL_VERSION: Final = 1

_MAGIC: Final = b"\x00covey\r\n"
_HELLO: Final = struct.Struct("<8sHBx4x32s16s")
_PROOF_BYTES: Final = hashlib.sha256().digest_size
_ACCEPTED: Final = b"\x01"
_REFUSED: Final = b"\x00"


class Role(enum.IntEnum):
    """What a side of a link is."""

    CLIENT = 1
    WORKER = 2
    ASKER = 3
    SCHEDULER = 4
    KEEPER = 5


class _Side:
    """What caller and listener share: their hello, and reading the other's."""

    def __init__(self, role: Role, secret: bytes, version: str, binding: bytes) -> None:
        self._secret = secret
        self._binding = binding
        self._version = version
        self._buffer = bytearray()
        self._own_hello = _HELLO.pack(
            _MAGIC,
            PROTOCOL_VERSION,
            role,
            secrets.token_bytes(32),
            version.encode()[:16],
        )
        self._other_hello = b""
        self.other_role: Role | None = None
        self.other_version = ""
        self.done = False

    def leftover(self) -> bytes:
        """Return bytes that came behind the handshake."""
        return bytes(self._buffer)

    def _take(self, count: int) -> bytes | None:
        if len(self._buffer) < count:
            return None
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _read_hello(self, hello: bytes) -> None:
        magic, protocol, role, _, version = _HELLO.unpack(hello)
        if magic != _MAGIC:
            raise RemoteProtocolError(
                "the other side does not speak covey's protocol; is this the "
                "right port?"
            )
        self.other_version = version.rstrip(b"\0").decode("ascii", "replace")
        if protocol != PROTOCOL_VERSION:
            raise VersionRefused(
                f"this side is covey {self._version} (protocol {PROTOCOL_VERSION}), "
                f"the other side is covey {self.other_version} (protocol "
                f"{protocol}); install the same version on both"
            )
        try:
            self.other_role = Role(role)
        except ValueError:
            raise RemoteProtocolError(f"there is no role {role}") from None
        self._other_hello = hello

    def _proof(self, label: bytes, caller: bytes, listener: bytes) -> bytes:
        text = b"covey " + label + b"\0" + caller + listener + self._binding
        return hmac.digest(self._secret, text, "sha256")


class CallerHandshake(_Side):
    """The side that opened the connection."""

    def __init__(
        self, role: Role, secret: bytes, version: str, binding: bytes = b""
    ) -> None:
        super().__init__(role, secret, version, binding)
        self._proved = False

    def start(self) -> bytes:
        """Return the bytes to send first."""
        return self._own_hello

    def receive(self, data: bytes) -> bytes:
        """Take in bytes; return bytes to send.  ``done`` tells when it is over.

        Raises:
            VersionRefused: the two versions cannot speak to each other.
            AuthRefused: the listener does not know our secret, or we not its.
            RemoteProtocolError: that is no covey at all.
        """
        self._buffer += data
        if not self._proved:
            if self._other_hello == b"":
                hello = self._take(_HELLO.size)
                if hello is None:
                    return b""
                self._read_hello(hello)
            proof = self._take(_PROOF_BYTES)
            if proof is None:
                return b""
            expected = self._proof(b"listener", self._own_hello, self._other_hello)
            if not hmac.compare_digest(proof, expected):
                raise AuthRefused(
                    "the process at that address does not know the secret of this "
                    "cluster; perhaps it is another cluster than the connection "
                    "file tells of"
                )
            self._proved = True
            return self._proof(b"caller", self._own_hello, self._other_hello)
        verdict = self._take(1)
        if verdict is None:
            return b""
        if verdict != _ACCEPTED:
            raise AuthRefused(
                "the scheduler refused the secret; use the connection file (or "
                "join string) of the cluster that is running now"
            )
        self.done = True
        return b""


class ListenerHandshake(_Side):
    """The side that accepted the connection."""

    def __init__(
        self, role: Role, secret: bytes, version: str, binding: bytes = b""
    ) -> None:
        super().__init__(role, secret, version, binding)
        self.refused = False

    def receive(self, data: bytes) -> bytes:
        """Take in bytes; return bytes to send.  ``done`` tells when it is over.

        After ``refused`` has become true the returned bytes are the last ones:
        send them and close.

        Raises:
            VersionRefused: answered with our hello, so that the caller can say why.
            RemoteProtocolError: that is no covey at all.
        """
        self._buffer += data
        if self._other_hello == b"":
            hello = self._take(_HELLO.size)
            if hello is None:
                return b""
            try:
                self._read_hello(hello)
            except VersionRefused:
                self.refused = True
                return self._own_hello
            return self._own_hello + self._proof(
                b"listener", self._other_hello, self._own_hello
            )
        proof = self._take(_PROOF_BYTES)
        if proof is None:
            return b""
        expected = self._proof(b"caller", self._other_hello, self._own_hello)
        if not hmac.compare_digest(proof, expected):
            self.refused = True
            return _REFUSED
        self.done = True
        return _ACCEPTED
