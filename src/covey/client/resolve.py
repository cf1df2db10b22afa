"""From what a user passes to ``Client(...)`` to an address and its keys."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from covey import clock
from covey.errors import CoveyError, NoScheduler, UsageError
from covey.net.addresses import Address, parse_address
from covey.net.connection_file import (
    connection_for,
    known_connections,
    read_connection_file,
    remains_of,
)
from covey.net.join_string import Connection, parse_join_string, shy
from covey.net.scheme import is_join_string
from covey.secret import Secret
from covey.wire.keys import Keys

#: So often it is looked whether a scheduler has come up.
_PAUSE_SECONDS: Final = 0.2

#: Who listens, and is not known yet, is looked for so often: the file that tells of a
#: cluster may come a moment after its port.
_STRANGER_LOOKS: Final = 10


class Target:
    """Where to connect, and what to close in the end."""

    def __init__(
        self,
        found: Connection,
        cluster: Any = None,
        *,
        owned: bool = False,
        look_again: Callable[[], Connection | None] | None = None,
    ) -> None:
        self.connection = found
        self.address = found.address
        self.keys = found.keys
        self.cluster = cluster
        self._owned = owned
        self._look_again = look_again

    def find(self) -> Connection:
        """Return where the cluster is now: a scheduler that died may come back.

        Raises:
            UsageError: what told of it cannot be read.
            NoScheduler: it tells of a process that has ended.
        """
        if self._look_again is not None:
            return self._look_again() or self.connection
        return self.connection

    def close_owned(self) -> None:
        """Close the cluster, if it was made for this client."""
        if self._owned and self.cluster is not None:
            self._owned = False
            self.cluster.close()

    def disown(self) -> None:
        """The cluster is somebody else's now: the parent's, after a fork."""
        self._owned = False


def resolve_target(
    target: Any,
    secret: Secret | None,
    keywords: dict[str, Any],
    patience_seconds: float = 0.0,
) -> Target:
    """Return where to connect to.

    Args:
        target: what a user passed as the place.
        secret: the cluster's, if the user gave it.
        keywords: of a ``LocalCluster``.
        patience_seconds: for how long to look for a cluster at an address where
            nobody listens yet.

    Raises:
        UsageError: *target* is none of the things it may be.
    """
    target = shy(target)
    if target is None and not keywords:
        target = shy(os.environ.get("COVEY_ADDRESS")) or None
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
    if isinstance(target, Connection):
        return Target(target)
    if isinstance(target, str):
        return _from_text(target, secret, patience_seconds)
    if hasattr(target, "connection"):
        return Target(
            target.connection, target, look_again=getattr(target, "find", None)
        )
    raise UsageError(
        f"a client connects to an address, a connection file or a cluster, not to "
        f"{type(target).__name__}"
    )


#: What others call how many runners there are, and how many threads in each.
_MEANT: Final = {
    **dict.fromkeys(("n_jobs", "max_workers", "num_workers", "workers"), "n_workers"),
    **dict.fromkeys(("nworkers", "n_procs", "ncores", "cores"), "n_workers"),
    **dict.fromkeys(("threads", "nthreads", "n_threads"), "threads_per_worker"),
    **dict.fromkeys(("num_threads", "max_threads"), "threads_per_worker"),
}

#: What others call the place where a cluster is.
_PLACES: Final = frozenset(
    {"address", "addr", "connection_file", "scheduler_file", "scheduler", "target"}
)


def _own_cluster(keywords: dict[str, Any]) -> Target:
    # A surrounding of ours, one floor up: found by name, when asked for.
    local = import_module("covey.cluster.local")
    code = local.LocalCluster.__init__.__code__
    known = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    check_keywords(keywords, known, "Client or LocalCluster")
    cluster = local.LocalCluster(**keywords)
    return Target(cluster.connection, cluster, owned=True, look_again=cluster.find)


def check_keywords(
    keywords: Collection[str], known: Collection[str], whose: str
) -> None:
    """See to it that each of *keywords* is *known*.

    Raises:
        UsageError: one is not; says which one was meant, or which there are.
    """
    for name in keywords:
        if name == "asynchronous":
            raise UsageError("there is no asynchronous=: use covey.AsyncClient")
        if name in _PLACES:
            raise UsageError(
                f"{name}= is no keyword of {whose}: where a cluster is comes first, as in "
                f"Client('cluster.json') or Client('host:8786')"
            )
        if name not in known:
            import difflib

            near = [meant for meant in known if meant == _MEANT.get(name)]
            near = near or difflib.get_close_matches(name, known, 1)
            hint = (
                f"did you mean {near[0]}=?" if near else f"there are {', '.join(known)}"
            )
            raise UsageError(f"{name}= is no keyword of {whose}: {hint}")


def _from_file(path: Path) -> Target:
    def read() -> Connection:
        return read_connection_file(path)

    return Target(read(), look_again=read)


def _from_text(text: str, secret: Secret | None, patience_seconds: float) -> Target:
    if is_join_string(text):
        return Target(parse_join_string(text))
    if text.endswith(".json") or (
        "/" in text and "://" not in text and not text.startswith("unix:")
    ):
        return _from_file(Path(text).expanduser())
    address = parse_address(text)
    if secret is not None:
        return Target(Connection(address, Keys.of_client(secret)))
    found = _await(address, patience_seconds)
    return Target(found, look_again=lambda: connection_for(address))


def _await(address: Address, patience_seconds: float) -> Connection:
    """Return the cluster at *address*, also if it is started within that time.

    A name that is not known ends it at once.

    Raises:
        NoScheduler: nobody came.
        UsageError: who listens there is not known, and does not make itself known.
    """
    start = clock.monotonic()
    looks = 0
    while (found := connection_for(address)) is None:
        waited = clock.monotonic() - start
        problem = _unknown(address, waited)
        if isinstance(problem, NoScheduler):
            hopeless = isinstance(problem.__cause__, socket.gaierror)
            over = hopeless or waited + _PAUSE_SECONDS > patience_seconds
        else:
            looks += 1
            over = looks > _STRANGER_LOOKS
        if over:
            # The file may have come while we asked who listens.
            found = connection_for(address)
            if found is None:
                raise problem
            break
        time.sleep(_PAUSE_SECONDS)
    return found


def _unknown(address: Address, waited_seconds: float) -> CoveyError:
    """Return what to tell a user whose files say nothing of a cluster at *address*."""
    gone = remains_of(address)
    if gone is not None:
        return gone
    from covey.net.connect import look  # A cluster of our own does not wait for it.

    others = ", ".join(c.address.shown for _, c in known_connections())
    yours = f" Clusters of yours: {others}." if others else ""
    try:
        look(address, waited_seconds=waited_seconds)
    except NoScheduler as error:
        problem = NoScheduler(f"{error}{yours}")
        problem.__cause__ = error.__cause__
        return problem
    whose = "" if address.is_local else " (or the join string it printed)"
    return UsageError(
        f"something listens at {address.shown}, but its secret is not known here: no "
        f"connection file of this user tells of a cluster there.{yours} If it is a "
        f"covey of another machine or user, give its connection file{whose} in "
        f"$COVEY_CONNECTION_FILE or $COVEY_ADDRESS"
    )
