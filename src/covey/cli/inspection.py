"""Commands that look at a cluster, or at this machine."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from covey.units import format_bytes

if TYPE_CHECKING:
    from covey.client.client import Client


def client_of(address: str | None) -> Client:
    """Return a client of the cluster at *address*, or of the only one there is.

    Raises:
        UsageError: there is none, or several.
    """
    from covey.cli.where import connection_of
    from covey.client.client import Client

    found = connection_of(address)
    return Client(found, set_as_default=False, name="covey-command")


@click.command()
@click.argument("address", required=False)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
@click.option("--watch", is_flag=True, help="Again every second, until Ctrl-C.")
def status(address: str | None, output: str, watch: bool) -> None:
    """Show workers, tasks and counters of a cluster.

    \b
    covey status
    covey status 127.0.0.1:8786 -o json
    covey status --watch
    """
    with client_of(address) as client:
        while True:
            info = client.scheduler_info()
            if watch and sys.stdout.isatty():
                click.clear()
            click.echo(json.dumps(info) if output == "json" else _status_text(info))
            if not watch:
                return
            time.sleep(1.0)


def _status_text(info: dict[str, Any]) -> str:
    from covey.client.memory import memory_table

    lines = [f"scheduler {info['address']}"]
    if info["dashboard"]:
        lines.append("dashboard: `covey dashboard` prints a link")
    lines.append(f"{'worker':24} {'slots':>5} {'tasks':>7} {'stored':>10}  host")
    lines += [
        f"{worker['name']:24.24} {worker['slots']:5} {worker['assigned']:7} "
        f"{format_bytes(worker['stored_bytes']):>10}  {worker['host']}"
        for worker in info["workers"]
    ]
    if table := memory_table(info):
        lines.append(f"memory\n{table}")
    tasks = ", ".join(f"{n:,} {state}" for state, n in info["tasks"].items() if n)
    lines.append(f"tasks: {tasks or 'none'}")
    return "\n".join(lines)


@click.command()
@click.argument("address", required=False)
def stop(address: str | None) -> None:
    """End a cluster, in order.

    \b
    covey stop
    covey stop 127.0.0.1:8786
    """
    client_of(address).shutdown()


@click.group()
def config() -> None:
    """Show settings, and where each comes from."""


@config.command("show")
def show() -> None:
    """Print every setting with its value and its source.

    \b
    covey config show
    """
    from covey import config as settings

    for origin in settings.origins():
        click.echo(f"{origin.key} = {origin.value!r}  ({origin.source})")
