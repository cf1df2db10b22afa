"""Rotation: the secrets of a cluster are exchanged while it runs.

Whoever is in the cluster at that moment is told the new ones over its link; join
strings of before open nothing from then on.  Each new secret is sealed with the old
one of the same kind, so that nobody becomes more by it than he was: a worker that
knows no client's secret cannot open the new one either::

    new client secret ⊕ HMAC(old client secret, nonce)      clients, and workers that
    new worker secret ⊕ HMAC(old worker secret, nonce)      know it; all workers
"""

from __future__ import annotations

import secrets
from typing import Final

from covey.errors import RemoteProtocolError
from covey.wire.base import Message
from covey.wire.keys import Keys

_NONCE_BYTES: Final = 32


class Rotated(Message, frozen=True, tag=120):
    """The cluster has other secrets from now on, and shows another certificate.

    ``fingerprint`` is the hash of that certificate, in hexadecimal digits; empty
    where there is no TLS.
    """

    nonce: bytes
    client: bytes
    worker: bytes
    fingerprint: str = ""


def sealed(old: Keys, fresh: Keys, fingerprint: str) -> Rotated:
    """Return what tells the *fresh* keys to those who know the *old* ones."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    assert old.client is not None and fresh.client is not None
    return Rotated(
        nonce,
        old.client.seal(fresh.client, nonce),
        old.worker.seal(fresh.worker, nonce),
        fingerprint,
    )


def opened(old: Keys, message: Rotated) -> Keys:
    """Return the new keys, as far as the *old* ones open them.

    Raises:
        RemoteProtocolError: those are none.
    """
    try:
        if old.client is not None:
            return Keys.of_client(old.client.unseal(message.client, message.nonce))
        return Keys.of_worker(old.worker.unseal(message.worker, message.nonce))
    except ValueError as error:
        raise RemoteProtocolError(f"the new secret is none: {error}") from error
