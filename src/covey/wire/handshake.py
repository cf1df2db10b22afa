"""The handshake: both sides prove that they know the secret, and say their version.

Sans-IO.  Everything has a fixed size, so a stranger can make nobody allocate
anything::

    caller                                        listener
      | hello: magic, protocol, role, number, nonce,  |
      |        version                                |
      |---------------------------------------------->|
      |  hello of the listener, proof of the listener |
      |<----------------------------------------------|
      | proof of the caller                           |
      |---------------------------------------------->|
      |                              verdict, 1 byte  |
      |<----------------------------------------------|

A proof is an HMAC-SHA256 over a label, both hellos and the binding (the hash of the
TLS certificate, if there is one), with the secret that belongs to the caller's role.
The label differs by side, so a proof cannot be mirrored; role, number and version
are part of what is proved, so they cannot be changed on the way; and the binding
ties both sides to one certificate, so nobody can stand between them.

Under TLS the caller compares the certificate with the fingerprint that it was told
before it says anything.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from typing import Final

from covey.errors import AuthRefused, RemoteProtocolError, VersionRefused
from covey.secret import Secret
from covey.wire.keys import ADMITTED, Keys, Role

#: Raised whenever a message changes in a way that old peers cannot read.
PROTOCOL_VERSION: Final = 9

_MAGIC: Final = b"\x00covey\r\n"
_HELLO: Final = struct.Struct("<8sHBxI32s16s")
_PROOF_BYTES: Final = hashlib.sha256().digest_size
_ACCEPTED: Final = b"\x01"
_REFUSED: Final = b"\x00"

#: What comes from a listener that expected TLS.
_TLS_ALERT: Final = b"\x15\x03"


class _Side:
    """What caller and listener share: their hello, and reading the other's."""

    def __init__(self, role: Role, number: int, version: str, binding: bytes) -> None:
        self._role = role
        self._binding = binding
        self._version = version
        self._buffer = bytearray()
        self._own_hello = _HELLO.pack(
            _MAGIC,
            PROTOCOL_VERSION,
            role,
            number,
            secrets.token_bytes(32),
            version.encode()[:16],
        )
        self._other_hello = b""
        self.other_role: Role | None = None
        self.other_number = 0
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
        magic, protocol, role, number, _, version = _HELLO.unpack(hello)
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
        self.other_number = number
        self._other_hello = hello

    def _proven(self, label: bytes, caller: bytes, listener: bytes) -> bytes:
        """Return the text that a proof is about; its parts have fixed lengths."""
        return b"covey " + label + b"\0" + caller + listener + self._binding


class CallerHandshake(_Side):
    """The side that opened the connection.

    Args:
        role: what it is.
        keys: what it knows.
        version: its version of covey, for messages.
        number: for an asker, the client it speaks for.
        fingerprint: the hash of the certificate that the listener must show; empty
            where there is no TLS.

    Raises:
        AuthRefused: with these keys it cannot be that.
    """

    def __init__(
        self,
        role: Role,
        keys: Keys,
        version: str,
        *,
        number: int = 0,
        fingerprint: bytes = b"",
    ) -> None:
        super().__init__(role, number, version, b"")
        self._secret = keys.of_role(role, number)
        self._fingerprint = fingerprint
        self._proved = False

    def start(self, certificate: bytes = b"") -> bytes:
        """Return the bytes to send first.

        Args:
            certificate: what the listener has shown, in DER; empty without TLS.

        Raises:
            AuthRefused: it is not the one that was expected.
        """
        shown = fingerprint_of(certificate)
        if not hmac.compare_digest(shown, self._fingerprint):
            raise AuthRefused(
                f"the process at that address shows another certificate "
                f"({shown.hex()[:16] or 'none'}...) than the one of this cluster "
                f"({self._fingerprint.hex()[:16] or 'none'}...): it is another "
                f"cluster, or somebody is in between. Take the join string of the "
                f"cluster that is running now"
            )
        self._binding = shown
        return self._own_hello

    def receive(self, data: bytes) -> bytes:
        """Take in bytes; return bytes to send.  ``done`` tells when it is over.

        Raises:
            VersionRefused: the two versions cannot speak to each other.
            AuthRefused: the listener does not know our secret, or we not its.
            RemoteProtocolError: that is no covey at all.
        """
        self._buffer += data
        if self._buffer.startswith(_TLS_ALERT):
            raise AuthRefused(
                "TLS is spoken there, and nobody has said whose certificate to trust; "
                "take the join string or the connection file of the cluster"
            )
        if not self._proved:
            if self._other_hello == b"":
                hello = self._take(_HELLO.size)
                if hello is None:
                    return b""
                self._read_hello(hello)
            proof = self._take(_PROOF_BYTES)
            if proof is None:
                return b""
            self._check(proof)
            self._proved = True
            text = self._proven(b"caller", self._own_hello, self._other_hello)
            return self._secret.proof(text)
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

    def _check(self, proof: bytes) -> None:
        text = self._proven(b"listener", self._own_hello, self._other_hello)
        if not self._secret.proves(text, proof):
            raise AuthRefused(
                "the process at that address does not know the secret of this "
                "cluster; perhaps it is another cluster than the connection "
                "file tells of, or its secrets were exchanged (covey token rotate)"
            )
        assert self.other_role is not None
        if self._role not in ADMITTED.get(self.other_role, ()):
            raise AuthRefused(
                f"a {self._role.name.lower()} has nothing to say to a "
                f"{self.other_role.name.lower()}; is this the right port?"
            )


class ListenerHandshake(_Side):
    """The side that accepted the connection.

    Args:
        role: what it is, which says whom it lets in.
        keys: what it knows.
        version: its version of covey, for messages.
        fingerprint: the hash of the certificate that it shows; empty without TLS.
    """

    def __init__(
        self, role: Role, keys: Keys, version: str, *, fingerprint: bytes = b""
    ) -> None:
        super().__init__(role, 0, version, fingerprint)
        self._keys = keys
        self._secret: Secret | None = None
        self.refused = False

    def receive(self, data: bytes) -> bytes:
        """Take in bytes; return bytes to send.  ``done`` tells when it is over.

        After ``refused`` has become true the returned bytes are the last ones:
        send them and close.

        Raises:
            VersionRefused: answered with our hello, so that the caller can say why.
            RemoteProtocolError: that is no covey at all, or it came to the wrong door.
        """
        self._buffer += data
        if self._secret is None:
            hello = self._take(_HELLO.size)
            if hello is None:
                return b""
            try:
                self._read_hello(hello)
            except VersionRefused:
                self.refused = True
                return self._own_hello
            if len(self._buffer) > _PROOF_BYTES:
                raise RemoteProtocolError("the peer did not wait to be let in")
            self._secret = self._secret_of_caller()
            text = self._proven(b"listener", self._other_hello, self._own_hello)
            return self._own_hello + self._secret.proof(text)
        proof = self._take(_PROOF_BYTES)
        if proof is None:
            return b""
        text = self._proven(b"caller", self._other_hello, self._own_hello)
        if not self._secret.proves(text, proof):
            self.refused = True
            return _REFUSED
        self.done = True
        return _ACCEPTED

    def _secret_of_caller(self) -> Secret:
        assert self.other_role is not None
        if self.other_role not in ADMITTED.get(self._role, ()):
            raise RemoteProtocolError(
                f"a {self.other_role.name.lower()} came to the door of a "
                f"{self._role.name.lower()}"
            )
        return self._keys.of_role(self.other_role, self.other_number)


def fingerprint_of(certificate: bytes) -> bytes:
    """Return the SHA-256 of a certificate in DER; empty for none."""
    return hashlib.sha256(certificate).digest() if certificate else b""
