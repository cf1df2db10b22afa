"""Machines of a network on one machine: namespaces that a bridge joins.

::

    this machine ── bridge ─┬─ b
     (10.231.9.254)         └─ c        each with a network interface and a name of its own

Making them takes root and iproute2.  They go with the process that made them, unless it is
killed; whoever makes them next sweeps.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Final

BRIDGE: Final = "coveyfail0"
HERE: Final = "10.231.9.254"

#: The addresses of the hosts, by name.
HOSTS: Final = {"b": "10.231.9.1", "c": "10.231.9.2"}

#: No network card has this address: what is sent there is lost without a word.
NOWHERE: Final = "02:00:00:00:00:99"


class Impossible(Exception):  # it is no error of whoever is tried
    """This machine does not allow what is to be done."""


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)


def _space(host: str) -> str:
    return f"coveyfail-{host}"


def _down() -> None:
    for host in HOSTS:
        # Of itself a card would go some time after its namespace.
        command = ["ip", "link", "del", _card(host)]
        subprocess.run(command, capture_output=True, check=False)
        command = ["ip", "netns", "del", _space(host)]
        subprocess.run(command, capture_output=True, check=False)
    subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True, check=False)


def _up() -> None:
    _run("ip", "link", "add", BRIDGE, "type", "bridge")
    _run("ip", "addr", "add", f"{HERE}/24", "dev", BRIDGE)
    _run("ip", "link", "set", BRIDGE, "up")
    for host, address in HOSTS.items():
        space = _space(host)
        _run("ip", "netns", "add", space)
        inside = ["type", "veth", "peer", "name", "eth0", "netns", space]
        _run("ip", "link", "add", _card(host), *inside)
        _run("ip", "link", "set", _card(host), "master", BRIDGE, "up")
        _run("ip", "-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
        _run("ip", "-n", space, "link", "set", "eth0", "up")
        _run("ip", "-n", space, "link", "set", "lo", "up")


@contextlib.contextmanager
def hosts() -> Iterator[None]:
    """Make the hosts, for as long as the block lasts.

    Raises:
        Impossible: it takes root, and tools that are not there.
    """
    missing = [tool for tool in ("ip", "tc", "unshare") if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        raise Impossible("it takes root, iproute2 and unshare")
    _down()
    try:
        _up()
        yield
    except subprocess.CalledProcessError as error:
        raise Impossible(str(error.stderr).strip()) from error
    finally:
        _down()


def _card(host: str) -> str:
    """Return the network interface of *host* on this side."""
    return f"covfail-{host}"


def on(host: str) -> list[str]:
    """Return what to put before a command that is to run on *host*, by its name."""
    start = f'hostname {host}; exec "$@"'
    space = ["ip", "netns", "exec", _space(host)]
    return [*space, "unshare", "-u", "sh", "-c", start, "sh"]


def unplug(host: str) -> None:
    """Nothing comes to *host* or from it any more, and nobody is told."""
    _run("ip", "link", "set", _card(host), "down")


def plug_in(host: str) -> None:
    """Join *host* to the network again."""
    _run("ip", "link", "set", _card(host), "up")


def silence(host: str, towards: str = HERE) -> None:
    """What *host* sends to that address is lost; what comes from there arrives."""
    neighbour = ["ip", "-n", _space(host), "neigh", "replace", towards]
    _run(*neighbour, "lladdr", NOWHERE, "dev", "eth0", "nud", "permanent")


def unsilence(host: str, towards: str = HERE) -> None:
    """What *host* sends to that address arrives again."""
    _run("ip", "-n", _space(host), "neigh", "del", towards, "dev", "eth0")


def separate() -> None:
    """The hosts reach this machine, but not each other any more."""
    for host in HOSTS:
        _run("ip", "link", "set", _card(host), "type", "bridge_slave", "isolated", "on")


def slow_down(host: str, rate: str) -> None:
    """*host* sends and receives at most so much, such as ``1mbit``, from now on."""
    shape = ["root", "tbf", "rate", rate, "burst", "16kb", "latency", "500ms"]
    _run("tc", "qdisc", "add", "dev", _card(host), *shape)
    _run(
        "ip", "netns", "exec", _space(host), "tc", "qdisc", "add", "dev", "eth0", *shape
    )
