"""As in a container: little room where shared memory usually is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.system

SHM_BYTES = 64 << 20

SCRIPT = """
import os
import numpy as np
from covey import Client

def used():
    room = os.statvfs("/dev/shm")
    assert room.f_blocks * room.f_frsize == int(os.environ["SHM_BYTES"])
    return (room.f_blocks - room.f_bfree) * room.f_frsize, os.listdir("/dev/shm")

with Client(n_workers=2) as client:
    array = np.ones(20_000_000)  # 160 MB, more than twice what would fit there
    given = client.scatter(array)
    made = client.submit(np.multiply, given, 2)
    assert made.result(60).sum() == 40_000_000
    assert client.submit(np.sum, made).result(60) == 40_000_000
    assert client.gather(client.map(np.full, [100_000] * 9, range(9)))[8][0] == 8
    assert used() == (0, []), used()
print("right")
"""


def test_nothing_of_ours_is_in_a_small_dev_shm():
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a file system of its own takes root and unshare")
    mount = 'mount -t tmpfs -o size="$SHM_BYTES" tmpfs /dev/shm && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    environment = {**os.environ, "SHM_BYTES": str(SHM_BYTES)}
    allowed = subprocess.run(
        [*command, "true"], env=environment, capture_output=True, check=False
    )
    if allowed.returncode:
        pytest.skip(f"mount namespaces are not permitted here: {allowed.stderr!r}")
    done = subprocess.run(
        [*command, sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "right\n", done.stderr
