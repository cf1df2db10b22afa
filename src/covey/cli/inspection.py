"""Commands that look at a cluster, or at this machine."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click

from covey.cli.output import output_option, show
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


#: How often `covey status --watch` looks.
WATCH_SECONDS: Final = 1.0


@click.command()
@click.argument("address", required=False)
@output_option
@click.option("--watch", is_flag=True, help="Again every second, until Ctrl-C.")
def status(address: str | None, output: str, watch: bool) -> None:
    """Show workers, tasks and counters of a cluster.

    \b
    covey status
    covey status 127.0.0.1:8786 -o json
    covey status --watch -o jsonl
    """
    with client_of(address) as client:
        if watch:
            watch_status(client, output)
        else:
            click.echo(_status(client, output))


def watch_status(client: Client, output: str) -> None:
    """Show the status again and again, until Ctrl-C."""
    while True:
        text = _status(client, output)
        if output == "table" and sys.stdout.isatty():
            click.clear()
        click.echo(text)
        time.sleep(WATCH_SECONDS)


def _status(client: Client, output: str) -> str:
    info = client.scheduler_info()
    return _status_text(info) if output == "table" else json.dumps(info)


def _status_text(info: dict[str, Any]) -> str:
    from covey.client.memory import memory_table

    lines = [f"scheduler {info['address']}"]
    if info["dashboard"]:
        lines.append("dashboard: `covey dashboard` prints a link")
    if info["workers"]:
        lines.append(f"{'worker':24} {'slots':>5} {'tasks':>7} {'stored':>10}  host")
    else:
        lines.append(_how_to_start_one(info["address"]))
    lines += [
        f"{worker['name']:24.24} {worker['slots']:5} {worker['assigned']:7} "
        f"{format_bytes(worker['stored_bytes']):>10}  {worker['host']}"
        for worker in info["workers"]
    ]
    if table := memory_table(info):
        lines.append(f"memory\n{table}")
    passed_on = info["counters"]["bytes_passed_on"]
    if passed_on:
        lines.append(
            f"by way of the scheduler: {format_bytes(passed_on)}, between processes that "
            f"do not reach each other"
        )
    tasks = ", ".join(f"{n:,} {state}" for state, n in info["tasks"].items() if n)
    lines.append(f"tasks: {tasks or 'none'}")
    return "\n".join(lines)


def _how_to_start_one(address: str) -> str:
    place = address.removeprefix("tcp://")
    return f"no workers: nothing runs until one is started, by `covey worker {place}`"


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
@output_option
def show_config(output: str) -> None:
    """Print every setting with its value and its source.

    \b
    covey config show
    covey config show -o json
    """
    from covey import config as settings

    origins = settings.origins()
    if output == "table":
        for origin in origins:
            click.echo(f"{origin.key} = {origin.value!r}  ({origin.source})")
    else:
        show([origin._asdict() for origin in origins], output, ())


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what lets a shell complete covey's commands and options.

    \b
    eval "$(covey completion bash)"                  in ~/.bashrc
    eval "$(covey completion zsh)"                   in ~/.zshrc
    covey completion fish | source                   in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    command = click.get_current_context().find_root().command
    kind = get_completion_class(shell)
    assert kind is not None, "click knows the shells that are offered"
    click.echo(kind(command, {}, "covey", "_COVEY_COMPLETE").source())
