"""A cluster's process is started first, and what its client needs is imported meanwhile."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import subprocess, sys

class Started(BaseException): pass

def start(*_, **__): raise Started

subprocess.Popen = start
import covey
try:
    covey.{name}(n_workers=1)
except Started:
    sys.exit(", ".join(sorted({late} & set(sys.modules))) or 0)
sys.exit("nothing was started")
"""

#: What takes long to import, and what imports it.
LATE = {"asyncio", "cloudpickle", "covey.client.engine", "covey.net.link"}


@pytest.mark.parametrize("name", ["Client", "LocalCluster"])
def test_a_cluster_is_started_before_its_client_is_imported(name):
    program = PROGRAM.format(name=name, late=LATE)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_it_is_ready_to_connect_when_the_cluster_is():
    program = (
        "import sys; from covey.client import ahead; ahead.prepare();"
        f"sys.exit(', '.join({LATE!r} - set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
