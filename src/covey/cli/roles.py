"""Commands that start something: scheduler, worker, both, or a script."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from covey.errors import UsageError
from covey.units import counted

if TYPE_CHECKING:
    from covey.cluster.local import LocalCluster
    from covey.dashboard.launch import Dashboard
    from covey.net.join_string import Connection

PORT: Final = click.IntRange(0, 65535)
COUNT: Final = click.IntRange(min=1)


@click.command()
@click.option("--host", help="Interface.  [default: 127.0.0.1]")
@click.option(
    "--port",
    type=PORT,
    help="0 takes any.  [default: 8786, or any free one if that is taken]",
)
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
@click.option(
    "--journal",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep what is detached or published here, for the next scheduler.",
)
@click.option("--no-dashboard", is_flag=True, help="Let nobody watch by browser.")
@click.option(
    "--dashboard-address",
    default=":8787",
    show_default=True,
    help="Where the dashboard listens, on loopback.",
)
@click.option(
    "--metrics",
    metavar="[HOST:]PORT",
    help="Numbers for Prometheus here too, on loopback.",
)
def scheduler(
    host: str | None,
    port: int | None,
    connection_file: Path | None,
    insecure: bool,
    print_join_string: str | None,
    record: Path | None,
    journal: Path | None,
    no_dashboard: bool,
    dashboard_address: str,
    metrics: str | None,
) -> None:
    """Run a scheduler until it is stopped.

    Beyond this machine all traffic is encrypted (it takes covey[tls]).

    \b
    covey scheduler
    covey scheduler --host 0.0.0.0 --print-join-string
    covey scheduler --port 0 --connection-file cluster.json
    covey scheduler --no-dashboard --metrics 9100
    """
    from covey import config
    from covey.cluster import roles
    from covey.cluster.cover import cover
    from covey.cluster.door import Places
    from covey.net.addresses import Address

    settings = config.get().scheduler
    if metrics is not None and metrics.isdigit():
        metrics = f":{metrics}"
    named = port is not None  # Then it is this port or none.
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

    def announce_dashboard(dashboard: Dashboard | None, problem: str) -> None:
        if dashboard is None:
            click.echo(f"covey: {problem}", err=True)
        elif sys.stdout.isatty():
            click.echo(f"dashboard at {dashboard.link()}")
        else:
            # What is written to a file may be read by others: no code that opens it.
            place = f"http://{dashboard.place}/"
            click.echo(f"dashboard at {place} (covey dashboard  prints a link to it)")

    serving = roles.serve_scheduler(
        address,
        insecure,
        connection_file,
        announce,
        record,
        Places(None if no_dashboard else dashboard_address, metrics),
        announce_dashboard,
        fixed=named,
        tell=_tell,
        journal=journal,
    )
    reason = roles.run(serving)
    if reason:
        click.echo(f"covey scheduler: {reason}", err=True)
        sys.exit(1)


def _tell(line: str) -> None:
    """Write a line of news for whoever looks on."""
    try:
        click.echo(line)
    except OSError:
        pass  # Nobody does any more, such as after `| head -1`; the work goes on.


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
    from covey.cluster.roles import FILE_SECONDS, await_connection_file
    from covey.errors import NoScheduler
    from covey.net.connection_file import read_connection_file

    address = where.chosen(address)
    named = os.environ.get("COVEY_CONNECTION_FILE")
    if connection_file is None and address is None and named:
        connection_file = Path(named)
    if connection_file is not None:
        await_connection_file(
            connection_file, lambda news: _tell(f"covey worker: {news}")
        )
        return partial(read_connection_file, connection_file)
    if address is None:
        raise UsageError(
            "where is the scheduler? Give HOST:PORT, --connection-file F, or set "
            "$COVEY_ADDRESS"
        )
    try:
        return resolve_target(address, None, {}).find
    except NoScheduler as error:
        if isinstance(error.__cause__, socket.gaierror):
            raise
        _tell(f"covey worker: looks for a scheduler there for up to {FILE_SECONDS:g} s")
    return resolve_target(address, None, {}, FILE_SECONDS).find


@click.command()
@click.argument("address", required=False)
@click.option(
    "--connection-file",
    type=click.Path(path_type=Path),
    help="Written by covey scheduler.",
)
@click.option("--nworkers", type=COUNT, help="Runner processes.  [default: one a core]")
@click.option("--nthreads", type=COUNT, help="Threads in each.  [default: 1]")
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

    Ctrl-C and SIGTERM let it finish what it began and hand over its data; a second one
    ends it at once.

    \b
    covey worker 127.0.0.1:8786
    covey worker --connection-file cluster.json --nworkers 4
    """
    from covey import config
    from covey.cluster import local, roles

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
        "memory_limit_bytes": local.memory(
            settings.memory_limit_bytes if memory_limit is None else memory_limit,
            runners,
        ),
        "resources": _resources(resources),
        "host": host,
        "pythons": pythons,
    }
    find = _where(address, connection_file)
    if roles.is_in_clear(find().address):
        click.secho(f"covey: {roles.IN_CLEAR_WARNING}", fg="red", err=True)
    title = f"covey worker {plan['name']}"
    reason = roles.run(
        roles.serve_worker(find, plan, lambda news: _tell(f"{title}: {news}"))
    )
    if reason:
        click.echo(f"{title}: {reason}", err=True)
        sys.exit(1)
    _tell(f"{title}: has left in good order")


@click.command()
@click.option(
    "-n", "--nworkers", type=COUNT, help="Runner processes.  [default: one a core]"
)
@click.option(
    "--port",
    type=PORT,
    help="0 takes any.  [default: 8786, or any free one if that is taken]",
)
def start(nworkers: int | None, port: int | None) -> None:
    """Run scheduler and worker on this machine, until stopped.

    \b
    covey start
    covey start -n 4 --port 0
    """
    import signal
    import threading

    from covey.net.addresses import DEFAULT_PORT

    over = threading.Event()
    told = False

    def stop(*_: object) -> None:
        nonlocal told
        told = True
        over.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with _local_cluster(nworkers, DEFAULT_PORT if port is None else port) as cluster:
        if port and cluster.port != port:
            raise UsageError(
                f"port {port} is in use; end what uses it, or take another port"
            )
        if port is None and cluster.port != DEFAULT_PORT:
            click.echo(
                f"covey: port {DEFAULT_PORT} is in use, so another was taken", err=True
            )
        click.echo(f"covey cluster at {cluster.scheduler_address}")
        click.echo(_how_to_watch())
        _tell(f"covey start: one worker of {counted(cluster.n_workers, 'runner')}")
        cluster.when_started_again(
            lambda why: _tell(f"covey start: {why}; it was started anew")
        )
        cluster.when_over(over.set)
        over.wait()
        if told:
            _tell("covey start: ends the cluster")
        else:
            cluster.check()
            _tell("covey start: the cluster was told to end")


def _local_cluster(nworkers: int | None, port: int) -> LocalCluster:
    from covey.cluster.local import LocalCluster

    with warnings.catch_warnings():
        # Whether the port is another one, a command says in its own words.
        warnings.filterwarnings("ignore", "port .* is in use")
        return LocalCluster(nworkers, host="127.0.0.1", port=port)


def _how_to_watch() -> str:
    from covey.dashboard.launch import problem

    missing = problem()
    return (
        f"no dashboard: {missing}" if missing else "covey dashboard  shows it at work"
    )


@click.command(
    "run",
    context_settings={"ignore_unknown_options": True},
    short_help="Run a script with a cluster around it.",
)
@click.option(
    "-n", "--nworkers", type=COUNT, help="Runner processes.  [default: one a core]"
)
@click.option(
    "--as-distributed",
    is_flag=True,
    help="Let `from dask.distributed import ...` in it mean covey.",
)
@click.argument("script", type=click.Path(exists=True, dir_okay=False))
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def run_script(
    nworkers: int | None, as_distributed: bool, script: str, args: tuple[str, ...]
) -> None:
    """Run a script with a cluster around it; Client() in it finds the cluster.

    \b
    covey run script.py
    covey run -n 4 script.py --its-own option
    """
    from covey.cluster.local import LocalCluster

    command = [sys.executable, script, *args]
    if as_distributed:
        from covey.compat import distributed

        # The runners of the cluster take part, too.
        os.environ[distributed.VARIABLE] = "1"
        command[1:1] = ["-m", distributed.__name__]
    with LocalCluster(nworkers, host="127.0.0.1") as cluster:
        environment = {**os.environ, "COVEY_ADDRESS": f"{cluster.host}:{cluster.port}"}
        code = _run_to_its_end(command, environment)
    sys.exit(code)


def _run_to_its_end(command: list[str], environment: dict[str, str]) -> int:
    """Run a program that decides itself what signals mean; return its exit code."""
    process = subprocess.Popen(command, env=environment)
    # Ctrl-C in a terminal reaches the program by itself; others send to us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    code = process.wait()
    return 128 - code if code < 0 else code
