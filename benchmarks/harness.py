"""How figures are taken, and how they are told.

A *room* (``throughput``, ``latency``, ...) holds *jobs*; a *contender* is covey or
one of its peers.  Every job runs the same lines for every contender::

    room = Room(__doc__)


    @room.job(
        "map and gather of {n:,} inc",
        short=20_000,
        full=50_000,
        unit="1/s",
        must=200_000,
        aim=1_000_000,
    )
    def map_and_gather(cluster: Contender, n: int, timed: Timed) -> None:
        with timed(n):
            cluster.gather(cluster.map(inc, range(n)))


    if __name__ == "__main__":
        room.main()

Contenders take turns, round by round.  Each turn has a process of its own, so that
nobody inherits another one's threads, imports or garbage; a peer's may be that of
another environment (``--peers-python``).  What is printed are medians over the
rounds, and the median of the ratios within each round: machines are noisy, and
neighbours in time have the same weather.  Where a row counts tasks a second, dask
and Ray do an eighth of the tasks, which does not change their rate.

CPU time is less fickle than wall time.  It is given for each task and each role.
"""

from __future__ import annotations

import argparse
import compileall
import inspect
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

import covey
from benchmarks.contenders import CONTENDERS, OURS, Contender
from benchmarks.site import family_of, send_signal
from benchmarks.tables import LOW_IS_GOOD, table

#: A turn that takes longer than this is given up, and its cells stay empty; a room of
#: large jobs has its own limit.
TURN_SECONDS = 600.0

#: What is counted by the second is this many times smaller for slow contenders.
SLOW = 8

#: What stands in the command of a process of ours, and the role that it has.
ROLE_OF = {
    "covey.cluster": "cluster",
    "covey.runner": "runners",
    "covey scheduler": "scheduler",
    "covey worker": "worker",
}

_MARK = "figures: "


@dataclass
class Figure:
    """One measurement.

    Attributes:
        value: what is compared.
        unit: ``s``, ``1/s``, ``B``, ``B/s``, ``n`` (a number), ``%`` or ``x``.
        cpu: CPU seconds per task, by role; empty where it would say nothing.
    """

    value: float
    unit: str
    cpu: dict[str, float] = field(default_factory=dict)


@dataclass
class Job:
    """One row of a table, or a few rows that are measured together."""

    title: str
    work: Callable[..., Any]
    size: dict[str, int]
    unit: str
    needs: frozenset[str]
    #: What the project asks of itself; ``None`` where it asks nothing.
    must: float | None
    aim: float | None
    #: Of which peer by what ratio covey must be ahead.
    ahead: dict[str, float]
    #: Whether the contender is started before the job, outside of the clock.
    started: bool

    def name(self, full: bool) -> str:
        """Return what stands at the head of the row."""
        return self.title.format(n=self.size["full" if full else "short"])


# Measuring.


def _role_of(process: psutil.Process) -> str:
    """Name what a process does; peers keep several roles in one process."""
    if process.pid == os.getpid():
        return "client"
    try:
        command = " ".join(process.cmdline())
    except psutil.Error:
        return "others"
    for mark, role in ROLE_OF.items():
        if mark in command:
            return role
    return "others"


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, finer than the kernel's ticks."""
    if sys.platform == "linux":
        try:
            # The clock of a process has a number that is made of its pid.
            return time.clock_gettime((~pid << 3) | 2)
        except OSError:
            pass
    try:
        used = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return used.user + used.system


@dataclass(frozen=True)
class _Used:
    """What a process has used: its role, its own seconds, those of ended children."""

    role: str
    own: float
    ended: float


def _used() -> dict[int, _Used]:
    """Return what this process and all below it have used, by pid."""
    me = psutil.Process()
    return {
        process.pid: _Used(
            _role_of(process), cpu_seconds(process.pid), _ended_seconds(process)
        )
        for process in (me, *me.children(recursive=True))
    }


def _ended_seconds(process: psutil.Process) -> float:
    """Return the CPU time of children that have ended."""
    try:
        used = process.cpu_times()
    except psutil.Error:
        return 0.0
    # Not every system tells.
    children = (getattr(used, f"children_{kind}", 0.0) for kind in ("user", "system"))
    return sum(children)


def _used_since(before: dict[int, _Used]) -> dict[str, float]:
    """Return the CPU seconds of each role, also of processes that came or went."""
    now = _used()
    nothing = _Used("", 0.0, 0.0)
    seconds: dict[str, float] = dict.fromkeys([u.role for u in before.values()], 0.0)
    for pid in before.keys() | now.keys():
        was, is_ = before.get(pid, nothing), now.get(pid, nothing)
        # All that one who has ended ever used comes back with its parent.
        role = is_.role or was.role
        seconds[role] = seconds.get(role, 0.0) + is_.own - was.own
        if is_.role:
            below = "runners" if role in {"cluster", "worker"} else role
            seconds[below] = seconds.get(below, 0.0) + is_.ended - was.ended
    return {role: max(0.0, used) for role, used in seconds.items()}


class Timed:
    """Hands out clocks: ``with timed(tasks): ...``, and keeps what they showed."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.figure: Figure | None = None

    @contextmanager
    def __call__(self, count: int = 1) -> Iterator[None]:
        """Time what is inside, which does *count* tasks."""
        before = _used()
        started = time.perf_counter()
        yield
        wall = time.perf_counter() - started
        cpu = {role: used / count for role, used in _used_since(before).items()}
        value = count / max(wall, 1e-9) if self.unit == "1/s" else wall / count
        self.figure = Figure(value, self.unit, cpu)


def quantiles(samples: list[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile."""
    ordered = sorted(samples)
    return statistics.median(ordered), ordered[int(len(ordered) * 0.99)]


class Room:
    """The jobs of one script, and its command line."""

    def __init__(
        self,
        text: str | None,
        *,
        contenders: tuple[str, ...] = (),
        turn_seconds: float = TURN_SECONDS,
        apart: bool = False,
    ) -> None:
        """Make a room.

        Args:
            text: the docstring of the script.
            contenders: who may take part; everybody, if empty.
            apart: whether a cluster whose scheduler and worker have processes of their
                own takes part unasked, for the CPU time of each.
            turn_seconds: a turn that takes longer is given up.
        """
        frame = inspect.stack()[1].frame
        self.module = frame.f_globals["__spec__"].name
        self.text = (text or "").partition("\n")[0]
        self.contenders = {*(contenders or CONTENDERS), *OURS}
        self.apart = apart
        self.turn_seconds = turn_seconds
        self.jobs: list[Job] = []
        #: Why turns have no figures, by contender.
        self.failed: dict[str, list[str]] = {}
        self.asked: dict[str, tuple[float | None, float | None]] = {}
        self.ahead: dict[str, dict[str, float]] = {}

    def ask(
        self,
        row: str,
        *,
        must: float | None = None,
        aim: float | None = None,
        ahead: dict[str, float] | None = None,
    ) -> None:
        """Say what the project asks of itself in a row that a job returns.

        Args:
            row: its head.
            must: what is asked for.
            aim: what is hoped for.
            ahead: of which peer by what ratio it must be ahead, if that runs as well.
        """
        self.asked[row] = (must, aim)
        self.ahead[row] = ahead or {}

    def job(
        self,
        title: str,
        *,
        short: int,
        full: int,
        unit: str = "s",
        needs: str = "submit",
        must: float | None = None,
        aim: float | None = None,
        ahead: dict[str, float] | None = None,
        started: bool = True,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Enter a function as a job; ``{n}`` in the title becomes its size.

        It is called with a contender, the size and a ``Timed``.  It uses that once,
        or returns figures of its own by row.  Goals are those of ``ask``.
        """

        def enter(work: Callable[..., Any]) -> Callable[..., Any]:
            self.jobs.append(
                Job(
                    title,
                    work,
                    {"short": short, "full": full},
                    unit,
                    frozenset(needs.split()),
                    must,
                    aim,
                    ahead or {},
                    started,
                )
            )
            return work

        return enter

    # One turn, in a process of its own.

    def take_turn(self, name: str, full: bool, only: str) -> dict[str, Figure]:
        """Run the jobs with one contender."""
        contender = CONTENDERS[name]()
        figures: dict[str, Figure] = {}
        jobs = [
            job
            for job in self.jobs
            if job.needs <= contender.can and only in job.name(full)
        ]
        for job in [j for j in jobs if not j.started]:
            figures |= _measure(job, contender, full)
        jobs = [job for job in jobs if job.started]
        if jobs:
            contender.start()
            try:
                for job in jobs:
                    figures |= _measure(job, contender, full)
            finally:
                contender.stop()
        return figures

    # All rounds.

    def main(self) -> None:
        """Measure, print a table in Markdown, and write JSON if asked to."""
        arguments = self._parse()
        for job in self.jobs:
            job.size = {
                form: max(1, round(n * arguments.scale)) for form, n in job.size.items()
            }
        if arguments.turn:
            figures = self.take_turn(arguments.turn, arguments.full, arguments.only)
            print(_MARK + json.dumps({k: asdict(f) for k, f in figures.items()}))
            return
        names = ["covey", *(["apart"] if self.apart else [])]
        asked = dict.fromkeys(filter(None, arguments.peers.split(",")))
        names += [n for n in asked if n in self.contenders and n not in names]
        absent = absent_of(names, arguments.peers_python)
        for name, why in absent.items():
            print(f"{name}: {why}", file=sys.stderr)
            names.remove(name)
        _compile()
        rounds: dict[str, list[dict[str, Figure]]] = {name: [] for name in names}
        for number in range(arguments.rounds):
            for name in names:
                print(f"round {number + 1}: {name}", file=sys.stderr)
                rounds[name].append(self._turn(name, arguments))
        result = self.result(rounds, arguments.full)
        result |= {"absent": absent, "failed": self.failed}
        print(f"{result['measured']}\n\n{table(result)}")
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
        if "covey" in self.failed:
            raise SystemExit(1)

    def _parse(self) -> argparse.Namespace:
        parser = argparse.ArgumentParser(prog=self.module, description=self.text)
        parser.add_argument("--full", action="store_true", help="sizes worth quoting")
        parser.add_argument(
            "--scale", type=float, default=1.0, help="so many times these sizes (1)"
        )
        parser.add_argument(
            "--peers",
            default="",
            type=peers,
            help=f"who runs as well: {','.join(n for n in CONTENDERS if n != 'covey')}",
        )
        parser.add_argument(
            "--peers-python", default=sys.executable, help="the interpreter of peers"
        )
        parser.add_argument("--rounds", type=int, default=3, help="how often (3)")
        parser.add_argument("--only", default="", help="jobs with this in their name")
        parser.add_argument("--json", type=Path, help="write the figures there, too")
        parser.add_argument("--turn", default="", help=argparse.SUPPRESS)
        return parser.parse_args()

    def _turn(self, name: str, arguments: argparse.Namespace) -> dict[str, Figure]:
        python = sys.executable if name in OURS else arguments.peers_python
        command = [python, "-m", self.module, "--turn", name]
        command += ["--only", arguments.only, *(["--full"] if arguments.full else [])]
        command += ["--scale", str(arguments.scale)]
        turn = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            said, _ = turn.communicate(timeout=self.turn_seconds)
        except subprocess.TimeoutExpired:
            self._fail(name, f"not done within {self.turn_seconds:g} s")
            # What it started would stay, and be in the way of the next turn.
            for pid in family_of(turn.pid):
                send_signal(pid, signal.SIGKILL)
            turn.communicate()
            return {}
        lines = [x for x in said.splitlines() if x.startswith(_MARK)]
        if not lines:
            self._fail(name, f"ended with exit status {turn.returncode}")
            return {}
        found = json.loads(lines[-1].removeprefix(_MARK))
        return {row: Figure(**figure) for row, figure in found.items()}

    def _fail(self, name: str, why: str) -> None:
        print(f"{name}: {why}", file=sys.stderr)
        self.failed.setdefault(name, []).append(why)

    def result(
        self, rounds: dict[str, list[dict[str, Figure]]], full: bool
    ) -> dict[str, Any]:
        """Return everything that was measured, as plain data."""
        rows = list(
            dict.fromkeys(r for turns in rounds.values() for t in turns for r in t)
        )
        asked = {job.name(full): (job.must, job.aim) for job in self.jobs}
        asked |= self.asked
        ahead = {job.name(full): job.ahead for job in self.jobs} | self.ahead
        return {
            "room": self.module,
            "measured": circumstances(),
            "rows": [
                _row(row, rounds, asked.get(row, (None, None)))
                | {"ahead": ahead.get(row, {})}
                for row in rows
            ],
        }


def peers(text: str) -> str:
    """Return names of contenders with commas between them, as they are.

    Raises:
        argparse.ArgumentTypeError: one is of nobody.
    """
    for name in filter(None, text.split(",")):
        if name not in CONTENDERS:
            known = ", ".join(CONTENDERS)
            raise argparse.ArgumentTypeError(
                f"nobody is called {name!r}; known: {known}"
            )
    return text


def absent_of(names: list[str], python: str) -> dict[str, str]:
    """Say for each contender that cannot run why not, and what to do.

    Args:
        names: who is to run.
        python: the interpreter of the peers.
    """
    look = "import sys, importlib.util as u; sys.exit(not u.find_spec(sys.argv[1]))"
    absent = {}
    for name in names:
        package = CONTENDERS[name].package
        if name in OURS or not package:
            continue
        # Not from here, where a folder may be called like a package.
        if subprocess.run([python, "-P", "-c", look, package], check=False).returncode:
            absent[name] = (
                f"{package} is not installed for {Path(python).name}; install it with "
                "pip install 'covey[peers]', or name an interpreter that has it with "
                "--peers-python"
            )
    return absent


def _compile() -> None:
    """Compile covey once, as pip does where it installs something.

    Peers are installed; from a checkout that was changed, or where Python is told to
    write no bytecode, each of our processes would compile all of it at each start.
    """
    compileall.compile_dir(Path(covey.__file__).parent, quiet=1)


def _measure(job: Job, contender: Contender, full: bool) -> dict[str, Figure]:
    timed = Timed(job.unit)
    n = job.size["full" if full else "short"]
    if job.unit == "1/s" and contender.slow:
        n = max(1, n // SLOW)
    found = job.work(contender, n, timed)
    if timed.figure is not None:
        found = {job.name(full): timed.figure}
    return dict(found or {})


def circumstances() -> str:
    """Return when, with what and where this is measured."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{time.strftime('%Y-%m-%d %H:%M')}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, load {load}"
    )


def _row(
    row: str,
    rounds: dict[str, list[dict[str, Figure]]],
    asked: tuple[float | None, float | None],
) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for name, turns in rounds.items():
        figures = [turn[row] for turn in turns if row in turn]
        if not figures:
            continue
        roles = sorted({role for figure in figures for role in figure.cpu})
        cells[name] = {
            "value": statistics.median(f.value for f in figures),
            "all": [f.value for f in figures],
            "cpu": {
                role: statistics.median(f.cpu.get(role, 0.0) for f in figures)
                for role in roles
            },
        }
        pairs = [
            (ours[row].value, theirs[row].value)
            for ours, theirs in zip(rounds["covey"], turns, strict=True)
            if row in ours and row in theirs and ours[row].value and theirs[row].value
        ]
        if name != "covey" and pairs:
            unit = figures[0].unit
            cells[name]["times"] = statistics.median(
                theirs / ours if unit in LOW_IS_GOOD else ours / theirs
                for ours, theirs in pairs
            )
    unit = next(t[row].unit for turns in rounds.values() for t in turns if row in t)
    return {
        "row": row,
        "unit": unit,
        "must": asked[0],
        "aim": asked[1],
        "contenders": cells,
    }


def parse_alone(doc: str | None) -> argparse.Namespace:
    """Return the options of a room without peers, in which CPU time needs no rounds."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="sizes worth quoting")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    # What all rooms are given when one runs after the other.
    for name in ("--peers", "--peers-python", "--rounds"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    return parser.parse_args()


def keep_rows(path: Path | None, room: str, rows: list[dict[str, Any]]) -> None:
    """Write the figures of a room without peers to *path*, if there is one."""
    if path is not None:
        found = {"room": room, "measured": circumstances(), "rows": rows}
        path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
