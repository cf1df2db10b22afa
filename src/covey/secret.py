"""Secrets: bytes that prove who somebody is, and that never show themselves.

A secret says nothing in a log, a ``repr`` or a traceback, is compared in constant
time, and is not pickled by accident: who wants its digits has to ask for them
with ``reveal``.  Other secrets are derived from it; nobody can go back from those.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Any, Final, NoReturn

SECRET_BYTES: Final = 32


class Secret:
    """Some secret bytes."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        if len(value) < SECRET_BYTES // 2:
            # A short one could be guessed from a handshake that was overheard.
            raise ValueError(
                f"a secret has at least {SECRET_BYTES // 2} bytes, not {len(value)}"
            )
        self._value = bytes(value)

    @classmethod
    def fresh(cls) -> Secret:
        """Draw a new one."""
        return cls(secrets.token_bytes(SECRET_BYTES))

    @classmethod
    def of_digits(cls, digits: str) -> Secret:
        """Return the secret whose hexadecimal digits these are.

        Raises:
            ValueError: they are none; the message does not repeat them.
        """
        try:
            value = bytes.fromhex(digits)
        except (ValueError, TypeError):
            raise ValueError("a secret is written in hexadecimal digits") from None
        return cls(value)

    def reveal(self) -> str:
        """Return the digits: for a file that only its owner can read, or a pipe."""
        return self._value.hex()

    def derive(self, purpose: bytes) -> Secret:
        """Return another secret, for *purpose*, that does not tell this one."""
        return Secret(self.proof(b"derive\0" + purpose))

    def proof(self, text: bytes) -> bytes:
        """Return 32 bytes about *text* that only who knows this secret can make."""
        return hmac.digest(self._value, text, "sha256")

    def proves(self, text: bytes, proof: bytes) -> bool:
        """Whether *proof* was made from *text* with this secret; in constant time."""
        return hmac.compare_digest(self.proof(text), proof)

    def seal(self, other: Secret, nonce: bytes) -> bytes:
        """Return *other* so that only who knows this secret can read it.

        Args:
            other: a secret of ``SECRET_BYTES``.
            nonce: fresh bytes that are used for nothing else.
        """
        return _mixed(other._value, self.proof(b"seal\0" + nonce))

    def unseal(self, sealed: bytes, nonce: bytes) -> Secret:
        """Return what was sealed with this secret.

        Raises:
            ValueError: it has not the size of a secret.
        """
        return Secret(_mixed(sealed, self.proof(b"seal\0" + nonce)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "<Secret>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a secret does not travel: it would rest wherever pickles do")


def _mixed(one: bytes, other: bytes) -> bytes:
    if len(one) != len(other):
        raise ValueError(f"{len(one)} bytes where a secret has {len(other)}")
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
