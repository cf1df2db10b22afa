"""Commands that look at a cluster, or at this machine."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

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


@click.command()
@click.argument("address", required=False)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
@click.option("--watch", is_flag=True, help="Again every second, until Ctrl-C.")
def status(address: str | None, output: str, watch: bool) -> None:
    """Show workers, tasks and counters of a cluster.

    \b
    covey status
    covey status 127.0.0.1:8786 -o json
    covey status --watch
    """
    with client_of(address) as client:
        while True:
            info = client.scheduler_info()
            if watch and sys.stdout.isatty():
                click.clear()
            click.echo(json.dumps(info) if output == "json" else _status_text(info))
            if not watch:
                return
            time.sleep(1.0)


def _status_text(info: dict[str, Any]) -> str:
    from covey.client.memory import memory_table

    lines = [f"scheduler {info['address']}"]
    if info["dashboard"]:
        lines.append("dashboard: `covey dashboard` prints a link")
    lines.append(f"{'worker':24} {'slots':>5} {'tasks':>7} {'stored':>10}  host")
    lines += [
        f"{worker['name']:24.24} {worker['slots']:5} {worker['assigned']:7} "
        f"{format_bytes(worker['stored_bytes']):>10}  {worker['host']}"
        for worker in info["workers"]
    ]
    if table := memory_table(info):
        lines.append(f"memory\n{table}")
    tasks = ", ".join(f"{n:,} {state}" for state, n in info["tasks"].items() if n)
    lines.append(f"tasks: {tasks or 'none'}")
    return "\n".join(lines)


@click.command()
@click.argument("address", required=False)
def stop(address: str | None) -> None:
    """End a cluster, in order.

    \b
    covey stop
    covey stop 127.0.0.1:8786
    """
    client_of(address).shutdown()


@click.command()
@click.argument("address", required=False)
def doctor(address: str | None) -> None:
    """Check this machine, and the way to a cluster; each line says ok or what to do.

    \b
    covey doctor
    covey doctor 127.0.0.1:8786
    """
    checks = [_python(), _packages(), _memory(), _directory()]
    if address is not None:
        checks.append(_connection(address))
    for good, text in checks:
        click.echo(f"{'ok  ' if good else 'fail'}  {text}")
    if not all(good for good, _ in checks):
        sys.exit(1)


def _python() -> tuple[bool, str]:
    return True, f"Python {sys.version.split()[0]} on {sys.platform}"


def _packages() -> tuple[bool, str]:
    from importlib.metadata import PackageNotFoundError, version

    names = ("covey", "msgspec", "cloudpickle", "psutil", "click", "uvloop")
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} (not installed)")
    return True, ", ".join(found)


def _memory() -> tuple[bool, str]:
    from covey.store.segments import Segment, open_segment

    try:
        segment = Segment.of([b"x" * 4096])
        open_segment(segment.place, segment.size)
        segment.close()
    except OSError as error:
        return False, f"shared memory does not work: {error}; is /proc mounted?"
    return True, "shared memory works"


def _directory() -> tuple[bool, str]:
    from covey.errors import UsageError
    from covey.net.connection_file import runtime_directory

    try:
        return True, f"sockets and connection files go to {runtime_directory()}"
    except UsageError as error:
        return False, str(error)


def _connection(address: str) -> tuple[bool, str]:
    from covey.errors import CoveyError

    try:
        with client_of(address) as client:
            answer: Any = client.submit(sum, [1, 2]).result(timeout=10)
            return answer == 3, f"{client!r} answers, and runs a task"
    except (CoveyError, TimeoutError) as error:
        return False, str(error)


@click.group()
def config() -> None:
    """Show settings, and where each comes from."""


@config.command("show")
def show() -> None:
    """Print every setting with its value and its source.

    \b
    covey config show
    """
    from covey import config as settings

    for origin in settings.origins():
        click.echo(f"{origin.key} = {origin.value!r}  ({origin.source})")
