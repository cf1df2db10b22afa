"""Commands that open the dashboard, or look back at a recording."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from covey.cli.inspection import client_of
from covey.errors import StartFailed, UsageError
from covey.units import counted

if TYPE_CHECKING:
    from covey.dashboard.access import Right
    from covey.dashboard.feed import Feed
    from covey.secret import Secret

# The dashboard.


@click.command(short_help="Open the pages that show a cluster at work.")
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
        from covey.dashboard.past import ReplayFeed
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


@click.command(short_help="Make one HTML file of a recording.")
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def report(recording: Path, output: Path) -> None:
    """Make one HTML file of a recording, to be opened anywhere, offline.

    \b
    covey report run.covey -o report.html
    """
    import asyncio

    from covey.dashboard import bundle
    from covey.dashboard.past import ReplayFeed
    from covey.dashboard.questions import Questions

    feed = ReplayFeed(recording)
    answers = asyncio.run(Questions(feed).to_keep())
    frame = {**feed.model.frame(""), "status": "replay", "answers": answers}
    _write(output, bundle.report(frame, f"covey: {recording.name}"))


@click.command(short_help="Make a trace of a recording, for Perfetto.")
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def trace(recording: Path, output: Path) -> None:
    """Make a trace of a recording, for ui.perfetto.dev or chrome://tracing.

    \b
    covey trace run.covey -o trace.json
    """
    from covey.dashboard.past import replay
    from covey.dashboard.trace import trace as make

    _write(output, json.dumps(make(replay(recording))))


@click.command(short_help="Turn a recording into JSON lines or Parquet.")
@click.argument("recording", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="A .parquet or .jsonl file.  [default: JSON lines to the screen]",
)
def export(recording: Path, output: Path | None) -> None:
    """Turn the events of a recording into JSON lines or a Parquet table.

    \b
    covey export run.covey | jq 'select(.event == "failed")'
    covey export run.covey -o events.parquet
    """
    from covey.dashboard.export import parquet, rows
    from covey.recording import read

    found = rows(read(recording))
    if output is None:
        for row in found:
            click.echo(json.dumps(row))
    elif output.suffix == ".parquet":
        parquet(found, output)
    elif output.suffix in {".jsonl", ".ndjson", ".json"}:
        _write(output, "".join(f"{json.dumps(row)}\n" for row in found))
    else:
        raise UsageError(
            f"{output}: what is it to be? Name a file .parquet or .jsonl, or none"
        )


@click.command()
@click.argument("address", required=False)
@click.option(
    "--replay", type=click.Path(path_type=Path), help="Send a recording, and end."
)
@click.option("--service", default="covey", show_default=True, help="Its name there.")
def telemetry(address: str | None, replay: Path | None, service: str) -> None:
    """Send tasks to OpenTelemetry, as spans, until Ctrl-C.

    It reads the event stream along as a client does, so the work does not wait for
    it. Where to: OTEL_EXPORTER_OTLP_ENDPOINT, and its other variables.

    \b
    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 covey telemetry
    covey telemetry --replay run.covey
    """
    from covey.dashboard.spans import provider

    made = provider(service)
    try:
        tracer = made.get_tracer("covey")
        if replay is not None:
            _send_recording(tracer, replay)
        else:
            _send_live(tracer, address)
    except KeyboardInterrupt:
        pass  # That is how it ends; what was made is sent.
    finally:
        made.shutdown()


def _send_recording(tracer: Any, path: Path) -> None:
    from covey.dashboard.spans import Spans
    from covey.recording import Batch, Head, read

    spans: Spans | None = None
    at = 0.0
    for record in read(path):
        if isinstance(record, Head):
            spans = Spans(tracer, record.wall - record.overview["now"])
        elif spans is not None and isinstance(record, Batch):
            spans.take(record.events)
            at = record.now
    if spans is not None:
        spans.close(at)


def _send_live(tracer: Any, address: str | None) -> None:
    from covey import clock
    from covey.dashboard.spans import Spans

    with client_of(address) as client:
        view = client.overview()
        spans = Spans(tracer, clock.wall() - view["now"])
        number, at = view["next"], view["now"]
        try:
            while True:
                first, events, missed = client.events_after(number)
                if missed:
                    click.echo(
                        f"covey: {counted(missed, 'event')} came too fast", err=True
                    )
                number = first + len(events)
                spans.take(events)
                at = events[-1][0] if events else at
        finally:
            spans.close(at)


def _write(path: Path, text: str) -> None:
    """Write a file that only its owner can read: it may tell what tasks printed."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
