"""Commands that open the dashboard, or look back at a recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from covey.cli.inspection import client_of
from covey.errors import StartFailed, UsageError

if TYPE_CHECKING:
    from covey.dashboard.access import Right
    from covey.dashboard.feed import Feed
    from covey.secret import Secret

# The dashboard.


@click.command()
@click.argument("address", required=False)
@click.option(
    "--replay", type=click.Path(path_type=Path), help="Show a recording instead."
)
@click.option("--port", type=int, default=8787, show_default=True)
@click.option("--view-only", is_flag=True, help="A link that may look, and not act.")
@click.option("--open", "browse", is_flag=True, help="Open a browser, too.")
def dashboard(
    address: str | None,
    replay: Path | None,
    port: int,
    view_only: bool,
    browse: bool,
) -> None:
    """Print a link to the dashboard; if there is none, serve one until Ctrl-C.

    \b
    covey dashboard
    covey dashboard 127.0.0.1:8786 --open
    covey dashboard --replay run.covey
    """
    from covey.dashboard.launch import link, problem

    missing = problem()
    if missing:
        raise StartFailed(missing)
    right: Right = "view" if view_only else "act"
    if replay is not None:
        from covey.dashboard.feed import ReplayFeed
        from covey.secret import Secret

        _serve(ReplayFeed(replay), Secret.fresh(), port, right, browse)
        return
    from covey.dashboard.feed import LiveFeed

    with client_of(address) as client:
        connection = client.connection
        place = client.scheduler_info()["dashboard"]
    secret = connection.keys.client
    assert secret is not None, "a client has the client's secret"
    if place:
        _tell(link(secret, place, right), browse)
    else:
        _serve(LiveFeed(connection), secret, port, right, browse)


def _serve(feed: Feed, secret: Secret, port: int, right: Right, browse: bool) -> None:
    """Serve *feed* in this process, until Ctrl-C."""
    from covey.dashboard.launch import bind, link
    from covey.dashboard.serving import serve

    listening = bind(f":{port}")
    host, number = listening.getsockname()[:2]
    found = link(secret, f"{host}:{number}", right)
    serve(feed, secret, listening, lambda: _tell(found, browse))


def _tell(found: str, browse: bool) -> None:
    click.echo(found)
    if browse:
        click.launch(found)


# Looking back.


@click.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def report(recording: Path, output: Path) -> None:
    """Make one HTML file of a recording, to be opened anywhere, offline.

    \b
    covey report run.covey -o report.html
    """
    from covey.dashboard import bundle
    from covey.dashboard.feed import replay

    frame = {**replay(recording).frame(""), "status": "replay"}
    _write(output, bundle.report(frame, f"covey: {recording.name}"))


@click.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def trace(recording: Path, output: Path) -> None:
    """Make a trace of a recording, for ui.perfetto.dev or chrome://tracing.

    \b
    covey trace run.covey -o trace.json
    """
    from covey.dashboard.feed import replay
    from covey.dashboard.trace import trace as make

    _write(output, json.dumps(make(replay(recording))))


@click.command()
@click.argument("recording", type=click.Path(path_type=Path))
def export(recording: Path) -> None:
    """Print the events of a recording as JSON lines.

    \b
    covey export run.covey > events.jsonl
    """
    from covey.recording import Batch, read

    for record in read(recording):
        if isinstance(record, Batch):
            for number, event in enumerate(record.events, record.first):
                click.echo(json.dumps([number, *event]))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
