"""No secret of a cluster stands where it can be read by the way.

A scheduler, a worker, runners and a client of real processes do what they do, and much
goes wrong.  Then all that they show is searched for the secrets, in every spelling: command
lines of all processes, environments of those that run user code, everything printed, reprs,
tracebacks with all local variables, answers, events, and what tasks see of themselves.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from covey.net.connection_file import read_connection_file

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc"),
]

COVEY = (sys.executable, "-m", "covey")

CLIENT = '''
import gc, json, os, sys, traceback
import covey
from covey import Client
from covey.client.recording import *
from covey.errors import CoveyError

def look():
    """What a task sees of its own process, and of the one above it."""
    seen = [str(dict(os.environ)), str(sys.argv), str(sys.orig_argv)]
    for process in (os.getpid(), os.getppid()):
        for name in ("cmdline", "environ" if process == os.getpid() else "comm"):
            with open(f"/proc/{process}/{name}", "rb") as file:
                seen.append(file.read().decode(errors="replace"))
    return seen

def told(error):
    made = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(made.format())

def fails():
    client = covey.get_client()
    inner = client.submit(abs, -1)
    raise ValueError(repr(client), repr(inner), inner.result())

with Client() as client:
    future = client.submit(abs, -1)
    shown = [repr(x) for x in (client, future, client.session, client.session.engine)]
    shown += [client._repr_html_(), str(vars(client.session.engine)), str(client.address)]
    shown += [str(client.scheduler_info()), str(future.explain()), str(look())]
    shown += map(str, client.submit(look).result())
    for call in (
        lambda: client.submit(fails).result(),
        lambda: client.submit(os._exit, 3).result(),
        lambda: client.submit(len, client).result(),
        lambda: client.submit(len, client.session.engine.keys).result(),
        lambda: Client("127.0.0.1:1", timeout=0),
        lambda: Client(os.environ["COVEY_ADDRESS"] + "x"),
        lambda: Client(os.environ["COVEY_ADDRESS"].replace("client:", "client:0")),
        lambda: client.run(look, workers="nobody"),
    ):
        try:
            call()
        except BaseException as error:
            shown.append(told(error))
        else:
            raise AssertionError("that should fail")
    print("ready", flush=True)
    sys.stdin.readline()
    shown += client.submit(look).result()[2:]
    # Our own environment is where the join string is: whoever may read that is us.
    hidden = os.environ["COVEY_ADDRESS"]
    print(json.dumps([text.replace(hidden, "") for text in shown]))
'''


def spellings(connection):
    """Return the secrets as somebody could write them down by accident."""
    keys = connection.keys
    for secret in (keys.client, keys.worker):
        digits = secret.reveal()
        value = bytes.fromhex(digits)
        yield from (digits, digits.upper(), repr(value)[2:-1], str(list(value))[1:-1])


def family(*processes):
    """Return these processes and all below them."""
    for process in processes:
        found = psutil.Process(process.pid)
        yield from (found, *found.children(recursive=True))


def test_nothing_shows_a_secret_whatever_goes_wrong(tmp_path):
    file = tmp_path / "cluster.json"
    logs = [tmp_path / name for name in ("scheduler", "worker", "client")]
    with contextlib.ExitStack() as stack:
        out = [stack.enter_context(log.open("wb")) for log in logs]
        scheduler = subprocess.Popen(
            [*COVEY, "scheduler", "--port", "0", "--connection-file", str(file)],
            stdout=subprocess.PIPE,
            stderr=out[0],
        )
        stack.callback(end, scheduler)
        printed = [scheduler.stdout.readline()]
        connection = read_connection_file(file)
        join = {**os.environ, "COVEY_ADDRESS": connection.join_string()}
        worker = subprocess.Popen(
            [*COVEY, "worker", "--nworkers", "2"],
            env=join,
            stdout=out[1],
            stderr=subprocess.STDOUT,
        )
        stack.callback(end, worker)
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT],
            env=join,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=out[2],
        )
        stack.callback(end, client)
        assert client.stdout.readline() == b"ready\n", logs[2].read_text()
        # A stranger comes with something, and a worker's tasks are in the middle of it.
        status = subprocess.run(
            [*COVEY, "status", "-o", "json"], env=join, capture_output=True, check=True
        )
        lines = [" ".join(p.cmdline()) for p in family(scheduler, worker, client)]
        assert len(lines) >= 5, lines
        said, _ = client.communicate(b"\n", timeout=60)
    shown = {
        "command lines": "\n".join(lines),
        "the client": "\n".join(json.loads(said)),
        "status": status.stdout.decode() + status.stderr.decode(),
        "the scheduler's first line": printed[0].decode(),
        **{f"what the {log.name} wrote": log.read_text() for log in logs},
    }
    for place, text in shown.items():
        found = [secret for secret in spellings(connection) if secret in text]
        assert not found, (
            f"{place}: ...{text[max(0, text.find(found[0]) - 200) :][:300]}"
        )
    assert "RunnerDied" in shown["the client"]


def end(process):
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
