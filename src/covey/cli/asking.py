"""Commands about the tasks and workers of a cluster, and what tasks print."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from covey.cli.inspection import client_of
from covey.cli.output import Listing, output_option, show
from covey.errors import UsageError
from covey.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from covey.client.client import Client
    from covey.client.future import Future


# Tasks.


@click.group(cls=Listing)
def tasks() -> None:
    """Count, explain, cancel and retry tasks."""


@tasks.command("ls")
@click.argument("address", required=False)
@output_option
def list_tasks(address: str | None, output: str) -> None:
    """Count tasks by function.

    \b
    covey tasks
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
    show(rows, output, columns)


@tasks.command()
@click.argument("key")
@click.argument("address", required=False)
@output_option
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


@tasks.command()
@click.argument("key")
@click.argument("address", required=False)
@click.option("--reason", default="", help="Told to whoever waits for it.")
def cancel(key: str, address: str | None, reason: str) -> None:
    """Stop a task, running or not; what depends on it fails.

    \b
    covey tasks cancel inc-3f00000002a --reason "wrong input"
    """
    _act(key, address, lambda future: future.cancel(reason or "from the shell"))


@tasks.command()
@click.argument("key")
@click.argument("address", required=False)
def retry(key: str, address: str | None) -> None:
    """Run a failed task once more.

    \b
    covey tasks retry inc-3f00000002a
    """
    _act(key, address, lambda future: future.retry())


def _act(key: str, address: str | None, do: Callable[[Future[Any]], object]) -> None:
    """Do something with a task, whoever submitted it."""
    with client_of(address) as client:
        answer = client.session.ask("explain", names=(key,))
        if "task" not in answer:
            raise UsageError(f"{key}: {answer['text']}")
        task = int(answer["task"])
        # A client may do as it likes with what it holds, and the cluster's secret
        # makes us hold anything.
        token = client.connection.keys.token(task)
        future = client.future_of(task, "task", None, token)
        do(future)
        # Answered after what was said before it: then that was heard.
        client.session.ask("explain", extents=((task, 1),))
        future.release()


# Workers.


@click.group(cls=Listing)
def workers() -> None:
    """List workers, and let them leave."""


@workers.command("ls")
@click.argument("address", required=False)
@output_option
def list_workers(address: str | None, output: str) -> None:
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
    show(found, output, columns)


@workers.command()
@click.argument("name")
@click.argument("address", required=False)
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait.")
def retire(name: str, address: str | None, timeout: float) -> None:
    """Let a worker finish what it began, hand over its data, and leave.

    \b
    covey workers retire host-1234
    """
    with client_of(address) as client:
        client.retire_workers(name, timeout)


# Numbers.


@click.command(short_help="Print numbers for Prometheus, once.")
@click.argument("address", required=False)
def metrics(address: str | None) -> None:
    """Print the numbers of a cluster once, in the text format of Prometheus.

    The dashboard serves the same, and more of the past, at /metrics.

    \b
    covey metrics > /var/lib/node_exporter/covey.prom
    """
    from covey import clock
    from covey.dashboard.metrics import text
    from covey.dashboard.model import Model
    from covey.recording import Head

    model = Model()
    with client_of(address) as client:
        model.begin(Head(clock.wall(), client.overview()))
    click.echo(text(model)[0].decode(), nl=False)


# Logs.


@click.command()
@click.argument("address", required=False)
@click.option("--task", help="Of the task of this key only.")
@click.option("--worker", help="Of the worker of this name only.")
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@output_option
def logs(
    address: str | None,
    task: str | None,
    worker: str | None,
    follow: bool,
    output: str,
) -> None:
    """Print what tasks have printed, as long as it is kept.

    \b
    covey logs
    covey logs --follow
    covey logs --task inc-3f00000002a
    """
    if follow and output == "json":
        raise UsageError("what is followed has no end: take -o jsonl")
    with client_of(address) as client:
        found = []
        for row in _printed(client, follow):
            if task in {None, row["key"]} and worker in {None, row["worker"]}:
                if output == "json":
                    found.append(row)
                else:
                    _show_print(row, output)
        if output == "json":
            click.echo(json.dumps(found))


def _printed(client: Client, follow: bool) -> Iterator[dict[str, Any]]:
    """Yield what was printed, and if one follows, what is printed from now on."""
    number = client.overview()["next"]
    kept = [tuple(event) for event in client.session.ask("logs")]
    for event in kept:
        yield _row(event)
    while follow:
        # From before the first question on: nothing is missed, nothing shown twice.
        first, events, _ = client.events_after(number)
        number = first + len(events)
        for event in events:
            if event[1] == "printed" and event not in kept:
                yield _row(event)
        kept = []


def _row(event: Any) -> dict[str, Any]:
    at, _, task, label, worker, stream, text, left_out = event
    return {
        "key": f"{label}-{task:x}",
        "worker": worker,
        "stream": stream,
        "text": text,
        "left_out": left_out,
        "at": at,
    }


def _show_print(row: dict[str, Any], output: str) -> None:
    if output == "jsonl":
        click.echo(json.dumps(row))
        return
    for line in row["text"].splitlines():
        click.echo(f"{row['key']}  {line}")
