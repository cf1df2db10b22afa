"""Keys: which secret proves which role.

Everything is derived from one secret, the client's, so that a cluster has one line
to copy.  Arrows lead to what can be derived; there is no way back::

    client secret ──► worker secret ──► data secret ──► asker number N
       clients           workers           │              who asks for values
                                           └──► token of task T of client N
                                                  whoever shows it may hold T

So whoever has the client secret may be anything, a worker may be no client, and
the tokens can be checked by a scheduler or a worker that has just started.
"""

from __future__ import annotations

import enum
import functools
import hmac
from typing import Final

from covey.errors import AuthRefused
from covey.ids import ClientId, TaskId, client_of
from covey.secret import Secret

TOKEN_BYTES: Final = 16

#: Of so many rotations tokens are remembered.
_BEFORE_MAX: Final = 8

#: For so many clients it is remembered what makes the tokens of their tasks.
_SEALERS_MAX: Final = 1024


class Role(enum.IntEnum):
    """What a side of a link is."""

    CLIENT = 1
    WORKER = 2
    ASKER = 3
    SCHEDULER = 4
    KEEPER = 5


#: Whom each kind of listener lets in, once they have proved that they are it.
ADMITTED: Final = {
    # Askers and keepers come to be joined with each other.
    Role.SCHEDULER: frozenset({Role.CLIENT, Role.WORKER, Role.ASKER, Role.KEEPER}),
    Role.KEEPER: frozenset({Role.ASKER}),
}


class Keys:
    """What a process knows, and so what it may be.

    Attributes:
        client: the client's secret; ``None`` for a worker that was given no more
            than its own.
        worker: the worker's secret.
    """

    def __init__(self, client: Secret | None, worker: Secret) -> None:
        self.client = client
        self.worker = worker
        self._data = worker.derive(b"data")
        #: What tokens were made with before a rotation: futures that were passed on
        #: then are good still.  They alone let nobody in.
        self._before: tuple[Secret, ...] = ()

    @classmethod
    def of_client(cls, secret: Secret) -> Keys:
        """Return all keys of the cluster whose client secret this is."""
        return cls(secret, secret.derive(b"worker"))

    @classmethod
    def of_worker(cls, secret: Secret) -> Keys:
        """Return the keys of a worker that may be nothing else."""
        return cls(None, secret)

    def become(self, other: Keys) -> None:
        """Take over the secrets of *other*, for all that share this object."""
        if other == self:
            return
        self._before = (self._data, *self._before)[:_BEFORE_MAX]
        self.client, self.worker = other.client, other.worker
        self._data = other._data

    def of_role(self, role: Role, number: int) -> Secret:
        """Return the secret by which a caller proves *role*.

        Args:
            role: what the caller is.
            number: for an asker, the number of the client it speaks for, or 0 for a
                worker.

        Raises:
            AuthRefused: whoever has these keys is not entitled to that role.
        """
        if role is Role.ASKER:
            return self._data.derive(b"asker %d" % number)
        secret = self.client if role is Role.CLIENT else self.worker
        if secret is None:
            raise AuthRefused(
                "a worker's secret does not make a client; use the connection file or "
                "the join string that `covey scheduler` has for clients"
            )
        return secret

    def token(self, task: TaskId) -> bytes:
        """Return what lets others hold *task*, if its client passes it on."""
        return _token(self._data, task)

    def fits(self, task: TaskId, token: bytes) -> bool:
        """Whether *token* is that of *task*."""
        return any(
            hmac.compare_digest(_token(data, task), token)
            for data in (self._data, *self._before)
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Keys):
            return NotImplemented
        return self.client == other.client and self.worker == other.worker

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        kind = "worker" if self.client is None else "client"
        return f"<Keys of a {kind}>"


def _token(data: Secret, task: TaskId) -> bytes:
    sealer = _sealer_of(data, client_of(task))
    return sealer.proof(b"%d" % task)[:TOKEN_BYTES]


@functools.lru_cache(_SEALERS_MAX)
def _sealer_of(data: Secret, client: ClientId) -> Secret:
    """Return what makes the tokens of a client's tasks: mostly there are many."""
    return data.derive(b"tasks of client %d" % client)
