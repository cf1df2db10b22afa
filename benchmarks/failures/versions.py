"""Tasks that give another value when they are computed again."""

from __future__ import annotations

import signal
import time
import warnings
from typing import Any

from benchmarks.failures.matrix import row
from benchmarks.failures.work import agree, draw, write_down
from benchmarks.site import Score, Site, family_of, send_signal, until


@row("R28", "lost values come out otherwise the second time: nothing mixes them")
def _other_values(site: Site, score: Score) -> None:
    n = 200 if site.full else 40
    client = site.with_workers(3)
    warnings.simplefilter("ignore")  # One is told of it.
    drawn = client.map(draw, range(n), workers=["w1", "w2"], allow_other_workers=True)
    anywhere: dict[str, Any] = {"workers": ["w1", "w2"], "allow_other_workers": True}
    written = [client.submit(write_down, one, **anywhere) for one in drawn]
    # Copies of what was written down go to the third, of what was drawn they do not.
    copies = [client.submit(len, one, workers=["w3"]) for one in written]
    until(lambda: all(copy.done() for copy in copies), 60)
    for worker in site.workers[:2]:
        for pid in family_of(worker.pid):
            send_signal(pid, signal.SIGKILL)
    time.sleep(2.0)
    pairs = zip(drawn, written, strict=True)
    score.take([client.submit(agree, *pair) for pair in pairs], [True] * n, 120)
