"""Commands about what lets others in: showing it, and exchanging it."""

from __future__ import annotations

import click


@click.group(short_help="Show or exchange what lets others in.")
def token() -> None:
    """Show what lets other machines into a cluster of yours, or exchange it."""


@token.command("show")
@click.argument("address", required=False)
@click.option("--worker", is_flag=True, help="For workers only: it makes no clients.")
@click.option("--metrics", is_flag=True, help="What lets Prometheus read, only that.")
def show(address: str | None, worker: bool, metrics: bool) -> None:
    """Print the join string of a cluster: one line, and a secret.

    \b
    covey token show
    covey token show --worker | ssh OTHER-MACHINE covey worker -
    covey token show --metrics > /etc/prometheus/covey.token
    """
    from covey.cli.where import connection_of

    connection = connection_of(address)
    if not metrics:
        click.echo(connection.join_string(worker=worker))
        return
    from covey.dashboard.access import Gate
    from covey.errors import UsageError

    secret = connection.keys.client
    if secret is None:
        raise UsageError("only the worker's secret of this cluster is known here")
    click.echo(Gate(secret).bearer())


@token.command("rotate")
@click.argument("address", required=False)
def rotate(address: str | None) -> None:
    """Give a running cluster other secrets: old join strings open nothing then.

    Who is connected at that moment stays: clients and workers are told, tasks run on.
    Connection files are written anew.

    \b
    covey token rotate
    covey token show  # the new join string
    """
    from covey.cli.where import connection_of
    from covey.client.client import Client
    from covey.units import counted

    connection = connection_of(address)
    with Client(connection, name="covey token", set_as_default=False) as client:
        told = client.session.ask("rotate")
    # One of the clients is this command.
    clients = counted(told["clients"] - 1, "client")
    click.echo(
        f"the cluster at {connection.address.shown} has new secrets; "
        f"{counted(told['workers'], 'worker')} and {clients} were told. "
        f"Old join strings are refused; covey token show  prints the new one"
    )
