"""Schedulers that die, or stop, and their journals."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Final

from benchmarks.failures.matrix import row
from benchmarks.failures.work import tasks_of, work_value
from benchmarks.site import Score, Site, family_of, send_signal, small_disk, until

#: So soon after the death of a scheduler its next life hands tasks out.
HANDED_OUT_SECONDS: Final = 5.0


@row("R1", "scheduler kill -9 and restarted, several times in a run")
def _scheduler_dies(site: Site, score: Score) -> None:
    n, kills, workers = (100_000, 10, 8) if site.full else (1500, 3, 2)
    client = site.with_workers(workers)
    futures, expected = tasks_of(site, client, n, 0.001 if site.full else 0.01)
    worst = 0.0
    for number in range(kills):
        done = sum(future.done() for future in futures)
        more = min(n, done + 50)
        until(lambda: sum(f.done() for f in futures) >= more, 30)  # noqa: B023
        killed = time.monotonic()
        site.scheduler.kill()
        site.scheduler.wait()
        site.start_scheduler()
        # It goes before all that waits, and only the new life can hand it out.
        asked = client.submit(abs, -1 - number, priority=10)
        with contextlib.suppress(Exception):  # Elsewhere, it may be lost again.
            asked.result(timeout=60)
        worst = max(worst, time.monotonic() - killed)
    score.take(futures, expected, 120)
    score.recount(site)
    score.counts["hung"] += worst > HANDED_OUT_SECONDS
    score.note = f"handed out again {worst:.1f} s after a kill, at worst"


@row("R2", "scheduler killed and never restarted: an error, no hang")
def _scheduler_gone(site: Site, score: Score) -> None:
    os.environ["COVEY_CLIENT__RECONNECT_SECONDS"] = "3"
    client = site.with_workers(1)
    futures = [client.submit(time.sleep, 60)]
    site.scheduler.kill()
    says = "not found again" if site.contender == "covey" else "lost the connection"
    score.take(futures, [says], 60)


@row("R14", "scheduler stopped (SIGSTOP) for a while")
def _scheduler_stops(site: Site, score: Score) -> None:
    client = site.with_workers(2)
    futures, expected = tasks_of(site, client, 600)
    time.sleep(1.0)
    site.scheduler.send_signal(signal.SIGSTOP)
    time.sleep(30.0 if site.full else 12.0)
    site.scheduler.send_signal(signal.SIGCONT)
    score.take(futures, expected, 60)
    score.recount(site)


@row("R29", "scheduler and all workers die; the client lives")
def _all_die(site: Site, score: Score) -> None:
    client = site.with_workers(2)
    futures, expected = tasks_of(site, client, 300)
    time.sleep(1.0)
    for process in (site.scheduler, *site.workers):
        for pid in family_of(process.pid):
            send_signal(pid, signal.SIGKILL)
        process.wait()
    site.start_scheduler()
    site.start_worker()
    score.take(futures, expected, 90)
    score.recount(site)


# Journals.


@row(
    "R17",
    "the disk of the journal is full: the cluster goes on",
    only_here="it has no journal",
)
def _journal_full(site: Site, score: Score) -> None:
    with small_disk(site) as folder:
        site.journal = str(folder / "journal")
        site.restart_scheduler()
        client = site.with_workers(2)
        warnings.simplefilter("ignore")  # It says that there is no journal any more.
        kept, values = tasks_of(site, client, 20)
        client.publish_dataset("kept", kept)
        filling = [client.submit(len, b"x" * 50_000) for _ in range(60)]
        futures, expected = tasks_of(site, client, 300, first=100)
        score.take([*filling, *futures], [50_000] * 60 + expected)
        # What was written before is there.
        site.restart_scheduler()
        other = site.client()
        score.take(list(other.get_dataset("kept")), values)
        score.recount(site)


JOB = """
import os, sys
from benchmarks.failures.work import work
from benchmarks.site import connect
client = connect(*sys.argv[1:3])
futures = client.map(work, range(300), folder=sys.argv[3])
client.publish_dataset("job", futures)
os.kill(os.getpid(), 9)
"""


def _leave_a_job(site: Site) -> None:
    """Have a client publish what it has just submitted, and die; then the scheduler."""
    site.journal = f"{site.folder}/journal"
    site.restart_scheduler()
    site.with_workers(2).close()
    command = [sys.executable, "-c", JOB, *site.place, site.ran]
    subprocess.run(command, check=False, timeout=60)
    until(lambda: len(site.executions()) > 20)
    site.scheduler.kill()
    site.scheduler.wait()


@row("R30", "scheduler and client die; a published job is done")
def _nobody_lives(site: Site, score: Score) -> None:
    _leave_a_job(site)
    site.start_scheduler()
    try:
        futures = list(site.client().get_dataset("job"))
    except KeyError:
        score.counts["lost"] += 300
        score.note = "nothing is known of what was published"
        return
    score.take(futures, [work_value(x) for x in range(300)])
    score.recount(site)
    if score.counts["recomputed"]:
        score.counts["wrong"] += 1


@row(
    "R18",
    "the journal's last record is torn, or one in it is damaged",
    only_here="it has no journal",
)
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
