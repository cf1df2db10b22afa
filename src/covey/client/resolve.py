"""From what a user passes to ``Client(...)`` to an address and a secret."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from covey.errors import UsageError
from covey.net.addresses import Address, parse_address
from covey.net.connection_file import (
    parse_join_string,
    read_connection_file,
    secret_for,
)


class Target:
    """Where to connect, and what to close in the end."""

    def __init__(
        self, address: Address, secret: bytes, cluster: Any = None, *, owned: bool
    ) -> None:
        self.address = address
        self.secret = secret
        self.cluster = cluster
        self._owned = owned

    def close_owned(self) -> None:
        """Close the cluster, if it was made for this client."""
        if self._owned and self.cluster is not None:
            self._owned = False
            self.cluster.close()

    def disown(self) -> None:
        """The cluster is somebody else's now: the parent's, after a fork."""
        self._owned = False


def resolve_target(
    target: Any, secret: bytes | None, keywords: dict[str, Any]
) -> Target:
    """Return where to connect to.

    Raises:
        UsageError: *target* is none of the things it may be.
    """
    if target is None and not keywords:
        target = os.environ.get("COVEY_ADDRESS") or None
        path = os.environ.get("COVEY_CONNECTION_FILE")
        if target is None and path:
            target = Path(path)
    if target is None:
        return _own_cluster(keywords)
    if keywords:
        names = ", ".join(sorted(keywords))
        raise UsageError(
            f"{names}: these are keywords of a LocalCluster, and go with Client() "
            f"without an address only"
        )
    if isinstance(target, os.PathLike):
        return _from_file(Path(target))
    if isinstance(target, str):
        return _from_text(target, secret)
    if hasattr(target, "connection"):
        found = target.connection
        return Target(found.address, found.secret, target, owned=False)
    raise UsageError(
        f"a client connects to an address, a connection file or a cluster, not to "
        f"{type(target).__name__}"
    )


def _own_cluster(keywords: dict[str, Any]) -> Target:
    # A surrounding of ours, one floor up: found by name, when asked for.
    local = import_module("covey.cluster.local")
    cluster = local.LocalCluster(**keywords)
    found = cluster.connection
    return Target(found.address, found.secret, cluster, owned=True)


def _from_file(path: Path) -> Target:
    found = read_connection_file(path)
    return Target(found.address, found.secret, owned=False)


def _from_text(text: str, secret: bytes | None) -> Target:
    joined = parse_join_string(text)
    if joined is not None:
        return Target(joined.address, joined.secret, owned=False)
    if text.endswith(".json") or (
        "/" in text and "://" not in text and not text.startswith("unix:")
    ):
        return _from_file(Path(text).expanduser())
    address = parse_address(text)
    found = secret or secret_for(address)
    if found is None:
        print_hint = "" if address.is_local else " (or the join string it printed)"
        raise UsageError(
            f"the secret of the cluster at {address} is not known here: no connection "
            f"file of this user tells of a scheduler there. Is `covey scheduler` "
            f"running? On another machine, give its connection file{print_hint} in "
            f"$COVEY_CONNECTION_FILE or $COVEY_ADDRESS"
        )
    return Target(address, found, owned=False)
