"""``covey profile``: which lines of code the time of a cluster goes to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from covey.cli.inspection import client_of
from covey.cli.output import show
from covey.stacks import Tree, short
from covey.units import format_seconds

if TYPE_CHECKING:
    from covey.stacks import Profiles

#: Frames that a table shows.
FRAMES_MAX: Final = 25


@click.command(short_help="See what code the tasks of a cluster run.")
@click.argument("address", required=False)
@click.option("--seconds", default=5.0, show_default=True, help="How long to look.")
@click.option("--function", default="", help="Tasks of this function only.")
@click.option("--worker", default="", help="On the worker of this name only.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "jsonl", "collapsed"]),
    default="table",
    help="collapsed is for flame graph tools.  [default: table]",
)
def profile(
    address: str | None, seconds: float, function: str, worker: str, output: str
) -> None:
    """Look at what code the tasks of a cluster run, for some seconds.

    What scheduler and workers do themselves: --function "(scheduler)", "(worker)".

    \b
    covey profile
    covey profile --function train --seconds 30 -o collapsed > train.txt
    """
    from covey.client.profiling import profile as look

    with client_of(address) as client:
        found = look(seconds, client)
    tree = found.tree(function, worker)
    if not tree.seconds:
        click.echo(
            f"covey: nothing ran there in these {seconds:g} s{_instead(found)}",
            err=True,
        )
        raise SystemExit(1)
    if output == "collapsed":
        click.echo(tree.collapsed(), nl=False)
        return
    rows = frames(tree)
    if output == "table":
        hot = [row for row in rows if row["own_seconds"]][:FRAMES_MAX]
        rows = [_for_people(row, tree.seconds) for row in hot]
    show(rows, output, ["own", "share", "with calls", "frame"])


def _instead(found: Profiles) -> str:
    seen = [f"{label} on {place or 'it'}" for place, label, _ in found.subjects()[:5]]
    return f"; what was seen: {', '.join(seen)}" if seen else ""


def frames(tree: Tree) -> list[dict[str, Any]]:
    """Return each frame with its own seconds and those of all it calls; hottest first.

    A frame that calls itself again counts once.
    """
    sums = tree.totals()
    own = [0] * len(tree.names)
    whole = [0] * len(tree.names)
    #: The names on the way from the root to each node.
    above: list[frozenset[int]] = [frozenset()]
    for at in range(1, len(tree.nodes)):
        parent, name, microseconds = tree.nodes[at]
        names = above[parent]
        own[name] += microseconds
        if name not in names:
            whole[name] += sums[at]
            names |= {name}
        above.append(names)
    order = sorted(range(len(tree.names)), key=lambda name: (-own[name], -whole[name]))
    return [
        {
            "frame": _shown(tree.names[name]),
            "own_seconds": own[name] / 1e6,
            "total_seconds": whole[name] / 1e6,
        }
        for name in order
    ]


def _shown(name: str) -> str:
    """Return a frame's name for people; the tasks of a function have no file."""
    function, file, _ = name.split("\t")
    return short(name) if file else f"{function} (its tasks)"


def _for_people(row: dict[str, Any], seconds: float) -> dict[str, Any]:
    return {
        "own": format_seconds(row["own_seconds"]),
        "share": f"{row['own_seconds'] / seconds:.0%}",
        "with calls": format_seconds(row["total_seconds"]),
        "frame": row["frame"],
    }
