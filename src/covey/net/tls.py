"""TLS: one self-signed certificate per listening process, known by its fingerprint.

There is no authority that signs and no name that is checked.  Whoever joins was told
the SHA-256 of the one certificate to trust, together with the secret, and the
handshake proves that both sides mean the same one.  Only TLS 1.3 is spoken.

Making a certificate takes the ``cryptography`` package; trusting one does not.
"""

from __future__ import annotations

import datetime as dt
import functools
import os
import ssl
from pathlib import Path
from typing import Final, NamedTuple

from covey.errors import UsageError
from covey.secret import Secret
from covey.wire.handshake import fingerprint_of

#: Nobody looks at the dates, for the certificate is known by its hash.
_FROM: Final = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_UNTIL: Final = dt.datetime(2120, 1, 1, tzinfo=dt.UTC)


class Certificate(NamedTuple):
    """A certificate with its key, in PEM, and its fingerprint."""

    pem: bytes
    fingerprint: str

    def __repr__(self) -> str:
        return f"<Certificate {self.fingerprint[:16] or 'none'}>"


#: Stands for none, where somebody has said that nothing need be encrypted.
IN_CLEAR: Final = Certificate(b"", "")


def can_make() -> bool:
    """Whether a certificate can be made here."""
    try:
        import cryptography
    except ImportError:
        return False
    del cryptography
    return True


def make_certificate(secret: Secret | None = None) -> Certificate:
    """Make a key, and a certificate that it signs itself.

    From one *secret* it is the same at any time, to the last bit: a scheduler that is
    started anew is known by the fingerprint that its join string told.  Without one
    it is like no other.

    Raises:
        UsageError: the ``cryptography`` package is not installed.
    """
    if not can_make():
        raise UsageError(
            "TLS needs a certificate, and making one takes the cryptography package: "
            "pip install 'covey[tls]'"
        )
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    seed = (secret or Secret.fresh()).derive(b"certificate")
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed.reveal()))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "covey")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .sign(key, None)
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    der = certificate.public_bytes(serialization.Encoding.DER)
    return Certificate(pem, fingerprint_of(der).hex())


def listener_context(certificate: Certificate) -> ssl.SSLContext:
    """Return what a listener needs to show *certificate*."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Nobody comes back for a shorter handshake, so nothing is kept for it.
    context.num_tickets = 0
    show(context, certificate)
    return context


def show(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Show *certificate* to whoever calls from now on."""
    import tempfile  # It takes a while, and a start without TLS would wait for it.

    # The library reads keys from files only: one of mode 0600, for a moment.
    fd, path = tempfile.mkstemp(prefix="covey-key-")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(certificate.pem)
        context.load_cert_chain(path)
    finally:
        Path(path).unlink()


@functools.cache
def caller_context() -> ssl.SSLContext:
    """Return what a caller needs; ``CallerHandshake`` checks what is shown to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # No authority vouches for it: its hash is compared before anything is said.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
