"""Which cluster a command means, and what opens it.

A join string holds a secret, and everybody on a machine can read its command lines.
So no command takes one as an argument: ``-`` reads it from the standard input, and
``$COVEY_ADDRESS`` or a connection file are not shown to others either.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import click

from covey.errors import NoScheduler, UsageError
from covey.net.connection_file import known_connections, read_connection_file
from covey.net.join_string import Connection, shy
from covey.net.scheme import is_join_string

NOT_AN_ARGUMENT: Final = """\
a join string holds the secret of the cluster, and everybody on this machine can
read a command line. (Your shell may have written this one into its history, too:
`covey token rotate` makes it useless.) Ways to give it:
  1. an environment variable: COVEY_ADDRESS='covey://...'
  2. the standard input, with - as the address: covey worker - < FILE
  3. the connection file that `covey scheduler` wrote: --connection-file FILE"""


def chosen(address: str | None) -> str | None:
    """Return the address or join string that is meant; ``None`` if none was given.

    Raises:
        UsageError: a secret stands in the command line.
    """
    if address is None:
        told: str | None = shy(os.environ.get("COVEY_ADDRESS"))
        return told
    if is_join_string(address):
        raise UsageError(NOT_AN_ARGUMENT)
    if address != "-":
        return address
    if sys.stdin.isatty():
        text: str = click.prompt("join string", hide_input=True)
    else:
        text = sys.stdin.readline()
    if not text.strip():
        raise UsageError("the standard input holds no join string")
    named: str = shy(text.strip())
    return named


def connection_of(address: str | None) -> Connection:
    """Return the cluster that a command means; the only one of ours, if none is named.

    Raises:
        UsageError: there are more than one, or its secret is not known.
        NoScheduler: there is none, or it has ended.
    """
    from covey.client.resolve import resolve_target

    address = chosen(address)
    if address is not None:
        return resolve_target(address, None, {}).connection
    named = os.environ.get("COVEY_CONNECTION_FILE")
    if named:
        return read_connection_file(Path(named))
    found = [connection for _, connection in known_connections()]
    if not found:
        raise NoScheduler(
            "no cluster of yours is running on this machine: `covey start` starts one, "
            "and an address names one elsewhere"
        )
    if len(found) != 1:
        places = ", ".join(connection.address.shown for connection in found)
        raise UsageError(f"which cluster? Give its address. There are: {places}")
    return found[0]
