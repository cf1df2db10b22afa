"""Who may look, and who may act.

A link carries a code, good for one visit; the visit gets a cookie, and the code goes out
of the address.  Whoever has the cluster's secret can make codes, so no process has to ask
another one for a link, and nothing is stored.  A code or a cookie names a *right*:
``view`` or ``act`` (cancel, retry), and when it ends::

    right . ends . nonce . proof under a secret derived from the cluster's
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from typing import Final, Literal
from urllib.parse import urlsplit

from covey import clock
from covey.secret import Secret

Right = Literal["view", "act"]
RIGHTS: Final[tuple[Right, ...]] = ("view", "act")

#: A link may lie about for a day; a browser that was let in stays so for a month.
CODE_SECONDS: Final = 24 * 3600.0
COOKIE_SECONDS: Final = 30 * 24 * 3600.0

_PROOF_DIGITS: Final = 32


class Gate:
    """Makes and checks codes and cookies for one cluster."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret.derive(b"dashboard")
        #: Codes that were used, until they would have ended anyway.
        self._used: dict[str, float] = {}

    def code(self, right: Right) -> str:
        """Return a code for a link."""
        return self._seal("code", right, CODE_SECONDS)

    def cookie(self, right: Right) -> str:
        """Return the value of a cookie."""
        return self._seal("cookie", right, COOKIE_SECONDS)

    def bearer(self) -> str:
        """Return what a program shows that reads the metrics, and nothing else."""
        return self._proof("metrics", "read")

    def may_measure(self, authorization: str) -> bool:
        """Whether an ``Authorization`` header shows that."""
        shown = authorization.removeprefix("Bearer ").strip()
        return hmac.compare_digest(
            self.bearer().encode(), shown.encode("utf-8", "replace")
        )

    def admit(self, code: str) -> Right | None:
        """Return the right that *code* gives, once; ``None`` if it gives none."""
        right = self._open("code", code)
        now = clock.wall()
        self._used = {known: ends for known, ends in self._used.items() if ends > now}
        if right is None or code in self._used:
            return None
        self._used[code] = now + CODE_SECONDS
        return right

    def right_of(self, cookie: str) -> Right | None:
        """Return the right of a browser that shows *cookie*."""
        return self._open("cookie", cookie)

    def _seal(self, kind: str, right: Right, seconds: float) -> str:
        ends = int(clock.wall() + seconds)
        text = f"{right}.{ends}.{secrets.token_hex(8)}"
        return f"{text}.{self._proof(kind, text)}"

    def _open(self, kind: str, sealed: str) -> Right | None:
        text, _, proof = sealed.rpartition(".")
        if not hmac.compare_digest(
            self._proof(kind, text).encode(), proof.encode("utf-8", "replace")
        ):
            return None
        right, ends, _ = text.split(".")
        if int(ends) < clock.wall():
            return None
        return "act" if right == "act" else "view"

    def _proof(self, kind: str, text: str) -> str:
        message = f"{kind} {text}".encode("utf-8", "replace")
        return self._secret.proof(message).hex()[:_PROOF_DIGITS]


def host_is_ours(host: str, names: frozenset[str]) -> bool:
    """Whether a ``Host`` header names this machine's loopback, or one of *names*.

    Else a page of somebody else could have its name resolved to us, and read along.
    """
    name = _name_of(host)
    if name in names or name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def same_origin(
    origin: str | None, host: str, names: frozenset[str] = frozenset()
) -> bool:
    """Whether a request comes from a page that we served ourselves.

    A proxy of *names* may tell us another ``Host`` than it has itself.
    """
    if origin is None:
        return False
    parts = urlsplit(origin)
    return parts.netloc == host or parts.hostname in names


def _name_of(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
