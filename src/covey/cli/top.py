"""``covey top``: a cluster at work, live, in a terminal."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from covey.cli.inspection import client_of, watch_status
from covey.errors import StartFailed

if TYPE_CHECKING:
    from covey.dashboard.feed import Feed

MISSING: Final = (
    "covey top needs a package that is not installed: pip install 'covey[tui]'. This is "
    "covey status --watch instead"
)

NO_TERMINAL: Final = "covey top needs a terminal. This is covey status --watch instead"


@click.command(short_help="Watch a cluster live, in the terminal.")
@click.argument("address", required=False)
@click.option(
    "--replay", type=click.Path(path_type=Path), help="Show a recording instead."
)
def top(address: str | None, replay: Path | None) -> None:
    """Watch workers, functions, running tasks and errors; explain and cancel tasks.

    \b
    covey top
    covey top 127.0.0.1:8786
    covey top --replay run.covey
    """
    instead = None
    if find_spec("textual") is None:
        instead = MISSING
    elif not (sys.stdin.isatty() and sys.stdout.isatty()):
        instead = NO_TERMINAL
    if instead is not None and replay is not None:
        raise StartFailed(
            f"{instead.partition('.')[0]}. `covey report {replay} -o report.html` makes a "
            f"page of a recording"
        )
    if instead is not None:
        click.echo(f"covey: {instead}", err=True)
        with client_of(address) as client:
            watch_status(client, "table")
        return
    from covey.cli.top_screen import Top

    Top(_feed(address, replay)).run()


def _feed(address: str | None, replay: Path | None) -> Feed:
    if replay is not None:
        from covey.dashboard.past import ReplayFeed

        return ReplayFeed(replay)
    from covey.dashboard.feed import LiveFeed

    # Whether there is a cluster is said here, and not on a screen full of nothing.
    with client_of(address) as client:
        connection = client.connection
    return LiveFeed(connection)
