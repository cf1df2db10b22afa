"""``covey doctor``: is this machine fit, is the way to a cluster, are its machines?

Each line says ok, warn or fail; what is not ok comes with what to do about it.  The
checks on the workers run as tasks, by name and without any code of ours being
sent, so that they work with runners of any Python.
"""

from __future__ import annotations

import os
import platform
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from covey import clock
from covey.cli.output import output_option, show
from covey.errors import CoveyError, Refused, TaskError, UsageError, VersionRefused
from covey.runner import checkup
from covey.units import format_bytes, format_seconds
from covey.version import major

if TYPE_CHECKING:
    from covey.client.client import Client
    from covey.net.addresses import Address

OK, WARN, FAIL = "ok", "warn", "fail"

#: A worker that has not answered within this time does not answer.
ANSWER_SECONDS: Final = 10.0

#: How much is written to each worker and read back.
PROBE_BYTES: Final = 100_000_000
PROBE_SECONDS: Final = 60.0

#: Slower than this is worth a word.
SLOW_BYTES_PER_SECOND: Final = 20e6

#: Clocks that differ by more make the times in events and logs misleading.
SKEW_SECONDS: Final = 1.0

#: Each runner takes a few, each link one, each large value one.
OPEN_FILES_MIN: Final = 1024


class Finding(NamedTuple):
    """One line of the report.

    Attributes:
        level: ``ok``, ``warn`` or ``fail``.
        subject: what was looked at.
        text: what was found.
        fix: what to do, unless it is ok; one line for each thing.
    """

    level: str
    subject: str
    text: str
    fix: str = ""


@click.command(short_help="Check this machine, and a cluster.")
@click.argument("address", required=False)
@output_option
@click.option(
    "--size",
    default=PROBE_BYTES,
    show_default=True,
    help="Bytes to write to each worker and to read back.",
)
@click.option(
    "--timeout",
    default=ANSWER_SECONDS,
    show_default=True,
    help="Seconds within which scheduler and workers must answer.",
)
def doctor(address: str | None, output: str, size: int, timeout: float) -> None:
    """Check this machine, and a cluster: each line says ok, warn or fail, and the fix.

    \b
    covey doctor
    covey doctor 127.0.0.1:8786
    """
    findings = []
    for finding in examine(address, size, timeout):
        findings.append(finding)
        if output == "table":
            _show(finding)
    if output != "table":
        show([finding._asdict() for finding in findings], output, ())
    if any(finding.level == FAIL for finding in findings):
        sys.exit(1)


def _show(finding: Finding) -> None:
    click.echo(f"{finding.level:4}  {finding.subject:24} {finding.text}")
    for line in finding.fix.splitlines():
        click.echo(f"{'':30} {line}")


def examine(address: str | None, size: int, timeout: float) -> Iterator[Finding]:
    """Yield what there is to say about this machine, and about a cluster."""
    here = checkup.examine()
    yield from _this_machine(here)
    named = ("COVEY_ADDRESS", "COVEY_CONNECTION_FILE")
    if address is not None or any(os.environ.get(name) for name in named):
        yield from _cluster(address, here, size, timeout)


# This machine.


def _this_machine(here: dict[str, Any]) -> Iterator[Finding]:
    yield Finding(OK, "python", f"{platform.python_version()} at {sys.executable}")
    versions = [f"covey {here['covey']}"]
    versions += [f"{name} {v}" for name, v in here["packages"].items() if v]
    yield Finding(OK, "packages", ", ".join(versions))
    yield _shared_memory("shared memory", here)
    yield _open_files("open files", here)
    from covey.dashboard.launch import problem

    missing = problem()
    if missing:
        fix = "pip install 'covey[dashboard]'"
        yield Finding(WARN, "dashboard", "its packages are not installed", fix)
    else:
        yield Finding(OK, "dashboard", "its packages are installed")
    from covey.net.connection_file import runtime_directory

    try:
        yield Finding(OK, "runtime directory", str(runtime_directory()))
    except UsageError as error:
        fix = "Remove it, or set XDG_RUNTIME_DIR to a directory of your own."
        yield Finding(FAIL, "runtime directory", str(error), fix)


def _shared_memory(subject: str, facts: dict[str, Any]) -> Finding:
    problem = facts["shared_memory"]
    if problem:
        fix = "Mount /proc, and give the machine (or container) memory for memfd files."
        return Finding(FAIL, subject, f"it does not work: {problem}", fix)
    return Finding(OK, subject, "it works")


def _open_files(subject: str, facts: dict[str, Any]) -> Finding:
    limit = facts["open_files"]
    if 0 <= limit < OPEN_FILES_MIN:
        fix = f"Before covey is started there: ulimit -n {64 * OPEN_FILES_MIN}"
        return Finding(WARN, subject, f"a process may have {limit}, which is few", fix)
    return Finding(OK, subject, "unlimited" if limit < 0 else f"up to {limit}")


# The cluster.


def _cluster(
    address: str | None, here: dict[str, Any], size: int, timeout: float
) -> Iterator[Finding]:
    from covey.cli.where import chosen
    from covey.client.client import Client

    try:
        client = Client(
            chosen(address),
            set_as_default=False,
            timeout=timeout,
            name="covey-doctor",
            functions="import",
        )
    except (CoveyError, OSError, TimeoutError) as error:
        yield Finding(FAIL, "scheduler", str(error), _way_in(error))
        return
    with client:
        yield Finding(OK, "scheduler", f"it answers at {client.address}")
        names = sorted(client.ncores())
        if not names:
            fix = (
                f"Start one: covey worker {client.address}\n"
                f"On another machine: the join string of `covey token show --worker`, in "
                f"$COVEY_ADDRESS, and covey worker."
            )
            yield Finding(FAIL, "workers", "there is none, so nothing can run", fix)
            return
        yield Finding(OK, "workers", f"{len(names)}: {', '.join(names)}")
        answers = dict(_ask_all(client, names, timeout))
        yield from _table(here, answers)
        for name in names:
            yield from _worker(client, name, answers.get(name), size)


def _way_in(error: Exception) -> str:
    """Return what to do about a scheduler that one cannot get to."""
    if isinstance(error, VersionRefused):
        return "Install the same version of covey on both machines."
    if isinstance(error, Refused):
        return (
            "Use the connection file, or the join string, of the cluster as it is now:\n"
            "on the scheduler's machine, `covey token show` prints it."
        )
    if isinstance(error, UsageError):
        return (
            "Give an address, the connection file of the cluster, or - and its join "
            "string on the standard input."
        )
    return (
        "On the scheduler's machine: covey scheduler (with --host, if this is another "
        "one).\nHere: the address or join string that it prints, in $COVEY_ADDRESS."
    )


def _ask_all(
    client: Client, names: list[str], timeout: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Ask every worker for facts, all at once; those that do not answer are left out."""
    begun = clock.monotonic()
    sent_at = clock.wall()
    futures = {
        name: client.submit(checkup.examine, workers=name, priority=1 << 30)
        for name in names
    }
    for name, future in futures.items():
        left = timeout - (clock.monotonic() - begun)
        try:
            facts = future.result(max(0.1, left))
        except TimeoutError:
            facts = None
        except TaskError as error:
            facts = {"error": str(error)}
        if facts is not None:
            # Some time between sending and now; nothing is known within it.
            yield name, {**facts, "between": (sent_at, clock.wall())}


def _table(
    here: dict[str, Any], answers: dict[str, dict[str, Any]]
) -> Iterator[Finding]:
    """Compare versions, one line a worker: what differs is marked and explained."""
    for name, facts in answers.items():
        if "error" in facts:
            continue
        subject = f"{name} versions"
        text = f"covey {facts['covey']}, Python {facts['python']}"
        versions = facts["packages"]
        text += "".join(f", {package} {v}" for package, v in versions.items() if v)
        differences = [*_differences(here, facts)]
        if differences:
            yield Finding(WARN, subject, text, "\n".join(differences))
        else:
            yield Finding(OK, subject, text)


def _differences(here: dict[str, Any], facts: dict[str, Any]) -> Iterator[str]:
    if facts["covey"] != here["covey"]:
        yield f"Here is covey {here['covey']}: install the same on both."
    if _minor(facts["python"]) != _minor(here["python"]):
        yield (
            f"Here is Python {here['python']}: functions that cannot be imported there "
            f"travel by source."
        )
    ours, theirs = (f["packages"]["cloudpickle"] for f in (here, facts))
    if theirs is None:
        yield "It has no cloudpickle: only what can be imported there will run."
    elif ours and major(ours) != major(theirs):
        yield (
            f"Here is cloudpickle {ours}: functions that cannot be imported there "
            f"travel by source."
        )
    missing = []
    for package in ("numpy", "pandas", "pyarrow", "dask"):
        ours, theirs = here["packages"][package], facts["packages"][package]
        if ours and theirs is None:
            missing.append(f"{package}=={ours}")
        elif ours and major(ours) != major(theirs):
            yield f"Here is {package} {ours}: values of it may not be readable there."
    if missing:
        yield (
            f"What is here and not there, if your functions need it: "
            f"{facts['executable']} -m pip install {' '.join(missing)}"
        )


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _worker(
    client: Client, name: str, facts: dict[str, Any] | None, size: int
) -> Iterator[Finding]:
    """Yield what there is to say about one worker."""
    if facts is None:
        fix = (
            "Look whether its machine and process are alive (covey status), and at "
            "what it wrote to stderr; start it again if it hangs."
        )
        text = "it has not run a task in time (--timeout)"
        yield Finding(FAIL, f"{name} answers", text, fix)
        return
    if "error" in facts:
        fix = "Install the same version of covey there as here."
        yield Finding(FAIL, f"{name} answers", facts["error"], fix)
        return
    yield Finding(OK, f"{name} answers", f"on {facts['host']}, pid {facts['pid']}")
    yield _clock(f"{name} clock", facts)
    yield _shared_memory(f"{name} shared memory", facts)
    yield _open_files(f"{name} open files", facts)
    yield _data_port(client, name)
    yield _throughput(client, name, size)


def _clock(subject: str, facts: dict[str, Any]) -> Finding:
    before, after = facts["between"]
    skew = max(before - facts["time"], facts["time"] - after, 0.0)
    if skew > SKEW_SECONDS:
        text = f"it differs from ours by {format_seconds(skew)} or more"
        fix = "Let both machines take the time from the network (NTP)."
        return Finding(WARN, subject, text, fix)
    return Finding(OK, subject, "it agrees with ours")


def _data_port(client: Client, name: str) -> Finding:
    """Connect to where the worker serves its data."""
    from covey.net.addresses import parse_address

    subject = f"{name} data port"
    seen = next(s for s in client.session.engine.workers.values() if s.name == name)
    problems = []
    for text in seen.addresses:
        address = parse_address(text)
        try:
            _call(address)
        except OSError as error:
            problems.append(f"{text} ({error})")
        else:
            return Finding(OK, subject, text)
    fix = (
        "Nothing, if few values go there. Else open that port in the firewall, or name "
        "another interface: covey worker --host HOST"
    )
    text = (
        f"cannot be reached from here, so values go by way of the scheduler: "
        f"{'; '.join(problems)}"
    )
    return Finding(WARN, subject, text, fix)


def _call(address: Address) -> None:
    """Open a connection, and close it.

    Raises:
        OSError: nobody answers.
    """
    seconds = ANSWER_SECONDS / 2
    if not address.path:
        socket.create_connection((address.host, address.port), seconds).close()
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(seconds)
        probe.connect(address.path)


def _throughput(client: Client, name: str, size: int) -> Finding:
    """Write data to a worker, use it there, and read it back."""
    subject = f"{name} {format_bytes(size)}"
    fix = "See whether the network, or the memory of that machine, is in use by others."
    data = os.urandom(1 << 16) * (size >> 16) + bytes(size & 0xFFFF)
    try:
        begun = clock.monotonic()
        future = client.scatter([data], workers=[name])[0]
        arrived = client.submit(checkup.size_of, future, workers=name)
        if arrived.result(PROBE_SECONDS) != size:
            return Finding(FAIL, subject, "another number of bytes arrived", fix)
        written = clock.monotonic() - begun
        echoed = client.submit(bytes, future, workers=name)
        begun = clock.monotonic()
        if echoed.result(PROBE_SECONDS) != data:
            return Finding(FAIL, subject, "other bytes came back", fix)
        read = clock.monotonic() - begun
    except (CoveyError, TimeoutError, OSError) as error:
        return Finding(FAIL, subject, f"cannot be moved: {error}", fix)
    text = f"written at {_rate(size, written)}, read at {_rate(size, read)}"
    if size > 1 << 20 and size / max(written, read) < SLOW_BYTES_PER_SECOND:
        return Finding(WARN, subject, text, fix)
    return Finding(OK, subject, text)


def _rate(size: int, seconds: float) -> str:
    return f"{format_bytes(int(size / max(seconds, 1e-9)))}/s"
