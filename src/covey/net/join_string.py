"""Where a cluster is and what opens it; and how to say that in one line.

A join string looks like the URLs that carry a password, so that tools which mask
those mask it as well::

    covey://client:TOKEN@HOST:PORT/sha256:FINGERPRINT
            │                      └ of the certificate; /plain where there is no TLS
            └ or worker: its token makes workers, and no clients

It says how it ends, so that a line that was cut when it was copied is noticed.
It is for an environment variable, a file or the clipboard.  A command line is no
place for it: everybody on the machine can read those.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from covey.errors import UsageError
from covey.net.addresses import Address, is_wildcard, own_host, parse_address
from covey.net.scheme import SCHEME, is_join_string
from covey.secret import Secret
from covey.wire.keys import Keys

_PLAIN: Final = "/plain"


class Connection(NamedTuple):
    """What one must know to join a cluster."""

    address: Address
    keys: Keys

    def join_string(self, *, worker: bool = False) -> str:
        """Return one line for another machine.  It holds a secret: treat it so.

        Args:
            worker: say no more than a worker needs.

        Raises:
            UsageError: the cluster cannot be reached from other machines, or we are
                a worker ourselves and know nothing that makes a client.
        """
        address = self.address
        if address.path:
            raise UsageError(
                "this cluster listens on a socket of its own machine only; a cluster "
                "for several machines is started with `covey scheduler --host`"
            )
        if is_wildcard(address.host):
            address = address._replace(host=own_host())
        secret = self.keys.worker if worker else self.keys.client
        if secret is None:
            raise UsageError("only the worker's secret of this cluster is known here")
        role = "worker" if worker else "client"
        place = str(address).partition("://")[2]
        if not address.fingerprint:
            place += _PLAIN
        return f"{SCHEME}{role}:{secret.reveal()}@{place}"

    def __repr__(self) -> str:
        return f"<Connection {self.address}, {self.keys!r}>"


class JoinString(str):
    """A join string that does not show itself to who looks at variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<a join string>"


def shy(target: Any) -> Any:
    """Return *target*, as a ``JoinString`` if it is one.

    There are tools that print, or send away, the local variables of every function that
    an error came through.
    """
    if isinstance(target, str) and is_join_string(target):
        return JoinString(target)
    return target


def parse_join_string(text: str) -> Connection:
    """Read a join string.

    Raises:
        UsageError: it is garbled; the message does not repeat it.
    """
    found = _parsed(text)
    # Nothing is raised where the secret is a variable, be it an argument.
    del text
    if isinstance(found, UsageError):
        raise found
    return found


def _parsed(text: str) -> Connection | UsageError:
    """Return what a join string says, or what is wrong with it."""
    rest = text.strip().removeprefix(SCHEME)
    login, at, place = rest.rpartition("@")
    role, _, token = login.partition(":")
    garbled = UsageError(
        "this join string is garbled; copy the whole line that `covey scheduler` or "
        "`covey token show` printed"
    )
    complete = at and "/" in place
    if not complete or role not in {"client", "worker"} or not is_join_string(text):
        return garbled
    try:
        secret = Secret.of_digits(token)
    except ValueError:
        return garbled
    scheme = "tcp://" if place.endswith(_PLAIN) else "tls://"
    try:
        address = parse_address(scheme + place.removesuffix(_PLAIN))
    except UsageError as error:
        return error.with_traceback(None)
    make = Keys.of_client if role == "client" else Keys.of_worker
    return Connection(address, make(secret))
