"""A cluster of processes of their own, and what became of its tasks."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.hosts import Impossible


class Site:
    """Scheduler, workers and client of one contender, in processes of their own."""

    def __init__(self, contender: str, full: bool) -> None:
        self.contender = contender
        self.full = full
        self.folder = tempfile.mkdtemp(prefix="cf-")
        os.environ["XDG_RUNTIME_DIR"] = self.folder
        self.ran = f"{self.folder}/ran"
        Path(self.ran).mkdir()
        #: Where the scheduler listens.
        self.host = "127.0.0.1"
        self.port = free_port()
        self.workers: list[subprocess.Popen[bytes]] = []
        #: Where a scheduler of covey keeps a journal, if it shall.
        self.journal = ""
        self.scheduler = self.start_scheduler()
        self._names = 0
        #: Which of the workers a process is, by its pid.
        self.names: dict[int, int] = {}

    @property
    def file(self) -> str:
        """The connection file of covey."""
        return f"{self.folder}/cluster.json"

    def command(self, role: str, *arguments: str) -> list[str]:
        """Return how a scheduler or a worker of the contender is started."""
        modules = ["covey", role]
        if self.contender != "covey":
            modules = [f"distributed.cli.dask_{role}", "--no-dashboard"]
        return [sys.executable, "-m", *modules, *arguments]

    def start_scheduler(self) -> subprocess.Popen[bytes]:
        """Start a scheduler, always at the same port.

        Raises:
            Impossible: it ends at once; its last words say why.
        """
        more = ["--host", self.host, "--port", str(self.port)]
        if self.contender == "covey":
            more += ["--connection-file", self.file]
            more += ["--journal", self.journal] if self.journal else []
        words = Path(self.folder) / "scheduler.err"
        scheduler = self.scheduler = _start(self.command("scheduler", *more), words)
        pid = scheduler.pid if self.contender == "covey" else 0

        def is_there() -> bool:
            listens = _listens(self.host, self.port)
            return listens and (not pid or _tells_of(self.file, pid))

        until(lambda: is_there() or scheduler.poll() is not None)
        if scheduler.poll() is not None:
            last = words.read_text(errors="replace").strip().rpartition("\n")[2]
            raise Impossible(f"the scheduler does not start: {last}")
        return scheduler

    def move_to(self, host: str) -> None:
        """Start again with a scheduler that others reach at *host*."""
        self.host = host
        self.scheduler.terminate()
        self.scheduler.wait(30)
        self.start_scheduler()

    def restart_scheduler(self) -> None:
        """Kill the scheduler, and start another one in its place."""
        self.scheduler.kill()
        self.scheduler.wait()
        self.start_scheduler()

    def through(self, port: int) -> Any:
        """Return how to reach the scheduler by another port: that of a proxy."""
        from covey.net.addresses import Address
        from covey.net.connection_file import read_connection_file

        found = read_connection_file(Path(self.file))
        certificate = found.address.fingerprint
        return found._replace(address=Address("127.0.0.1", port, "", certificate))

    def start_worker(
        self,
        threads: int = 1,
        through: int = 0,
        memory: str = "",
        before: Sequence[str] = (),
        runners: int = 1,
    ) -> subprocess.Popen[bytes]:
        """Start one more worker.

        Args:
            threads: tasks that each of its runners runs at a time.
            through: the port of a proxy by which it reaches the scheduler.
            memory: how much it may use.
            before: what the command begins with, to have it run elsewhere.
            runners: its runner processes.
        """
        self._names += 1
        more = ["--name", f"w{self._names}", "--nthreads", str(threads)]
        more += ["--memory-limit", memory] if memory else []
        if self.contender != "covey":
            to = f"127.0.0.1:{through}" if through else f"{self.host}:{self.port}"
            more = [f"tcp://{to}", *more]
        elif through:
            os.environ["COVEY_ADDRESS"] = self.through(through).join_string()
        else:
            more += ["--connection-file", self.file]
        command = [*before, *self.command("worker", *more, "--nworkers", str(runners))]
        worker = _start(command, self.words_of(self._names))
        self.names[worker.pid] = self._names
        os.environ.pop("COVEY_ADDRESS", None)
        self.workers.append(worker)
        return worker

    def words_of(self, number: int) -> Path:
        """Return the file of what that worker says on its standard error."""
        return Path(self.folder) / f"w{number}.err"

    @property
    def place(self) -> tuple[str, str]:
        """What ``connect`` takes to come here, from other processes too."""
        there = f"tcp://{self.host}:{self.port}"
        return self.contender, self.file if self.contender == "covey" else there

    def client(self, through: int = 0) -> Any:
        """Return a client; *through* is the port of a proxy, if there is one."""
        if not through:
            return connect(*self.place)
        if self.contender == "covey":
            return connect("covey", self.through(through))
        return connect(self.contender, f"tcp://127.0.0.1:{through}")

    def with_workers(self, count: int, threads: int = 1) -> Any:
        """Start workers; return a client that sees all of them."""
        for _ in range(count):
            self.start_worker(threads)
        client = self.client()
        client.wait_for_workers(count, timeout=60)
        return client

    def executions(self) -> collections.Counter[int]:
        """Return how often each task was executed."""
        files = Path(self.ran).iterdir()
        return collections.Counter(int(x) for f in files for x in f.read_text().split())

    def end(self) -> None:
        """Let everybody end by themselves, those who work first; then close."""
        for process in (*self.workers, self.scheduler):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
        self.close()

    def close(self) -> None:
        """Kill what is left, and remove its files."""
        for process in (*self.workers, self.scheduler):
            for child in family_of(process.pid):
                send_signal(child, signal.SIGCONT)
                send_signal(child, signal.SIGKILL)
            process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)


class Score:
    """What became of the tasks of a row."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(("right", "wrong", "lost", "hung", "recomputed"), 0)
        self.seconds = 0.0
        self.note = ""

    def take(
        self, futures: list[Any], expected: list[Any], patience: float = 60.0
    ) -> None:
        """Wait for *futures*, and compare what they give."""
        start = time.monotonic()
        while time.monotonic() - start < patience:
            if all(future.done() for future in futures):
                break
            time.sleep(0.02)
        self.seconds += time.monotonic() - start
        too_late = time.monotonic() - start >= patience
        for future, value in zip(futures, expected, strict=True):
            if too_late and not future.done():
                self.counts["hung"] += 1
                continue
            try:
                same = future.result(timeout=10) == value
            except BaseException as error:
                told = f"{error!r} {error}"
                if isinstance(value, str) and value in told:
                    self.counts["right"] += 1
                else:
                    # Elsewhere, what was done may be lost again, and pending.
                    self.counts["lost" if future.done() else "hung"] += 1
            else:
                self.counts["right" if same else "wrong"] += 1

    def take_either(self, futures: list[Any], expected: list[Any], error: str) -> None:
        """Wait for *futures*: each gives what it should, or ends with that error."""
        until(lambda: all(future.done() for future in futures), 60)
        wanted = [
            error if future.done() and future.status == "error" else value
            for future, value in zip(futures, expected, strict=True)
        ]
        self.take(futures, wanted, 1)

    def recount(self, site: Site) -> None:
        """Count executions beyond the first of each task."""
        again = sum(times - 1 for times in site.executions().values())
        self.counts["recomputed"] = again

    @property
    def passed(self) -> bool:
        """Whether every task ended as it should have."""
        return not any(self.counts[bad] for bad in ("wrong", "lost", "hung"))


def connect(contender: str, place: Any) -> Any:
    """Return a client of a cluster that runs already."""
    if contender == "covey":
        from covey import Client

        return Client(place)
    from distributed import Client as DaskClient

    return DaskClient(place)


def tasks_known(client: Any) -> int:
    """Return of how many tasks the scheduler of *client* knows."""
    if hasattr(client, "run_on_scheduler"):
        return int(client.run_on_scheduler(_dasks_tasks))
    return int(sum(client.scheduler_info()["tasks"].values()))


def _dasks_tasks(dask_scheduler: Any) -> int:
    return len(dask_scheduler.tasks)


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _tells_of(connection_file: str, pid: int) -> bool:
    """Whether a connection file is of that process, and not of one before it."""
    path = Path(connection_file)
    return path.exists() and json.loads(path.read_text("utf-8"))["pid"] == pid


def _start(command: list[str], words: Path | None = None) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    with words.open("wb") if words else contextlib.nullcontext(quiet) as told:
        return subprocess.Popen(command, stdout=quiet, stderr=told)


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for *condition*, within limits: what follows shows what came of it."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def family_of(pid: int) -> list[int]:
    """Return a process and all that stem from it."""
    import psutil

    try:
        process = psutil.Process(pid)
        return [pid, *(child.pid for child in process.children(recursive=True))]
    except psutil.Error:
        return []


def send_signal(pid: int, number: int) -> None:
    """Send a signal, unless the process has ended already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # It has ended already.


@contextlib.contextmanager
def small_disk(site: Site) -> Iterator[Path]:
    """Mount a file system of 1 MiB, which takes root."""
    folder = Path(site.folder) / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    subprocess.run(command, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
