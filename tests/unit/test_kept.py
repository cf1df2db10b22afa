"""Which memory of dropped values is the clients': what no runner maps."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from covey.store.segments import Segment
from covey.worker.kept import Kept

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells what a process maps"
)

SIZE = 100_000
MAPS = """
import mmap, os, sys
held = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 0, prot=mmap.PROT_READ)
print("mapped", flush=True)
input()
"""


def test_what_no_runner_maps_is_the_clients():
    segments = [Segment.of([bytes(SIZE)]) for _ in range(3)]
    total = sum(segment.capacity for segment in segments)
    kept = Kept()
    place = f"/proc/{os.getpid()}/fd/{segments[0].fd}"
    runner = subprocess.Popen(
        [sys.executable, "-c", MAPS, place],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert runner.stdout.readline() == b"mapped\n"
        kept.look(segments, total, 4 * total, [runner.pid], 10.0)
        assert kept.nbytes(total) == total - segments[0].capacity
        # Never more than lingers, and it is not looked again at once.
        assert kept.nbytes(SIZE) == SIZE
        kept.look(segments[:1], total, 4 * total, [runner.pid], 10.1)
        assert kept.nbytes(total) == total - segments[0].capacity
        kept.look(segments[:1], total, 4 * total, [runner.pid], 11.0)
        assert kept.nbytes(total) == 0
        # What is little counts unseen.
        kept.look(segments, total, 400 * total, [runner.pid], 12.0)
        assert kept.nbytes(total) == 0
    finally:
        runner.communicate(b"\n", timeout=20)
        for segment in segments:
            segment.close()
    # Who has ended maps nothing.
    kept.look(segments, total, 4 * total, [runner.pid], 13.0)
    assert kept.nbytes(total) == total
