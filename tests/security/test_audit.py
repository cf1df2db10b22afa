"""The watch that the examples run under sees what it is there to see."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parent / "audit"

CASES = {
    "import pickle, collections; pickle.loads(pickle.dumps(collections.OrderedDict()))": (
        "pickle.find_class"
    ),
    "import pickle; pickle.loads(pickle.dumps([1]))": "unpickled",
    "import socket; socket.socket().bind(('0.0.0.0', 0))": "socket.bind\t0.0.0.0",
    "import asyncio, uvloop; uvloop.new_event_loop().run_until_complete(asyncio."
    "sleep(0)); import socket; socket.create_server(('127.0.0.1', 0)).close()": (
        "socket.bind\t127.0.0.1"
    ),
}


@pytest.mark.parametrize("code", CASES)
def test_the_watch_sees_it(code, tmp_path):
    log = tmp_path / "log"
    environment = {
        **os.environ,
        "PYTHONPATH": str(AUDIT),
        "COVEY_AUDIT_LOG": str(log),
    }
    # The last words make it pass for a process of the control plane.
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, "covey.cluster.embedded"],
        env=environment,
        check=True,
        timeout=30,
    )
    assert f"control\t{CASES[code]}" in log.read_text()
