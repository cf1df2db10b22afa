"""Clocks that somebody sets."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from benchmarks.failures.matrix import row
from benchmarks.failures.work import tasks_of, year
from benchmarks.hosts import Impossible
from benchmarks.site import Score, Site

#: Debian's place, and that of others.
_LIBRARIES: Final = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
)


@row("R22", "clocks stepped by a year, forward and back, under load")
def _clock_steps(site: Site, score: Score) -> None:
    library = next((path for path in _LIBRARIES if Path(path).exists()), None)
    if library is None:
        raise Impossible("it takes faketime")
    clock = Path(site.folder) / "clock"
    clock.write_text("+0d\n")
    os.environ.update(
        LD_PRELOAD=library,
        FAKETIME_TIMESTAMP_FILE=str(clock),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
        DONT_FAKE_MONOTONIC="1",
    )
    site.restart_scheduler()
    client = site.with_workers(2)
    now = time.gmtime().tm_year
    for turn, years in enumerate((1, -1, 0)):
        futures, expected = tasks_of(site, client, 500, first=1000 * turn)
        time.sleep(1.0)
        clock.write_text(f"{365 * years:+}d\n")
        score.take(futures, expected, 60)
        # Had the clocks not been set at all, nothing would have been tried.
        score.take([client.submit(year, turn)], [now + years], 60)
    score.recount(site)
    score.counts["wrong"] += bool(score.counts["recomputed"])
