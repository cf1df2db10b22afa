"""How commands answer: a table for people, JSON or JSON lines for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

FORMATS: Final = click.Choice(["table", "json", "jsonl"])

#: The option that every command has which shows something.
output_option: Final = click.option(
    "-o", "--output", type=FORMATS, default="table", help="[default: table]"
)


def show(
    rows: Sequence[Mapping[str, Any]], output: str, columns: Sequence[str]
) -> None:
    """Print rows: in a table these columns, as JSON all there is."""
    if output == "json":
        click.echo(json.dumps(rows))
        return
    if output == "jsonl":
        for row in rows:
            click.echo(json.dumps(row))
        return
    table = [list(columns)]
    table += [[str(row.get(name, "")) for name in columns] for row in rows]
    widths = [max(len(line[at]) for line in table) for at in range(len(columns))]
    for line in table:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


class Listing(click.Group):
    """A group of commands that lists when no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let ``ls`` be meant where no command stands."""
        named = bool(args) and (args[0] in self.commands or args[0] in _HELP)
        return super().parse_args(ctx, args if named else ["ls", *args])


_HELP: Final = frozenset({"-h", "--help"})
