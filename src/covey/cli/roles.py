"""Commands that start something: scheduler, worker, both, or a script."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from covey.errors import UsageError

if TYPE_CHECKING:
    from covey.net.join_string import Connection


@click.command()
@click.option("--host", help="Interface.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="0 takes any.  [default: 8786]")
@click.option(
    "--connection-file", type=click.Path(path_type=Path), help="Write it here too."
)
@click.option("--insecure", is_flag=True, help="Encrypt nothing on a network.")
@click.option(
    "--print-join-string",
    type=click.Choice(["client", "worker"]),
    is_flag=False,
    flag_value="client",
    help="Print what lets others in: a secret.  For workers only, say worker.",
)
@click.option(
    "--record", type=click.Path(path_type=Path), help="Write down what happens."
)
@click.option("--no-dashboard", is_flag=True, help="Let nobody watch by browser.")
@click.option(
    "--dashboard-address",
    default=":8787",
    show_default=True,
    help="Where the dashboard listens, on loopback.",
)
def scheduler(
    host: str | None,
    port: int | None,
    connection_file: Path | None,
    insecure: bool,
    print_join_string: str | None,
    record: Path | None,
    no_dashboard: bool,
    dashboard_address: str,
) -> None:
    """Run a scheduler until it is stopped.

    Beyond this machine all traffic is encrypted (it takes covey[tls]).

    \b
    covey scheduler
    covey scheduler --host 0.0.0.0 --print-join-string
    covey scheduler --port 0 --connection-file cluster.json
    """
    from covey import config
    from covey.cluster import roles
    from covey.cluster.cover import cover
    from covey.net.addresses import Address

    settings = config.get().scheduler
    host = settings.host if host is None else host
    port = settings.port if port is None else port
    address = Address(host, port, "")
    cover(address, in_clear=insecure)  # or refuse, before anything is begun

    def announce(connection: Connection, path: Path, moved: bool) -> None:
        if moved:
            click.echo(f"covey: port {port} is in use, so another was taken", err=True)
        if roles.is_in_clear(connection.address):
            click.secho(f"covey: {roles.IN_CLEAR_WARNING}", fg="red", err=True)
        shown = connection.address.shown
        click.echo(f"covey scheduler at {shown} (connection file {path})")
        if print_join_string:
            click.echo(connection.join_string(worker=print_join_string == "worker"))
        elif not connection.address.is_local:
            click.echo("covey token show  prints the join string for other machines")

    def announce_dashboard(link: str, problem: str) -> None:
        if problem:
            click.echo(f"covey: {problem}", err=True)
        else:
            click.echo(f"dashboard at {link}")

    serving = roles.serve_scheduler(
        address,
        insecure,
        connection_file,
        announce,
        record,
        None if no_dashboard else dashboard_address,
        announce_dashboard,
    )
    reason = roles.run(serving)
    if reason:
        click.echo(f"covey scheduler: {reason}", err=True)
        sys.exit(1)


def _resources(text: str) -> dict[str, float]:
    amounts = {}
    for part in text.replace(",", " ").split():
        name, equals, amount = part.partition("=")
        try:
            amounts[name] = float(amount)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise UsageError(
                f'--resources takes pairs such as "GPU=2 MEM=10e9", not {part!r}'
            )
    return amounts


def _where(
    address: str | None, connection_file: Path | None
) -> Callable[[], Connection]:
    """Return what tells where the scheduler is, and its secret, now and later."""
    from covey.cli import where
    from covey.client.resolve import resolve_target
    from covey.cluster.roles import await_connection_file
    from covey.net.connection_file import read_connection_file

    address = where.chosen(address)
    named = os.environ.get("COVEY_CONNECTION_FILE")
    if connection_file is None and address is None and named:
        connection_file = Path(named)
    if connection_file is not None:
        await_connection_file(connection_file)
        return partial(read_connection_file, connection_file)
    if address is None:
        raise UsageError(
            "where is the scheduler? Give HOST:PORT, --connection-file F, or set "
            "$COVEY_ADDRESS"
        )
    return resolve_target(address, None, {}).find


@click.command()
@click.argument("address", required=False)
@click.option(
    "--connection-file",
    type=click.Path(path_type=Path),
    help="Written by covey scheduler.",
)
@click.option("--nworkers", type=int, help="Runner processes.  [default: one a core]")
@click.option("--nthreads", type=int, help="Threads in each.  [default: 1]")
@click.option("--memory-limit", help="Such as 4GiB.  [default: the machine's]")
@click.option("--name", help="How it is called.  [default: host and process]")
@click.option("--resources", default="", help='Such as "GPU=2 MEM=10e9".')
@click.option(
    "--python",
    "pythons",
    multiple=True,
    help="A Python for the runners, such as python3.12.  [default: this one]",
)
@click.option("--host", help="Interface for data.  [default: towards the scheduler]")
def worker(
    address: str | None,
    connection_file: Path | None,
    nworkers: int | None,
    nthreads: int | None,
    memory_limit: str | None,
    name: str | None,
    resources: str,
    pythons: tuple[str, ...],
    host: str | None,
) -> None:
    """Run a worker: this machine's share of a cluster.

    SIGTERM lets it finish what it began and hand over its data.

    \b
    covey worker 127.0.0.1:8786
    covey worker --connection-file cluster.json --nworkers 4
    """
    from covey import config
    from covey.cluster import local, roles

    find = _where(address, connection_file)
    if roles.is_in_clear(find().address):
        click.secho(f"covey: {roles.IN_CLEAR_WARNING}", fg="red", err=True)
    settings = config.get().worker
    runners, threads = local.shape(
        nworkers or settings.runners,
        nthreads or settings.threads_per_runner,
        processes=True,
    )
    plan = {
        "name": name or roles.default_worker_name(),
        "runners": runners,
        "threads": threads,
        "memory_limit_bytes": local.memory(memory_limit or settings.memory_limit_bytes),
        "resources": _resources(resources),
        "host": host,
        "pythons": pythons,
    }
    reason = roles.run(roles.serve_worker(find, plan))
    if reason:
        click.echo(f"covey worker {plan['name']}: {reason}", err=True)
        sys.exit(1)


@click.command()
@click.option(
    "-n", "--nworkers", type=int, help="Runner processes.  [default: one a core]"
)
@click.option("--port", default=8786, show_default=True, help="0 takes any.")
def start(nworkers: int | None, port: int) -> None:
    """Run scheduler and worker on this machine, until stopped.

    \b
    covey start
    covey start -n 4 --port 0
    """
    import signal
    import threading

    from covey.cluster.local import LocalCluster

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with LocalCluster(nworkers, host="127.0.0.1", port=port) as cluster:
        click.echo(f"covey cluster at {cluster.scheduler_address}")
        stop.wait()


@click.command("run", context_settings={"ignore_unknown_options": True})
@click.option(
    "-n", "--nworkers", type=int, help="Runner processes.  [default: one a core]"
)
@click.argument("script", type=click.Path(exists=True, dir_okay=False))
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def run_script(nworkers: int | None, script: str, args: tuple[str, ...]) -> None:
    """Run a script with a cluster around it; Client() in it finds the cluster.

    \b
    covey run script.py
    covey run -n 4 script.py --its-own option
    """
    from covey.cluster.local import LocalCluster

    with LocalCluster(nworkers, host="127.0.0.1") as cluster:
        environment = {**os.environ, "COVEY_ADDRESS": f"{cluster.host}:{cluster.port}"}
        command = [sys.executable, script, *args]
        code = subprocess.run(command, env=environment, check=False).returncode
    sys.exit(code)
