"""What survives: each row does one bad thing to a cluster of real processes.

``python -m benchmarks.failures`` runs all rows against covey, and with
``--peers dask --peers-python .venv-peers/bin/python`` against ``dask.distributed`` as
well, as far as a row makes sense there.  A row runs in a process of its own, which
is given up when it hangs.  It counts the tasks whose result was right, wrong, lost (an
error that nobody caused) or still pending at the end, and the executions beyond one
for each task.  Numbers of rows are those of ``docs/failures.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.proxy import SilentProxy
from benchmarks.site import Score, Site, family_of, send_signal, until

LIMIT_SECONDS = 240.0

ROWS_OF_THE_MATRIX = 32


def work(x: int, folder: str, seconds: float = 0.01, *inputs: int) -> int:
    """Leave a line for every execution; return what the inputs decide."""
    fd = os.open(f"{folder}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, f"{x}\n".encode())
    os.close(fd)
    time.sleep(seconds)
    return (x * 31 + sum(inputs)) % 1_000_003


def hold_the_gil(seconds: float) -> int:
    """Let no other thread of this process run: the check of a regex does not."""
    import re

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        re.match(r"(a+)+$", "a" * 22 + "b")
    return 1


def crash() -> None:
    """End the process as a bug in an extension would."""
    import ctypes

    ctypes.string_at(0)


# The rows.

ROWS: dict[str, tuple[str, Callable[[Site, Score], None], bool]] = {}


def row(number: str, title: str, *, peers: bool = True) -> Callable[[Any], Any]:
    """Enter a row; *peers* tells whether others can be asked to do it, too."""

    def enter(function: Callable[[Site, Score], None]) -> Any:
        ROWS[number] = (title, function, peers)
        return function

    return enter


def _tasks(
    site: Site, client: Any, n: int, seconds: float = 0.01, first: int = 0
) -> Any:
    tasks = range(first, first + n)
    futures = client.map(work, tasks, folder=site.ran, seconds=seconds)
    return list(futures), [work_value(x) for x in tasks]


def work_value(x: int, *inputs: int) -> int:
    """Return what ``work`` returns."""
    return (x * 31 + sum(inputs)) % 1_000_003


@row("R1", "scheduler kill -9 and restarted, several times in a run")
def _scheduler_dies(site: Site, score: Score) -> None:
    n, kills, workers = (100_000, 10, 8) if site.full else (1500, 3, 2)
    client = site.with_workers(workers)
    futures, expected = _tasks(site, client, n, 0.001 if site.full else 0.01)
    for _ in range(kills):
        done = sum(future.done() for future in futures)
        more = min(n, done + 50)
        until(lambda: sum(f.done() for f in futures) >= more, 30)  # noqa: B023
        site.scheduler.kill()
        site.scheduler.wait()
        site.start_scheduler()
    score.take(futures, expected, 120)
    score.recount(site)


@row("R2", "scheduler killed and never restarted: an error, no hang", peers=False)
def _scheduler_gone(site: Site, score: Score) -> None:
    from covey import config

    with config.override({"client.reconnect_seconds": 3.0}):
        client = site.with_workers(1)
    futures = [client.submit(time.sleep, 60)]
    site.scheduler.kill()
    score.take(futures, ["not found again"], 30)


@row("R3", "a worker kill -9 every second, during a DAG")
def _workers_die(site: Site, score: Score) -> None:
    n, kills = (10_000, 20) if site.full else (600, 3)
    client = site.with_workers(3)
    futures: list[Any] = []
    values: list[int] = []
    for x in range(n):
        before = [x // 2, x // 3] if x > 5 else []
        inputs = [futures[i] for i in before]
        futures.append(client.submit(work, x, site.ran, 0.01, *inputs))
        values.append(work_value(x, *(values[i] for i in before)))
    for _ in range(kills):
        time.sleep(1.0)
        victim = site.workers.pop(0)
        for pid in family_of(victim.pid):
            send_signal(pid, signal.SIGKILL)
        victim.wait()
        site.start_worker()
    score.take(futures, values, 150)
    score.recount(site)


@row("R4", "one task that segfaults among many, on threads: exactly one error")
def _poison(site: Site, score: Score) -> None:
    n = 10_000 if site.full else 1000
    client = site.with_workers(1, threads=8)
    futures, expected = _tasks(site, client, n, 0.001)
    poison = client.submit(crash)
    died = "RunnerDied" if site.contender == "covey" else "KilledWorker"
    score.take([*futures, poison], [*expected, died], 150)
    score.recount(site)


@row("R5", "a worker stopped (SIGSTOP) and continued later")
def _worker_stops(site: Site, score: Score) -> None:
    client = site.with_workers(2)
    futures, expected = _tasks(site, client, 400, 0.02)
    time.sleep(1.0)
    family = family_of(site.workers[0].pid)
    for pid in family:
        send_signal(pid, signal.SIGSTOP)
    score.take(futures, expected, 60)
    for pid in family:
        send_signal(pid, signal.SIGCONT)
    time.sleep(2.0)
    again, expected = _tasks(site, client, 200, first=1000)
    score.take(again, expected, 60)
    score.recount(site)


@row("R6", "a task holds the GIL: its worker is not taken for dead")
def _gil(site: Site, score: Score) -> None:
    seconds = 120.0 if site.full else 15.0
    client = site.with_workers(1)
    holder = client.submit(hold_the_gil, seconds)
    futures, expected = _tasks(site, client, 50)
    score.take([holder, *futures], [1, *expected], seconds + 60)
    score.recount(site)


@row("R7", "a task with a timeout that cannot be interrupted", peers=False)
def _timeouts(site: Site, score: Score) -> None:
    client = site.with_workers(1)
    stuck = client.submit(hold_the_gil, 600.0, timeout=2)
    futures, expected = _tasks(site, client, 50)
    score.take([stuck, *futures], ["TaskTimedOut", *expected], 60)


def _partition(site: Site, score: Score, seconds: float) -> None:
    """Cut one of two workers off its scheduler; others still reach its data."""
    client = site.with_workers(1)
    proxy = SilentProxy(site.port)
    site.start_worker(through=proxy.port)
    client.wait_for_workers(2, timeout=60)
    futures, expected = _tasks(site, client, 2000)
    time.sleep(2.0)
    proxy.silence()
    time.sleep(seconds)
    proxy.heal()
    score.take(futures, expected, 60)
    until(lambda: len(client.ncores()) == 2, 30)
    if len(client.ncores()) != 2:
        score.counts["lost"] += 1
    again, expected = _tasks(site, client, 200, first=10_000)
    score.take(again, expected, 60)
    score.recount(site)


@row("R8", "a worker cut off its scheduler for 8 s", peers=False)
def _short_partition(site: Site, score: Score) -> None:
    _partition(site, score, 8.0)


@row("R9", "a worker cut off for longer than it is waited for", peers=False)
def _long_partition(site: Site, score: Score) -> None:
    _partition(site, score, 30.0)


@row("R11", "a client cut off its scheduler for 20 s", peers=False)
def _client_partition(site: Site, score: Score) -> None:
    from covey import Client

    site.with_workers(1).close()
    proxy = SilentProxy(site.port)
    client = Client(site.through(proxy.port))
    futures, expected = _tasks(site, client, 1000)
    time.sleep(1.0)
    proxy.silence()
    time.sleep(20.0)
    proxy.heal()
    score.take(futures, expected, 60)
    score.recount(site)


@row("R12", "a client kill -9: what it wanted is forgotten", peers=False)
def _client_dies(site: Site, score: Score) -> None:
    client = site.with_workers(1)
    script = (
        "import os, sys; from covey import Client; c = Client(sys.argv[1]);"
        "c.gather(c.map(str, range(500))); f = c.map(str, range(500));"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, site.file], check=False, timeout=60)
    start = time.monotonic()
    until(lambda: not any(client.scheduler_info()["tasks"].values()), 100)
    futures, expected = _tasks(site, client, 50)
    score.take(futures, expected)
    score.seconds = time.monotonic() - start


@row("R14", "scheduler stopped (SIGSTOP) for a while")
def _scheduler_stops(site: Site, score: Score) -> None:
    client = site.with_workers(2)
    futures, expected = _tasks(site, client, 600)
    time.sleep(1.0)
    site.scheduler.send_signal(signal.SIGSTOP)
    time.sleep(30.0 if site.full else 12.0)
    site.scheduler.send_signal(signal.SIGCONT)
    score.take(futures, expected, 60)
    score.recount(site)


@row("R20", "frames that claim to be huge", peers=False)
def _huge_frames(site: Site, score: Score) -> None:
    import psutil

    client = site.with_workers(1)
    futures, expected = _tasks(site, client, 300)
    before = psutil.Process(site.scheduler.pid).memory_info().rss
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", site.port)) as stranger:
            stranger.sendall(b"\xff" * 16)
    score.take(futures, expected)
    score.recount(site)
    grown = psutil.Process(site.scheduler.pid).memory_info().rss - before
    if grown > 64 << 20:
        score.counts["wrong"] += 1


@row("R23", "100 peers of another version knock", peers=False)
def _strangers(site: Site, score: Score) -> None:
    client = site.with_workers(1)
    futures, expected = _tasks(site, client, 300)
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", site.port)) as stranger:
            stranger.sendall(b"\x00covey\r\n" + b"\x63" * 120)
    score.take(futures, expected)
    score.recount(site)


@row("R24", "results and exceptions that cannot be pickled")
def _unpicklable(site: Site, score: Score) -> None:
    client = site.with_workers(1)
    bad = [client.submit(threading.Lock), client.submit(_raise_unpicklable)]
    futures, expected = _tasks(site, client, 50)
    score.take([*bad, *futures], ["pickle", "lock", *expected])


class _WithLock(Exception):
    def __init__(self) -> None:
        super().__init__("it carries a lock")
        self.lock = threading.Lock()


def _raise_unpicklable() -> None:
    raise _WithLock


@row("R25", "user code that exits, and closes every descriptor")
def _hostile(site: Site, score: Score) -> None:
    client = site.with_workers(1)
    ends = [client.submit(os._exit, 3), client.submit(os.closerange, 3, 256)]
    for future in ends:
        until(future.done, 60)
    futures, expected = _tasks(site, client, 50)
    score.take(futures, expected)


@row("R27", "the only copy of scattered data is lost: its client brings it again")
def _scattered(site: Site, score: Score) -> None:
    client = site.with_workers(2)
    large = client.scatter(bytes(10_000_000), workers=["w1"])
    for pid in family_of(site.workers[0].pid):
        send_signal(pid, signal.SIGKILL)
    time.sleep(3.0)
    score.take([client.submit(len, large)], [10_000_000], 30)


@row("R29", "scheduler and all workers die; the client lives")
def _all_die(site: Site, score: Score) -> None:
    client = site.with_workers(2)
    futures, expected = _tasks(site, client, 300)
    time.sleep(1.0)
    for process in (site.scheduler, *site.workers):
        for pid in family_of(process.pid):
            send_signal(pid, signal.SIGKILL)
        process.wait()
    site.start_scheduler()
    site.start_worker()
    score.take(futures, expected, 90)
    score.recount(site)


@row(
    "R31", "workers are replaced one after the other under load: nothing is recomputed"
)
def _rolling(site: Site, score: Score) -> None:
    client = site.with_workers(2)
    futures, expected = _tasks(site, client, 600)
    for old in list(site.workers):
        time.sleep(0.5)
        site.start_worker()
        old.send_signal(signal.SIGTERM)
        old.wait(90)
    score.take(futures, expected, 90)
    score.recount(site)
    if score.counts["recomputed"]:
        score.counts["wrong"] += 1


# Memory and disks.


def grow(nbytes: int) -> int:
    """Take memory, in steps that others can see."""
    taken = []
    while len(taken) << 24 < nbytes:
        taken.append(b"x" * (1 << 24))
        time.sleep(0.02)
    return len(taken)


def large(x: int) -> bytes:
    """Return 16 MiB that tell *x*."""
    return x.to_bytes(4, "big") * (1 << 22)


@contextlib.contextmanager
def _small_disk(site: Site) -> Iterator[Path]:
    """Mount a file system of 1 MiB, which takes root."""
    folder = Path(site.folder) / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    subprocess.run(command, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@row("R15", "a task grows over the memory limit: only that one fails", peers=False)
def _out_of_memory(site: Site, score: Score) -> None:
    site.start_worker(memory="500MiB")
    client = site.client()
    hog = client.submit(grow, 4 << 30)
    futures, expected = _tasks(site, client, 200)
    score.take([hog, *futures], ["TaskOutOfMemory", *expected], 60)
    score.recount(site)


@row("R16", "the disk of the spill folder is full", peers=False)
def _disk_full(site: Site, score: Score) -> None:
    with _small_disk(site) as folder:
        os.environ["COVEY_WORKER__SPILL_DIRECTORY"] = str(folder)
        site.start_worker(memory="400MiB")
        client = site.client()
        futures = list(client.map(large, range(40)))
        sizes = list(client.map(len, futures))
        score.take_either(sizes, [1 << 24] * 40, "TaskOutOfMemory")
        more, expected = _tasks(site, client, 50)
        score.take(more, expected)
        site.close()


@row("R17", "the disk of the journal is full: the cluster goes on", peers=False)
def _journal_full(site: Site, score: Score) -> None:
    with _small_disk(site) as folder:
        site.journal = str(folder / "journal")
        site.restart_scheduler()
        client = site.with_workers(2)
        warnings.simplefilter("ignore")  # It says that there is no journal any more.
        kept, values = _tasks(site, client, 20)
        client.publish_dataset("kept", kept)
        filling = [client.submit(len, b"x" * 50_000) for _ in range(60)]
        futures, expected = _tasks(site, client, 300, first=100)
        score.take([*filling, *futures], [50_000] * 60 + expected)
        # What was written before is there.
        site.restart_scheduler()
        other = site.client()
        score.take(list(other.get_dataset("kept")), values)
        score.recount(site)


# Scheduler and client both.


JOB = """
import os, sys
from benchmarks.failures import work
from covey import Client
client = Client(sys.argv[1])
futures = client.map(work, range(300), folder=sys.argv[2])
client.publish_dataset("job", futures)
os.kill(os.getpid(), 9)
"""


def _leave_a_job(site: Site) -> None:
    """Have a client publish what it has just submitted, and die; then the scheduler."""
    site.journal = f"{site.folder}/journal"
    site.restart_scheduler()
    site.with_workers(2).close()
    command = [sys.executable, "-c", JOB, site.file, site.ran]
    subprocess.run(command, check=False, timeout=60)
    until(lambda: len(site.executions()) > 20)
    site.scheduler.kill()
    site.scheduler.wait()


@row("R30", "scheduler and client die; a published job is done", peers=False)
def _nobody_lives(site: Site, score: Score) -> None:
    _leave_a_job(site)
    site.start_scheduler()
    futures = list(site.client().get_dataset("job"))
    score.take(futures, [work_value(x) for x in range(300)])
    score.recount(site)
    if score.counts["recomputed"]:
        score.counts["wrong"] += 1


@row("R18", "the journal's last record is torn, or one in it is damaged", peers=False)
def _journal_torn(site: Site, score: Score) -> None:
    _leave_a_job(site)
    journal = Path(site.journal)
    whole = journal.read_bytes()
    journal.write_bytes(whole[:60] + bytes([whole[60] ^ 4]) + whole[61:])
    command = [sys.executable, "-m", "covey", "scheduler", "--journal", str(journal)]
    command += ["--port", str(site.port), "--connection-file", site.file]
    refused = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False
    )
    if refused.returncode == 0 or "damaged" not in refused.stderr:
        score.counts["wrong"] += 1
    journal.write_bytes(whole + b"\x40\0\0\0\1\2\3")
    site.start_scheduler()
    futures = list(site.client().get_dataset("job"))
    score.take(futures, [work_value(x) for x in range(300)])


# Links, ports, and everything.


@row("R21", "connections are cut again and again, in the middle of frames", peers=False)
def _cut_links(site: Site, score: Score) -> None:
    site.start_worker()
    worker_side = SilentProxy(site.port)
    site.start_worker(through=worker_side.port)
    client_side = SilentProxy(site.port)
    from covey import Client

    client = Client(site.through(client_side.port))
    client.wait_for_workers(2, timeout=60)
    futures, expected = _tasks(site, client, 1500)
    for turn in range(20):
        time.sleep(0.3)
        (worker_side, client_side)[turn % 2].cut()
    score.take(futures, expected, 60)
    score.recount(site)
    if score.counts["recomputed"]:
        score.counts["wrong"] += 1


@row("R26", "ports in use, names that do not resolve, SIGTERM under load", peers=False)
def _ports_and_names(site: Site, score: Score) -> None:
    client = site.with_workers(2)
    futures, expected = _tasks(site, client, 400)
    said = []
    for command in (
        ["scheduler", "--port", str(site.port), "--no-dashboard"],
        ["worker", "no-such-host.invalid:8786"],
    ):
        whole = [sys.executable, "-m", "covey", *command]
        done = subprocess.run(
            whole, capture_output=True, text=True, timeout=90, check=False
        )
        said.append(done.stderr)
        score.counts["wrong"] += done.returncode == 0 or "Traceback" in done.stderr
    score.counts["wrong"] += "in use" not in said[0] or "no-such-host" not in said[1]
    site.workers[0].terminate()
    score.take(futures, expected, 60)
    score.recount(site)
    score.counts["wrong"] += bool(score.counts["recomputed"])


@row("R32", "for a while, all of it: kills, stops, cut links, in an order by chance")
def _nemesis(site: Site, score: Score) -> None:
    chance = random.Random(32)
    seconds = 1800.0 if site.full else 40.0
    client = site.with_workers(3)
    futures: list[Any] = []
    expected: list[int] = []
    until_then = time.monotonic() + seconds
    while time.monotonic() < until_then:
        more, values = _tasks(site, client, 200, first=len(futures))
        futures += more
        expected += values
        time.sleep(chance.uniform(1.0, 4.0))
        _strike(site, chance)
        if site.full and len(futures) > 20_000:
            score.take(futures, expected, 60)
            futures, expected = [], []
    score.take(futures, expected, 90)
    score.recount(site)


def _strike(site: Site, chance: random.Random) -> None:
    """Do one bad thing, and let the site recover its strength."""
    what = chance.choice(["worker", "worker", "scheduler", "pause"])
    victim = site.workers[0]
    if what == "scheduler":
        site.restart_scheduler()
    elif what == "pause":
        for pid in family_of(victim.pid):
            send_signal(pid, signal.SIGSTOP)
        time.sleep(chance.uniform(0.5, 3.0))
        for pid in family_of(victim.pid):
            send_signal(pid, signal.SIGCONT)
    else:
        site.workers.pop(0)
        for pid in family_of(victim.pid):
            send_signal(pid, signal.SIGKILL)
        victim.wait()
        site.start_worker()


# Machinery.


def _run_row(number: str, contender: str, full: bool) -> None:
    """Run one row here; print what came of it as JSON."""
    site = Site(contender, full)
    score = Score()
    try:
        ROWS[number][1](site, score)
    finally:
        site.close()
    told = {**score.counts, "seconds": score.seconds, "passed": score.passed}
    print("\n" + json.dumps(told), flush=True)
    # A client of a cluster that is no more has nothing to say goodbye to.
    os._exit(0)


def _in_process(number: str, contender: str, python: str, full: bool) -> dict[str, Any]:
    command = [python, "-m", "benchmarks.failures", "--row", number]
    command += ["--contender", contender, *(["--full"] if full else [])]
    limit = LIMIT_SECONDS * (5 if full else 1)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit, check=False
        )
        told: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
        return told
    except subprocess.TimeoutExpired:
        return {"passed": False, "note": f"hung for {limit:g} s"}
    except ValueError:
        last = done.stderr.strip().rpartition("\n")[2]
        return {"passed": False, "note": last[:100]}


def _line(number: str, contender: str, told: dict[str, Any]) -> str:
    counts = "".join(
        f"{told.get(name, '-'):>7}"
        for name in ("right", "wrong", "lost", "hung", "recomputed")
    )
    verdict = "ok" if told["passed"] else "FAILED"
    seconds = f"{told['seconds']:8.1f}" if "seconds" in told else "       -"
    note = f"  {told['note']}" if "note" in told else ""
    return f"{number:4} {contender:6}{counts}{seconds}  {verdict:7}{note}"


def main() -> None:
    """Run the rows that are asked for, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rows", nargs="*", help="R1 R3 ...; default: all")
    parser.add_argument("--full", action="store_true", help="sizes worth quoting")
    parser.add_argument("--peers", default="", help="dask, to run it as well")
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--rounds", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--contender", default="covey", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        _run_row(arguments.row, arguments.contender, arguments.full)
        return
    found: dict[str, dict[str, Any]] = {}
    print(f"{'row':4} {'who':6}  right  wrong   lost   hung  again seconds")
    for number in arguments.rows or ROWS:
        title, _, peers = ROWS[number]
        print(f"# {number}: {title}", flush=True)
        for contender in ("covey", *filter(None, arguments.peers.split(","))):
            if contender != "covey" and not peers:
                continue
            python = sys.executable if contender == "covey" else arguments.peers_python
            told = _in_process(number, contender, python, arguments.full)
            found[f"{number} {contender}"] = told
            print(_line(number, contender, told), flush=True)
    for contender in ("covey", *filter(None, arguments.peers.split(","))):
        mine = [v for k, v in found.items() if k.endswith(contender)]
        passed = sum(told["passed"] for told in mine)
        print(
            f"{contender}: {passed} of {ROWS_OF_THE_MATRIX} survived "
            f"({len(mine)} rows were done)"
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
