"""Commands about what lets others in: showing it."""

from __future__ import annotations

import click


@click.group()
def token() -> None:
    """Show what lets other machines into a cluster of yours."""


@token.command("show")
@click.argument("address", required=False)
@click.option("--worker", is_flag=True, help="For workers only: it makes no clients.")
def show(address: str | None, worker: bool) -> None:
    """Print the join string of a cluster: one line, and a secret.

    \b
    covey token show
    covey token show --worker | ssh OTHER-MACHINE covey worker -
    """
    from covey.cli.where import connection_of

    click.echo(connection_of(address).join_string(worker=worker))
