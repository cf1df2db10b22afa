"""Commands that watch a cluster, or look back at a recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from covey.cli.inspection import client_of
from covey.errors import StartFailed, UsageError
from covey.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from covey.dashboard.access import Right
    from covey.dashboard.feed import Feed
    from covey.secret import Secret

_formats = click.Choice(["table", "json", "jsonl"])


def _show(rows: list[dict[str, Any]], output: str, columns: dict[str, str]) -> None:
    """Print rows as a table (with these columns and headings) or as JSON."""
    if output == "json":
        click.echo(json.dumps(rows))
        return
    if output == "jsonl":
        for row in rows:
            click.echo(json.dumps(row))
        return
    table = [list(columns.values())]
    table += [[str(row.get(name, "")) for name in columns] for row in rows]
    widths = [max(len(line[at]) for line in table) for at in range(len(columns))]
    for line in table:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


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


# Tasks.


@click.group()
def tasks() -> None:
    """Ask about tasks."""


@tasks.command("ls")
@click.argument("address", required=False)
@click.option("-o", "--output", type=_formats, default="table")
def list_tasks(address: str | None, output: str) -> None:
    """Count tasks by function.

    \b
    covey tasks ls
    covey tasks ls 127.0.0.1:8786 -o jsonl
    """
    with client_of(address) as client:
        functions = client.overview()["functions"]
    rows = []
    for label, line in functions.items():
        seconds = line["seconds"]
        usual = "" if seconds is None else format_seconds(seconds)
        pending = line["submitted"] - line["done"] - line["failed"]
        rows.append({"function": label, "pending": pending, **line, "usual": usual})
    columns = ["function", "submitted", "done", "failed", "pending", "usual"]
    _show(rows, output, {name: name for name in columns})


@tasks.command()
@click.argument("key")
@click.argument("address", required=False)
@click.option("-o", "--output", type=_formats, default="table")
def explain(key: str, address: str | None, output: str) -> None:
    """Say how a task stands, and what it waits for.

    \b
    covey tasks explain inc-3f00000002a
    """
    with client_of(address) as client:
        answer = client.session.ask("explain", names=(key,))
    payload = answer.pop("payload", b"")
    if payload:
        from covey.serde.failures import traceback_text

        answer["traceback"] = traceback_text(payload)
    if output == "table":
        click.echo(f"{key}: {answer['text']}")
        if payload:
            click.echo(answer["traceback"].rstrip())
    else:
        click.echo(json.dumps({"key": key, **answer}))
    if answer["state"] == "forgotten":
        raise SystemExit(1)


# Workers and logs.


@click.command()
@click.argument("address", required=False)
@click.option("-o", "--output", type=_formats, default="table")
def workers(address: str | None, output: str) -> None:
    """List the workers.

    \b
    covey workers
    covey workers -o json
    """
    with client_of(address) as client:
        found = client.scheduler_info()["workers"]
    if output == "table":
        for worker in found:
            facts = worker["facts"]
            memory = facts.get("memory", {})
            worker["cpu"] = f"{100 * facts.get('cpu', 0) / worker['slots']:.0f}%"
            worker["memory"] = format_bytes(memory.get("total", 0))
            worker["limit"] = format_bytes(worker["memory_limit_bytes"])
    columns = ["name", "slots", "assigned", "cpu", "memory", "limit", "host"]
    _show(found, output, {name: name for name in columns})


@click.command()
@click.argument("address", required=False)
@click.option("--task", help="Of the task of this key only.")
@click.option("-o", "--output", type=_formats, default="table")
def logs(address: str | None, task: str | None, output: str) -> None:
    """Print what tasks have printed, as long as it is kept.

    \b
    covey logs
    covey logs --task inc-3f00000002a
    """
    with client_of(address) as client:
        lines = client.logs()
    for key, stream, text in lines:
        if task is not None and key != task:
            continue
        if output == "table":
            for line in text.splitlines():
                click.echo(f"{key}  {line}")
        else:
            click.echo(json.dumps({"key": key, "stream": stream, "text": text}))


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
